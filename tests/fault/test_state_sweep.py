"""Every step of sync, checkpoint, comparison and attach fails once: the state says exactly what is on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from litestream_py import failpoints
from litestream_py.core.state import SyncResult
from litestream_py.errors import LsyncError
from litestream_py.failpoints import InjectedError
from tests.support import sickwal
from tests.support.lab import Lab
from tests.support.tailproc import step

pytestmark = pytest.mark.fault

_CALLS = (
    "open",
    "write",
    "pwrite",
    "pread",
    "fsync",
    "rename",
    "replace",
    "ftruncate",
    "fstat",
    "stat",
    "utime",
    "scandir",
)
ENGINE = ("l0.", "sync.", "resync.", "checkpoint.", "sick.")
NAMES = sorted(name for name in failpoints.NAMES if name.startswith(ENGINE))


class Fault:
    """The `number`-th call (from 0) of an operating-system function fails; `injected` tells whether it came to that."""

    def __init__(self, number: int, code: int) -> None:
        self._left = number
        self._code = code
        self.injected: str | None = None

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with the fault in it."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                self.injected = name
                raise OSError(self._code, os.strerror(self._code))
            return real(*arguments, **keywords)

        return call


@contextmanager
def fault(number: int, code: int) -> Iterator[Fault]:
    """Let the `number`-th call fail inside the block."""
    it = Fault(number, code)
    with pytest.MonkeyPatch.context() as patched:
        for name in _CALLS:
            patched.setattr(os, name, it.wrap(name, getattr(os, name)))
        yield it


def verify(lab: Lab, what: str, before: object, newest: int, raised: bool) -> None:
    """Check the state after a failed step, retry it, and write down the image that the new TXID must restore to."""
    tailer = lab._tailer
    if tailer is not None and tailer.attached:
        assert tailer.state.txid == lab.newest, "the state is not what is on disk"
        if what == "sync" and lab.newest == newest and raised:
            assert tailer.state == before, "nothing was published, and the state has changed"
        published = {event.txid for event in lab.events if isinstance(event, SyncResult)}
        assert lab.newest in published or lab.newest == newest, "the TXID is there and nobody was told"
    assert lab.newest - newest <= 2
    expected = lab.newest
    assert lab.tailer.state.txid >= expected
    lab.note()
    step(lab, "seal")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("what", ["sync", "seal", "truncate", "resync", "attach"])
def test_every_call_of_the_operating_system_fails_once(lab: Lab, what: str, code: int) -> None:
    """Before durability nothing changes, after it the state is ahead, or dropped and derived again; then it works."""
    app = lab.create("insert into t(b) values(fill(30000, 1))")
    lab.note()
    failed = []
    for number in count():
        app.sql(f"update t set b = fill({10_000 + 5_000 * (number % 5)}, {number})")
        before, newest = lab.tailer.state, lab.newest
        if what == "attach":
            lab.stop()
        raised = False
        with fault(number, code) as injected:
            try:
                step(lab, "sync" if what == "attach" else what)
            except LsyncError:
                raised = True
        if injected.injected is None:
            break
        # Path.resolve asks for stat only to notice a loop of links, and goes on without.
        assert raised or injected.injected == "stat", f"the failure of {injected.injected} was swallowed"
        failed.append(injected.injected)
        verify(lab, what, before, newest, raised)
    assert {"pread", "open", "write", "fsync"} <= set(failed)


@pytest.mark.parametrize("name", NAMES)
def test_every_failpoint_fails_once(lab: Lab, name: str) -> None:
    """The same at each named instant, on the way through a sync, a seal, a truncation, a comparison and a heal."""
    app = sickwal.create(lab)
    lab.note()
    failpoints.arm(name, "error")
    raised = 0
    for number, what in enumerate(["sync", "seal", "truncate", "resync", "sync"]):
        app.sql(f"insert into t(b) values(fill(300, {number}))")
        if number == 4:
            sickwal.make_sick(app)
        before, newest = lab.tailer.state, lab.newest
        try:
            step(lab, what)
        except (LsyncError, InjectedError):
            raised += 1
            verify(lab, what if number < 4 else "heal", before, newest, True)
        lab.note()
    assert raised == 1, "the failpoint was not reached"
