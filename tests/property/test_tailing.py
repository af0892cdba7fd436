"""Random programs of SQL, checkpoints, crashes and restarts, with a sync after any prefix: every TXID restores to the
bytes that another process saw under the same commit.

HYPOTHESIS_PROFILE=nightly runs many more and longer programs.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litestream_py.core.state import SyncResult
from tests.support.lab import LIMITS, Lab

settings.register_profile("ci", max_examples=150, derandomize=True, database=None)
settings.register_profile("nightly", max_examples=3000)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_BYTES = st.sampled_from([10, 400, 3000, 20_000, 150_000])
_SEED = st.integers(0, 99)
_KEY = st.integers(0, 40)

_CHANGE = st.one_of(
    st.builds(lambda n, s: [f"insert into t(b) values(fill({n}, {s}))"], _BYTES, _SEED),
    st.builds(lambda k, n, s: [f"update t set b = fill({n}, {s}) where id % 5 = {k} % 5"], _KEY, _BYTES, _SEED),
    st.builds(lambda k: [f"delete from t where id % 4 = {k} % 4"], _KEY),
    st.just(["delete from t"]),
    st.just(["create table if not exists u(a primary key, b) without rowid", "insert or replace into u values(1, 2)"]),
    st.just(["drop table if exists u"]),
)
_TRANSACTION = st.builds(
    lambda changes, end: ["begin", *[s for change in changes for s in change], end],
    st.lists(_CHANGE, min_size=1, max_size=4),
    st.sampled_from(["commit", "rollback"]),
)
_SAVEPOINT = st.builds(
    lambda before, inside, undo, after: [
        "pragma cache_spill=off",
        "begin",
        *before,
        "savepoint s",
        *inside,
        "rollback to s" if undo else "release s",
        *after,
        "commit",
        "pragma cache_spill=on",
    ],
    _CHANGE,
    _CHANGE,
    st.booleans(),
    _CHANGE,
)
_SQL = st.one_of(
    _CHANGE,
    _TRANSACTION,
    _SAVEPOINT,
    st.sampled_from([["vacuum"], ["pragma incremental_vacuum(3)"], ["pragma incremental_vacuum"]]),
    st.builds(
        lambda mode: [f"pragma wal_checkpoint({mode})"], st.sampled_from(["passive", "full", "restart", "truncate"])
    ),
    st.builds(lambda n: [f"pragma cache_size={n}"], st.sampled_from([5, 2000])),
    st.builds(lambda n: [f"pragma wal_autocheckpoint={n}"], st.sampled_from([0, 10])),
)
_OURS = st.sampled_from(
    ["note", "note", "note", "sync", "seal", "seal", "truncate", "mark", "restart", "crash", "pin", "unpin"]
)
_STEP = st.one_of(_SQL, _OURS)


def _act(lab: Lab, step: str) -> None:
    match step:
        case "note":
            lab.note()
        case "sync":
            lab.sync()
        case "seal":
            lab.checkpoint()
        case "truncate":
            lab.truncate()
        case "mark":
            lab.tailer.hand_over_read(lab.tailer.files.read_index())
        case "restart":
            lab.stop()
        case "crash":
            lab.crash_app()
        case "pin":
            lab.app.sql("begin", "select count(*) from t", conn="pin")
        case "unpin":
            lab.app.sql("rollback", conn="pin")


@pytest.mark.property
@settings(PROFILE, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    page_size=st.sampled_from([512, 1024, 4096, 65536]),
    auto_vacuum=st.sampled_from(["none", "full", "incremental"]),
    cut=st.sampled_from([None, 1 << 20]),
    steps=st.lists(_STEP, min_size=3, max_size=30),
)
def test_every_txid_restores_to_what_was_seen(
    page_size: int, auto_vacuum: str, cut: int | None, steps: list[Any]
) -> None:
    """Whatever the application and we did before: each TXID is the database at its time, byte by byte."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        lab.limits = replace(LIMITS, sync_wal_bytes_max=cut)
        lab.app_timeout_s = 0.01  # our read mark stands in the way of its checkpoints
        try:
            lab.app.sql(f"pragma page_size={page_size}", f"pragma auto_vacuum={auto_vacuum}")
            lab.create(page_size=page_size)
            pinned = False
            for step in steps:
                if isinstance(step, list):
                    lab.app.sql(*step)
                elif step in {"pin", "unpin"}:
                    if (step == "pin") is not pinned:
                        _act(lab, step)
                        pinned = not pinned
                else:
                    _act(lab, step)
                    pinned = pinned and step != "crash"
            if pinned:
                lab.app.sql("rollback", conn="pin")
            lab.check()
            sick = [event for event in lab.events if isinstance(event, SyncResult) and event.reason == "sick-wal"]
            assert not sick
        finally:
            lab.close()
