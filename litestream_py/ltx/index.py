"""The page index: made by a writer, parsed and checked by whoever reads single pages (rules 30 to 38, 51, 52).

The peers' readers parse it and believe it. `read_page` believes nothing: all of the index must describe frames that lie
one behind the other from the header to the end marker, and the frame must be what its entry says, before a byte of it
is decoded. What it cannot check is the file checksum, which covers the whole file.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checks import check_complete, check_file_checksum, check_page_number
from litestream_py.ltx.ids import lock_pgno
from litestream_py.ltx.lz4block import (
    LegacyWalk,
    block_size_max,
    decompress_block,
    decompress_legacy,
    legacy_size_max,
)
from litestream_py.ltx.records import (
    END_MARKER,
    FRAME_HEAD_SIZE,
    HEADER_SIZE,
    PAGE_FLAG_SIZE,
    TRAILER_SIZE,
    Header,
    Trailer,
)
from litestream_py.ltx.uvarint import UVARINT_SIZE_MAX, append_uvarint, decode_uvarints, encode_uvarints

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from litestream_py.ltx.checksum import Buffer

INDEX_SIZE_SIZE: Final = 8
END_SIZE: Final = INDEX_SIZE_SIZE + TRAILER_SIZE
"""Bytes behind the page index: its size, and the trailer."""
FILE_SIZE_MIN: Final = HEADER_SIZE + len(END_MARKER) + 1 + INDEX_SIZE_SIZE + TRAILER_SIZE
"""Bytes of a file without pages."""

_TAIL_SIZE: Final = 32 << 10
PIECE_ENTRIES: Final = 4096
"""Entries in each piece of `encode_index`."""

_SMALL_ENTRIES: Final = 32
_FETCH_SIZE: Final = 1 << 20
_SCAN_SIZE: Final = 64 << 10
_FRAME_HEAD = Struct(">IHI")
_SIZE = Struct(">Q")

Columns: TypeAlias = "tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]"


class IndexEntry(NamedTuple):
    """Where the frame of a page lies: offset in the file and size, both in bytes, head included."""

    offset: int
    size: int


def frame_size_max(page_size: int) -> int:
    """Return the size in bytes of the largest frame, head included, that a page can have."""
    return FRAME_HEAD_SIZE + legacy_size_max(page_size)


def encode_index(pgnos: array[int], sizes: array[int]) -> Iterator[bytes]:
    """Yield the index of frames that lie one behind the other after the header, its closing zero last.

    pgnos and sizes (bytes, head included): arrays of type "I", in file order. Whole entries per piece.
    """
    offset = HEADER_SIZE
    for start in range(0, len(pgnos), PIECE_ENTRIES):
        chosen = slice(start, start + PIECE_ENTRIES)
        if len(pgnos) <= _SMALL_ENTRIES:
            piece = bytearray()
            for pgno, size in zip(pgnos, sizes, strict=True):
                for value in (pgno, offset, size):
                    append_uvarint(piece, value)
                offset += size
            yield bytes(piece)
            break
        columns = np.empty((min(PIECE_ENTRIES, len(pgnos) - start), 3), dtype=np.uint64)
        columns[:, 0] = np.frombuffer(pgnos, dtype=np.uintc)[chosen]
        columns[:, 2] = np.frombuffer(sizes, dtype=np.uintc)[chosen]
        ends = np.cumsum(columns[:, 2]) + np.uint64(offset)
        columns[:, 1] = ends - columns[:, 2]
        offset = int(ends[-1])
        yield encode_uvarints(columns.reshape(-1))
    yield b"\0"


@dataclass(frozen=True, slots=True, eq=False)
class PageIndex:
    """A whole page index, checked: page numbers (ascending), offsets and sizes of their frames in bytes."""

    pgnos: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]

    @classmethod
    def parse(cls, data: Buffer, header: Header, *, frames_end: int) -> PageIndex:
        """Return the index that `data` (without the index size) holds, of frames that end at `frames_end`.

        Raises LtxFormatError with one of the reasons of rules 20 to 23 and 30 to 38.
        """
        scanner = IndexScanner(header, frames_end)
        pieces = list(scanner.scan(data))
        scanner.finish()
        return cls(*(np.concatenate(column) for column in zip(*pieces, strict=True)))

    def __len__(self) -> int:
        return len(self.pgnos)

    def find(self, pgno: int) -> IndexEntry | None:
        """Return where the frame of page `pgno` lies, or None if the file does not hold it."""
        return _find((self.pgnos, self.offsets, self.sizes), pgno)


class IndexScanner:
    """Parses an index that arrives in pieces, and checks each entry against header, neighbours and limits.

    Memory: some 4 MiB, whatever the index says.
    """

    def __init__(self, header: Header, frames_end: int) -> None:
        self._header = header
        self._frames_end = frames_end
        self._size_max = frame_size_max(header.page_size)
        self._lock = lock_pgno(header.page_size)
        self._rest = b""
        self._previous = 0
        self._offset = HEADER_SIZE
        self._count = 0

    def scan(self, data: Buffer) -> Iterator[Columns]:
        """Yield the entries (page numbers, offsets, sizes) that are complete now, in parts; raises LtxFormatError."""
        view = memoryview(data)
        for start in range(0, len(view), _SCAN_SIZE):
            yield self._scan_part(view[start : start + _SCAN_SIZE])

    def _scan_part(self, part: memoryview) -> Columns:
        joined = self._rest + bytes(part)
        octets = np.frombuffer(joined, dtype=np.uint8)
        ends = np.flatnonzero(octets < 0x80)
        ends = ends[: len(ends) // 3 * 3]
        self._rest = joined[int(ends[-1]) + 1 :] if len(ends) else joined
        if len(self._rest) > 3 * UVARINT_SIZE_MAX:
            raise LtxFormatError("index-varint-too-long", "a varint of the page index has more than 64 bits")
        pgnos, offsets, sizes = decode_uvarints(octets, ends).reshape(-1, 3).T
        if len(pgnos):
            self._check(pgnos, offsets, sizes)
        return pgnos, offsets, sizes

    def finish(self) -> None:
        """Raise LtxFormatError if the index does not end with its zero, or lacks a frame."""
        if self._rest != b"\0":
            raise LtxFormatError("index-size-field-wrong", "the page index does not end where its size says")
        if self._offset != self._frames_end:
            raise LtxFormatError(
                "index-entry-missing", f"the page index ends at {self._offset}, the frames at {self._frames_end}"
            )
        check_complete(self._header, self._count)

    def _check(self, pgnos: NDArray[np.uint64], offsets: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> None:
        highest = int(pgnos.max())
        if highest >> 32:
            raise LtxFormatError("index-page-number-over-32-bit", f"the page index lists page {highest}")
        if int(pgnos.min()) == 0:
            raise LtxFormatError("index-size-field-wrong", "the page index ends before its size says")
        if int(pgnos[0]) <= self._previous or np.any(pgnos[1:] <= pgnos[:-1]):
            raise LtxFormatError("index-out-of-order", "page numbers of the page index do not ascend")
        check_page_number(self._header, 0, self._lock if self._lock in pgnos else highest)
        if int(sizes.max()) > self._size_max or int(sizes.min()) <= FRAME_HEAD_SIZE:
            raise LtxFormatError("index-size-wrong", "an entry of the page index has an impossible size")
        # The sizes are bounded now, so that the sums cannot overflow.
        frame_ends = np.cumsum(sizes) + np.uint64(self._offset)
        if np.any(offsets != frame_ends - sizes) or int(frame_ends[-1]) > self._frames_end:
            raise LtxFormatError("index-offset-wrong", "an entry of the page index does not follow the one before it")
        self._previous, self._offset = highest, int(frame_ends[-1])
        self._count += len(pgnos)


def read_page(read_at: Callable[[int, int], bytes], file_size: int, pgno: int) -> bytes | None:
    """Return page `pgno` of a file through its index, or None if the file does not hold the page.

    read_at: returns `size` bytes from `offset`; three or four calls (two for a small file), none outside the file.
    Raises LtxFormatError if header, index or frame break a rule, "truncated" also when `read_at` returns less than
    asked. The page itself is not covered by any checksum here. Memory: some 5 MiB, whatever the lengths say.
    """
    reader = _BoundedReader(read_at, file_size)
    header = Header.unpack(reader.read(0, HEADER_SIZE))
    index_end = file_size - END_SIZE
    index_size = check_end(reader.read(index_end, END_SIZE), file_size)
    frames_end = index_end - index_size - len(END_MARKER)
    if reader.read(frames_end, len(END_MARKER)) != END_MARKER:
        raise LtxFormatError("end-marker-missing", "no end marker in front of the page index", offset=frames_end)
    scanner = IndexScanner(header, frames_end)
    found: IndexEntry | None = None
    for start in range(index_end - index_size, index_end, _FETCH_SIZE):
        for columns in scanner.scan(reader.read(start, min(_FETCH_SIZE, index_end - start))):
            found = found or _find(columns, pgno)
    scanner.finish()
    return None if found is None else decode_frame(reader.read(*found), header.page_size, pgno, found)


def check_end(data: Buffer, file_size: int) -> int:
    """Return the size of the page index, in bytes, that the last END_SIZE bytes of a file of `file_size` bytes tell.

    Raises LtxFormatError if such a file cannot end so (rules 38 to 40): "truncated", "index-size-field-wrong",
    "file-checksum-missing", "file-checksum-without-flag-bit". Whether the checksum is right only the content can tell.
    """
    if len(data) != END_SIZE:
        raise LtxFormatError("truncated", f"{file_size} bytes are no LTX file", offset=file_size)
    index_size: int = _SIZE.unpack_from(data)[0]
    if not 1 <= index_size <= file_size - FILE_SIZE_MIN + 1:
        raise LtxFormatError("index-size-field-wrong", f"a page index of {index_size} bytes in one of {file_size}")
    check_file_checksum(Trailer.unpack(memoryview(data)[INDEX_SIZE_SIZE:]).file_checksum)
    return index_size


class _BoundedReader:
    """Reads parts of a file, the tail from one request that is made first."""

    def __init__(self, read_at: Callable[[int, int], bytes], file_size: int) -> None:
        if file_size < FILE_SIZE_MIN:
            raise LtxFormatError("truncated", f"{file_size} bytes are no LTX file", offset=file_size)
        self._read_at = read_at
        self._tail_start = max(0, file_size - _TAIL_SIZE)
        self._tail = self._fetch(self._tail_start, file_size - self._tail_start)

    def read(self, offset: int, size: int) -> bytes:
        if offset >= self._tail_start:
            return self._tail[offset - self._tail_start :][:size]
        return self._fetch(offset, size)

    def _fetch(self, offset: int, size: int) -> bytes:
        data = self._read_at(offset, size)
        if len(data) != size:
            raise LtxFormatError("truncated", f"{len(data)} bytes where {size} were asked for", offset=offset)
        return data


def _find(columns: Columns, pgno: int) -> IndexEntry | None:
    pgnos, offsets, sizes = columns
    at = int(np.searchsorted(pgnos, pgno)) if pgno > 0 else len(pgnos)
    if at == len(pgnos) or int(pgnos[at]) != pgno:
        return None
    return IndexEntry(int(offsets[at]), int(sizes[at]))


def decode_frame(frame: bytes, page_size: int, pgno: int, entry: IndexEntry) -> bytes:
    """Return the page of a frame, once its head is that of the page asked for and its length is the frame's.

    Raises LtxFormatError, "frame-not-as-indexed" or what its block breaks.
    """
    found, flags, size = _FRAME_HEAD.unpack_from(frame)
    if found != pgno or flags & ~PAGE_FLAG_SIZE:
        raise LtxFormatError("frame-not-as-indexed", f"no frame of page {pgno}", offset=entry.offset)
    if flags == PAGE_FLAG_SIZE:
        if size != entry.size - FRAME_HEAD_SIZE or size > block_size_max(page_size):
            raise LtxFormatError("frame-not-as-indexed", f"a block of {size} bytes", offset=entry.offset)
        return decompress_block(frame[FRAME_HEAD_SIZE:], page_size, entry.offset)
    legacy = memoryview(frame)[FRAME_HEAD_SIZE - 4 :]
    length = LegacyWalk(page_size, entry.offset).measure(legacy)
    if length != len(legacy):
        raise LtxFormatError("frame-not-as-indexed", f"a legacy frame of {length} bytes", offset=entry.offset)
    return decompress_legacy(legacy, page_size, entry.offset)
