"""The page index: made, compared, parsed, and used to read single pages."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.decoder import decode
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID
from litestream_py.ltx.index import PIECE_ENTRIES, IndexEntry, PageIndex, encode_index, read_page
from litestream_py.ltx.indexmatch import IndexMatcher
from litestream_py.ltx.records import Header
from litestream_py.ltx.uvarint import append_uvarint
from tests.support.golden_ltx import BAD, bad, good
from tests.support.ltx_parts import Frame, Parts

COUNTS = (0, 1, 31, 32, 33, PIECE_ENTRIES, PIECE_ENTRIES + 1, 3 * PIECE_ENTRIES)


def frames(count: int) -> tuple[array[int], array[int]]:
    """Return page numbers and sizes of so many frames, with varints of every length that occurs."""
    return array("I", (3 * at + 1 for at in range(count))), array("I", (11 + at * at % 500 for at in range(count)))


def plain_index(pgnos: array[int], sizes: array[int]) -> tuple[bytes, int]:
    """Return the index as the format describes it, and where the frames end."""
    out, offset = bytearray(), 100
    for pgno, size in zip(pgnos, sizes, strict=True):
        for value in (pgno, offset, size):
            append_uvarint(out, value)
        offset += size
    return bytes(out) + b"\0", offset


def increment(commit: int) -> Header:
    """Return the header of an increment of 512-byte pages."""
    return Header(512, commit, TXID(2), TXID(2), 0)


@pytest.mark.parametrize("count", COUNTS)
def test_index_is_made_compared_and_parsed(count: int) -> None:
    """For any number of frames the index is that of the format, matches in pieces of any size, and parses back."""
    pgnos, sizes = frames(count)
    data, frames_end = plain_index(pgnos, sizes)
    assert b"".join(encode_index(pgnos, sizes)) == data
    for step in (1, 7, 5000, len(data)):
        matcher = IndexMatcher(pgnos, sizes, 0)
        for start in range(0, len(data), step):
            piece = memoryview(data[start : start + step])
            assert matcher.feed(piece, 0) == len(piece)
        assert matcher.done
        assert matcher.size == len(data)
        if count > 100:
            break
    index = PageIndex.parse(data, increment(3 * count + 1), frames_end=frames_end)
    assert len(index) == count
    assert index.pgnos.tolist() == list(pgnos)
    assert index.sizes.tolist() == list(sizes)
    if count:
        assert index.find(pgnos[-1]) == IndexEntry(frames_end - sizes[-1], sizes[-1])
    assert index.find(0) is index.find(2) is index.find(3 * count + 5) is index.find(-1) is None


@pytest.mark.parametrize("at", [0, 1, PIECE_ENTRIES - 1, PIECE_ENTRIES, 2 * PIECE_ENTRIES + 5])
@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("index-offset-wrong", lambda entry: (entry[0], entry[1] + 1, entry[2])),
        ("index-size-wrong", lambda entry: (entry[0], entry[1], entry[2] + 1)),
        ("index-entry-extra", lambda entry: (entry[0] + 1, entry[1], entry[2])),
        ("index-entry-missing", lambda entry: (entry[0] + 3, entry[1], entry[2])),
        ("index-page-number-over-32-bit", lambda entry: (entry[0] | 1 << 32, entry[1], entry[2])),
        ("index-entry-missing", lambda entry: (0,)),
    ],
)
def test_a_different_entry_is_found_wherever_it_stands(
    at: int, reason: str, change: Callable[[tuple[int, int, int]], tuple[int, ...]]
) -> None:
    """An entry that differs is refused for what differs, in every piece of the index, however it arrives."""
    pgnos, sizes = frames(3 * PIECE_ENTRIES)
    before, offset = plain_index(pgnos[:at], sizes[:at])
    wrong = bytearray()
    for value in change((pgnos[at], offset, sizes[at])):
        append_uvarint(wrong, value)
    data = before[:-1] + wrong + b"\x05" * 40
    for step in (len(data), 40_000, 11):
        matcher = IndexMatcher(pgnos, sizes, 0)
        with pytest.raises(LtxFormatError) as refused:
            feed_steps(matcher, data, step)
        assert refused.value.reason == reason


def feed_steps(matcher: IndexMatcher, data: bytes, step: int) -> None:
    """Feed the index in pieces of `step` bytes."""
    for start in range(0, len(data), step):
        matcher.feed(memoryview(data[start : start + step]), 0)


def reader(data: bytes, calls: list[tuple[int, int]] | None = None) -> Callable[[int, int], bytes]:
    """Return a function that reads from `data`, and fails outside it."""

    def read_at(offset: int, size: int) -> bytes:
        assert offset >= 0
        assert size > 0
        assert offset + size <= len(data)
        if calls is not None:
            calls.append((offset, size))
        return data[offset : offset + size]

    return read_at


def test_page_of_a_large_file_costs_a_few_reads() -> None:
    """One page of a file with a large index is read with six bounded requests and bounded memory."""
    count = 60_000
    header = Header(512, count, TXID(1), TXID(1), 0)
    data = b"".join(encode(header, ((pgno, pgno.to_bytes(4) * 128) for pgno in range(1, count + 1))))
    for pgno in (1, 12_345, count):
        calls: list[tuple[int, int]] = []
        tracemalloc.start()
        page = read_page(reader(data, calls), len(data), pgno)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert page == pgno.to_bytes(4) * 128
        assert len(calls) <= 6
        assert sum(size for _, size in calls) < len(data) // 3
        assert peak < 5 << 20
    assert read_page(reader(data), len(data), count + 1) is None
    assert read_page(reader(data), len(data), 0) is None


def test_small_file_costs_one_read_for_all() -> None:
    """A file below 32 KiB is read once."""
    data = good("tiny-increment-512")
    calls: list[tuple[int, int]] = []
    assert read_page(reader(data, calls), len(data), 2) == dict(decode(data).pages)[2]
    assert calls == [(0, len(data))]


WRONG = {
    "index-empty": "index-entry-missing",
    "index-entry-missing": "index-offset-wrong",
    "index-entry-extra": "page-above-commit",
    "index-offset-outside": "index-offset-wrong",
    "index-offset-in-header": "index-offset-wrong",
    "index-offset-off-by-one": "index-offset-wrong",
    "index-size-wrong-entry": "index-offset-wrong",
    "index-size-huge-entry": "index-size-wrong",
    "index-entries-swapped": "index-offset-wrong",
    "index-descending": "index-out-of-order",
    "index-duplicate-entry": "index-out-of-order",
    "index-page-number-over-32-bit": "index-page-number-over-32-bit",
    "index-size-field-zero": "index-size-field-wrong",
    "index-size-field-one-more": "end-marker-missing",
    "index-size-field-counts-itself": "end-marker-missing",
    "index-size-field-huge": "index-size-field-wrong",
    "index-varint-too-long": "index-varint-too-long",
    "index-terminator-missing": "index-size-field-wrong",
    "index-varint-not-minimal": "index-varint-not-minimal",
}
"""Why each wrong index is not used, without a look at the frames: sometimes another rule than the whole file breaks."""


@pytest.mark.parametrize("name", [name for name in BAD if name.startswith("index-")])
def test_wrong_index_is_not_used(name: str) -> None:
    """No page is read through an index that is not the one of the frames in the file."""
    data = bad(name)
    for pgno in range(1, 6):
        with pytest.raises(LtxFormatError) as refused:
            read_page(reader(data), len(data), pgno)
        assert refused.value.reason == WRONG[name]


def test_frame_must_be_the_one_that_the_index_names() -> None:
    """A frame of another page, another size or other flags is not decoded, although the index itself is sound."""
    base = Parts.split(good("tiny-increment-512"))
    base.frames[1] = Frame(b"\0\0\0\3" + base.frames[1].head[4:], base.frames[1].body, base.frames[1].page)
    assert refusal(base, 2) == "frame-not-as-indexed"

    base = Parts.split(good("tiny-increment-512"))
    head = base.frames[1].head
    base.frames[1].head = head[:6] + (int.from_bytes(head[6:]) + 1).to_bytes(4)
    assert refusal(base, 2) == "frame-not-as-indexed"
    base.frames[1].head = head[:4] + b"\0\2" + head[6:]
    assert refusal(base, 2) == "frame-not-as-indexed"
    base.frames[1].head = head[:4] + b"\0\0" + head[6:]
    assert refusal(base, 2) == "legacy-frame-damaged"
    base.frames[1].head = head
    assert refusal(base, 2) == "read"

    legacy = Parts.split(good("legacy-lz4-frames-512"))
    assert refusal(legacy, 2) == "read"
    legacy.frames[1].body += b"x"
    legacy.index_again()
    assert refusal(legacy, 2) == "frame-not-as-indexed"


def refusal(parts: Parts, pgno: int) -> str:
    """Return why reading a page of the file is refused, or "read"."""
    data = parts.join()
    try:
        read_page(reader(data), len(data), pgno)
    except LtxFormatError as error:
        return error.reason
    return "read"


def test_snapshot_with_a_page_missing_is_not_read_through_its_index() -> None:
    """The index of a snapshot must list every page."""
    parts = Parts.split(good("tiny-snapshot-512"))
    del parts.frames[2]
    parts.index_again()
    parts.sum_again()
    assert refusal(parts, 1) == "snapshot-page-missing"


def test_impossible_sizes_and_short_reads_are_refused() -> None:
    """A file too small for LTX, an index size beyond the file, and storage that returns less, are refused."""
    data = good("tiny-increment-512")
    with pytest.raises(LtxFormatError, match="truncated"):
        read_page(reader(data[:130]), 130, 1)
    with pytest.raises(LtxFormatError, match="truncated"):
        read_page(lambda offset, size: data[offset : offset + size - 1], len(data), 1)
    for index_size in (0, len(data) - 129, 1 << 63):
        parts = replace(Parts.split(data), index_size=index_size.to_bytes(8))
        assert refusal(parts, 1) == "index-size-field-wrong"
