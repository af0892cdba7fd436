"""A WAL that the savepoint bug of the application's SQLite has cut short, met by the daemon (design section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from litestream_py.core.sqlite_version import SAVEPOINT_BUG_FIXED_IN, parse_version
from tests.support import compare
from tests.support.app import App
from tests.support.daemon import Daemon, Daemons
from tests.support.sickwal import make_sick

SICK = "the WAL is sick: committed frames do not verify (savepoint bug of the application's SQLite)"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application whose library has the bug, with some rows in small pages."""
    with App(tmp_path / "app.db") as made:
        if parse_version(made.version()) >= parse_version(SAVEPOINT_BUG_FIXED_IN):
            pytest.skip(f"SQLite {made.version()} has no savepoint bug")
        made.sql(
            "pragma page_size=512", "pragma journal_mode=wal", "pragma wal_autocheckpoint=0",
            "create table t(id integer primary key, b)", "begin",
            *[f"insert into t(b) values(fill(200,{n}))" for n in range(300)], "commit",
        )  # fmt: skip
        yield made


def _start(tmp_path: Path, daemons: Daemons) -> Daemon:
    daemon = daemons.start(tmp_path / "app.db", f"file://{tmp_path}/replica", "--metrics-addr", "127.0.0.1:0")
    daemon.wait_uploaded(1)
    return daemon


def _check(tmp_path: Path) -> None:
    state = compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))
    compare.assert_same_as_source(state, tmp_path / "app.db", tmp_path)


def test_while_running(tmp_path: Path, daemons: Daemons, app: App) -> None:
    """It is told with the version that fixes it, healed within moments, and every commit is replicated."""
    daemon = _start(tmp_path, daemons)
    make_sick(app)
    told = daemon.wait_event(SICK, healed=True)
    assert SAVEPOINT_BUG_FIXED_IN in str(told["hint"])
    daemon.wait_uploaded(2)
    assert daemon.metric("lsync_sick_wal_total") == 1
    app.sql("insert into t(b) values(fill(100, 3))")
    daemon.wait_uploaded(3)
    assert daemon.terminate() == 0
    _check(tmp_path)


def test_at_the_end(tmp_path: Path, daemons: Daemons, app: App) -> None:
    """Met by the final sync, it is healed there."""
    daemon = _start(tmp_path, daemons)
    app.sql("begin immediate", "update t set b = fill(200, 1) where id = 1", conn="other")
    app.sql("commit", conn="other")
    daemon.wait_uploaded(2)
    make_sick(app)  # within the second in which nothing more is copied
    assert daemon.terminate() == 0
    _check(tmp_path)


def test_while_a_reader_stands_in_the_way(tmp_path: Path, daemons: Daemons, app: App) -> None:
    """As long as a snapshot of the application pins older frames, it is waited for, and told."""
    daemon = _start(tmp_path, daemons)
    app.sql("begin", "select count(*) from t", conn="reader")
    make_sick(app)
    daemon.wait_event(SICK, healed=False)
    assert daemon.metric("lsync_lag_seconds") > 0
    app.sql("rollback", conn="reader")
    daemon.wait_event(SICK, healed=True)
    assert daemon.terminate() == 0
    _check(tmp_path)


def test_after_a_crash(tmp_path: Path, daemons: Daemons, app: App) -> None:
    """The application's crash loses what stood behind the sick frames; the replica then holds what SQLite recovers."""
    _start(tmp_path, daemons).kill()
    make_sick(app)
    app.crash()
    daemon = _start(tmp_path, daemons)
    daemon.wait_event("attached")
    assert daemon.terminate() == 0
    _check(tmp_path)
