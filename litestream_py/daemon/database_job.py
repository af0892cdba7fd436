"""The job that tails one database: wait for the file, join it to its chain, then sync and checkpoint."""

from __future__ import annotations

import random
import time
from enum import Enum
from typing import Final

from litestream_py.core.backoff import next_delay
from litestream_py.core.checkpoint import Checkpoint, CheckpointFacts, choose_checkpoint, retry_at_s
from litestream_py.daemon.replication import Replication, now_ms
from litestream_py.daemon.watch import WalWatch
from litestream_py.engine.adopt import adopt
from litestream_py.engine.chain import load_chain
from litestream_py.engine.checkpointer import Outcome, checkpoint
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.sick import heal
from litestream_py.engine.snapshotter import OpenSnapshot, close_snapshot, open_snapshot
from litestream_py.engine.walread import SickWal
from litestream_py.errors import (
    CorruptError,
    DatabaseBusyError,
    DefectError,
    LsyncError,
    NotFoundError,
    OwnedElsewhereError,
    SourceRejectedError,
    StateUnknownError,
)
from litestream_py.wal.records import FRAME_HEADER_SIZE

WAITABLE: Final = frozenset({"missing", "empty"})
_WAIT_S: Final = 0.5
_PATIENCE_S: Final = {"journal-mode": 5.0, "first-page-cut": 0.1}
"""By reason, how long a file may stay as it is. An application that has just created its database switches it to WAL
mode within moments, and the first page of a new one is being written for an instant."""
_AFTER_SEAL_S: Final = 0.02
_STEPS_TO_JOIN: Final = 2
_HOT_TRIES: Final = 9
_BACKOFF_MAX_S: Final = 30.0
_PROBES_PER_STAT: Final = 5
"""Every so many probes, look whether the files were replaced by others."""


class Phase(Enum):
    """Where the job stands."""

    WAITING = "waiting"
    JOINING = "joining"
    TAILING = "tailing"
    ENDED = "ended"


class DatabaseJob:
    """Tails one database; see `scheduler.Job`."""

    def __init__(self, replication: Replication, watch: WalWatch, *, wait_for_file: bool) -> None:
        self._r = replication
        self._watch = watch
        self._asks_replica = False
        self._wait_for_file = wait_for_file
        self.phase = Phase.WAITING
        self._hot = 0  # tries left to see a commit whose write the file system has reported already
        self._next_sync_s = 0.0
        self._failures = 0
        self._last_error: LsyncError | None = None  # of the step before, if it failed
        self._waiting: tuple[str, float] | None = None  # for what reason, and since when
        self._checkpointed_s = 0.0
        self._checkpoint_failures = 0
        self._checkpoint_failed_s = 0.0
        self._truncate_failed_s: float | None = None
        self._index_seen: bytes = b""
        self._probes = 0

    # --- the scheduler's side ---

    @property
    def slow(self) -> bool:
        """Whether the next step lists or reads the replica."""
        return self._asks_replica or self._r.rebase is not None

    def touched(self) -> None:
        """A write to the WAL was reported: its commit will be published within moments (the fsync stands between)."""
        self._hot = _HOT_TRIES

    def probe(self) -> bool:
        """Tell whether the wal-index has changed since the last sync."""
        if self.phase is not Phase.TAILING:
            return False
        self._probes += 1
        if self._probes % _PROBES_PER_STAT == 0 and not self._r.tailer.files.unchanged():
            return True
        try:
            return self._r.tailer.files.index_bytes() != self._index_seen
        except LsyncError:
            return True  # the step meets it too, and tells of it

    def crashed(self, error: BaseException) -> float | None:
        """A mistake of ours: drop the state and derive it again, and say so."""
        self._r.publisher.crashed(error)
        self._last_error = DefectError("replicate", self._r.config.path, f"{type(error).__name__}: {error}")
        self._failures += 1
        return self._start_over()

    def step(self) -> float | None:
        """Do one step of the phase we are in; returns seconds until the next, or None to sleep until woken."""
        if self._r.ended is not None:
            self.close()
            return None
        try:
            delay_s = self._advance()
        except SourceRejectedError as error:
            return self._rejected(error)
        except OwnedElsewhereError as error:
            return self._end(error)
        except SickWal as sick:
            return self._heal(sick)
        except LsyncError as error:
            if self.phase is Phase.JOINING and isinstance(error, CorruptError):
                return self._end(error)  # the replica's chain is damaged, and ours is lost: nothing to go on from
            return self._failed(error)
        self._failures = 0
        self._last_error = None
        self._r.publisher.recovered()
        return delay_s

    def _advance(self) -> float | None:
        reason = self._r.take_rebase()
        if reason is not None and self.phase is Phase.TAILING:
            self._r.publisher.rebased(reason)
            self._close_snapshot()
            self._r.tailer.drop()
            self.phase = Phase.JOINING
            self._asks_replica = True
            self._join(rebase=True)
        if self.phase is Phase.WAITING:
            self._r.tailer.open(convert=self._r.config.journal_mode == "convert")
            self._waiting = None
            self.phase = Phase.JOINING
        if self.phase is Phase.JOINING and not self._join(rebase=False):
            return 0.0
        self._serve_snapshot()
        return self._tail()

    # --- snapshots ---

    def _serve_snapshot(self) -> None:
        """Open the snapshot that the maintenance job asks for, and close the one that it has read."""
        r = self._r
        if r.snapshot_read:
            self._close_snapshot()
        if r.open_snapshot is not None:
            self._bound_wal(r.open_snapshot)
        elif r.snapshot_wanted:
            try:
                r.open_snapshot = open_snapshot(r.tailer, now_ms=now_ms())
            except DatabaseBusyError as error:
                if not r.tailer.database.reading:
                    raise
                r.snapshot_wanted = False
                r.snapshot_given_up(error)
            r.wake_maintenance()

    def _bound_wal(self, opened: OpenSnapshot) -> None:
        """Give a snapshot up that nobody comes to read while the WAL grows; one being read looks after itself."""
        wal_bytes, bound = self._r.tailer.files.wal_size(), self._r.wal_bytes_max(opened)
        if wal_bytes > bound and not opened.in_use.locked():
            self._close_snapshot()
            cause = f"the WAL grew to {wal_bytes} bytes before it could be read"
            self._r.snapshot_given_up(DatabaseBusyError("snapshot", self._r.config.path, cause))

    def _close_snapshot(self) -> None:
        """End a snapshot, read or not: whoever still reads it gets an error, and asks again later."""
        opened, self._r.open_snapshot = self._r.open_snapshot, None
        if opened is not None:
            close_snapshot(opened)
        self._r.snapshot_wanted = self._r.snapshot_read = False
        if opened is not None:
            self._r.wake_maintenance()

    # --- join ---

    def _join(self, *, rebase: bool) -> bool:
        """Join the database to its chain: the local one, else the replica's, else a new one.

        False: the replica must be asked, which the next step does, among those that may hang.

        A replica that cannot be reached does not hold capture back: a chain is begun locally, and if the replica turns
        out to hold another one, the upload job asks for a rebase.
        """
        tailer = self._r.tailer
        base = None if rebase else load_chain(tailer.meta)
        if base is None and not self._asks_replica:
            self._asks_replica = True
            return False
        if base is None:
            try:
                listing = list_replica(self._r.client)
            except LsyncError as error:
                if rebase:
                    raise
                self._r.publisher.failed("connect", error)
                tailer.meta.reset()
            else:
                base = adopt(self._r.client, listing, tailer.meta)
                if base is not None:
                    self._r.uploader.adopted(base[0].txid, base[0].database_checksum)
        self._r.uploader.forget()  # before there is a new file: its upload must not be forgotten
        try:
            result = tailer.attach(base, now_ms=now_ms())
        except BaseException:
            tailer.drop()
            raise
        self.phase = Phase.TAILING
        self._r.publisher.attached(tailer.state, continued=result is None)
        self._asks_replica = False
        self._checkpointed_s = time.monotonic()
        self._r.wake_upload()
        self._measured()
        return True

    def _measured(self) -> None:
        self._r.publisher.measured(self._r.tailer.state, self._r.tailer.files.wal_size())

    # --- tail ---

    def _tail(self) -> float | None:
        tailer = self._r.tailer
        tailer.check_files()
        before = tailer.files.index_bytes()
        now_s = time.monotonic()
        if not tailer.behind():
            self._index_seen = before
            return self._rest(now_s)
        if tailer.state.sealed:
            # Frames follow a seal: off slot 0. From there we would stop every backfill, and an application that
            # checkpoints by itself would sort its whole WAL at each commit just to learn that (measured: 0.4 of its
            # rate, 0.8 so).
            tailer.hand_over_read(tailer.files.read_index())
        if now_s < self._next_sync_s:
            return self._next_sync_s - now_s
        txid = tailer.state.txid
        while (result := tailer.sync(now_ms=now_ms())) is not None and result.limited:
            pass
        self._checkpoint(now_s)
        self._measured()
        # A seal may have made a TXID of its own: then the next one waits for two intervals. A backlog is not paced.
        pause = 2 if tailer.state.txid - txid == 2 else 1
        self._next_sync_s = now_s + self._r.config.replica.sync_interval_s * pause
        self._hot = 0
        pause_s = max(0.0, self._next_sync_s - time.monotonic())
        return min(pause_s, _AFTER_SEAL_S) if tailer.state.sealed else pause_s

    def _rest(self, now_s: float) -> float | None:
        """Nothing to copy: checkpoint if it is time, arm the watch, look once more; then sleep until told."""
        tailer = self._r.tailer
        self._checkpoint(now_s)
        self._index_seen = before = tailer.files.index_bytes()
        self._watch.arm(tailer.files.wal, self)
        if tailer.files.index_bytes() != before:
            return 0.0
        if self._hot:
            self._hot -= 1
            return 0.001 * 2.0 ** (_HOT_TRIES - 1 - self._hot)
        limits = self._r.checkpoint_limits
        interval_s = limits.interval_s
        if interval_s and tailer.state.synced_since_checkpoint:
            due_s = max(self._checkpointed_s + interval_s, retry_at_s(self._checkpoint_facts(), limits))
            return due_s - now_s + 0.01
        return None

    def _checkpoint_facts(self) -> CheckpointFacts:
        tailer = self._r.tailer
        state = tailer.state
        return CheckpointFacts(
            index=tailer.files.read_index(),
            wal_file_pages=tailer.files.wal_size() // (FRAME_HEADER_SIZE + state.page_size),
            may_restart=state.sealed and state.file_complete,
            changed=state.synced_since_checkpoint,
            last_s=self._checkpointed_s,
            failed=self._checkpoint_failures,
            failed_s=self._checkpoint_failed_s,
            truncate_failed_s=self._truncate_failed_s,
        )

    def _checkpoint(self, now_s: float) -> None:
        tailer = self._r.tailer
        what = choose_checkpoint(self._checkpoint_facts(), self._r.checkpoint_limits, now_s)
        if what is Checkpoint.NONE:
            return
        outcome = checkpoint(tailer, what, now_ms=now_ms)
        self._measured()
        if outcome.complete:
            self._checkpointed_s = time.monotonic()
            self._checkpoint_failures = 0
            if what is Checkpoint.TRUNCATE:
                self._truncate_failed_s = None if outcome.truncated else self._checkpointed_s
            return
        if outcome.seal is not Outcome.TOO_MUCH:
            # Where there was too much to do, the next step tries again at once: it may do more as the WAL grows.
            self._checkpoint_failures += 1
            self._checkpoint_failed_s = time.monotonic()
        self._r.publisher.checkpoint_incomplete(outcome, self._checkpoint_failures)

    # --- what can go wrong ---

    def _heal(self, sick: SickWal) -> float | None:
        self._close_snapshot()  # its read mark would stop the healing half-way
        try:
            heal(self._r.tailer, sick, now_ms=now_ms())
        except (SickWal, LsyncError) as error:
            self._failures += 1
            if isinstance(error, LsyncError):
                self._last_error = error
                self._r.publisher.failed("heal", error)
            return next_delay(self._failures, base_s=0.1, max_s=5.0, rng=random.random)
        if not self._r.tailer.attached:
            return self._start_over(0.0)
        return 0.0

    def _rejected(self, error: SourceRejectedError) -> float | None:
        now_s = time.monotonic()
        known = self._waiting is not None and self._waiting[0] == error.reason
        since_s = self._waiting[1] if self._waiting is not None and known else now_s
        self._waiting = (error.reason, since_s)
        patience_s = _PATIENCE_S.get(error.reason, 0.0)
        may_wait = (error.reason in WAITABLE and self._wait_for_file) or now_s - since_s < patience_s
        if self.phase is Phase.WAITING and may_wait:
            if not known:
                self._r.publisher.waiting(error)
            return min(_WAIT_S, patience_s or _WAIT_S)
        return self._end(error)

    def _failed(self, error: LsyncError) -> float | None:
        self._r.publisher.failed("sync", error)
        self._last_error = error
        self._failures += 1
        tailer = self._r.tailer
        gone = isinstance(error, NotFoundError) and not tailer.meta.path.exists()  # our own state was removed
        replaced = self.phase is Phase.TAILING and not tailer.files.unchanged()
        if isinstance(error, StateUnknownError) or gone or replaced:
            return self._start_over(None if self._failures > 1 else 0.0)
        if tailer.attached and not tailer.database.reading:
            tailer.drop()
        if self.phase is Phase.TAILING and not tailer.attached:
            self.phase = Phase.JOINING
        return next_delay(self._failures - 1, base_s=0.2, max_s=_BACKOFF_MAX_S, rng=random.random)

    def _start_over(self, delay_s: float | None = None) -> float:
        """Close everything and begin again from disk."""
        self.close()
        self.phase = Phase.WAITING
        if delay_s is None:
            return next_delay(self._failures, base_s=0.2, max_s=_BACKOFF_MAX_S, rng=random.random)
        return delay_s

    def _end(self, error: LsyncError) -> float | None:
        """Give the database up; there is no next step."""
        self._r.publisher.ended(error)
        self.close()
        self._r.end(error)
        return None

    def close(self) -> None:
        """Let go of the database; idempotent."""
        self._close_snapshot()
        self._r.tailer.close()
        self.phase = Phase.ENDED

    # --- shutdown ---

    def finish(self) -> LsyncError | None:
        """Copy what was committed until now; returns the error if that was not possible.

        A database that is waited for has nothing to copy; one that was not reached yet, or failed before, is tried now.
        """
        try:
            for _ in range(_STEPS_TO_JOIN):
                if self.phase in {Phase.WAITING, Phase.JOINING} or self._r.rebase is not None:
                    self._advance()
            self._finish()
        except SourceRejectedError as error:
            return None if error.reason in WAITABLE and self._wait_for_file else error
        except SickWal as sick:
            return StateUnknownError("sync", self._r.config.path, sick)
        except LsyncError as error:
            return error
        return None

    def _finish(self) -> None:
        tailer = self._r.tailer
        try:
            while (result := tailer.sync(now_ms=now_ms())) is not None and result.limited:
                pass
        except SickWal as sick:
            heal(tailer, sick, now_ms=now_ms())
