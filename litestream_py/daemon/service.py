"""The daemon: many databases, one scheduler, signals, and an orderly end."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType
from typing import Final

from litestream_py.config_model import Config
from litestream_py.core.ports import ReplicaClient
from litestream_py.daemon.database_job import DatabaseJob, Phase
from litestream_py.daemon.maintenance_job import MaintenanceJob
from litestream_py.daemon.publisher import Publisher
from litestream_py.daemon.replication import Replication, now_ms
from litestream_py.daemon.scheduler import Scheduler
from litestream_py.daemon.upload_job import UploadJob
from litestream_py.daemon.validation_job import ValidationJob
from litestream_py.daemon.watch import WalWatch
from litestream_py.engine.uploader import RebaseNeeded
from litestream_py.errors import ConfigError, ExitCode, LsyncError, TransientNetworkError
from litestream_py.local.database import require_safe_sqlite
from litestream_py.logs import get_logger

_SYNC_THREADS_MAX: Final = 4
_UPLOAD_THREADS_MAX: Final = 64
_FINISH_THREADS_MAX: Final = 64
_MAINTENANCE_THREADS: Final = 2
"""Heavy work at a time, over all databases."""
_GRACE_S: Final = 5.0
"""What the end may take beyond the shutdown time-out, before what still runs is left behind."""
_FILES_PER_DATABASE: Final = 24
"""Four connections with three files each, our own descriptors, and files being written or sent."""
_FILES_BESIDES: Final = 256

Pair = tuple[Replication, DatabaseJob, UploadJob]


class Service:
    """Replicates every database of a configuration until told to stop, or until none is left."""

    def __init__(
        self,
        config: Config,
        open_client: Callable[[int], ReplicaClient],
        publishers: Sequence[Publisher],
        *,
        wait_for_file: bool = True,
    ) -> None:
        """Build everything; nothing is opened. open_client(i): the client of database i. Raises ConfigError."""
        require_safe_sqlite()
        if not config.dbs:
            raise ConfigError("start", config.source, "dbs is empty: there is nothing to replicate")
        self._config = config
        self._watch = WalWatch()
        self._scheduler = Scheduler(events=self._watch, probe_s=min(db.monitor_interval_s for db in config.dbs))
        count = len(config.dbs)
        _allow_descriptors(count)
        self._sync_pool = ThreadPoolExecutor(min(_SYNC_THREADS_MAX, count), "sync")
        self._upload_pool = ThreadPoolExecutor(min(_UPLOAD_THREADS_MAX, 2 * count), "upload")
        self._maintenance_pool = ThreadPoolExecutor(min(_MAINTENANCE_THREADS, count), "maintenance")
        self._maintenance: dict[Replication, MaintenanceJob] = {}
        self._validation: list[ValidationJob] = []
        self._wait_for_file = wait_for_file
        self._pairs: list[Pair] = []
        self._signals = 0
        self._finished: dict[Replication, LsyncError | None] = {}
        self._left_behind = False
        self._log = get_logger()
        for number, db in enumerate(config.dbs):
            self._add(Replication.create(db, open_client(number), publishers[number]))

    def _add(self, replication: Replication) -> None:
        database = DatabaseJob(replication, self._watch, wait_for_file=self._wait_for_file)
        upload = UploadJob(replication, lambda: self._scheduler.wake(database))
        maintenance = MaintenanceJob(replication, lambda: self._scheduler.wake(database))
        replication.on_end = self._one_ended
        replication.wake_upload = lambda: self._scheduler.wake(upload)
        replication.wake_maintenance = lambda: self._scheduler.wake(maintenance)
        self._pairs.append((replication, database, upload))
        self._maintenance[replication] = maintenance

    # --- run ---

    def run(self) -> ExitCode:
        """Replicate until SIGTERM or SIGINT, or until no database is left; returns the exit code (design section 9).

        Raises the LsyncError of the first database that was given up when none is left.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for _, database, upload in self._pairs:
                self._scheduler.add(database, self._sync_pool, self._upload_pool)
                self._scheduler.add(upload, self._upload_pool)
            for maintenance in self._maintenance.values():
                self._scheduler.add(maintenance, self._maintenance_pool)
            if self._config.validation_interval_s is not None:
                for replication, _, _ in self._pairs:
                    validation = ValidationJob(replication, self._config.validation_interval_s)
                    self._validation.append(validation)
                    self._scheduler.add(validation, self._maintenance_pool)
            self._log.info("started", databases=len(self._pairs), pid=os.getpid())
            self._scheduler.run()
            return self._finish()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Ask `run` to end, as SIGTERM does."""
        self._scheduler.stop()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            # Everything captured is durable in the local log: leaving now loses nothing, it is shipped at the next
            # start.
            os.write(2, b"lsync: aborted by a second signal; what was not uploaded is kept locally\n")
            os._exit(ExitCode.UNREACHABLE)
        os.write(2, f"lsync: {signal.Signals(number).name}: final sync\n".encode())
        self._scheduler.stop()

    def _one_ended(self) -> None:
        if all(replication.ended is not None for replication, _, _ in self._pairs):
            self._scheduler.stop()

    # --- the end ---

    def _finish(self) -> ExitCode:
        """Copy and upload what is there, within the shutdown budget; then let go of everything.

        A step under way, or a request that nobody answers, may take longer: it holds up its own database only, and the
        process leaves it behind, as a second signal does. Everything captured is durable in the local log.
        """
        for maintenance in self._maintenance.values():
            maintenance.stop()
        for validation in self._validation:
            validation.stop()
        deadline_s = time.monotonic() + self._config.shutdown_sync_timeout_s
        pool = ThreadPoolExecutor(min(_FINISH_THREADS_MAX, len(self._pairs)), "finish")
        futures = [pool.submit(self._finish_one, pair, deadline_s) for pair in self._pairs]
        wait(futures, max(0.0, deadline_s - time.monotonic()) + _GRACE_S)
        for future in futures:
            if future.done() and not future.cancelled():
                future.result()  # a defect of ours shows
        late = [pair[0] for pair in self._pairs if pair[0] not in self._finished]
        for replication in late:
            error = _out_of_time(replication)
            replication.publisher.finished(error)
            self._finished[replication] = error
        errors = [error for error in self._finished.values() if error is not None]
        ended = [replication.ended for replication, _, _ in self._pairs if replication.ended is not None]
        if len(ended) == len(self._pairs) and not self._signals and not late:
            raise _worst(ended)
        self._log.info("stopped", unreplicated_databases=len(errors))
        code = errors[0].exit_code if errors else ExitCode.OK
        verifying = not all(self._scheduler.wait_for_end_of_step(job, deadline_s) for job in self._validation)
        if late or verifying or self._left_behind or not all(future.done() for future in futures):
            os._exit(code)  # threads that wait for an answer nobody gives would keep the process
        self._sync_pool.shutdown()
        self._upload_pool.shutdown()
        self._maintenance_pool.shutdown()
        self._watch.close()
        self._scheduler.close()
        return code

    def _finish_one(self, pair: Pair, deadline_s: float) -> None:
        replication, database, upload = pair
        steps_ended = all(self._scheduler.wait_for_end_of_step(job, deadline_s) for job in (database, upload))
        if not steps_ended:
            return  # nobody else may use a tailer or an uploader while its job does
        self._finished[replication] = self._finish_pair(pair, deadline_s)
        # What maintains the replica comes last: a merged file or a snapshot that hangs costs no commit.
        patience_s = min(deadline_s, time.monotonic() + _GRACE_S)
        if self._scheduler.wait_for_end_of_step(self._maintenance[replication], patience_s):
            database.close()
            replication.client.close()
        else:
            self._left_behind = True

    def _finish_pair(self, pair: Pair, deadline_s: float) -> LsyncError | None:
        replication, database, _ = pair
        if replication.ended is not None:
            return replication.ended  # told already; it was not replicated, so the exit code must not say that all was
        error = database.finish()
        if error is None and database.phase is Phase.TAILING:
            error = self._upload_rest(pair, deadline_s)
        elif error is None:
            return None
        replication.publisher.finished(error)
        return error

    def _upload_rest(self, pair: Pair, deadline_s: float) -> LsyncError | None:
        replication, database, upload = pair
        rebased = False
        while True:
            try:
                while replication.uploader.step(now_ms=now_ms()):
                    if time.monotonic() >= deadline_s and replication.uploader.pending():
                        return upload.last_error or _out_of_time(replication)
                return None
            except RebaseNeeded as need:
                if rebased:
                    cause = f"the replica changed: {need.reason}"
                    return TransientNetworkError("upload to", replication.client.url, cause)
                rebased = True
                replication.request_rebase(need.reason)
                error = database.finish()
                if error is not None:
                    return error
            except LsyncError as error:
                pause_s = self._config.shutdown_sync_interval_s
                if not error.retryable or time.monotonic() + pause_s >= deadline_s:
                    return error
                time.sleep(pause_s)


def _allow_descriptors(databases: int) -> None:
    """Raise the soft limit of open files to what this many databases need, as far as that is allowed.

    A service manager may forbid it (etc/lsync.service sets LimitNOFILE instead); running out is an error like others.
    """
    needed = _FILES_PER_DATABASE * databases + _FILES_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _out_of_time(replication: Replication) -> LsyncError:
    return TransientNetworkError(
        "upload to",
        replication.client.url,
        "the shutdown time-out passed",
        hint="the next start ships what is left; raise shutdown-sync-timeout",
    )


def _worst(found: list[LsyncError]) -> LsyncError:
    """Return the error that names the exit code: the first, unless one of them is not a refused source."""
    return next((error for error in found if error.exit_code is not ExitCode.SOURCE_REJECTED), found[0])
