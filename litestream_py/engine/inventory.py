"""What a replica holds, kept in memory: listed once and after an error, then updated by what we do (design 7)."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from litestream_py.core.backoff import RetryPolicy
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.engine.fetch import list_replica
from litestream_py.ltx.ids import FileName

_ONCE: Final = RetryPolicy(attempts_max=1)
"""Who asks paces: a store that throttles is not asked for ten levels several times over."""


class Inventory:
    """The files of one replica; called by the uploading and by the maintaining thread.

    appeared_ms: when a file appeared, Unix ms, where we made it or the store knows: its own time is that of the last
    change in it.
    """

    def __init__(self, client: ReplicaClient) -> None:
        self._client = client
        self._lock = threading.Lock()  # protects what follows
        self._files: dict[FileName, FileInfo] | None = None
        self._meanwhile: list[FileInfo] | None = None  # added while a listing was under way
        self._appeared: dict[FileName, int] = {}

    def files(self) -> list[FileInfo]:
        """Return every file; lists the replica if that is not known. Raises LsyncError."""
        with self._lock:
            if self._files is not None:
                return list(self._files.values())
            self._meanwhile = []
        listed = list_replica(self._client, policy=_ONCE)
        with self._lock:
            self._files = {info.name: info for info in (*listed, *(self._meanwhile or ()))}
            self._meanwhile = None
            return list(self._files.values())

    def appeared_ms(self) -> dict[FileName, int]:
        """Return when files appeared, as far as that is known."""
        with self._lock:
            listed = {name: info.appeared_ms for name, info in (self._files or {}).items() if info.appeared_ms}
            return listed | self._appeared

    def add(self, info: FileInfo, now_ms: int) -> None:
        """Take note of a file that was stored."""
        with self._lock:
            self._appeared[info.name] = now_ms
            if self._files is not None:
                self._files[info.name] = info
            elif self._meanwhile is not None:
                self._meanwhile.append(info)

    def remove(self, names: Iterable[FileName]) -> None:
        """Take note of files that were deleted."""
        with self._lock:
            for name in names:
                self._appeared.pop(name, None)
                if self._files is not None:
                    self._files.pop(name, None)

    def forget(self) -> None:
        """Have the replica listed again before the next use."""
        with self._lock:
            self._files = None
