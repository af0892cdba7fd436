"""The WAL file header, and where the frames lie.

WAL header, 32 bytes, every field a big-endian u32 whatever the magic says:

| offset | size | field |
|---|---|---|
| 0 | 4 | magic: 0x377f0682 (checksums read words as little-endian) or 0x377f0683 (as big-endian) |
| 4 | 4 | version: 3007000 |
| 8 | 4 | page size in bytes: a power of two, 512 to 65536 (65536 is written as such, unlike in the database header) |
| 12 | 4 | checkpoint sequence number |
| 16 | 8 | salt-1, salt-2 |
| 24 | 8 | checksum of bytes 0 to 23, seed (0, 0) |

Frames follow without a gap. Frame, 24 + page size bytes, every header field a big-endian u32:

| offset | size | field |
|---|---|---|
| 0 | 4 | page number |
| 4 | 4 | size of the database in pages if the frame ends a transaction, else 0 |
| 8 | 8 | salt-1, salt-2 |
| 16 | 8 | running checksum: seed is that of the frame before (of the header, for the first frame) |
| 24 | page size | the page |

A header is valid if, in this order (SQLite's own):
1. there are 32 bytes,
2. the magic is one of the two,
3. the page size is possible,
4. the checksum holds,
5. the version is 3007000.
SQLite takes a WAL that breaks rules 1 to 4 for an empty one; it refuses to open a database whose WAL breaks rule 5.

A frame is valid if the header is and, in this order:
1. its salts are the header's,
2. its page number is not 0,
3. its checksum holds, and the frame before it is valid.
Valid frames behind the last commit frame belong to no transaction (yet). The file's size says nothing: frames of older
generations, zeros or a rolled-back transaction may follow.

The checksum covers bytes 0 to 7 of a frame's header and its page. It does not cover the salts (they are compared), the
length of the file, or that a valid frame is the newest one ever written at its place.

Source: https://sqlite.org/fileformat2.html sections 4.1 and 4.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from litestream_py.errors import WalFormatError
from litestream_py.wal.checksum import checksum

WAL_HEADER_SIZE: Final = 32
FRAME_HEADER_SIZE: Final = 24
PAGE_SIZE_MIN: Final = 512
PAGE_SIZE_MAX: Final = 65536

_MAGIC_LITTLE_ENDIAN: Final = 0x377F0682
_MAGIC_BIG_ENDIAN: Final = 0x377F0683
_VERSION: Final = 3007000
_CHECKSUMMED: Final = 24
_HEADER = struct.Struct(">8I")


def is_page_size(page_size: int) -> bool:
    """Return whether SQLite has databases of this page size (bytes)."""
    return PAGE_SIZE_MIN <= page_size <= PAGE_SIZE_MAX and page_size & (page_size - 1) == 0


def frame_offset(frame_no: int, page_size: int) -> int:
    """Return the offset in the file, in bytes, of the frame with this number; the first frame is number 1.

    ``frame_offset(n + 1, page_size)`` is the position behind frame n; for n = 0 that is the end of the header.
    """
    return WAL_HEADER_SIZE + (frame_no - 1) * (FRAME_HEADER_SIZE + page_size)


def frame_count(wal_bytes: int, page_size: int) -> int:
    """Return how many whole frames fit a WAL file of `wal_bytes`, valid or not."""
    return max(0, wal_bytes - WAL_HEADER_SIZE) // (FRAME_HEADER_SIZE + page_size)


@dataclass(frozen=True, slots=True)
class WalHeader:
    """The header of a WAL file.

    big_endian: how the checksum reads words. page_size: bytes. salts: salt-1 and salt-2; they name the generation.
    checksum: the header's own, the seed of the first frame's.
    """

    big_endian: bool
    page_size: int
    checkpoint_seq: int
    salt1: int
    salt2: int
    checksum: tuple[int, int]

    @property
    def salts(self) -> tuple[int, int]:
        """The generation of the WAL: both change whenever it starts again from frame 1."""
        return self.salt1, self.salt2

    @classmethod
    def parse(cls, data: bytes) -> WalHeader:
        """Return the header that the first 32 bytes of `data` hold.

        Raises WalFormatError with the reason wal-header-short, wal-magic, wal-page-size, wal-header-checksum or
        wal-version: the first rule of the module's list that is broken.
        """
        if len(data) < WAL_HEADER_SIZE:
            raise WalFormatError("wal-header-short", f"header of {len(data)} bytes, not {WAL_HEADER_SIZE}")
        magic, version, page_size, checkpoint_seq, salt1, salt2, sum1, sum2 = _HEADER.unpack_from(data)
        if magic not in {_MAGIC_LITTLE_ENDIAN, _MAGIC_BIG_ENDIAN}:
            raise WalFormatError("wal-magic", f"magic {magic:#010x} is not a WAL's", offset=0)
        big_endian = magic == _MAGIC_BIG_ENDIAN
        if not is_page_size(page_size):
            raise WalFormatError("wal-page-size", f"page size {page_size} is impossible", offset=8)
        if checksum(data[:_CHECKSUMMED], big_endian=big_endian) != (sum1, sum2):
            raise WalFormatError("wal-header-checksum", "header checksum does not hold", offset=_CHECKSUMMED)
        if version != _VERSION:
            raise WalFormatError("wal-version", f"version {version}, not {_VERSION}", offset=4)
        return cls(big_endian, page_size, checkpoint_seq, salt1, salt2, (sum1, sum2))
