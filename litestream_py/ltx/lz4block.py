"""LZ4 for single pages: blocks (what is written) and legacy frames (what old files hold), both with bounded output.

A block decodes into a buffer of exactly one page, so a lying block can cost no more than that. An LZ4 frame
(specification of the LZ4 frame format 1.6) has no size in front; `LegacyWalk` finds its end from the lengths inside::

    magic 04224D18 (4) | FLG (1) | BD (1) | content size (8, if FLG 0x08) | header checksum (1) |
    blocks: size u32 little-endian, top bit: stored | data | checksum (4, if FLG 0x10) ... |
    0 (4) | content checksum (4, if FLG 0x04)
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

import lz4.block
import lz4.frame

from litestream_py.errors import LtxFormatError

if TYPE_CHECKING:
    from litestream_py.ltx.checksum import Buffer

_LEGACY_HEADER_MIN: Final = 7
_LEGACY_MAGIC: Final = b"\x04\x22\x4d\x18"
# Called with positional arguments only (mode, store_size; uncompressed_size): by name they cost 4 % of a page.
_compress: Final = lz4.block.compress
_decompress: Final = lz4.block.decompress
_unpack_u32_le = Struct("<I").unpack_from


def block_size_max(page_size: int) -> int:
    """Return the largest block, in bytes, that an LZ4 compressor makes of one page."""
    return page_size + page_size // 255 + 16


def legacy_size_max(page_size: int) -> int:
    """Return the largest legacy frame, in bytes, accepted for one page: a block, and room for what surrounds it."""
    return block_size_max(page_size) + 64


def compress_block(page: Buffer) -> bytes:
    """Return `page` as one LZ4 block; larger than the page if it does not compress (the format has no stored form)."""
    block: bytes = _compress(page, "default", False)
    return block


def decompress_block(block: Buffer, page_size: int, offset: int) -> bytes:
    """Return the page that `block` holds.

    `offset` (of the frame in the file) is only for the message. Raises LtxFormatError "block-damaged" or "block-short";
    never allocates more than a page.
    """
    try:
        page: bytes = _decompress(block, page_size)
    except lz4.block.LZ4BlockError:
        # LZ4 tells "malformed" and "longer than the buffer" apart for nobody.
        raise LtxFormatError(
            "block-damaged", f"an LZ4 block does not decode into a page of {page_size} bytes", offset=offset
        ) from None
    if len(page) != page_size:
        raise LtxFormatError(
            "block-short", f"an LZ4 block decodes to {len(page)} bytes, not to a page of {page_size}", offset=offset
        )
    return page


def decompress_legacy(frame: Buffer, page_size: int, offset: int) -> bytes:
    """Return the page that a whole LZ4 frame holds.

    Raises LtxFormatError "legacy-frame-damaged" or "legacy-frame-not-one-page". Output is bounded by a page and a byte;
    LZ4 itself takes up to two of the frame's own blocks (4 MiB each at most) while it runs.
    """
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        page: bytes = decompressor.decompress(frame, max_length=page_size + 1)
    except RuntimeError as error:
        raise LtxFormatError("legacy-frame-damaged", f"an LZ4 frame does not decode ({error})", offset=offset) from None
    if len(page) != page_size or not decompressor.eof or decompressor.unused_data:
        raise LtxFormatError(
            "legacy-frame-not-one-page", f"an LZ4 frame does not end with its page of {page_size} bytes", offset=offset
        )
    return page


class LegacyWalk:
    """Finds where an LZ4 frame that arrives in pieces ends; reads only its lengths and remembers how far it got.

    `need` is the number of bytes from the start of the frame that must be there before `measure` can get further.
    """

    __slots__ = ("_at", "_flags", "_offset", "_size_max", "need")

    def __init__(self, page_size: int, offset: int) -> None:
        self.need = _LEGACY_HEADER_MIN
        self._size_max = legacy_size_max(page_size)
        self._offset = offset
        self._at = 0
        self._flags = 0

    def measure(self, view: memoryview) -> int | None:
        """Return the frame's length in bytes once `view`, which begins with the frame, holds it whole; until then None.

        Raises LtxFormatError "legacy-frame-damaged" or "legacy-frame-too-long", the latter before the bytes are there.
        """
        while len(view) >= self.need:
            if self._at == 0:
                self._enter(view)
                continue
            (word,) = _unpack_u32_le(view, self._at)
            if word == 0:
                end = self._at + 4 + (4 if self._flags & 0x04 else 0)
                self._require(end)
                return end if len(view) >= end else None
            self._at += 4 + (word & 0x7FFFFFFF) + (4 if self._flags & 0x10 else 0)
            self._require(self._at + 4)
        return None

    def _enter(self, view: memoryview) -> None:
        self._flags = view[4]
        if bytes(view[:4]) != _LEGACY_MAGIC or self._flags >> 6 != 1 or self._flags & 0x03:
            raise LtxFormatError("legacy-frame-damaged", "not the header of a plain LZ4 frame", offset=self._offset)
        self._at = _LEGACY_HEADER_MIN + (8 if self._flags & 0x08 else 0)
        self._require(self._at + 4)

    def _require(self, need: int) -> None:
        if need > self._size_max:
            raise LtxFormatError(
                "legacy-frame-too-long",
                f"an LZ4 frame of one page cannot have {need} bytes (at most {self._size_max})",
                offset=self._offset,
            )
        self.need = need
