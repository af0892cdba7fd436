"""The descriptors of a live database: what is refused before anything is created, and what is read from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litestream_py.errors import DatabaseBusyError, SourceRejectedError
from litestream_py.local.dbfiles import DatabaseFiles, shm_path, wal_path
from litestream_py.local.slots import foreign_reader_on, reader_pinned_below
from tests.support.app import App
from tests.support.walbuild import build_wal_index

HEAD = b"SQLite format 3\0" + (512).to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32])
WHOLE = HEAD.ljust(1024, b"\0")


@pytest.fixture
def built(tmp_path: Path) -> Iterator[DatabaseFiles]:
    """Open descriptors of files made by hand."""
    path = tmp_path / "built.db"
    path.write_bytes(WHOLE)
    wal_path(path).write_bytes(b"w" * 100)
    shm_path(path).write_bytes(build_wal_index(mx_frame=3, page_size=512))
    files = DatabaseFiles(path)
    files.open_database()
    files.open_sidecars()
    yield files
    files.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"some text, and not a short one, but by no means a database: " * 9, "not-a-database"),
        (HEAD, "header-short"),
        (HEAD.ljust(300, b"\0"), "first-page-cut"),
        (HEAD[:16] + b"\x03\x00" + WHOLE[18:], "page-size"),
    ],
)
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """Each kind of bad file has its name, nothing is created or changed, and a mended file is taken afterwards."""
    path = tmp_path / "bad.db"
    path.write_bytes(content)
    files = DatabaseFiles(path)
    for _ in range(2):
        with pytest.raises(SourceRejectedError) as raised:
            files.open_database()
        assert raised.value.reason == reason
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.db"]
    assert path.read_bytes() == content
    path.write_bytes(WHOLE)
    assert files.open_database().page_size == 512
    files.close()


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.db", "missing"), ("no/such/missing.db", "missing-directory"), (".", "not-a-file")]
)
def test_what_is_not_there_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """A missing file, a missing directory and a directory are told apart."""
    with pytest.raises(SourceRejectedError) as raised:
        DatabaseFiles(tmp_path / name).open_database()
    assert raised.value.reason == reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_file_has_one_owner(built: DatabaseFiles, tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    """The same file under another name is refused while it is open, and free again afterwards."""
    other = tmp_path / "other.db"
    link(built.path, other)
    second = DatabaseFiles(other)
    with pytest.raises(SourceRejectedError) as raised:
        second.open_database()
    assert raised.value.reason == "same-file"
    built.close()
    second.open_database()
    second.close()


def test_reading_beyond_the_end(built: DatabaseFiles) -> None:
    """The database file reads as zeros behind its end, as SQLite has it; the WAL just ends."""
    assert built.read_database(1000, 100) == bytes(100)
    assert built.read_wal(90, 100) == b"w" * 10
    assert built.wal_size() == 100


@pytest.mark.parametrize("name", ["built.db", "built.db-wal", "built.db-shm"])
def test_a_replaced_file_is_noticed(built: DatabaseFiles, tmp_path: Path, name: str) -> None:
    """Another file under one of the three names, or none, is not the one that is open."""
    assert built.unchanged()
    (tmp_path / "new").write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "new").rename(tmp_path / name)
    assert not built.unchanged()
    (tmp_path / name).unlink()
    assert not built.unchanged()


def test_facts_show_a_write(built: DatabaseFiles) -> None:
    """Size and change counter are those of the file at the moment."""
    before = built.facts()
    os.truncate(built.path, 2048)
    with built.path.open("r+b") as file:
        file.seek(24)
        file.write(b"\0\0\0\x09")
    after = built.facts()
    assert (after.size, after.change_counter) == (2048, 9)
    assert after.same_file(before)
    assert after != before


def test_an_index_that_does_not_settle_is_recovered_once(built: DatabaseFiles) -> None:
    """A header that stays half-written is an error; with a way to recover, that is tried first."""
    good = shm_path(built.path).read_bytes()
    shm_path(built.path).write_bytes(b"\xff" + good[1:])
    with pytest.raises(DatabaseBusyError, match="does not settle"):
        built.read_index()
    tried: list[int] = []

    def recover() -> None:
        tried.append(1)
        shm_path(built.path).write_bytes(good)

    built._recover = recover
    assert built.read_index().mx_frame == 3
    assert tried == [1]


def test_foreign_readers_are_seen_on_their_slots(tmp_path: Path) -> None:
    """F_GETLK tells a reader of another process, at which mark, and slot 0 whatever the mark."""
    path = tmp_path / "app.db"
    marks = (0, 9, 9, 9, 9)
    with App(path) as app:
        app.sql(
            "pragma journal_mode=wal", "pragma wal_autocheckpoint=0", "create table t(b)", "insert into t values(1)"
        )
        fd = os.open(shm_path(path), os.O_RDONLY)
        try:
            assert not reader_pinned_below(fd, marks, 10)
            app.sql("begin", "select * from t", conn="reader")
            assert [foreign_reader_on(fd, slot) for slot in range(5)].count(True) == 1
            assert reader_pinned_below(fd, marks, 10)
            assert not reader_pinned_below(fd, marks, 9)
            assert not reader_pinned_below(fd, (0, *[0xFFFFFFFF] * 4), 10)
            app.sql("commit", "pragma wal_checkpoint(passive)", "begin", "select * from t", conn="reader")
            assert foreign_reader_on(fd, 0)
            assert reader_pinned_below(fd, marks, 0)
        finally:
            os.close(fd)
