"""`apply`, the one place where sync state changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litestream_py.core.position import WalPosition
from litestream_py.core.state import Attached, CheckpointResult, Result, Sealed, SyncResult, SyncState, Unsealed, apply
from litestream_py.ltx.ids import TXID

STATE = SyncState(
    txid=TXID(7),
    database_checksum=1 << 63 | 5,
    page_size=4096,
    commit=10,
    wal=WalPosition((1, 2), 4152, (3, 4)),
    sealed=True,
    timestamp_ms=1000,
    synced_since_checkpoint=True,
    file_complete=True,
)
SYNC = SyncResult(
    txid=TXID(8),
    database_checksum=1 << 63 | 6,
    page_size=4096,
    commit=11,
    wal=WalPosition((1, 2), 8272, (5, 6)),
    timestamp_ms=1001,
    pages=1,
    ltx_bytes=200,
    wal_bytes=4120,
)
AFTER_SYNC = SyncState(
    txid=TXID(8),
    database_checksum=1 << 63 | 6,
    page_size=4096,
    commit=11,
    wal=WalPosition((1, 2), 8272, (5, 6)),
    sealed=False,
    timestamp_ms=1001,
    synced_since_checkpoint=True,
    file_complete=False,
)


def row(mode: str, *, busy: bool = False, log: int = 4, checkpointed: int = 4) -> CheckpointResult:
    """Return a checkpoint's row."""
    return CheckpointResult(mode=mode, busy=busy, log=log, checkpointed=checkpointed)


@pytest.mark.parametrize(
    ("before", "result", "after"),
    [
        pytest.param(None, Attached(state=STATE), STATE, id="attached"),
        pytest.param(STATE, SYNC, AFTER_SYNC, id="a sync ends the seal: its frames are not backfilled"),
        pytest.param(
            None,
            replace(SYNC, sealed=True, file_complete=True, reason="first-snapshot"),
            replace(AFTER_SYNC, sealed=True, file_complete=True),
            id="a comparison begins sealed",
        ),
        pytest.param(AFTER_SYNC, Sealed(file_complete=False), replace(AFTER_SYNC, sealed=True), id="sealed in part"),
        pytest.param(
            AFTER_SYNC, Sealed(file_complete=True), replace(AFTER_SYNC, sealed=True, file_complete=True), id="sealed"
        ),
        pytest.param(STATE, Unsealed(), replace(STATE, sealed=False, file_complete=False), id="unsealed"),
        pytest.param(
            STATE,
            row("PASSIVE"),
            replace(STATE, synced_since_checkpoint=False, file_complete=False),
            id="a PASSIVE may have moved frames that were not copied",
        ),
        pytest.param(STATE, row("PASSIVE", checkpointed=3), replace(STATE, file_complete=False), id="partial PASSIVE"),
        pytest.param(STATE, row("TRUNCATE"), replace(STATE, synced_since_checkpoint=False), id="TRUNCATE"),
        pytest.param(STATE, row("TRUNCATE", busy=True), STATE, id="blocked TRUNCATE"),
    ],
)
def test_apply(before: SyncState | None, result: Result, after: SyncState) -> None:
    """Each outcome changes what it proves, and nothing else."""
    assert apply(before, result) == after


@pytest.mark.parametrize("result", [Sealed(file_complete=True), Unsealed(), row("PASSIVE")])
def test_only_a_whole_outcome_begins_a_state(result: Result) -> None:
    """What only amends a state cannot stand in for one."""
    with pytest.raises(ValueError, match="needs a state"):
        apply(None, result)


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (row("PASSIVE"), "complete"),
        (row("PASSIVE", checkpointed=3), "partial"),
        (row("TRUNCATE", busy=True), "busy"),
        (row("TRUNCATE", log=0, checkpointed=0), "complete"),
        (row("PASSIVE", busy=True, log=-1, checkpointed=-1), "busy"),
    ],
)
def test_outcome_of_a_checkpoint(result: CheckpointResult, outcome: str) -> None:
    """Complete only if not busy and everything in the log was moved."""
    assert result.outcome == outcome
