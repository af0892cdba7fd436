"""SIGINT and SIGTERM as exceptions, so that what a command has half done is cleaned up on the way out."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class _Terminated(BaseException):
    """SIGTERM arrived; a BaseException so that no handler of errors takes it for one."""


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM unwind the block, and ignore further ones meanwhile: clean-up is short.

    After SIGINT, KeyboardInterrupt leaves the block. After SIGTERM the process ends by that signal, as its parent
    expects.
    """

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
