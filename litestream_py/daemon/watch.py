"""Be told of writes to a `-wal` file (inotify); where that is not to be had, the scheduler's probes find them.

Watches are one-shot: an armed one reports the first write and is gone, so a busy writer costs neither itself nor us an
event per frame. The job arms it again when it has caught up, and then looks once more, for what came in between.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from litestream_py.daemon.scheduler import Job

if TYPE_CHECKING:
    from inotify_simple import INotify


class WalWatch:
    """One inotify instance for all databases."""

    def __init__(self) -> None:
        self._inotify: INotify | None = None
        self._jobs: dict[int, Job] = {}
        self._lock = threading.Lock()  # an event must not be read before its watch is in _jobs
        if sys.platform.startswith("linux"):
            from inotify_simple import INotify

            try:
                self._inotify = INotify(nonblocking=True)
            except OSError:
                self._inotify = None  # the user's instances are used up: probes find the writes, within a second

    @property
    def fd(self) -> int:
        """The inotify descriptor, negative without inotify."""
        return self._inotify.fileno() if self._inotify is not None else -1

    def arm(self, path: Path, job: Job) -> bool:
        """Report the next write to `path` to `job`, once; False if that cannot be had."""
        if self._inotify is None:
            return False
        from inotify_simple import flags

        with self._lock:
            try:
                wd = self._inotify.add_watch(path, flags.MODIFY | flags.ONESHOT)
            except OSError:
                return False  # gone, or too many watches: the probe finds the writes
            self._jobs[wd] = job
        return True

    def read(self) -> Iterable[Job]:
        """Return the jobs whose files were written to; after an overflow of the queue, every job that is armed."""
        if self._inotify is None:
            return ()
        from inotify_simple import flags

        found: dict[Job, None] = {}
        with self._lock:
            for event in self._inotify.read(timeout=0):
                if event.mask & flags.Q_OVERFLOW:
                    found.update(dict.fromkeys(self._jobs.values()))
                elif event.mask & flags.MODIFY and event.wd in self._jobs:
                    found[self._jobs[event.wd]] = None
                if event.mask & flags.IGNORED:
                    self._jobs.pop(event.wd, None)
        return tuple(found)

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
