"""The job that keeps a replica small and quick to restore: levels, snapshots, retention.

One heavy thing at a time for a database. Decisions are made by pure functions from the inventory in memory: while
nothing new was uploaded nothing is due, and an idle database costs neither a request nor a timer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from litestream_py.core.backoff import next_delay
from litestream_py.core.compact import compaction_due_ms, plan_compaction, snapshot_due_ms
from litestream_py.core.ports import FileInfo
from litestream_py.core.retention import plan_retention
from litestream_py.daemon.replication import Replication, now_ms
from litestream_py.daemon.scheduler import ReplicaWork
from litestream_py.engine.compactor import DamagedInputError, compact
from litestream_py.engine.retention import execute_retention
from litestream_py.engine.snapshotter import OpenSnapshot, upload_snapshot
from litestream_py.errors import DatabaseBusyError, LsyncError, OwnedElsewhereError, PreconditionError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName

_BACKOFF_BASE_S: Final = 5.0
_BACKOFF_MAX_S: Final = 600.0
_SNAPSHOT_RETRY_S: Final = 60.0
_UPLOAD_PATIENCE_S: Final = 30.0
_UPLOAD_LOOK_S: Final = 0.2
_RETENTION: Final = "retention"


class MaintenanceJob(ReplicaWork):
    """Compacts, snapshots and thins out one replica; see `scheduler.Job`."""

    def __init__(self, replication: Replication, wake_database: Callable[[], None]) -> None:
        self._r = replication
        self._wake_database = wake_database
        self._stopping = False
        self._failures = 0  # to learn what the replica holds
        self._paused_until_ms = 0
        self._trouble: dict[str, tuple[int, int]] = {}  # by kind of work: failures in a row, and when to try again
        self._suspect: FileName | None = None  # an input that was found damaged once
        self._damaged: set[FileName] = set()  # those found so twice: not a fault of the transfer
        self._worked_ms: dict[int, int] = {}  # by level: when it was last worked on
        self._changed = True  # files have come since retention was planned
        self._retained_ms = 0
        self._retention_next_ms: int | None = None

    def stop(self) -> None:
        """Have the work under way end at its next look; what it has not stored is done again after the next start."""
        self._stopping = True
        opened = self._r.open_snapshot
        if opened is not None:
            opened.cancelled = "lsync is being stopped"

    def _go_on(self) -> None:
        if self._stopping:
            raise DatabaseBusyError("maintain", self._r.client.url, "lsync is being stopped")

    def crashed(self, error: BaseException) -> float | None:
        """A mistake of ours: say so, list the replica anew, try again later."""
        self._r.publisher.crashed(error)
        return self._pause_s()

    def step(self) -> float | None:
        """Do the most urgent piece of work; returns seconds until the next, or None while nothing can become due."""
        r = self._r
        r.maintenance_sleeps = True  # first of all: what is uploaded from here on has this job look once more
        if r.ended is not None or r.uploader.confirmed is None or self._stopping:
            return None
        try:
            delay_s = self._work(now_ms())
        except OwnedElsewhereError as error:
            r.publisher.ended(error)
            r.end(error)
            return None
        except LsyncError as error:
            if self._stopping:
                return None
            r.publisher.failed("maintain", error)
            r.maintenance_sleeps = False
            return self._pause_s()
        self._failures = 0
        return delay_s

    def _pause_s(self) -> float:
        self._failures += 1
        self._r.inventory.forget()
        delay_s = next_delay(self._failures - 1, base_s=_BACKOFF_BASE_S, max_s=_BACKOFF_MAX_S, rng=random.random)
        self._paused_until_ms = now_ms() + round(1000 * delay_s)
        return delay_s

    def _work(self, at_ms: int) -> float | None:
        opened = self._r.open_snapshot
        if opened is not None and not self._r.snapshot_read:
            return self._upload_snapshot(opened)
        if at_ms < self._paused_until_ms:
            return (self._paused_until_ms - at_ms) / 1000
        files = self._r.inventory.files()
        self._r.uploader.compacted(max((i.name.max_txid for i in files if i.name.level == 1), default=TXID(0)))
        due = [
            (max(due_ms, self._trouble.get(kind, (0, 0))[1]), kind, work)
            for due_ms, kind, work in (
                *((self._level_due_ms(files, n, at_ms), f"level {n}", self._compacting(n)) for n in self._levels()),
                (self._snapshot_due_ms(files, at_ms), "snapshot", self._request_snapshot),
                (self._retention_due_ms(at_ms), _RETENTION, self._retain),
            )
            if due_ms is not None
        ]
        # An upload makes level 1 due, nothing else earlier than that; once it is, uploads need not wake this job.
        self._r.maintenance_sleeps = all(kind != "level 1" for _, kind, _ in due)
        if not due:
            return None
        due_ms, kind, work = min(due)
        if due_ms > at_ms:
            return (due_ms - at_ms) / 1000
        try:
            delay_s = work(files, at_ms)
        except OwnedElsewhereError:
            raise
        except LsyncError as error:
            return self._failed(kind, error)
        self._trouble.pop(kind, None)
        return delay_s

    def _failed(self, kind: str, error: LsyncError) -> float | None:
        """Put off the kind of work that failed; the others go on."""
        if self._stopping:
            return None
        self._r.publisher.failed("maintain", error)
        failures = self._trouble.get(kind, (0, 0))[0]
        delay_s = next_delay(failures, base_s=_BACKOFF_BASE_S, max_s=_BACKOFF_MAX_S, rng=random.random)
        self._trouble[kind] = failures + 1, now_ms() + round(1000 * delay_s)
        if isinstance(error, DamagedInputError):
            if error.name == self._suspect:
                self._damaged.add(error.name)
                self._trouble.pop(kind)
            self._suspect = error.name
        if kind == _RETENTION:
            self._changed = True  # what was not deleted is named again
        else:
            self._r.inventory.forget()
        return 0.0

    def _may_write(self, at_ms: int) -> bool:
        """Make sure that we own the replica; False if it was emptied, which the upload job will notice."""
        return self._r.uploader.ensure_owner(now_ms=at_ms)

    # --- levels ---

    def _levels(self) -> list[int]:
        return [level.number for level in self._r.config.levels]

    def _level_due_ms(self, files: list[FileInfo], number: int, at_ms: int) -> int | None:
        level = self._r.config.levels[number - 1]
        last_ms = self._worked_ms.get(number, 0)
        return compaction_due_ms(files, level, last_ms=last_ms, now_ms=at_ms, damaged=self._damaged)

    def _compacting(self, number: int) -> Callable[[list[FileInfo], int], float | None]:
        return lambda files, at_ms: self._compact(files, number, at_ms)

    def _compact(self, files: list[FileInfo], number: int, at_ms: int) -> float | None:
        self._worked_ms[number] = at_ms
        plan = plan_compaction(files, number, damaged=self._damaged)
        if plan is None:
            return 0.0
        if not self._may_write(at_ms):
            return None
        if plan.needs_base is not None and plan.base_copy is not None:
            # Before L1 begins: Litestream's retention would delete a base that is only in L0.
            self._r.client.copy(plan.needs_base.name, plan.base_copy)
            self._stored(plan.base_copy, plan.needs_base.size, plan.needs_base.created_ms)
        done = compact(self._r.client, self._r.tailer.meta, plan.inputs, plan.output, go_on=self._go_on)
        self._stored(done.name, done.size, done.timestamp_ms)
        self._r.publisher.compacted(done, inputs=len(plan.inputs))
        return 0.0

    def _stored(self, name: FileName, size: int, timestamp_ms: int) -> None:
        self._r.inventory.add(FileInfo(name, size, timestamp_ms), now_ms())
        self._changed = True

    # --- snapshots ---

    def _snapshot_due_ms(self, files: list[FileInfo], at_ms: int) -> int | None:
        due_ms = snapshot_due_ms(
            files,
            self._r.config.snapshot_interval_s,
            last_ms=self._worked_ms.get(SNAPSHOT_LEVEL, 0),
            now_ms=at_ms,
            damaged=self._damaged,
        )
        if due_ms is None or self._r.snapshot_wanted:
            return None
        failed_ms = self._r.snapshot_failed_ms
        return max(due_ms, failed_ms + round(1000 * _SNAPSHOT_RETRY_S)) if failed_ms else due_ms

    def _request_snapshot(self, _files: list[FileInfo], at_ms: int) -> float | None:
        """Ask the database job to open one; it wakes us when it has."""
        if not self._may_write(at_ms):
            return None
        self._worked_ms[SNAPSHOT_LEVEL] = at_ms
        self._r.snapshot_wanted = True
        self._wake_database()
        return 0.0

    def _upload_snapshot(self, opened: OpenSnapshot) -> float | None:
        confirmed = self._r.uploader.confirmed
        behind = confirmed is None or confirmed < opened.state.txid
        if behind and now_ms() < self._worked_ms[SNAPSHOT_LEVEL] + round(1000 * _UPLOAD_PATIENCE_S):
            return _UPLOAD_LOOK_S  # no level reaches beyond L0: its TXID must be there first
        try:
            if behind:
                raise DatabaseBusyError("snapshot", self._r.config.path, "the store takes no uploads")
            size = upload_snapshot(self._r.client, opened, wal_bytes_max=self._r.wal_bytes_max(opened))
        except PreconditionError:
            self._r.inventory.forget()  # it is there: a snapshot whose answer was lost
        except DatabaseBusyError as error:
            if not self._stopping:
                self._r.snapshot_given_up(error)
        except LsyncError as error:
            return self._failed("snapshot", error)
        else:
            self._r.snapshot_failed_ms = 0
            self._trouble.pop("snapshot", None)
            self._stored(opened.name, size, opened.state.timestamp_ms)
            self._r.publisher.snapshotted(opened.name, size)
        finally:
            if self._r.open_snapshot is opened:  # else it was closed meanwhile
                self._r.snapshot_read = True
            self._wake_database()
        return 0.0

    # --- retention ---

    def _retention_due_ms(self, at_ms: int) -> int | None:
        """Return when to plan again: files have come, or time has made some superfluous; but not too often."""
        config = self._r.config
        if not config.retention_enabled or (self._retention_next_ms is None and not self._changed):
            return None
        next_ms = at_ms if self._retention_next_ms is None else self._retention_next_ms
        return max(next_ms, self._retained_ms + round(1000 * config.retention_check_s))

    def _retain(self, files: list[FileInfo], at_ms: int) -> float | None:
        self._retained_ms, self._changed = at_ms, False
        plan = plan_retention(
            files,
            self._r.config.retention,
            at_ms,
            damaged=self._damaged,
            appeared_ms=self._r.inventory.appeared_ms(),
            source=self._r.client.url,
        )
        self._retention_next_ms = plan.next_ms
        if not plan.deletes:
            return 0.0
        if not self._may_write(at_ms):
            return None
        execute_retention(self._r.client, plan, done=self._deleted)
        return 0.0

    def _deleted(self, files: Sequence[FileInfo]) -> None:
        self._r.inventory.remove(info.name for info in files)
        if files:
            self._r.publisher.retained(len(files), sum(info.size for info in files))
