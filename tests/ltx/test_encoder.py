"""The writer: what it makes can be read, and what cannot be read it does not make."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checksum import CHECKSUM_FLAG, page_checksum
from litestream_py.ltx.decoder import Decoder, decode
from litestream_py.ltx.encoder import CHUNK_SIZE, encode
from litestream_py.ltx.ids import TXID, lock_pgno
from litestream_py.ltx.index import read_page
from litestream_py.ltx.lz4block import compress_block
from litestream_py.ltx.records import Header, RawFrame
from tests.support.ltx_strategies import Recipe, files, unhurried

PAGE = bytes(range(256)) * 2
INCREMENT = Header(512, 9, TXID(2), TXID(2), 0)
SNAPSHOT = replace(INCREMENT, commit=3, min_txid=TXID(1))


@unhurried
@given(files())
def test_every_file_reads_as_it_was_written(file: Recipe) -> None:
    """Header and pages survive, with views and raw frames among the pages, and each page can be read alone."""
    header, pages = file.header, file.pages
    mixed = [
        (pgno, memoryview(page))
        if at % 3 == 0
        else RawFrame(pgno, page, compress_block(page))
        if at % 3 == 1
        else (pgno, bytearray(page))
        for at, (pgno, page) in enumerate(pages)
    ]
    data = b"".join(encode(header, mixed))
    assert data == b"".join(encode(header, pages))
    found = decode(data)
    assert (found.header, found.pages) == (header, pages)
    for pgno, page in pages:
        assert read_page(lambda offset, size: data[offset : offset + size], len(data), pgno) == page


@pytest.mark.parametrize(
    ("header", "pgnos", "reason"),
    [
        (INCREMENT, [3, 2], "page-out-of-order"),
        (INCREMENT, [3, 3], "page-out-of-order"),
        (INCREMENT, [0], "page-number-zero"),
        (INCREMENT, [10], "page-above-commit"),
        (replace(INCREMENT, commit=3_000_000), [lock_pgno(512)], "lock-page"),
        (SNAPSHOT, [1, 2], "snapshot-page-missing"),
        (SNAPSHOT, [2, 3], "snapshot-page-missing"),
        (SNAPSHOT, [], "snapshot-page-missing"),
        (SNAPSHOT, [1, 2, 3, 4], "page-above-commit"),
    ],
)
def test_pages_that_break_a_rule_are_not_written(header: Header, pgnos: list[int], reason: str) -> None:
    """A file is never finished when its page numbers are wrong."""
    chunks = encode(header, [(pgno, PAGE) for pgno in pgnos])
    with pytest.raises(LtxFormatError) as refused:
        b"".join(chunks)
    assert refused.value.reason == reason


def test_pages_and_blocks_of_a_wrong_length_are_not_written() -> None:
    """A page must have the page size, a block a possible one."""
    for item, reason in (
        ((1, PAGE[:-1]), "page-length"),
        ((1, PAGE + b"x"), "page-length"),
        (RawFrame(1, PAGE, b""), "block-size-out-of-bounds"),
        (RawFrame(1, PAGE, bytes(600)), "block-size-out-of-bounds"),
    ):
        with pytest.raises(LtxFormatError, match=reason):
            b"".join(encode(INCREMENT, [item]))


def test_headers_are_refused_at_once() -> None:
    """A wrong header is refused before a page is asked for."""
    for header, post_apply, reason in (
        (replace(INCREMENT, page_size=1000), 0, "page-size"),
        (replace(INCREMENT, commit=0), 0, "commit-zero"),
        (INCREMENT, CHECKSUM_FLAG, "post-apply-with-no-checksum-flag"),
        (replace(SNAPSHOT, flags=0), 0, "post-apply-missing"),
        (replace(SNAPSHOT, flags=0), 1, "post-apply-without-flag-bit"),
    ):
        with pytest.raises(LtxFormatError, match=reason):
            encode(header, [], post_apply_checksum=post_apply)


def test_checksummed_snapshot_must_state_the_checksum_of_its_pages() -> None:
    """Without flag 0x2, a snapshot's post-apply checksum is that of its pages, or the file is not finished."""
    header, pages = replace(SNAPSHOT, flags=0), [(pgno, PAGE) for pgno in (1, 2, 3)]
    database = CHECKSUM_FLAG
    for pgno, page in pages:
        database ^= page_checksum(pgno, page) & ~CHECKSUM_FLAG
    assert decode(b"".join(encode(header, pages, post_apply_checksum=database))).pages == pages
    with pytest.raises(LtxFormatError, match="post-apply-wrong"):
        b"".join(encode(header, pages, post_apply_checksum=database ^ 1))


def test_chunks_have_the_stated_size_and_memory_does_not_grow_with_the_file() -> None:
    """Chunks exceed the stated size by less than a frame, and the writer holds one of them, not the file."""
    count, noise = 12_000, random.Random(1).randbytes(13_000)

    def pages() -> Iterator[tuple[int, bytes]]:
        for pgno in range(1, count + 1):
            yield pgno, PAGE + noise[pgno : pgno + 512]

    decoder, sizes = Decoder(), []
    tracemalloc.start()
    for chunk in encode(replace(SNAPSHOT, page_size=1024, commit=count), pages()):
        sizes.append(len(chunk))
        for batch in decoder.batches(chunk):
            assert batch
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    decoder.finish()
    assert len(decoder.pgnos) == count
    assert len(sizes) > 3
    assert all(CHUNK_SIZE <= size < CHUNK_SIZE + 1100 for size in sizes[:-2])
    assert all(size < CHUNK_SIZE + (50 << 10) for size in sizes[-2:]), "the index is not cut within a piece"
    assert peak < 5 << 20, "two chunks, two batches and the frames seen, of 12 MB of pages"
