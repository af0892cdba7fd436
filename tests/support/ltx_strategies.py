"""Hypothesis strategies for LTX files that a writer may make."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st

from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID, lock_pgno
from litestream_py.ltx.records import Header

unhurried = settings(deadline=None)
"""For tests whose examples take long on a machine that has other things to do."""

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
CHECKSUMS = st.integers(0, CHECKSUM_FLAG - 1).map(lambda low: low | CHECKSUM_FLAG)


@st.composite
def headers(draw: st.DrawFn, *, page_sizes: tuple[int, ...] = (512, 1024, 4096, 65536)) -> Header:
    """Draw a valid header with flag 0x2, of a snapshot of at most 12 pages or of an increment of any commit."""
    page_size = draw(st.sampled_from(page_sizes))
    snapshot = draw(st.booleans())
    low = 1 if snapshot else draw(st.integers(2, (1 << 64) - 1))
    wal_offset = draw(st.one_of(st.just(0), st.integers(32, (1 << 63) - 1)))
    header = Header(
        page_size,
        draw(st.integers(1, 12) if snapshot else st.one_of(st.integers(1, 12), st.integers(1, (1 << 32) - 1))),
        TXID(low),
        TXID(draw(st.integers(low, (1 << 64) - 1))),
        draw(st.integers(-(1 << 63), (1 << 63) - 1)),
        wal_offset=wal_offset,
        wal_size=draw(st.integers(0, (1 << 63) - 1)) if wal_offset else 0,
        wal_salt1=draw(U32) if wal_offset else 0,
        wal_salt2=draw(U32) if wal_offset else 0,
        node_id=draw(U64),
    )
    if draw(st.booleans()):
        return header.with_lsyn(0 if snapshot else draw(CHECKSUMS), draw(CHECKSUMS))
    return header


@dataclass(frozen=True)
class Recipe:
    """A file that a writer may make, by what its pages are made of: short to print when a test fails."""

    header: Header
    pgnos: list[int]
    kinds: list[int]
    seed: bytes

    @property
    def pages(self) -> list[tuple[int, bytes]]:
        size = self.header.page_size
        return [(pgno, _page(size, kind, pgno, self.seed)) for pgno, kind in zip(self.pgnos, self.kinds, strict=True)]


@st.composite
def files(draw: st.DrawFn) -> Recipe:
    """Draw a file that a writer may make."""
    header = draw(headers())
    lock = lock_pgno(header.page_size)
    if header.is_snapshot:
        pgnos = list(range(1, header.commit + 1))
    else:
        near = [pgno for pgno in (1, 2, lock - 1, lock + 1, header.commit) if pgno <= header.commit]
        pgnos = sorted(
            draw(st.sets(st.one_of(st.sampled_from(near), st.integers(1, header.commit)), max_size=8)) - {lock}
        )
    kinds = draw(st.lists(st.integers(0, 2), min_size=len(pgnos), max_size=len(pgnos)))
    return Recipe(header, pgnos, kinds, draw(st.binary(max_size=64)))


def _page(page_size: int, kind: int, pgno: int, seed: bytes) -> bytes:
    """Return a page: zeros, a repetition, or noise that does not compress."""
    if kind == 0:
        return bytes(page_size)
    unit = pgno.to_bytes(4) + seed
    if kind == 1:
        return (unit * (page_size // len(unit) + 1))[:page_size]
    return random.Random(unit).randbytes(page_size)
