"""`SyncState` and `apply`: every change of what we believe about one database happens in this file.

Rule 1: nothing else assigns sync state. The engine plans from the state, does durable I/O, and hands the outcome here.
Rule 2: `apply` is called after each durable step, so that a step which landed is kept when the next one fails.
Rule 3: an outcome that is not known (StateUnknownError) is never applied: the state is dropped and derived from disk.

*Sealed* (design section 2): under the write lock every committed frame had been copied, and our read transaction was
(re)started before the lock was released. From there at most one restart of the WAL can happen, from exactly the frames
we hold; so a change of salts means "continue at frame 1 of the new generation". Any frame copied later ends that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from litestream_py.core.position import WalPosition
from litestream_py.ltx.ids import TXID


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncState:
    """What is known of one database while it is attached.

    txid: newest local L0. database_checksum: of the database at `txid`. commit: its size in pages. wal: where the next
    frame is read. sealed: see above. timestamp_ms: of the newest L0 (the next is later, whatever the clock says).
    synced_since_checkpoint: frames were copied after the last complete checkpoint. file_complete: the database file
    alone is the state at `txid` (everything was backfilled).
    """

    txid: TXID
    database_checksum: int
    page_size: int
    commit: int
    wal: WalPosition
    sealed: bool
    timestamp_ms: int = 0
    synced_since_checkpoint: bool = False
    file_complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """Outcome of an attach that continues: the position on disk still holds, our read transaction has just begun."""

    state: SyncState


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """Outcome of one sync or resync whose L0 file is durable.

    wal: position behind the last copied frame. limited: more committed frames were there than one sync may take.
    sealed: the read transaction was begun under the write lock at exactly this position (a resync); file_complete: and
    the WAL was wholly backfilled then. reason: why all or differing pages were shipped instead of frames; None for an
    ordinary sync. For the log and metrics: pages, ltx_bytes, wal_bytes (copied), timestamp_ms of the header, file name
    in `txid`.
    """

    txid: TXID
    database_checksum: int
    page_size: int
    commit: int
    wal: WalPosition
    timestamp_ms: int
    pages: int
    ltx_bytes: int
    wal_bytes: int
    limited: bool = False
    seconds: float = 0.0
    sealed: bool = False
    file_complete: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Under the write lock, everything copied, the read transaction restarted; `file_complete`: all backfilled too."""

    file_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """The read transaction is about to be ended: whatever restart or backfill comes now proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointResult:
    """What `PRAGMA wal_checkpoint` answered, and for whom.

    mode: "PASSIVE" or "TRUNCATE". busy, log, checkpointed: its row. Complete only if not busy and log == checkpointed.
    """

    mode: str
    busy: bool
    log: int
    checkpointed: int
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        """Return complete, partial or busy: the metric label."""
        if self.busy:
            return "busy"
        return "complete" if self.log == self.checkpointed else "partial"


Result = Attached | SyncResult | Sealed | Unsealed | CheckpointResult


def apply(state: SyncState | None, result: Result) -> SyncState:
    """Return the state after `result`; pure. Only `Attached` and a resync's SyncResult can begin without a state."""
    match result:
        case Attached():
            return result.state
        case SyncResult():
            return SyncState(
                txid=result.txid,
                database_checksum=result.database_checksum,
                page_size=result.page_size,
                commit=result.commit,
                wal=result.wal,
                sealed=result.sealed,
                timestamp_ms=result.timestamp_ms,
                file_complete=result.file_complete,
                synced_since_checkpoint=True,
            )
    if state is None:
        raise ValueError(f"{type(result).__name__} needs a state to apply to")
    match result:
        case Sealed():
            return replace(state, sealed=True, file_complete=result.file_complete)
        case Unsealed():
            return replace(state, sealed=False, file_complete=False)
        case CheckpointResult():
            done = result.outcome == "complete"
            return replace(
                state,
                synced_since_checkpoint=state.synced_since_checkpoint and not done,
                # A PASSIVE may have moved frames that nobody has copied yet. A TRUNCATE of ours follows a seal: then
                # our reader on slot 0 lets it move nothing.
                file_complete=state.file_complete and result.mode == "TRUNCATE",
            )
