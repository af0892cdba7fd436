"""LTX files taken apart, changed and put together again, right or wrong: for tests that need a file no writer makes."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from struct import Struct

import lz4.block

from litestream_py.ltx.checksum import CHECKSUM_FLAG, crc64
from litestream_py.ltx.decoder import Decoder
from litestream_py.ltx.index import encode_index

_HEAD = Struct(">IHI")


@dataclass
class Frame:
    """A page frame: head (6 bytes legacy, else 10), what follows it, and the page that the checksum covers."""

    head: bytes
    body: bytes
    page: bytes

    @classmethod
    def of(cls, pgno: int, page: bytes, *, flags: int = 1) -> Frame:
        """Return the frame that a writer would make of the page."""
        block = lz4.block.compress(page, store_size=False)
        return cls(_HEAD.pack(pgno, flags, len(block)), block, page)

    @property
    def size(self) -> int:
        return len(self.head) + len(self.body)

    @property
    def pgno(self) -> int:
        return int.from_bytes(self.head[:4])


@dataclass
class Parts:
    """The parts of one file, in file order."""

    header: bytes
    frames: list[Frame]
    marker: bytes = bytes(6)
    index: bytes = b"\0"
    index_size: bytes = field(default=(1).to_bytes(8))
    post_apply: bytes = bytes(8)
    checksum: bytes = bytes(8)

    @classmethod
    def split(cls, data: bytes) -> Parts:
        """Take a valid file apart."""
        index_size = int.from_bytes(data[-24:-16])
        marker = len(data) - 24 - index_size - 6
        decoder = Decoder()
        pages = decoder.feed(data)
        decoder.finish()
        frames, pos = [], 100
        for size, (_, page) in zip(decoder._sizes, pages, strict=True):
            head = 10 if data[pos + 5] & 1 else 6
            frames.append(Frame(data[pos : pos + head], data[pos + head : pos + size], page))
            pos += size
        return cls(
            data[:100],
            frames,
            data[marker : marker + 6],
            data[marker + 6 : -24],
            data[-24:-16],
            data[-16:-8],
            data[-8:],
        )

    def index_again(self) -> None:
        """Make the index and its size those of the frames as they stand."""
        pgnos = array("I", (frame.pgno for frame in self.frames))
        self.index = b"".join(encode_index(pgnos, array("I", (frame.size for frame in self.frames))))
        self.index_size = len(self.index).to_bytes(8)

    def sum_again(self) -> None:
        """Make the file checksum that of the parts as they stand."""
        crc = crc64(self.header)
        for frame in self.frames:
            crc = crc64(frame.page, crc64(frame.head, crc))
        for part in (self.marker, self.index, self.index_size, self.post_apply):
            crc = crc64(part, crc)
        self.checksum = (crc | CHECKSUM_FLAG).to_bytes(8)

    def join(self) -> bytes:
        """Return the file."""
        frames = [part for frame in self.frames for part in (frame.head, frame.body)]
        return b"".join(
            (self.header, *frames, self.marker, self.index, self.index_size, self.post_apply, self.checksum)
        )
