"""The tailing process is killed at every failpoint: after a restart every TXID restores, the newest to the database."""

from __future__ import annotations

import pytest

from litestream_py import failpoints
from litestream_py.ltx.ids import TXID
from tests.support import sickwal
from tests.support.app import App
from tests.support.lab import Lab
from tests.support.tailproc import TailProcess

pytestmark = pytest.mark.fault

NAMES = sorted(
    name for name in failpoints.NAMES if name.startswith(("l0.", "sync.", "resync.", "checkpoint.", "sick."))
)
STEPS = ["sync", "sync", "seal", "sync", "truncate", "sync", "heal", "resync", "sync"]


def commit(app: App, number: int, what: str) -> None:
    """Let the application do something before a step."""
    app.sql(f"insert into t(b) values(fill(300, {number}))", f"delete from t where id % 30 = {number}")
    if what == "heal":
        sickwal.make_sick(app)


@pytest.mark.parametrize("passage", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_killed_there_and_started_again(lab: Lab, name: str, passage: int) -> None:
    """Nothing that was captured is lost, nothing is captured wrong, and tailing goes on at the next TXID."""
    app = sickwal.create(lab)
    todo = list(enumerate(STEPS))
    killed, retried = False, -1
    failpoint = f"{name}@{passage}"
    while todo:
        with TailProcess(lab.folder, "" if killed else failpoint) as tail:
            while todo:
                number, what = todo[0]
                if number != retried:
                    commit(app, number, what)
                retried = number
                if not tail.do("sync" if what == "heal" else what) or not tail.do("sync"):
                    assert not killed
                    killed = True
                    break
                lab.expected[lab.newest] = app.image()
                todo.pop(0)
    assert killed or (passage == 2 and name.startswith("sick.")), "the failpoint was not reached"
    assert lab.newest >= TXID(len(STEPS) - 2)
