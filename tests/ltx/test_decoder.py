"""The push decoder: any pieces, any damage, bounded memory."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.decoder import BATCH_SIZE, MEMORY_MAX, Decoder, decode, decode_stream
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID, FileName
from litestream_py.ltx.records import Header
from tests.support.golden_ltx import GOOD, good
from tests.support.ltx_parts import Frame, Parts
from tests.support.ltx_strategies import Recipe, files, unhurried

TINY = [name for name, case in GOOD.items() if case["size"] < 1300]


def refusal(*pieces: bytes, expect: FileName | None = None) -> str:
    """Return why the file that arrives in these pieces is refused."""
    decoder = Decoder(expect=expect)
    with pytest.raises(LtxFormatError) as refused:
        feed_all(decoder, *pieces)
    return refused.value.reason


def feed_all(decoder: Decoder, *pieces: bytes) -> None:
    """Feed the pieces and finish."""
    for piece in pieces:
        decoder.feed(piece)
    decoder.finish()


@pytest.mark.parametrize("name", TINY)
def test_file_cut_at_any_byte_is_truncated(name: str) -> None:
    """A file that ends early anywhere, fed whole or in two pieces, is refused as truncated."""
    data = good(name)
    for end in range(len(data)):
        assert refusal(data[:end]) == "truncated"
        assert refusal(data[: end // 2], data[end // 2 : end]) == "truncated"


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("garbage", [b"\0", b"garbage", bytes(10_000)])
def test_anything_behind_the_trailer_is_refused(name: str, garbage: bytes) -> None:
    """Bytes behind the trailer are refused, in the same piece or in the next."""
    assert refusal(good(name) + garbage) == "trailing-data"
    assert refusal(good(name), garbage) == "trailing-data"
    assert refusal(good(name), good(name)) == "trailing-data"


@unhurried
@given(files(), st.lists(st.floats(0, 1), max_size=8))
def test_pieces_do_not_matter(file: Recipe, places: list[float]) -> None:
    """However a file is cut, the same pages come out, each as soon as its last byte is there."""
    header, pages = file.header, file.pages
    data = b"".join(encode(header, pages))
    cuts = sorted(int(place * len(data)) for place in places)
    decoder, found = Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found += decoder.feed(data[start:end])
        complete = Decoder().feed(data[:end])
        assert found == complete
        assert (decoder.header is None) == (end < 100)
    decoder.finish()
    assert found == pages
    assert list(decoder.pgnos) == [pgno for pgno, _ in pages]


@unhurried
@given(files(), st.integers(1, 3000))
def test_stream_gives_header_first_and_trailer_last(file: Recipe, step: int) -> None:
    """A stream knows its header at once, its pages as they come, and its trailer when all of it was verified."""
    header, pages = file.header, file.pages
    data = b"".join(encode(header, pages))
    name = FileName(0, header.min_txid, header.max_txid)
    stream = decode_stream((data[at : at + step] for at in range(0, len(data), step)), expect=name)
    assert stream.header == header
    assert stream.trailer is None
    assert [page for batch in stream for page in batch] == pages
    assert stream.trailer == decode(data).trailer


def test_stream_refuses_what_the_decoder_refuses() -> None:
    """A stream without a whole header, with a wrong name or without an end is refused, the first two at once."""
    data = good("tiny-increment-512")
    for chunks, reason in (([], "truncated"), ([data[:60], data[60:99]], "truncated"), ([b"x" * 100], "magic")):
        with pytest.raises(LtxFormatError, match=reason):
            decode_stream(chunks)
    with pytest.raises(LtxFormatError, match="txid-not-of-its-name"):
        decode_stream([data], expect=FileName(0, TXID(2), TXID(3)))
    stream = decode_stream([data[:-1]])
    with pytest.raises(LtxFormatError, match="truncated"):
        list(stream)
    assert stream.trailer is None


def test_refused_file_stays_refused() -> None:
    """After a refusal the decoder takes nothing more, and gives the same reason again."""
    data = bytearray(good("tiny-increment-512"))
    data[700] ^= 1
    decoder = Decoder()
    reasons = set()
    for call in (lambda: decoder.feed(data), lambda: decoder.feed(b"more"), decoder.finish):
        with pytest.raises(LtxFormatError) as refused:
            call()
        reasons.add(refused.value.reason)
    assert len(reasons) == 1


def test_size_field_is_compared_before_anything_is_kept() -> None:
    """A block beyond LZ4's worst case is refused from its head, and nothing is gathered for it."""
    parts = Parts.split(good("tiny-increment-512"))
    head = parts.frames[0].head
    worst = 512 + 512 // 255 + 16
    assert refusal(parts.header + head[:6] + (worst + 1).to_bytes(4)) == "block-size-out-of-bounds"
    assert refusal(parts.header + head[:6] + bytes(4)) == "block-size-out-of-bounds"
    assert refusal(parts.header + head[:6] + worst.to_bytes(4)) == "truncated"


def test_legacy_frame_in_single_bytes() -> None:
    """A legacy frame that arrives byte by byte is found whole, and costs time linear in its size."""
    page = random.Random(1).randbytes(65536)
    parts = Parts.split(good("snapshot-65536"))
    frame = lz4.frame.compress(page, store_size=False, content_checksum=True, block_size=lz4.frame.BLOCKSIZE_MAX64KB)
    parts.frames[1] = Frame((2).to_bytes(4) + bytes(2), frame, page)
    parts.index_again()
    parts.sum_again()
    data, decoder = parts.join(), Decoder()
    pages = dict(entry for at in range(len(data)) for entry in decoder.feed(data[at : at + 1]))
    decoder.finish()
    assert pages[2] == page


def test_memory_is_bounded_however_well_pages_compress() -> None:
    """Batches of a file that expands 200 times hold no more than stated, for small and for large pages."""
    for page_size, count in ((512, 30_000), (65536, 300)):
        header = Header(page_size, count, TXID(1), TXID(1), 0)
        page = bytes(page_size)
        data = b"".join(encode(header, ((pgno, page) for pgno in range(1, count + 1))))
        for method in ("batches", "frame_batches"):
            decoder, seen = Decoder(), 0
            tracemalloc.start()
            for batch in getattr(decoder, method)(data):
                seen += len(batch)
                assert len(batch) * page_size <= BATCH_SIZE
            decoder.finish()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert seen == count
            assert peak <= MEMORY_MAX + 10 * count


def test_snapshot_states_the_checksum_of_its_pages() -> None:
    """A checksummed snapshot of legacy frames and blocks alike is held against its own post-apply checksum."""
    parts = Parts.split(good("checksummed-snapshot-512"))
    assert decode(parts.join()).trailer.post_apply_checksum == int.from_bytes(parts.post_apply)
    page = parts.frames[2].page
    parts.frames[2] = Frame(parts.frames[2].head[:4] + bytes(2), lz4.frame.compress(page, store_size=False), page)
    parts.index_again()
    parts.sum_again()
    assert decode(parts.join()).pages[2] == (3, page)
    parts = replace(parts, post_apply=(int.from_bytes(parts.post_apply) ^ 1).to_bytes(8))
    parts.sum_again()
    assert refusal(parts.join()) == "post-apply-wrong"
