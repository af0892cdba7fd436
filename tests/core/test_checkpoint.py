"""`choose_checkpoint` as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litestream_py.core.checkpoint import Checkpoint, CheckpointFacts, CheckpointLimits, choose_checkpoint
from tests.support.indexes import wal_index

LIMITS = CheckpointLimits(pages_min=1000, interval_s=60.0, truncate_pages=5000, retry_max_s=30.0)
SMALL = CheckpointFacts(index=wal_index(10), wal_file_pages=2000, may_restart=False, changed=True, last_s=100.0)
LONG = replace(SMALL, index=wal_index(1000))
LARGE = replace(SMALL, wal_file_pages=5000)
NONE, SEAL, TRUNCATE = Checkpoint.NONE, Checkpoint.SEAL, Checkpoint.TRUNCATE


@pytest.mark.parametrize(
    ("facts", "limits", "now_s", "what"),
    [
        pytest.param(SMALL, LIMITS, 159.0, NONE, id="small and young"),
        pytest.param(SMALL, LIMITS, 160.0, SEAL, id="small and old"),
        pytest.param(replace(SMALL, changed=False), LIMITS, 9999.0, NONE, id="nothing changed since"),
        pytest.param(SMALL, replace(LIMITS, interval_s=0), 9999.0, NONE, id="never for age"),
        pytest.param(LONG, LIMITS, 100.0, SEAL, id="long enough"),
        pytest.param(replace(LONG, index=wal_index(999)), LIMITS, 100.0, NONE, id="one frame short"),
        pytest.param(replace(LONG, may_restart=True), LIMITS, 9999.0, NONE, id="the next writer restarts by itself"),
        pytest.param(replace(SMALL, index=wal_index(0)), LIMITS, 9999.0, NONE, id="an empty WAL"),
        pytest.param(LARGE, LIMITS, 100.0, TRUNCATE, id="large file"),
        pytest.param(replace(LARGE, wal_file_pages=4999), LIMITS, 100.0, NONE, id="nearly"),
        pytest.param(LARGE, replace(LIMITS, truncate_pages=0), 100.0, NONE, id="never truncate"),
        pytest.param(
            replace(LARGE, may_restart=True, index=wal_index(0)), LIMITS, 100.0, TRUNCATE, id="large, old frames only"
        ),
        pytest.param(replace(LARGE, truncate_failed_s=90.0), LIMITS, 119.0, NONE, id="a TRUNCATE came too late"),
        pytest.param(replace(LARGE, truncate_failed_s=90.0), LIMITS, 120.0, TRUNCATE, id="and is tried again"),
        pytest.param(
            replace(LARGE, truncate_failed_s=90.0, index=wal_index(1000)),
            LIMITS,
            119.0,
            SEAL,
            id="but the WAL is sealed",
        ),
        *[
            pytest.param(
                replace(LONG, failed=failed, failed_s=100.0), LIMITS, 100.0 + after_s, what, id=f"failed {failed}"
            )
            for failed, after_s, what in [(1, 0.99, NONE), (1, 1.0, SEAL), (4, 7.9, NONE), (4, 8.0, SEAL)]
        ],
        pytest.param(replace(LONG, failed=99, failed_s=100.0), LIMITS, 129.9, NONE, id="failed often"),
        pytest.param(replace(LONG, failed=99, failed_s=100.0), LIMITS, 130.0, SEAL, id="no longer than the ceiling"),
    ],
)
def test_choose_checkpoint(facts: CheckpointFacts, limits: CheckpointLimits, now_s: float, what: Checkpoint) -> None:
    """When frames are moved into the database file, and when they are left alone."""
    assert choose_checkpoint(facts, limits, now_s) is what
