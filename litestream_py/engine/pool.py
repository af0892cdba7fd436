"""Daemon threads that run calls and hand back futures.

`concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter exits, so that a Ctrl-C would wait for
the time-out of a read from a storage that no longer answers. These threads are left behind instead: what they do is
reading, and nobody waits for it any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Pool:
    """At most `threads` daemon threads, started as they are needed; calls run in the order of `submit`.

    Leaving the context drops the calls that have not begun and sets `stopping`, which running calls should heed.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.stopping = threading.Event()
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads_max = threads
        self._threads = 0
        self._name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stopping.set()
        for _ in range(self._threads):
            self._queue.put(None)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call; its outcome, exceptions included, is the future's."""
        future: Future[T] = Future()
        self._queue.put((future, call))
        if self._threads < self._threads_max:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        return future

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            future, call = task
            del task
            if self.stopping.is_set() or not future.set_running_or_notify_cancel():
                continue
            try:
                outcome = call()
            except BaseException as error:  # noqa: BLE001 - the future carries it to the thread that waits
                future.set_exception(error)
            else:
                future.set_result(outcome)
                del outcome  # an idle thread must not keep the bytes of its last call
            del future, call
