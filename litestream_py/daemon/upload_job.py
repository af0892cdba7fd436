"""The job that ships one database's local L0 log to its replica."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from litestream_py.core.backoff import next_delay
from litestream_py.daemon.replication import Replication, now_ms
from litestream_py.daemon.scheduler import ReplicaWork
from litestream_py.engine.uploader import RebaseNeeded
from litestream_py.errors import LsyncError, NotFoundError, OwnedElsewhereError

_BACKOFF_BASE_S: Final = 0.5
_BACKOFF_MAX_S: Final = 60.0
_REBASE_BASE_S: Final = 5.0
_REBASE_MAX_S: Final = 600.0


class UploadJob(ReplicaWork):
    """Uploads one database's files; see `scheduler.Job`."""

    def __init__(self, replication: Replication, wake_database: Callable[[], None]) -> None:
        self._r = replication
        self._wake_database = wake_database
        self._failures = 0
        self._retry_at_s = 0.0
        self._rebases = 0  # since the last upload
        self._next_rebase_s = 0.0
        self.last_error: LsyncError | None = None

    def crashed(self, error: BaseException) -> float | None:
        """A mistake of ours: say so, forget the replica's position, try again."""
        self._r.publisher.crashed(error)
        self._r.uploader.forget()
        return self._pause_s()

    def step(self) -> float | None:
        """Upload the next file; returns seconds until the next step, or None when there is nothing left."""
        if self._r.ended is not None or self._r.rebase is not None or not self._r.tailer.attached:
            return None
        # Each sync wakes this job; a store that fails or throttles is not asked again before its time.
        if (pause_s := self._retry_at_s - time.monotonic()) > 0:
            return pause_s
        try:
            more = self._r.uploader.step(now_ms=now_ms())
        except RebaseNeeded as need:
            return self._rebase(need.reason)
        except OwnedElsewhereError as error:
            self.last_error = error
            self._r.publisher.ended(error)
            self._r.end(error)
            self._wake_database()
            return None
        except LsyncError as error:
            if isinstance(error, NotFoundError):
                self._r.uploader.forget()  # a local file or the bucket is gone: look again at both ends
            self.last_error = error
            self._r.publisher.failed("upload", error)
            return self._pause_s()
        self._failures = 0
        self.last_error = None
        if more:
            self._rebases = 0
        return 0.0 if more else None

    def _rebase(self, reason: str) -> float | None:
        """Ask for it: at once the first time, then less and less often, because it reads the whole replica."""
        if (pause_s := self._next_rebase_s - time.monotonic()) > 0:
            return pause_s
        delay_s = next_delay(self._rebases, base_s=_REBASE_BASE_S, max_s=_REBASE_MAX_S, rng=random.random)
        self._next_rebase_s = time.monotonic() + delay_s
        self._rebases += 1
        self._r.request_rebase(reason)
        self._wake_database()
        return None

    def _pause_s(self) -> float:
        self._failures += 1
        delay_s = next_delay(self._failures - 1, base_s=_BACKOFF_BASE_S, max_s=_BACKOFF_MAX_S, rng=random.random)
        self._retry_at_s = time.monotonic() + delay_s
        return delay_s
