"""Reading a replica over a network that fails: listings with retries, files with resume, many in parallel, in order.

Memory: `Fetcher` holds at most WINDOW_BYTES_PER_THREAD of file content for each thread (16 MiB by default), and never
more than WINDOW_BYTES_MAX, whatever the number and the size of the files: parts that are being read or wait to be
consumed count with their full size, and no part is begun beyond the window.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

from litestream_py.core.backoff import RetryPolicy, next_delay
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import DamagedFileError
from litestream_py.engine.pool import Pool
from litestream_py.errors import TransientNetworkError
from litestream_py.ltx.ids import LEVEL_MAX

PART_BYTES: Final = 4 << 20
"""A larger file is read in ranges of this size, several at a time."""
WINDOW_BYTES_PER_THREAD: Final = 2 << 20
"""Half a part: of a large file half as many ranges are under way as there are threads; small files use them all."""
WINDOW_BYTES_MAX: Final = 64 << 20
PARALLELISM_DEFAULT: Final = 8

READ_POLICY: Final = RetryPolicy()
"""About 20 s without a single byte, then the read fails."""
LIST_POLICY: Final = RetryPolicy(attempts_max=4)
"""About 2 s: a command that cannot even list should say so soon."""

_QUEUED_PER_THREAD: Final = 4
"""Small files queued per thread, so that none idles between two requests."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How failed calls are tried again: the policy, and where the wait and the chance come from.

    wait: sleeps for that many seconds, returns True when the caller should give up instead.
    """

    policy: RetryPolicy
    wait: Callable[[float], bool]
    rng: Callable[[], float] = random.random

    def pause(self, failures: int, error: TransientNetworkError) -> None:
        """Wait after failure number `failures` (1 is the first); raise `error` when the attempts are used up."""
        policy = self.policy
        if failures >= policy.attempts_max:
            raise error
        if self.wait(next_delay(failures - 1, base_s=policy.base_s, max_s=policy.max_s, rng=self.rng)):
            raise error


def list_replica(
    client: ReplicaClient, levels: Iterable[int] = range(LEVEL_MAX + 1), *, policy: RetryPolicy = LIST_POLICY
) -> list[FileInfo]:
    """Return the files of the given levels, level by level; they are listed in parallel.

    Raises what the client raises, TransientNetworkError only after the policy's attempts.
    """
    with Pool(threads=LEVEL_MAX + 1, name="list") as pool:
        patience = Patience(policy, pool.stopping.wait)
        pending = [pool.submit(partial(_list_level, client, level, patience)) for level in levels]
        return [info for future in pending for info in future.result()]


def _list_level(client: ReplicaClient, level: int, patience: Patience) -> list[FileInfo]:
    failures = 0
    while True:
        try:
            return client.list_level(level)
        except TransientNetworkError as error:
            failures += 1
            patience.pause(failures, error)


def fetch(
    client: ReplicaClient,
    info: FileInfo,
    *,
    offset: int = 0,
    size: int | None = None,
    patience: Patience | None = None,
) -> Iterator[bytes]:
    """Yield a file's bytes from `offset` to its end, or `size` bytes of it, resuming where a connection broke.

    Attempts are counted anew after every byte of progress. Raises DamagedFileError if the file ends before the size
    that its listing told, TransientNetworkError when the attempts are used up, and what else the client raises.
    """
    patience = patience or Patience(READ_POLICY, threading.Event().wait)
    end = info.size if size is None else offset + size
    failures = 0
    while offset < end:
        try:
            for chunk in client.stream(info.name, offset=offset, size=end - offset):
                offset += len(chunk)
                failures = 0
                yield chunk
            if offset < end:
                cause = f"ends at byte {offset}, its listing said {info.size}"
                raise DamagedFileError(info.name, client.url, cause)
        except TransientNetworkError as error:
            failures += 1
            patience.pause(failures, error)


@dataclass(frozen=True, slots=True)
class _Part:
    info: FileInfo
    offset: int
    size: int


class Fetcher:
    """Fetches files in parallel and yields each one's bytes in order; a context manager.

    Iterating gives (file, its chunks) in the order of `files`; the chunks must be consumed before the next file.
    Every error of the client reaches the consumer at the place of the file it concerns.
    """

    def __init__(
        self,
        client: ReplicaClient,
        files: Sequence[FileInfo],
        *,
        parallelism: int = PARALLELISM_DEFAULT,
        policy: RetryPolicy = READ_POLICY,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._client = client
        self._files = files
        self._pool = Pool(parallelism, "fetch")
        self._patience = Patience(policy, wait or self._pool.stopping.wait)
        self._parts = (part for info in files for part in _parts(info))
        self._window_bytes = max(2 * PART_BYTES, min(WINDOW_BYTES_MAX, parallelism * WINDOW_BYTES_PER_THREAD))
        self._queued_max = _QUEUED_PER_THREAD * parallelism
        self._pending: deque[tuple[_Part, Future[list[bytes]]]] = deque()
        self._pending_bytes = 0
        self._next: _Part | None = next(self._parts, None)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._pool.__exit__(kind, error, tb)
        self._pending.clear()

    def __iter__(self) -> Iterator[tuple[FileInfo, Iterator[bytes]]]:
        for info in self._files:
            yield info, self._chunks(info)

    def _chunks(self, info: FileInfo) -> Iterator[bytes]:
        left = info.size
        while left:
            self._fill()
            part, future = self._pending.popleft()
            chunks = future.result()
            del future
            left -= part.size
            chunks.reverse()
            while chunks:
                yield chunks.pop()
            self._pending_bytes -= part.size

    def _fill(self) -> None:
        while self._next is not None:
            part = self._next
            if self._pending_bytes + part.size > self._window_bytes or len(self._pending) >= self._queued_max:
                return
            self._pending_bytes += part.size
            self._pending.append((part, self._pool.submit(partial(self._read, part))))
            self._next = next(self._parts, None)

    def _read(self, part: _Part) -> list[bytes]:
        return list(fetch(self._client, part.info, offset=part.offset, size=part.size, patience=self._patience))


def _parts(info: FileInfo) -> Iterator[_Part]:
    """Cut a file into parts of PART_BYTES; an empty file has none."""
    for offset in range(0, info.size, PART_BYTES):
        yield _Part(info, offset, min(PART_BYTES, info.size - offset))
