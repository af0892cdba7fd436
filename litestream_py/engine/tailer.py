"""`Tailer`: one database being tailed. Owns the SyncState; observe -> plan -> execute -> apply, one step after another.

Not thread-safe: the daemon runs one step at a time for a database. Everything durable is done before `apply` is called,
and `Tailer.apply` is the only place that assigns the state. A step whose outcome is unknown drops the state; the next
`attach` derives it from disk.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from litestream_py.core.continuity import AttachFacts, Continue, LocalChain, decide_continuity
from litestream_py.core.position import PositionRecord, WalPosition
from litestream_py.core.state import Attached, Result, Sealed, SyncResult, SyncState, Unsealed, apply
from litestream_py.core.sync import ContinuityLost, Nothing, ReadFrames, plan_sync
from litestream_py.engine.attach import complete_position, empty_chain, last_frame_intact
from litestream_py.engine.events import Event, Publish, TailLimits, WalResetBugNotice
from litestream_py.engine.l0 import add_growth_pages, write_sync
from litestream_py.engine.resync import read_snapshot, ship_differences
from litestream_py.engine.walread import SickWal, WalMoved, read_pages
from litestream_py.errors import DatabaseBusyError, LocalIOError, LsyncError, SourceRejectedError, StateUnknownError
from litestream_py.local.database import Database
from litestream_py.local.dbfiles import DatabaseFiles
from litestream_py.local.meta import MetaDir
from litestream_py.local.pagesums import PageSums
from litestream_py.wal.records import WAL_HEADER_SIZE, frame_offset
from litestream_py.wal.walindex import WalIndex

_REPLANS_MAX: Final = 10


class Tailer:
    """Tails one database into its local L0 log."""

    def __init__(self, path: Path, meta: MetaDir, limits: TailLimits, publish: Publish) -> None:
        self.path = path
        self.meta = meta
        self.limits = limits
        self._publish = publish
        self._unpublished: list[Event] = []  # what happened under the write lock; told after its release
        self.database = Database(path, busy_timeout_s=limits.busy_timeout_s)
        self.files = DatabaseFiles(path, recover=self.database.recover)
        self._mark = ((0, 0), 0)  # generation, and mxFrame at least as high as our read mark in it
        self._state: SyncState | None = None
        self._sums: PageSums | None = None
        self._struck: tuple[int, int] | None = None  # generation that the WAL-reset bug has struck
        self._compared: tuple[tuple[int, int], int] | None = None  # salts and mxFrame of the last comparison for it

    @property
    def state(self) -> SyncState:
        """The state; raises StateUnknownError while not attached."""
        if self._state is None:
            raise StateUnknownError("sync", self.path, "not attached")
        return self._state

    @property
    def attached(self) -> bool:
        """Whether there is a state."""
        return self._state is not None

    def apply(self, result: Result) -> None:
        """Apply a durable outcome, and record the position: the only assignment of the state but for dropping it.

        Raises LsyncError, the outcome applied, where the position cannot be recorded; what is recorded stays true.
        """
        self._state = apply(self._state, result)
        self._record()

    def publish(self, event: Event) -> None:
        """Tell of an event; under the write lock it waits for `publish_held`, because a log may block."""
        self._unpublished.append(event)
        if not self.database.locked:
            self.publish_held()

    def publish_held(self) -> None:
        """Tell of what happened under the write lock."""
        while self._unpublished:
            self._publish(self._unpublished.pop(0))

    def _land(self, result: SyncResult) -> SyncResult:
        """Apply and publish a durable L0 file; it is published even where its position cannot be recorded."""
        try:
            self.apply(result)
        finally:
            self.publish(result)
        return result

    def drop(self) -> None:
        """Forget the state and end the read transaction: the next `attach` derives it from disk."""
        self._state = None
        if self._sums is not None:
            self._sums.close()
            self._sums = None
        self.database.end_read()

    def _record(self) -> None:
        state = self.state
        self.meta.write_position(
            PositionRecord(
                txid=state.txid,
                database_checksum=state.database_checksum,
                page_size=state.page_size,
                commit=state.commit,
                wal=state.wal,
                sealed=state.sealed,
                file=self.files.facts(),
                file_complete=state.file_complete,
            )
        )

    # --- open, attach, close ---

    def open(self, *, convert: bool = False) -> None:
        """Check the database file, take the local state's lock, connect. Nothing is created for a file that is refused.

        Raises SourceRejectedError (reasons "missing", "empty" and "journal-mode" may be waited out), LsyncError.
        """
        header = self.files.open_database()
        try:
            if not header.is_wal and not convert:
                raise SourceRejectedError(
                    self.path,
                    "journal-mode",
                    "the database is in rollback-journal mode",
                    hint=f"sqlite3 {self.path} 'PRAGMA journal_mode=WAL', or set journal-mode: convert",
                )
            self.meta.file_mode = self.files.mode() | 0o600
            self.meta.open()
            self.database.open(convert=not header.is_wal)
            self.files.open_sidecars()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything; idempotent. Connections first: closing a descriptor earlier would drop SQLite's locks.

        The file's facts are recorded once more while the read transaction still holds: a checkpoint of the application
        since the last step then costs no comparison at the next start.
        """
        if self._state is not None and self.database.reading:
            with contextlib.suppress(LsyncError):  # without it the next start compares
                self._record()
        self._state = None
        self.database.close()
        self.files.close()
        if self._sums is not None:
            self._sums.close()
            self._sums = None
        self.meta.close()

    def attach(self, base: tuple[LocalChain, PageSums] | None, *, now_ms: int) -> SyncResult | None:
        """Begin the read transaction and join the database to its chain: continue, compare, or snapshot.

        base: the chain and its page checksums; None begins one at TXID 1. Returns the result if a file was written.
        """
        if base is None:
            return self._join(empty_chain(self.files.header().page_size), now_ms=now_ms, reason="first-snapshot")
        if self._sums is not None and self._sums is not base[1]:
            self._sums.close()
        chain, self._sums = base
        return self._join(complete_position(self.files, chain), now_ms=now_ms, reason=None)

    def _join(self, chain: LocalChain, *, now_ms: int, reason: str | None) -> SyncResult | None:
        """(Re)start the read transaction under the write lock; then continue, or compare under the read mark."""
        page_size = self.files.header().page_size
        if chain.page_size != page_size:
            cause = f"page size changed from {chain.page_size} to {page_size}, and a chain holds one page size"
            raise SourceRejectedError(self.path, "page-size-changed", cause, hint="replicate it to a new URL")
        with self.database.barrier(self.limits.attach_wait_s):
            index = self.restart_read()
            intact = last_frame_intact(self.files, chain)
            facts = AttachFacts(file=self.files.facts(), index=index, last_frame_intact=intact)
        decision = decide_continuity(chain, facts)
        if reason is None and isinstance(decision, Continue):
            self._continue(chain, decision.wal, index)
            return None
        why = reason or (decision.reason if not isinstance(decision, Continue) else "")
        return self._compare(chain, index, reason=why, now_ms=now_ms)

    def _continue(self, chain: LocalChain, wal: WalPosition, index: WalIndex) -> None:
        end = frame_offset(index.mx_frame + 1, chain.page_size) if index.mx_frame else WAL_HEADER_SIZE
        # The read transaction began under the write lock: if nothing is left to copy, this is a seal.
        sealed = wal.offset == end
        self._attached(chain, wal, sealed=sealed, file_complete=sealed and index.n_backfill >= index.mx_frame)

    def _attached(self, chain: LocalChain, wal: WalPosition, *, sealed: bool, file_complete: bool) -> None:
        """Apply that the database is the chain's newest state at this place of the WAL."""
        state = SyncState(
            txid=chain.txid,
            database_checksum=chain.database_checksum,
            page_size=chain.page_size,
            commit=chain.commit,
            wal=wal,
            sealed=sealed,
            timestamp_ms=chain.timestamp_ms,
            file_complete=file_complete,
        )
        self.apply(Attached(state=state))

    def _compare(self, chain: LocalChain, index: WalIndex, *, reason: str, now_ms: int) -> SyncResult | None:
        started_s = time.monotonic()
        snapshot = read_snapshot(self.files, index, chain.page_size)
        try:
            result, self._sums = ship_differences(
                self.meta, snapshot, chain, self._sums, reason=reason, now_ms=now_ms
            )
        except StateUnknownError:
            self.drop()
            raise
        if result is None:
            self._attached(chain, snapshot.wal, sealed=True, file_complete=snapshot.fully_backfilled)
            return None
        return self._land(replace(result, seconds=time.monotonic() - started_s))

    def resync(self, reason: str, *, now_ms: int) -> SyncResult | None:
        """Prove nothing: restart the read transaction and ship what differs from what was last replicated."""
        state = self.state
        self.apply(Unsealed())
        chain = LocalChain(
            txid=state.txid,
            database_checksum=state.database_checksum,
            page_size=state.page_size,
            commit=state.commit,
            wal=None,
            file=None,
            file_complete=False,
            timestamp_ms=state.timestamp_ms,
        )
        return self._join(chain, now_ms=now_ms, reason=reason)

    # --- the read transaction ---

    def restart_read(self) -> WalIndex:
        """End and begin the read transaction; only under the write lock. Returns the index as it stands then."""
        self.database.end_read()
        self.database.begin_read()
        index = self.files.read_index()
        self._mark = (index.salts, index.mx_frame)
        return index

    def hand_over_read(self, index: WalIndex) -> None:
        """Move the read mark forward, if there are frames to backfill beyond it.

        Never on a fully backfilled WAL: the new reader would take slot 0 unsealed (design section 2). That the mark
        really moves forward is part of the rule: a held mark below mxFrame keeps others from completing the backfill
        between our look and the new reader's start (found by the model). So the mark we remember is read after the new
        reader began, and may be higher than its own, never lower.
        """
        salts, mark = self._mark
        if index.mx_frame > index.n_backfill and (index.salts != salts or index.mx_frame > mark):
            self.database.hand_over_read()
            after = self.files.read_index()
            self._mark = (after.salts, after.mx_frame)

    # --- sync ---

    def sync(self, *, now_ms: int) -> SyncResult | None:
        """Copy committed frames into one L0 file; None where there is nothing to copy.

        Raises SickWal if published frames do not verify (heal it), StateUnknownError (the state is dropped: attach
        again), DatabaseBusyError where the database must be compared and we hold the write lock (a comparison takes its
        time: sync after its release). Any other LsyncError leaves the state as it was, unless the L0 file is there and
        published and only its position could not be recorded.
        """
        for _ in range(_REPLANS_MAX):
            index = self.files.read_index()
            if self._wal_reset_bug(index):
                return self._compare_struck(index, now_ms=now_ms)
            plan = plan_sync(self.state, index)
            match plan:
                case Nothing():
                    return None
                case ContinuityLost():
                    return self._resync_unlocked(plan.reason, now_ms=now_ms)
                case ReadFrames():
                    try:
                        return self._copy(plan, now_ms=now_ms)
                    except WalMoved:
                        continue
        raise DatabaseBusyError("sync", self.path, "the WAL is restarted faster than it can be read")

    def _resync_unlocked(self, reason: str, *, now_ms: int) -> SyncResult | None:
        if self.database.locked:
            raise DatabaseBusyError("compare", self.path, f"{reason}: not under the write lock")
        return self.resync(reason, now_ms=now_ms)

    def _copy(self, plan: ReadFrames, *, now_ms: int) -> SyncResult:
        state = self.state
        if self._sums is None:
            raise StateUnknownError("sync", self.path, "the page checksums are not open")
        started_s = time.monotonic()
        pages = read_pages(
            self.files,
            plan,
            page_size=state.page_size,
            seed=state.wal.frame_checksum,
            wal_bytes_max=self.limits.sync_wal_bytes_max,
        )
        pages = add_growth_pages(self.files, pages, plan, commit_before=state.commit, page_size=state.page_size)
        try:
            result = write_sync(self.meta, self.files, self._sums, state, plan, pages, now_ms=now_ms)
        except StateUnknownError:
            self.drop()
            raise
        return self._land(replace(result, seconds=time.monotonic() - started_s))

    def _wal_reset_bug(self, index: WalIndex) -> bool:
        """Tell whether the bug struck this generation or the one that we come from; read twice, it must be stable."""
        if self._struck is not None:
            return True
        if not index.wal_reset_bug_struck:
            return False
        again = self.files.read_index()
        if not again.wal_reset_bug_struck or again.salts != index.salts:
            return False
        self._struck = index.salts
        self.publish(WalResetBugNotice(index.mx_frame, index.n_backfill))
        return True

    def _compare_struck(self, index: WalIndex, *, now_ms: int) -> SyncResult | None:
        """Compare instead of copying, until a generation has begun that the WAL-reset bug has not struck.

        SQLite overlooks the frames that it takes for backfilled; a chain that had them would go on beside the database.
        """
        seen = (index.salts, index.mx_frame)
        if seen == self._compared:
            return None
        result = self._resync_unlocked("wal-reset-bug", now_ms=now_ms)
        self._compared = seen
        if index.salts != self._struck:
            self._struck = None
        return result

    def behind(self) -> bool:
        """Tell whether a sync would find something to do; a few microseconds."""
        return not isinstance(plan_sync(self.state, self.files.read_index()), Nothing)

    def verify_pending(self) -> None:
        """Read what was committed since the last sync, without copying it; raises SickWal if it does not verify."""
        plan = plan_sync(self.state, self.files.read_index())
        if isinstance(plan, ReadFrames):
            with contextlib.suppress(WalMoved):  # then the next sync judges
                seed = self.state.wal.frame_checksum
                read_pages(self.files, plan, page_size=self.state.page_size, seed=seed, wal_bytes_max=None)

    def pending_bytes(self, index: WalIndex) -> int:
        """Return how many bytes of committed WAL are not copied yet."""
        state = self.state
        if index.mx_frame == 0:
            return 0
        start = state.wal.offset if index.salts == state.wal.salts else WAL_HEADER_SIZE
        return max(0, frame_offset(index.mx_frame + 1, state.page_size) - start)

    def check_files(self) -> None:
        """Raise LocalIOError if the paths no longer name the files that are open: the caller closes and opens again."""
        if not self.files.unchanged():
            raise LocalIOError("sync", self.path, "the database or its WAL was replaced by another file")

    def sealed(self, *, file_complete: bool) -> None:
        """Record that under the write lock everything was copied and the read transaction restarted."""
        self.apply(Sealed(file_complete=file_complete))


__all__ = ["SickWal", "Tailer"]
