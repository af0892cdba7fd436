"""The wal-index header: what SQLite writes is read, what is being written is not taken."""

from __future__ import annotations

import struct
from pathlib import Path

import apsw
import pytest

from litestream_py.errors import WalFormatError
from litestream_py.wal.records import WAL_HEADER_SIZE, WalHeader
from litestream_py.wal.scan import scan_frames
from litestream_py.wal.walindex import WAL_INDEX_HEADER_SIZE, WalIndex
from tests.support.walbuild import build_wal_index


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_agrees_with_the_wal_that_sqlite_wrote(tmp_path: Path, page_size: int) -> None:
    """On a live database the wal-index names the last committed frame, its checksum, the salts and the page count."""
    path = tmp_path / "a.db"
    db = apsw.Connection(str(path))
    db.execute(f"pragma page_size={page_size}; pragma journal_mode=wal; pragma wal_autocheckpoint=0").fetchall()
    db.execute("create table t(a); insert into t values (randomblob(9000))")
    pages = db.pragma("page_count")
    # Closing these descriptors drops the connection's locks: harmless here, where nobody else has the database open.
    index = WalIndex.parse((tmp_path / "a.db-shm").read_bytes()[:WAL_INDEX_HEADER_SIZE])
    wal = (tmp_path / "a.db-wal").read_bytes()
    header = WalHeader.parse(wal)
    batch = scan_frames(
        wal[WAL_HEADER_SIZE:],
        page_size=header.page_size,
        salts=header.salts,
        big_endian=header.big_endian,
        seed=header.checksum,
    )
    assert index is not None
    assert (index.page_size, index.n_page, index.salts) == (page_size, pages, header.salts)
    assert (index.mx_frame, index.n_backfill, index.big_endian) == (batch.last_commit, 0, header.big_endian)
    assert index.frame_checksum == tuple(batch.checksums[index.mx_frame - 1].tolist())

    _, log, done = next(iter(db.execute("pragma wal_checkpoint(passive)")))
    after = WalIndex.parse((tmp_path / "a.db-shm").read_bytes())
    assert after is not None
    assert (after.n_backfill, after.n_backfill_attempted) == (log, done)
    assert not after.wal_reset_bug_struck
    db.close()


def test_fields() -> None:
    """Every field is read from its place."""
    marks = (0, 5, 4, 0xFFFFFFFF, 1)
    index = WalIndex.parse(build_wal_index(mx_frame=9, n_backfill=4, salts=(21, 22), read_marks=marks))
    assert index == WalIndex(
        change=7,
        big_endian=False,
        page_size=4096,
        mx_frame=9,
        n_page=3,
        frame_checksum=(11, 12),
        salts=(21, 22),
        n_backfill=4,
        read_marks=marks,
        n_backfill_attempted=4,
    )


def test_short_is_read_again() -> None:
    """Fewer than 136 bytes, as while the file is being created, are no wal-index."""
    data = build_wal_index(mx_frame=1)
    assert WalIndex.parse(data) is not None
    assert all(WalIndex.parse(data[:cut]) is None for cut in range(WAL_INDEX_HEADER_SIZE))


def test_any_flipped_bit_of_a_copy_is_noticed() -> None:
    """A bit that differs between the copies, or in both of them, makes the reader read again."""
    data = build_wal_index(mx_frame=1)
    for position in range(48 * 8):
        one, both = bytearray(data), bytearray(data)
        one[position // 8] ^= 1 << position % 8
        for copy in (0, 48):
            both[copy + position // 8] ^= 1 << position % 8
        assert WalIndex.parse(bytes(one)) is None
        assert WalIndex.parse(bytes(both)) is None


def test_not_in_use_is_read_again() -> None:
    """A wal-index that is not initialised, whole zeros included, is not taken."""
    assert WalIndex.parse(build_wal_index(mx_frame=1, in_use=0)) is None
    assert WalIndex.parse(bytes(WAL_INDEX_HEADER_SIZE)) is None


def test_other_version_is_refused() -> None:
    """A sound wal-index of another version is an error: reading again would never end."""
    with pytest.raises(WalFormatError) as caught:
        WalIndex.parse(build_wal_index(mx_frame=1, version=3007001))
    assert caught.value.reason == "wal-index-version"


@pytest.mark.parametrize(
    ("mx_frame", "n_backfill", "struck"), [(5, 6, True), (5, 5, False), (5, 0, False), (0, 5, False), (0, 0, False)]
)
def test_wal_reset_bug(mx_frame: int, n_backfill: int, struck: bool) -> None:
    """More frames copied than committed in a WAL that is not empty is the mark of the WAL-reset bug."""
    index = WalIndex.parse(build_wal_index(mx_frame=mx_frame, n_backfill=n_backfill))
    assert index is not None
    assert index.wal_reset_bug_struck is struck


def test_page_size_of_64_kib() -> None:
    """The 16-bit page size field writes 65536 as 1."""
    data = build_wal_index(mx_frame=1, page_size=65536)
    assert struct.unpack_from("=H", data, 14) == (1,)
    index = WalIndex.parse(data)
    assert index is not None
    assert index.page_size == 65536
