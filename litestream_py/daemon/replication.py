"""What the two jobs of one database share: its tailer, its uploader, and what they tell each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from litestream_py.config_model import DbConfig
from litestream_py.core.checkpoint import CheckpointLimits
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.state import SyncResult
from litestream_py.daemon.publisher import Publisher
from litestream_py.engine.events import Event, TailLimits
from litestream_py.engine.inventory import Inventory
from litestream_py.engine.owner import Owner
from litestream_py.engine.snapshotter import OpenSnapshot
from litestream_py.engine.tailer import Tailer
from litestream_py.engine.uploader import Connected, Uploader, UploadEvent
from litestream_py.errors import DatabaseBusyError, LsyncError
from litestream_py.local.machine import host_name, writer_id
from litestream_py.local.meta import MetaDir, default_meta_path


def now_ms() -> int:
    """Return the wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(eq=False)
class Replication:
    """One database and its replica.

    rebase: why the local chain must be derived from the replica's again; set by the upload job, cleared by the database
    job. ended: the error for which this database is given up; the daemon goes on with the others. wake_upload: has the
    upload job look for work; wake_maintenance, maintenance_sleeps: the same for the job that maintains the replica,
    which needs waking only where an upload may bring it something to do. snapshot_wanted: set by that job, for the
    database job to open `open_snapshot`; snapshot_read: set when it is read, for the database job to close it.
    snapshot_failed_ms: when one was given up, Unix ms, 0 if the last one was not.
    """

    config: DbConfig
    client: ReplicaClient
    publisher: Publisher
    uploader: Uploader = field(init=False)
    tailer: Tailer = field(init=False)
    inventory: Inventory = field(init=False)
    rebase: str | None = None
    ended: LsyncError | None = None
    on_end: Callable[[], None] = lambda: None
    wake_upload: Callable[[], None] = lambda: None
    wake_maintenance: Callable[[], None] = lambda: None
    maintenance_sleeps: bool = True
    snapshot_wanted: bool = False
    open_snapshot: OpenSnapshot | None = None
    snapshot_read: bool = False
    snapshot_failed_ms: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)  # protects rebase and ended

    @classmethod
    def create(cls, config: DbConfig, client: ReplicaClient, publisher: Publisher) -> Replication:
        """Build the tailer and the uploader of one database; nothing is opened yet."""
        meta = MetaDir(config.meta_path or default_meta_path(config.path))
        limits = TailLimits(
            lock_wait_s=config.lock_wait_s,
            lock_work_bytes=config.lock_work_bytes,
            sync_wal_bytes_max=config.sync_wal_bytes_max,
            busy_timeout_s=config.busy_timeout_s,
        )
        owner = Owner(client, writer_id=writer_id(config.path), host=host_name())
        replication = cls(config, client, publisher)
        replication.inventory = Inventory(client)
        replication.uploader = Uploader(client, meta, owner, replication.uploaded)
        replication.tailer = Tailer(config.path, meta, limits, replication.tailed)
        return replication

    def tailed(self, event: Event) -> None:
        """Pass an event of the engine on: a new file is to be uploaded, whatever becomes of the step that made it."""
        if isinstance(event, SyncResult):
            self.uploader.captured(event.txid, event.ltx_bytes)
            self.wake_upload()
        self.publisher.tailed(event)

    def uploaded(self, event: UploadEvent) -> None:
        """Pass an event of the uploader on: the inventory grows, and there may be something to maintain."""
        self.publisher.uploaded(event)
        if isinstance(event, Connected):
            self.inventory.forget()  # listed when there is something to maintain, not at a start without changes
            return
        self.inventory.add(FileInfo(event.name, event.size, event.timestamp_ms), now_ms())
        if self.maintenance_sleeps:
            self.wake_maintenance()

    def snapshot_given_up(self, error: DatabaseBusyError) -> None:
        """Take note of a snapshot that could not begin or not be finished: it is tried again, but not at once."""
        self.snapshot_failed_ms = now_ms()
        self.publisher.snapshot_given_up(error)

    def wal_bytes_max(self, opened: OpenSnapshot) -> int:
        """Return how many bytes the WAL may have for a snapshot: some times those where it is cut, or the database's.

        Nothing of the WAL can be used again before the snapshot is closed.
        """
        state = opened.state
        return 4 * state.page_size * max(self.config.truncate_pages, state.commit)

    @property
    def checkpoint_limits(self) -> CheckpointLimits:
        """The thresholds of `choose_checkpoint`."""
        return CheckpointLimits(
            pages_min=self.config.checkpoint_pages_min,
            interval_s=self.config.checkpoint_interval_s,
            truncate_pages=self.config.truncate_pages,
        )

    def request_rebase(self, reason: str) -> None:
        """Ask the database job to start over from the replica's chain."""
        with self.lock:
            self.rebase = reason

    def take_rebase(self) -> str | None:
        """Return and clear the request."""
        with self.lock:
            reason, self.rebase = self.rebase, None
            return reason

    def end(self, error: LsyncError) -> None:
        """Give this database up; the first reason stays."""
        with self.lock:
            self.ended = self.ended or error
        self.on_end()
