"""What the daemon tells people: one log line and the metrics for each thing that happened to one database.

Called after the state was applied, never from inside a step's lock; nothing here decides anything.
"""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from litestream_py.core.sqlite_version import SAVEPOINT_BUG_FIXED_IN, WAL_RESET_BUG_FIXED_IN
from litestream_py.core.state import CheckpointResult, SyncResult, SyncState
from litestream_py.core.verdict import Outcome, Verdict
from litestream_py.engine.checkpointer import CheckpointOutcome
from litestream_py.engine.compactor import Compacted
from litestream_py.engine.events import Event, SickWalNotice, WalResetBugNotice
from litestream_py.engine.uploader import Connected, Uploaded, UploadEvent
from litestream_py.errors import DiskFullError, ErrorKind, LsyncError, SourceRejectedError
from litestream_py.logs import get_logger
from litestream_py.ltx.ids import TXID, FileName

if TYPE_CHECKING:
    from litestream_py.daemon.metrics import Metrics, UploadKind

_FAILURES_PER_WARNING: Final = 5


class Publisher:
    """Log and metrics of one database and its replica; called by its tailing and its uploading thread."""

    def __init__(self, db: Path, replica: str, metrics: Metrics) -> None:
        self._log = get_logger(db=str(db), replica=replica)
        self._metrics = metrics.database(str(db))
        self._replica = self._metrics.replica(replica)
        self._replica.lag_from(self.lag_s)
        self._lock = threading.Lock()  # protects the four below
        self._confirmed = TXID(0)
        self._waiting: dict[TXID, tuple[int, float]] = {}  # captured, not confirmed: bytes, and since when
        self._failing_since_s: float | None = None
        self._disk_full = False

    def lag_s(self) -> float:
        """Return how long the oldest change that is not on the replica has been waiting, or capture been failing."""
        with self._lock:
            since = [captured_s for _, captured_s in self._waiting.values()]
            if self._failing_since_s is not None:
                since.append(self._failing_since_s)
        return max(0.0, time.monotonic() - min(since)) if since else 0.0

    # --- tailing ---

    def waiting(self, error: SourceRejectedError) -> None:
        """Tell, once, that the database file is waited for."""
        self._metrics.set_waiting(waiting=True)
        self._log.info("waiting for database", reason=error.reason, **_told(error))

    def attached(self, state: SyncState, *, continued: bool) -> None:
        """Tell that the database is being tailed, and whether the chain went on without a comparison."""
        self._metrics.set_waiting(waiting=False)
        self._log.info("attached", txid=str(state.txid), pages=state.commit, continued=continued)

    def measured(self, state: SyncState, wal_bytes: int) -> None:
        """Tell the applied position, and the sizes of database and WAL file."""
        self._metrics.position(txid=state.txid, db_bytes=state.commit * state.page_size, wal_bytes=wal_bytes)

    def tailed(self, event: Event) -> None:
        """Tell of a step of the engine."""
        match event:
            case SyncResult():
                self._synced(event)
            case CheckpointResult():
                self._metrics.checkpointed(mode=event.mode, outcome=event.outcome, seconds=event.seconds)
                self._log.debug("checkpoint", mode=event.mode, outcome=event.outcome, frames=event.log)
            case SickWalNotice():
                self._sick(event)
            case WalResetBugNotice():
                self._metrics.wal_reset_bug()
                self._log.error(
                    "the WAL-reset bug of the application's SQLite has lost commits; comparing the whole database",
                    frames=event.mx_frame,
                    backfilled=event.n_backfill,
                    hint=f"upgrade its SQLite to {WAL_RESET_BUG_FIXED_IN}, or set PRAGMA wal_autocheckpoint=0 in it",
                )

    def _synced(self, result: SyncResult) -> None:
        with self._lock:
            if result.txid > self._confirmed:  # else it was seen in the folder and uploaded before we were told of it
                self._waiting[result.txid] = (result.ltx_bytes, time.monotonic())
            self._failing_since_s = None
        self._metrics.synced(seconds=result.seconds, wal_bytes_copied=result.wal_bytes)
        self._tell_replica()
        told = {"txid": str(result.txid), "pages": result.pages, "bytes": result.ltx_bytes}
        if result.reason is None:
            self._log.debug("synced", **told)
        else:
            self._metrics.resynced(result.reason)
            self._log.info("compared", reason=result.reason, seconds=round(result.seconds, 3), **told)

    def _sick(self, notice: SickWalNotice) -> None:
        if notice.healed:
            self._metrics.sick_wal()
        self._log.warning(
            "the WAL is sick: committed frames do not verify (savepoint bug of the application's SQLite)",
            offset=notice.offset,
            healed=notice.healed,
            detail=notice.detail,
            hint=f"upgrade its SQLite to {SAVEPOINT_BUG_FIXED_IN}, or set PRAGMA cache_spill=off around savepoints",
        )

    def checkpoint_incomplete(self, outcome: CheckpointOutcome, failures: int) -> None:
        """Tell that a checkpoint did not complete; it is tried again later. Said aloud when it keeps failing."""
        log = self._log.warning if failures and failures % _FAILURES_PER_WARNING == 0 else self._log.debug
        log("checkpoint incomplete", outcome=str(outcome.seal), detail=outcome.why, failures=failures)

    def rebased(self, reason: str) -> None:
        """Tell that the local chain is derived from the replica's again."""
        with self._lock:
            self._waiting.clear()
            self._confirmed = TXID(0)
        self._log.warning("starting over from the replica's chain", reason=reason)

    # --- the replica ---

    def uploaded(self, event: UploadEvent) -> None:
        """Tell of the replica's position."""
        now_s = time.monotonic()
        with self._lock:
            match event:
                case Connected():
                    self._confirmed = event.confirmed
                    known = self._waiting
                    self._waiting = {
                        name.max_txid: known.get(name.max_txid, (size, now_s)) for name, size in event.pending
                    }
                case Uploaded():
                    self._confirmed = event.name.max_txid
                    for txid in list(itertools.takewhile(lambda txid: txid <= event.name.max_txid, self._waiting)):
                        del self._waiting[txid]
        self._tell_replica()
        if isinstance(event, Uploaded):
            kind: UploadKind = "snapshot" if event.name.min_txid == 1 else "l0"
            self._replica.uploaded(kind=kind, size=event.size, seconds=event.seconds, now_s=time.time())
            self._log.debug("uploaded", file=str(event.name), bytes=event.size, seconds=round(event.seconds, 4))
        else:
            self._log.info("replica connected", txid=str(event.confirmed), pending=len(event.pending))

    def compacted(self, done: Compacted, *, inputs: int) -> None:
        """Tell of a compaction."""
        self._replica.compacted(level=done.name.level, size=done.size)
        told = {"file": str(done.name), "inputs": inputs, "bytes": done.size, "fetched_bytes": done.fetched_bytes}
        self._log.debug("compacted", **told)

    def snapshotted(self, name: FileName, size: int) -> None:
        """Tell of a snapshot at level 9."""
        self._replica.snapshotted(size)
        self._log.info("snapshot", file=str(name), bytes=size)

    def snapshot_given_up(self, error: LsyncError) -> None:
        """Tell that a snapshot was given up; it is tried again later."""
        self._log.warning("snapshot given up", **_told(error))

    def retained(self, files: int, size: int) -> None:
        """Tell what retention deleted."""
        self._replica.deleted(files)
        self._log.debug("deleted by retention", files=files, bytes=size)

    def verified(self, verdict: Verdict) -> None:
        """Tell what a verification of the replica found."""
        self._replica.verified(str(verdict.outcome), now_s=time.time())
        told = {"outcome": str(verdict.outcome), "bytes": verdict.read_bytes, "seconds": round(verdict.duration_s, 1)}
        if verdict.outcome is Outcome.OK:
            self._log.info("verified", **told)
        else:
            why = str(verdict.problems[0]) if verdict.problems else str(verdict.prevented)
            self._log.error("verification", detail=why, hint=f"lsync verify {self._replica.url}", **told)

    def _tell_replica(self) -> None:
        with self._lock:
            unreplicated = sum(size for size, _ in self._waiting.values())
            self._replica.position(replicated_txid=self._confirmed, unreplicated_bytes=unreplicated)

    # --- failures ---

    def failed(self, operation: str, error: LsyncError) -> None:
        """Tell of a failure that is tried again."""
        if operation == "upload":
            self._replica.upload_failed("l0", error.kind)
        elif operation == "maintain":
            self._replica.maintenance_failed(error.kind)
        elif operation in {"sync", "heal"}:
            if error.operation == "checkpoint":
                self._metrics.checkpoint_failed(kind=error.kind)
            self._metrics.sync_failed(error.kind)
            with self._lock:
                self._failing_since_s = self._failing_since_s or time.monotonic()
        if isinstance(error, DiskFullError) and operation != "upload":
            self._metrics.set_disk_full(full=True)
            self._disk_full = True
        log = self._log.warning if error.retryable else self._log.error
        log(f"{operation} failed", **_told(error))

    def recovered(self) -> None:
        """Tell that capture works (again)."""
        with self._lock:
            self._failing_since_s = None
        if self._disk_full:
            self._disk_full = False
            self._metrics.set_disk_full(full=False)

    def crashed(self, error: BaseException) -> None:
        """Tell of a defect of ours; the step is done again from disk."""
        self._metrics.sync_failed(ErrorKind.OTHER)
        with self._lock:
            self._failing_since_s = self._failing_since_s or time.monotonic()
        self._log.error("unexpected error", error=f"{type(error).__name__}: {error}", exc_info=error)

    def ended(self, error: LsyncError) -> None:
        """Tell that this database is given up."""
        self._metrics.set_waiting(waiting=False)
        if isinstance(error, SourceRejectedError):
            self._metrics.rejected(error.reason)
        self._log.error("giving up", **_told(error))

    def finished(self, error: LsyncError | None) -> None:
        """Tell how the final sync ended."""
        if error is None:
            self._log.info("replicated", txid=str(self._confirmed))
        else:
            self._log.error("not everything is on the replica", **_told(error))


def _told(error: LsyncError) -> dict[str, str]:
    """Return what a log line says of an error."""
    hint = {"hint": error.hint} if error.hint else {}
    return {"error": str(error), "kind": str(error.kind), **hint}
