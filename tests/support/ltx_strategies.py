"""Hypothesis strategies for LTX files that a writer may make."""

from __future__ import annotations

from hypothesis import strategies as st

from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID, lock_pgno
from litestream_py.ltx.records import Header

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


@st.composite
def files(draw: st.DrawFn) -> tuple[Header, list[tuple[int, bytes]]]:
    """Draw a header and the pages of a file that a writer may make of it."""
    header = draw(headers())
    lock = lock_pgno(header.page_size)
    if header.is_snapshot:
        pgnos = list(range(1, header.commit + 1))
    else:
        near = [pgno for pgno in (1, 2, lock - 1, lock + 1, header.commit) if pgno <= header.commit]
        some = st.one_of(st.sampled_from(near), st.integers(1, header.commit))
        pgnos = sorted(draw(st.sets(some.filter(lambda pgno: pgno != lock), max_size=8)) - {lock})
    seed = draw(st.binary(max_size=64))
    kinds = draw(st.lists(st.integers(0, 2), min_size=len(pgnos), max_size=len(pgnos)))
    return header, [(pgno, _page(header.page_size, kind, pgno, seed)) for pgno, kind in zip(pgnos, kinds, strict=True)]


def _page(page_size: int, kind: int, pgno: int, seed: bytes) -> bytes:
    """Return a page: zeros, repetition, or noise that does not compress (a linear congruence on the page number)."""
    if kind == 0:
        return bytes(page_size)
    if kind == 1:
        unit = pgno.to_bytes(4) + seed
        return (unit * (page_size // len(unit) + 1))[:page_size]
    out, state = bytearray(), pgno * 2654435761 + len(seed)
    while len(out) < page_size:
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        out += state.to_bytes(8)
    return bytes(out[:page_size])
