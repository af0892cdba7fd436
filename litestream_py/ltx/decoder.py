"""Bytes of an LTX file to its pages: pushed in pieces of any size, with every rule checked as it can be.

Memory of a `Decoder`, however the lengths in the file lie: `MEMORY_MAX` bytes, two batches of pages among them, and 10
for each frame seen. A batch (`batches`) is at most `BATCH_SIZE` bytes of pages; a `feed`, which returns all of them at
once, at most some 255 times what it was given (LZ4's greatest ratio). A length is believed only after it was compared
with what a page can need. Pages handed out are *not* verified until `finish` has returned: the file checksum is last.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING, Final

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checks import (
    check_complete,
    check_file_checksum,
    check_name,
    check_page_number,
    check_post_apply,
)
from litestream_py.ltx.checksum import CHECKSUM_FLAG, Buffer, go_iso, page_checksum
from litestream_py.ltx.ids import lock_pgno
from litestream_py.ltx.index import END_SIZE, INDEX_SIZE_SIZE
from litestream_py.ltx.indexmatch import IndexMatcher
from litestream_py.ltx.lz4block import LegacyWalk, block_size_max, compress_block, decompress_block, decompress_legacy
from litestream_py.ltx.records import (
    END_MARKER,
    FRAME_HEAD_SIZE,
    HEADER_SIZE,
    PAGE_FLAG_SIZE,
    Header,
    RawFrame,
    Trailer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from litestream_py.ltx.ids import FileName

BATCH_SIZE: Final = 1 << 20
"""Bytes of pages in one batch; a page is at most 64 KiB."""
MEMORY_MAX: Final = 4 << 20
"""Bytes that a decoder takes at most besides 10 for each frame seen: the batch that the caller holds and the next one
among them.

LZ4's own memory for a legacy frame (up to 8 MiB, of which it touches what a page needs) comes on top meanwhile.
"""

_LEGACY_HEAD_SIZE: Final = len(END_MARKER)
_unpack_frame_head = Struct(">IHI").unpack_from
_unpack_size = Struct(">Q").unpack_from


class _State(Enum):
    HEADER = auto()
    FRAMES = auto()
    INDEX = auto()
    END = auto()
    DONE = auto()


class Decoder:
    """Takes a file in pieces (`feed`, `batches` or `frame_batches`), then `finish`.

    expect: the name under which the file was found; its TXIDs must be the header's.

    Every method raises LtxFormatError with the rule that the file breaks, as soon as it is seen, and again ever after.
    """

    def __init__(self, *, expect: FileName | None = None) -> None:
        self.header: Header | None = None
        """The header, once its 100 bytes were fed."""
        self.pgnos: array[int] = array("I")
        """Page numbers of the frames seen so far, ascending."""
        self._expect = expect
        self._sizes = array("I")
        self._state = _State.HEADER
        self._carry = bytearray()
        self._need = HEADER_SIZE
        self._offset = 0
        self._crc = 0
        self._database = CHECKSUM_FLAG
        self._budget = 1
        self._walk: LegacyWalk | None = None
        self._matcher: IndexMatcher | None = None
        self._trailer: Trailer | None = None
        self._failure: tuple[str, str, int | None] | None = None

    @property
    def frame_sizes(self) -> array[int]:
        """Sizes in bytes of the frames seen so far; the first one begins behind the header."""
        return self._sizes

    def feed(self, data: Buffer) -> list[tuple[int, bytes]]:
        """Take the next bytes of the file; return the pages (number, content) that are complete now."""
        return list(chain.from_iterable(self._run(data, None)))

    def batches(self, data: Buffer) -> Iterator[list[tuple[int, bytes]]]:
        """Like `feed`, but yield the pages in lists of bounded size; to be exhausted before the next call."""
        return self._run(data, None)

    def frame_batches(self, data: Buffer) -> Iterator[list[RawFrame]]:
        """Like `batches`, with the LZ4 block of each page, for compaction to copy (of a legacy frame: made anew)."""
        blocks: list[bytes] = []
        for batch in self._run(data, blocks):
            yield [RawFrame(pgno, page, block) for (pgno, page), block in zip(batch, blocks, strict=True)]
            blocks.clear()

    def finish(self) -> Trailer:
        """Return the trailer: the file is whole and every rule holds. Raises LtxFormatError "truncated" otherwise."""
        self._refuse_again()
        if self._trailer is not None:
            return self._trailer
        suspect = self._matcher.end() if self._matcher else None
        if suspect is not None:
            raise suspect
        size = self._offset + len(self._carry)
        raise LtxFormatError("truncated", f"the file ends after {size} bytes in its {self._state.name.lower()}")

    def _run(self, data: Buffer, blocks: list[bytes] | None) -> Iterator[list[tuple[int, bytes]]]:
        view, pos = memoryview(data), 0
        self._refuse_again()
        while pos < len(view):
            out: list[tuple[int, bytes]] = []
            try:
                pos = self._fill(view, pos, out, blocks)
            except LtxFormatError as error:
                self._failure = (error.reason, error.detail, error.offset)
                raise
            if out:
                yield out

    def _refuse_again(self) -> None:
        if self._failure is not None:
            reason, detail, offset = self._failure
            raise LtxFormatError(reason, detail, offset=offset)

    def _fill(self, view: memoryview, pos: int, out: list[tuple[int, bytes]], blocks: list[bytes] | None) -> int:
        """Decode from `pos` until `out` is a full batch or `view` is used up; return the position reached.

        What a piece ends in the middle of is carried over, and completed with no more than it needs from the next one:
        so a large piece is never copied.
        """
        while self._carry and pos < len(view) and len(out) < self._budget:
            taken = min(self._need - len(self._carry), len(view) - pos)
            self._carry += view[pos : pos + taken]
            pos += taken
            if len(self._carry) < self._need:
                return pos
            with memoryview(self._carry) as held:
                used = self._advance(held, 0, out, blocks)
            del self._carry[:used]
        if pos < len(view) and len(out) < self._budget:
            pos = self._advance(view, pos, out, blocks)
            if len(out) < self._budget:
                self._carry += view[pos:]
                pos = len(view)
        return pos

    def _advance(self, view: memoryview, pos: int, out: list[tuple[int, bytes]], blocks: list[bytes] | None) -> int:
        """Take step after step until `out` is full or the next one needs more (`_need` bytes) than `view` holds."""
        while len(out) < self._budget and pos < len(view):
            state = self._state
            if state is _State.FRAMES:
                reached = self._step_frames(view, pos, out, blocks)
            elif state is _State.INDEX:
                reached = self._step_index(view, pos)
            elif state is _State.HEADER:
                reached = self._step_header(view, pos)
            elif state is _State.END:
                reached = self._step_end(view, pos)
            else:
                raise LtxFormatError("trailing-data", "bytes behind the trailer", offset=self._offset)
            self._offset += reached - pos
            if reached == pos and self._state is state:
                break
            pos = reached
        return pos

    def _step_header(self, view: memoryview, pos: int) -> int:
        if len(view) - pos < HEADER_SIZE:
            return pos
        data = bytes(view[pos : pos + HEADER_SIZE])
        self.header = header = Header.unpack(data)
        if self._expect is not None:
            check_name(header, self._expect)
        self._crc = go_iso(data)
        self._budget = BATCH_SIZE // header.page_size
        self._state, self._need = _State.FRAMES, FRAME_HEAD_SIZE
        return pos + HEADER_SIZE

    def _step_frames(self, view: memoryview, pos: int, out: list[tuple[int, bytes]], blocks: list[bytes] | None) -> int:
        """Decode whole plain frames, then what stands behind them. The hot loop: everything it uses is local."""
        header = self.header
        assert header is not None
        page_size, commit, lock = header.page_size, header.commit, lock_pgno(header.page_size)
        size_max, budget, end, base = block_size_max(page_size), self._budget, len(view), self._offset - pos
        crc, previous, first = self._crc, self.pgnos[-1] if self.pgnos else 0, len(out)
        add_pgno, add_size, add_page = self.pgnos.append, self._sizes.append, out.append
        flags = PAGE_FLAG_SIZE
        while len(out) < budget:
            body = pos + FRAME_HEAD_SIZE
            if body > end:
                self._need = FRAME_HEAD_SIZE
                break
            pgno, flags, size = _unpack_frame_head(view, pos)
            if flags != PAGE_FLAG_SIZE:
                break
            if not previous < pgno <= commit or pgno == lock:
                check_page_number(header, previous, pgno, base + pos)
            if not 1 <= size <= size_max:
                raise LtxFormatError(
                    "block-size-out-of-bounds", f"a block of {size} bytes (at most {size_max})", offset=base + pos
                )
            stop = body + size
            if stop > end:
                self._need = stop - pos
                break
            block = view[body:stop]
            page = decompress_block(block, page_size, base + pos)
            crc = go_iso(page, go_iso(view[pos:body], crc))
            add_pgno(pgno)
            add_size(stop - pos)
            add_page((pgno, page))
            if blocks is not None:
                blocks.append(bytes(block))
            previous, pos = pgno, stop
        self._crc = crc
        self._sum_pages(out, first)
        return pos if flags == PAGE_FLAG_SIZE else self._special_frame(view, pos, base + pos, out, blocks)

    def _special_frame(
        self, view: memoryview, pos: int, offset: int, out: list[tuple[int, bytes]], blocks: list[bytes] | None
    ) -> int:
        """Take the end marker or a legacy frame; refuse other flags."""
        header = self.header
        assert header is not None
        pgno, flags, _ = _unpack_frame_head(view, pos)
        head = view[pos : pos + _LEGACY_HEAD_SIZE]
        if flags:
            raise LtxFormatError("page-flags-unknown", f"page flags {flags:#x}: only 0x1 is known", offset=offset + 4)
        if pgno == 0:
            check_complete(header, len(self.pgnos))
            self._crc = go_iso(head, self._crc)
            self._matcher = IndexMatcher(self.pgnos, self._sizes, offset + len(END_MARKER))
            self._state, self._need = _State.INDEX, 1
            return pos + len(END_MARKER)
        check_page_number(header, self.pgnos[-1] if self.pgnos else 0, pgno, offset)
        frame = view[pos + _LEGACY_HEAD_SIZE :]
        self._walk = self._walk or LegacyWalk(header.page_size, offset)
        length = self._walk.measure(frame)
        if length is None:
            self._need = _LEGACY_HEAD_SIZE + self._walk.need
            return pos
        page = decompress_legacy(frame[:length], header.page_size, offset)
        self._crc = go_iso(page, go_iso(head, self._crc))
        self._walk, self._need = None, FRAME_HEAD_SIZE
        self.pgnos.append(pgno)
        self._sizes.append(_LEGACY_HEAD_SIZE + length)
        out.append((pgno, page))
        if blocks is not None:
            blocks.append(compress_block(page))
        self._sum_pages(out, len(out) - 1)
        return pos + _LEGACY_HEAD_SIZE + length

    def _sum_pages(self, out: list[tuple[int, bytes]], first: int) -> None:
        """Add the pages from `first` on to the database checksum, where the file itself says what it must be."""
        if self.header and self.header.tracks_checksum and self.header.is_snapshot:
            for pgno, page in out[first:]:
                self._database ^= page_checksum(pgno, page) & ~CHECKSUM_FLAG

    def _step_index(self, view: memoryview, pos: int) -> int:
        assert self._matcher is not None
        reached = self._matcher.feed(view, pos)
        self._crc = go_iso(view[pos:reached], self._crc)
        if self._matcher.done:
            self._state, self._need = _State.END, END_SIZE
        return reached

    def _step_end(self, view: memoryview, pos: int) -> int:
        if len(view) - pos < END_SIZE:
            return pos
        header = self.header
        assert header is not None
        assert self._matcher is not None
        (index_size,) = _unpack_size(view, pos)
        if index_size != self._matcher.size:
            raise LtxFormatError(
                "index-size-field-wrong",
                f"the index has {self._matcher.size} bytes, not {index_size}",
                offset=self._offset,
            )
        trailer = Trailer.unpack(view[pos + INDEX_SIZE_SIZE : pos + END_SIZE])
        crc = go_iso(view[pos : pos + INDEX_SIZE_SIZE + 8], self._crc) | CHECKSUM_FLAG
        self._check_file_checksum(trailer.file_checksum, crc)
        check_post_apply(header, trailer.post_apply_checksum)
        if header.tracks_checksum and header.is_snapshot and trailer.post_apply_checksum != self._database:
            raise LtxFormatError("post-apply-wrong", f"the snapshot's pages add up to {self._database:016x}")
        self._trailer, self._state, self._need = trailer, _State.DONE, 1
        return pos + END_SIZE

    def _check_file_checksum(self, stated: int, computed: int) -> None:
        check_file_checksum(stated)
        if stated != computed:
            raise LtxFormatError(
                "file-checksum-wrong", f"the file checksum is {stated:016x}, the content {computed:016x}"
            )


@dataclass(frozen=True, slots=True)
class LtxFile:
    """A whole file as one value; pages are (number, content), ascending."""

    header: Header
    pages: list[tuple[int, bytes]]
    trailer: Trailer


class LtxStream:
    """A file that is decoded while it arrives: `header` at once, then batches of pages, then `trailer`.

    Iterating yields lists of (number, page). The pages are verified only when the iteration has ended without an error;
    `trailer` is None until then.
    """

    def __init__(self, chunks: Iterable[Buffer], expect: FileName | None) -> None:
        self._chunks = iter(chunks)
        self._decoder = Decoder(expect=expect)
        self._rest = memoryview(b"")
        self.trailer: Trailer | None = None
        missing = HEADER_SIZE
        while self._decoder.header is None:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._decoder.finish()
                break
            view = memoryview(chunk)
            self._decoder.feed(view[:missing])
            self._rest = view[missing:]
            missing -= min(missing, len(view))
        assert self._decoder.header is not None
        self.header: Header = self._decoder.header

    def __iter__(self) -> Iterator[list[tuple[int, bytes]]]:
        for chunk in chain((self._rest,), self._chunks):
            yield from self._decoder.batches(chunk)
        self.trailer = self._decoder.finish()


def decode_stream(chunks: Iterable[Buffer], *, expect: FileName | None = None) -> LtxStream:
    """Return the file that arrives in `chunks`, its header already read; raises LtxFormatError."""
    return LtxStream(chunks, expect)


def decode(data: Buffer, *, expect: FileName | None = None) -> LtxFile:
    """Return the file that `data` holds as a whole; raises LtxFormatError."""
    decoder = Decoder(expect=expect)
    pages = decoder.feed(data)
    trailer = decoder.finish()
    assert decoder.header is not None
    return LtxFile(decoder.header, pages, trailer)
