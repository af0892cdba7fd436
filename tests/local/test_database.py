"""Our connections: what waits and what does not, what is tried again and what is not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from litestream_py.errors import DatabaseBusyError, DatabaseError
from litestream_py.local.database import Database, integrity_check
from tests.support.app import App


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application with a small database in WAL mode."""
    with App(tmp_path / "app.db") as running:
        running.sql("pragma journal_mode=wal", "pragma wal_autocheckpoint=0", "create table t(b)")
        running.sql("insert into t values(fill(9000, 1))")
        yield running


@pytest.fixture
def database(app: App, tmp_path: Path) -> Iterator[Database]:
    """Our connections to it."""
    connections = Database(tmp_path / "app.db", busy_timeout_s=0.05)
    connections.open()
    yield connections
    connections.close()


def statements(database: Database) -> list[str]:
    """Return a list that every statement on the barrier and the first reader will be added to."""
    seen: list[str] = []

    def trace(_cursor: object, sql: str, _bindings: object) -> bool:
        seen.append(sql)
        return True

    assert database._barrier is not None
    database._barrier.exec_trace = trace
    database._readers[0].exec_trace = trace
    return seen


def test_the_write_lock_is_asked_for_until_the_patience_ends(database: Database, app: App) -> None:
    """BUSY is tried again, for as long as the caller said, and then raised as such."""
    app.sql("begin immediate")
    seen = statements(database)
    with pytest.raises(DatabaseBusyError), database.barrier(0.02):
        pytest.fail("the application holds the write lock")
    assert seen.count("BEGIN IMMEDIATE") > 1
    assert not database.locked


def test_without_patience_there_is_one_try(database: Database, app: App) -> None:
    """A budget of nothing asks once."""
    app.sql("begin immediate")
    seen = statements(database)
    with pytest.raises(DatabaseBusyError), database.barrier(0):
        pytest.fail("the application holds the write lock")
    assert seen == ["BEGIN IMMEDIATE"]


def test_a_damaged_database_is_asked_once(database: Database, app: App, tmp_path: Path) -> None:
    """Whatever is not BUSY is raised at the first try, with the command that looks into it."""
    assert app.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]
    with (tmp_path / "app.db").open("r+b") as file:  # drops our locks; nothing in this test needs them any more
        file.write(b"this was a database once" * 4)
    app.crash()
    seen = statements(database)
    with pytest.raises(DatabaseError) as raised, database.barrier(5.0):
        database.begin_read()
    assert raised.value.hint is not None
    assert "integrity_check" in raised.value.hint
    assert seen.count("BEGIN IMMEDIATE") == 1
    assert seen.count("BEGIN") <= 1


def test_the_write_lock_is_free_again_after_an_error(database: Database, app: App) -> None:
    """Whatever happens under the barrier, the application can write afterwards."""
    with contextlib.suppress(ZeroDivisionError), database.barrier(1.0):
        assert database.locked
        raise ZeroDivisionError
    assert not database.locked
    app.sql("insert into t values(1)")


def test_the_read_mark_moves_without_a_gap(database: Database, app: App) -> None:
    """After each hand-over a TRUNCATE finds a reader in its way; after the end of it, none."""
    app.sql("pragma busy_timeout=0")
    database.begin_read()
    for number in range(5):
        app.sql(f"insert into t values({number})")
        database.hand_over_read()
        assert app.sql("pragma wal_checkpoint(truncate)")[0][0] == 1
    database.end_read()
    assert not database.reading
    assert app.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]


def test_one_long_read_transaction_only(database: Database) -> None:
    """A second one beside the first is a mistake of ours."""
    database.begin_read()
    with pytest.raises(ValueError, match="held already"):
        database.begin_read()


def test_after_the_end_nothing_works_and_nothing_breaks(database: Database) -> None:
    """Closing twice is fine; using what is closed is an error with a name."""
    database.begin_read()
    database.close()
    database.close()
    assert not database.reading
    with pytest.raises(DatabaseError, match="closed"):
        database.checkpoint("PASSIVE")


def test_the_last_close_leaves_the_wal(app: App, tmp_path: Path) -> None:
    """Our connections neither checkpoint nor delete when they are the last to close."""
    connections = Database(tmp_path / "app.db")
    connections.open()
    app.crash()
    wal = (tmp_path / "app.db-wal").read_bytes()
    connections.close()
    assert (tmp_path / "app.db-wal").read_bytes() == wal
    assert len(wal) > 9000


def test_conversion_is_asked_for_explicitly(tmp_path: Path) -> None:
    """A rollback-journal database becomes a WAL database with `convert`, and stays what it is without."""
    path = tmp_path / "old.db"
    with App(path) as running:
        running.sql("create table t(b)", "insert into t values(7)")
    for convert, version in ((False, 1), (True, 2)):
        connections = Database(path)
        connections.open(convert=convert)
        connections.close()
        assert path.read_bytes()[18] == version


def test_integrity_check_tells_what_is_wrong(app: App, tmp_path: Path) -> None:
    """A whole file has nothing wrong, a damaged one says what, and no WAL appears beside it."""
    app.sql("create index i on t(b)", "pragma wal_checkpoint(truncate)")
    copy = tmp_path / "copy.db"
    data = bytearray((tmp_path / "app.db").read_bytes())
    copy.write_bytes(data)
    assert integrity_check(copy) == []
    data[4096:4200] = bytes(104)
    copy.write_bytes(data)
    assert integrity_check(copy)
    copy.write_bytes(b"x" * 5000)
    assert integrity_check(copy, quick=True)
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.db"]
