"""The database header is refused for each broken rule, and never where SQLite itself opens and can write."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest

from litestream_py.wal.dbheader import DB_HEADER_SIZE, DbHeader, DbHeaderError


def make_db(path: Path, *, page_size: int = 4096, mode: str = "wal", reserved: int = 0) -> bytes:
    db = apsw.Connection(str(path))
    if reserved:
        db.reserve_bytes(reserve=reserved)
    db.execute(f"pragma page_size={page_size}; pragma journal_mode={mode}").fetchall()
    db.execute("create table t(a); insert into t values(randomblob(5000))")
    db.close()
    return path.read_bytes()


def patched(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


def sqlite_can_use(path: Path, data: bytes) -> bool:
    """Whether SQLite reads the schema of a file with these bytes."""
    path.write_bytes(data)
    db = apsw.Connection(str(path))
    try:
        db.execute("select count(*) from sqlite_master").fetchall()
    except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError):
        return False
    finally:
        db.close()
    return True


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 32768, 65536])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_what_sqlite_writes(tmp_path: Path, page_size: int, mode: str) -> None:
    """The header of a database that SQLite wrote parses to its page size, mode and size."""
    data = make_db(tmp_path / "a.db", page_size=page_size, mode=mode)
    header = DbHeader.parse(data[:DB_HEADER_SIZE], len(data))
    assert (header.page_size, header.page_count, header.reserved) == (page_size, len(data) // page_size, 0)
    assert header.is_wal == (mode == "wal")
    assert header.write_version == header.read_version == (2 if mode == "wal" else 1)
    assert header.change_counter > 0
    assert header.schema_format == 4


def test_reserved_bytes_are_read(tmp_path: Path) -> None:
    """A database with bytes reserved on each page is taken as long as 480 remain."""
    data = make_db(tmp_path / "a.db", page_size=512, reserved=32)
    assert DbHeader.parse(data[:DB_HEADER_SIZE], len(data)).reserved == 32


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, b"SQLite format 4\0", "not-a-database"),
        (0, b"PK\3\4", "not-a-database"),
        (16, b"\0\0", "page-size"),
        (16, b"\1\0", "page-size"),
        (16, b"\2\1", "page-size"),
        (18, b"\3", "journal-version"),
        (19, b"\3", "journal-version"),
        (20, b"\x21", "reserved-bytes"),
        (21, b"\x40\x20\x21", "payload-fractions"),
        (44, b"\0\0\0\5", "schema-format"),
    ],
)
def test_each_broken_rule_has_its_reason(tmp_path: Path, offset: int, value: bytes, reason: str) -> None:
    """A header that breaks one rule is refused with the name of that rule."""
    data = patched(make_db(tmp_path / "a.db", page_size=512), offset, value)
    with pytest.raises(DbHeaderError) as caught:
        DbHeader.parse(data[:DB_HEADER_SIZE], len(data))
    assert caught.value.reason == reason
    # The one refusal that is stricter than SQLite's, which would open such a file read-only.
    if offset != 18:
        assert not sqlite_can_use(tmp_path / "b.db", data)


def test_cut_files(tmp_path: Path) -> None:
    """A file cut in its header or in its first page is refused, with a reason of its own."""
    data = make_db(tmp_path / "a.db")
    for size, reason in [(0, "header-short"), (99, "header-short"), (100, "first-page-cut"), (4095, "first-page-cut")]:
        with pytest.raises(DbHeaderError) as caught:
            DbHeader.parse(data[: min(size, DB_HEADER_SIZE)], size)
        assert caught.value.reason == reason
        if size:
            assert not sqlite_can_use(tmp_path / "b.db", data[:size])


@pytest.mark.parametrize(
    ("offset", "value"), [(18, b"\0\0"), (44, bytes(4)), (44, b"\0\0\0\1"), (56, bytes(4)), (56, b"\0\0\0\5")]
)
def test_odd_headers_that_sqlite_opens_are_taken(tmp_path: Path, offset: int, value: bytes) -> None:
    """Zero versions, old schema formats and odd text encodings, all of which SQLite opens, are not refused."""
    data = patched(make_db(tmp_path / "a.db"), offset, value)
    assert sqlite_can_use(tmp_path / "b.db", data)
    assert DbHeader.parse(data[:DB_HEADER_SIZE], len(data)).page_size == 4096


def test_a_size_between_pages_is_taken(tmp_path: Path) -> None:
    """A file that is longer or shorter than its header says, by any number of bytes, is not refused."""
    data = make_db(tmp_path / "a.db")
    assert sqlite_can_use(tmp_path / "b.db", data + b"x")
    assert DbHeader.parse(data[:DB_HEADER_SIZE], len(data) + 1).page_count == len(data) // 4096
    assert DbHeader.parse(data[:DB_HEADER_SIZE], 4096).page_count == len(data) // 4096


def test_page_count_of_an_old_writer(tmp_path: Path) -> None:
    """Where the header's page count is of another change counter, the file's size counts."""
    data = make_db(tmp_path / "a.db")
    for offset in (28, 92):
        odd = patched(data, offset, bytes(4))
        assert DbHeader.parse(odd[:DB_HEADER_SIZE], 4096 * 7).page_count == 7


def test_random_and_text_files_are_no_databases() -> None:
    """Text, zeros and random bytes are refused as not a database."""
    for data in (b"hello\n" * 100, bytes(4096), random.Random(1).randbytes(4096)):
        with pytest.raises(DbHeaderError) as caught:
            DbHeader.parse(data[:DB_HEADER_SIZE], len(data))
        assert caught.value.reason == "not-a-database"
