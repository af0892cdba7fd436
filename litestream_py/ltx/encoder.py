"""Pages to the bytes of an LTX file, in chunks; a file that breaks a rule is never finished.

The rules are those of `litestream_py.ltx`; the writer checks each of them that concerns it, because an LTX file is
immutable and often the only copy of a commit.
"""

from __future__ import annotations

from array import array
from struct import Struct
from typing import TYPE_CHECKING, Final

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checks import check_complete, check_page_number, check_post_apply
from litestream_py.ltx.checksum import CHECKSUM_FLAG, Buffer, go_iso, page_checksum
from litestream_py.ltx.ids import lock_pgno
from litestream_py.ltx.index import encode_index
from litestream_py.ltx.lz4block import block_size_max, compress_block
from litestream_py.ltx.records import END_MARKER, FRAME_HEAD_SIZE, PAGE_FLAG_SIZE, Header, RawFrame, Trailer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK_SIZE: Final = 512 << 10
"""Bytes after which a chunk is given out; a chunk exceeds it by less than one frame (or one piece of the index)."""

_pack_frame_head = Struct(">IHI").pack
_pack_size = Struct(">Q").pack


def encode(
    header: Header, pages: Iterable[tuple[int, Buffer] | RawFrame], *, post_apply_checksum: int = 0
) -> Iterator[bytes]:
    """Yield the file of `header` and `pages` (page number and page, ascending) in chunks of some 512 KiB.

    A `RawFrame`'s block is copied as it is; its data goes into the checksum. Both kinds may be mixed.
    post_apply_checksum: only without header flag 0x2.

    Memory: one chunk, one page and 8 bytes for each page. Raises LtxFormatError with the rule that header or pages
    would break: at once for the header, with the page for pages, before the last chunk for what is missing. What was
    yielded until then must be thrown away.
    """
    head = header.pack()
    check_post_apply(header, post_apply_checksum)
    if header.commit == 0 and not header.tracks_checksum:
        raise LtxFormatError("commit-zero", "cannot encode: header flag 0x2 with a commit of 0 pages")
    return _Encoding(header).run(head, pages, post_apply_checksum)


class _Encoding:
    """What the parts of one file share while it is being written: running checksum and frames."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._crc = 0
        self._pgnos = array("I")
        self._sizes = array("I")
        self._database = CHECKSUM_FLAG

    def run(
        self, head: bytes, pages: Iterable[tuple[int, Buffer] | RawFrame], post_apply_checksum: int
    ) -> Iterator[bytes]:
        self._crc = go_iso(head)
        if self._header.tracks_checksum and self._header.is_snapshot:
            pages = self._sum_pages(pages)
        parts = [head]
        yield from self._frames(pages, parts)
        check_complete(self._header, len(self._pgnos))
        if self._header.tracks_checksum and self._header.is_snapshot and post_apply_checksum != self._database:
            raise LtxFormatError("post-apply-wrong", f"cannot encode: the pages add up to {self._database:016x}")
        yield from self._end(parts, post_apply_checksum)

    def _frames(self, pages: Iterable[tuple[int, Buffer] | RawFrame], parts: list[bytes]) -> Iterator[bytes]:
        """Yield full chunks; what does not fill one stays in `parts`. The hot loop: everything it uses is local."""
        crc, previous, pending = self._crc, 0, len(parts[0])
        commit, page_size, lock = self._header.commit, self._header.page_size, lock_pgno(self._header.page_size)
        add_pgno, add_size, add_part = self._pgnos.append, self._sizes.append, parts.append
        for item in pages:
            pgno, data = item[0], item[1]
            if not previous < pgno <= commit or pgno == lock:
                check_page_number(self._header, previous, pgno)
            if len(data) != page_size:
                raise LtxFormatError("page-length", f"cannot encode: page {pgno} of {len(data)} bytes")
            block = self._raw_block(item) if type(item) is RawFrame else compress_block(data)
            size = len(block)
            frame_head = _pack_frame_head(pgno, PAGE_FLAG_SIZE, size)
            crc = go_iso(data, go_iso(frame_head, crc))
            add_pgno(pgno)
            add_size(size + FRAME_HEAD_SIZE)
            add_part(frame_head)
            add_part(block)
            previous = pgno
            pending += size + FRAME_HEAD_SIZE
            if pending >= CHUNK_SIZE:
                yield b"".join(parts)
                parts.clear()
                pending = 0
        self._crc = crc

    def _raw_block(self, frame: RawFrame) -> bytes:
        if not 1 <= len(frame.block) <= block_size_max(self._header.page_size):
            raise LtxFormatError(
                "block-size-out-of-bounds", f"cannot encode: page {frame.pgno} with a block of {len(frame.block)} bytes"
            )
        return frame.block

    def _sum_pages(self, pages: Iterable[tuple[int, Buffer] | RawFrame]) -> Iterator[tuple[int, Buffer] | RawFrame]:
        """Pass the pages through and keep their database checksum: only where the file states it itself."""
        for item in pages:
            self._database ^= page_checksum(item[0], item[1]) & ~CHECKSUM_FLAG
            yield item

    def _end(self, parts: list[bytes], post_apply_checksum: int) -> Iterator[bytes]:
        crc, index_size = go_iso(END_MARKER, self._crc), 0
        parts.append(END_MARKER)
        pending = sum(map(len, parts))
        for piece in encode_index(self._pgnos, self._sizes):
            crc = go_iso(piece, crc)
            index_size += len(piece)
            pending += len(piece)
            parts.append(piece)
            if pending >= CHUNK_SIZE:
                yield b"".join(parts)
                parts.clear()
                pending = 0
        closing = _pack_size(index_size)
        crc = go_iso(_pack_size(post_apply_checksum), go_iso(closing, crc))
        parts += (closing, Trailer(post_apply_checksum, crc | CHECKSUM_FLAG).pack())
        yield b"".join(parts)
