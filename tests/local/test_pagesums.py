"""`pages.crc`: whole and true, or not taken at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import xor
from pathlib import Path

import numpy as np
import pytest

from litestream_py.engine.chain import load_chain
from litestream_py.local.meta import MetaDir, default_meta_path
from litestream_py.local.pagesums import HEADER_SIZE, PageSums
from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID
from tests.support.lab import Lab


@pytest.fixture
def sums(tmp_path: Path) -> Iterator[PageSums]:
    """An array of 20,000 pages, each with its number as its checksum."""
    array = PageSums.create(tmp_path / "pages.crc", 4096)
    array.write_range(1, np.arange(1, 20_001, dtype=np.uint64))
    array.stamp(TXID(5), 20_000)
    yield array
    array.close()


def test_what_was_stored_is_read(sums: PageSums, tmp_path: Path) -> None:
    """Scattered pages, ranges and the XOR agree, before and after reopening; behind the end are zeros."""
    scattered = [1, 2, 8191, 8192, 8193, 19_999, 20_000]
    pgnos = np.array(scattered, np.uint32)
    sums.write(pgnos, pgnos.astype(np.uint64) * np.uint64(3))
    again = PageSums.open(tmp_path / "pages.crc")
    assert again is not None
    expected = reduce(xor, [3 * pgno if pgno in scattered else pgno for pgno in range(1, 20_001)])
    for array in (sums, again):
        assert array.read(pgnos).tolist() == [3 * pgno for pgno in scattered]
        assert array.read_range(19_998, 5).tolist() == [19_998, 59_997, 60_000, 0, 0]
        assert array.checksum() == expected | CHECKSUM_FLAG
        assert array.checksum(7, 9) == 7 ^ 8 ^ 9 | CHECKSUM_FLAG
        assert (array.txid, array.commit, array.page_size) == (TXID(5), 20_000, 4096)
    again.close()


def test_a_smaller_database_loses_its_tail(sums: PageSums, tmp_path: Path) -> None:
    """After a shrink the entries behind the end are gone, and read as zeros when it grows again."""
    sums.stamp(TXID(6), 10)
    assert (tmp_path / "pages.crc").stat().st_size == HEADER_SIZE + 80
    sums.stamp(TXID(7), 12)
    assert sums.read_range(10, 3).tolist() == [10, 0, 0]


def test_every_flipped_byte_of_the_header_is_noticed(sums: PageSums, tmp_path: Path) -> None:
    """A damaged header, or a file shorter than it says, is no array."""
    path = tmp_path / "pages.crc"
    data = path.read_bytes()
    for offset in range(40):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
        assert PageSums.open(path) is None
    for size in (0, 63, len(data) - 1):
        path.write_bytes(data[:size])
        assert PageSums.open(path) is None
    path.unlink()
    assert PageSums.open(path) is None


def test_a_damaged_entry_is_noticed(lab: Lab) -> None:
    """The XOR of the entries is not the database checksum any more: they are computed anew from the local log.

    Where that does not begin with the first snapshot, there is no local chain to continue.
    """
    lab.create("insert into t(b) values(fill(9000, 1))")
    lab.sync()
    lab.stop()
    meta = MetaDir(default_meta_path(lab.path))
    loaded = load_chain(meta)
    assert loaded is not None
    loaded[1].close()
    good = meta.pages_crc.read_bytes()
    for offset in (HEADER_SIZE, HEADER_SIZE + 11, len(good) - 1):
        meta.pages_crc.write_bytes(good[:offset] + bytes([good[offset] ^ 4]) + good[offset + 1 :])
        rebuilt = load_chain(meta)
        assert rebuilt is not None
        assert rebuilt[0] == loaded[0]
        rebuilt[1].close()
        assert meta.pages_crc.read_bytes() == good
    snapshot = meta.l0_path(meta.list_l0()[0][0])
    snapshot.rename(aside := snapshot.with_suffix(".aside"))
    meta.pages_crc.write_bytes(good[:-1] + bytes([good[-1] ^ 4]))
    assert load_chain(meta) is None
    aside.rename(snapshot)
    meta.pages_crc.write_bytes(good)


@pytest.mark.parametrize("behind", [1, 3])
@pytest.mark.parametrize("partly", [False, True])
def test_an_older_array_is_rolled_forward(lab: Lab, behind: int, partly: bool) -> None:
    """L0 files newer than the array are applied to it, also where some of their entries are there already."""
    app = lab.create("insert into t(b) values(fill(90000, 1))")
    lab.sync()
    meta = MetaDir(default_meta_path(lab.path))
    old = meta.pages_crc.read_bytes()
    for number in range(behind):
        app.sql(f"update t set b = fill({90_000 - 20_000 * number}, {number})", "vacuum")
        lab.sync()
    new = meta.pages_crc.read_bytes()
    lab.stop()
    meta.pages_crc.write_bytes(old[:80] + new[80:160] + old[160:] if partly else old)
    loaded = load_chain(meta)
    assert loaded is not None
    assert loaded[0].txid == loaded[1].txid == TXID(1 + behind)
    loaded[1].close()
    assert meta.pages_crc.read_bytes() == new


def test_a_damaged_l0_file_voids_the_chain(lab: Lab) -> None:
    """What would be rolled forward must be whole."""
    app = lab.create("insert into t(b) values(fill(9000, 1))")
    lab.sync()
    meta = MetaDir(default_meta_path(lab.path))
    old = meta.pages_crc.read_bytes()
    app.sql("update t set b = 1")
    lab.sync()
    new = meta.pages_crc.read_bytes()
    lab.stop()
    meta.pages_crc.write_bytes(old)
    path = meta.l0_path(meta.list_l0()[-1][0])
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert load_chain(meta) is None
    path.write_bytes(good)
    meta.pages_crc.write_bytes(new)
