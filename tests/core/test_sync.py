"""`plan_sync` as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litestream_py.core.position import WalPosition
from litestream_py.core.state import SyncState
from litestream_py.core.sync import ContinuityLost, Nothing, ReadFrames, SyncPlan, plan_sync
from litestream_py.ltx.ids import TXID
from litestream_py.wal.records import frame_offset
from litestream_py.wal.walindex import WalIndex
from tests.support.indexes import wal_index

OLD, NEW = (1, 2), (3, 4)
THREE = frame_offset(4, 4096)
"""Position behind frame 3."""
HELD = SyncState(
    txid=TXID(7),
    database_checksum=1 << 63,
    page_size=4096,
    commit=10,
    wal=WalPosition(OLD, THREE, (0, 0)),
    sealed=False,
)
SEALED = replace(HELD, sealed=True)
EMPTY = replace(HELD, sealed=True, wal=WalPosition((0, 0), 32, (0, 0)))


@pytest.mark.parametrize(
    ("state", "index", "plan"),
    [
        pytest.param(HELD, wal_index(3), Nothing(), id="all copied"),
        pytest.param(HELD, wal_index(5), ReadFrames(OLD, THREE, frame_offset(6, 4096)), id="two more frames"),
        pytest.param(SEALED, wal_index(5), ReadFrames(OLD, THREE, frame_offset(6, 4096)), id="sealed, not restarted"),
        pytest.param(HELD, wal_index(2), ContinuityLost("wal-shorter-than-position"), id="shorter than we have copied"),
        pytest.param(SEALED, wal_index(2), ContinuityLost("wal-shorter-than-position"), id="shorter, though sealed"),
        pytest.param(
            SEALED, wal_index(1, salts=NEW), ReadFrames(NEW, 32, frame_offset(2, 4096)), id="restarted after a seal"
        ),
        pytest.param(
            HELD, wal_index(1, salts=NEW), ContinuityLost("restarted-while-not-sealed"), id="restarted, not sealed"
        ),
        pytest.param(SEALED, wal_index(0, salts=NEW), Nothing(), id="emptied after a seal"),
        pytest.param(
            HELD, wal_index(0, salts=NEW), ContinuityLost("restarted-while-not-sealed"), id="emptied, not sealed"
        ),
        pytest.param(EMPTY, wal_index(0, salts=(0, 0), page_size=65536), Nothing(), id="WAL never used"),
        pytest.param(
            EMPTY, wal_index(2, salts=NEW), ReadFrames(NEW, 32, frame_offset(3, 4096)), id="first frames of a WAL"
        ),
        pytest.param(HELD, wal_index(9, page_size=512), ContinuityLost("page-size-changed"), id="page size changed"),
    ],
)
def test_plan_sync(state: SyncState, index: WalIndex, plan: SyncPlan) -> None:
    """From what we hold and what is published follows what to read, or that only a comparison can tell."""
    assert plan_sync(state, index) == plan
