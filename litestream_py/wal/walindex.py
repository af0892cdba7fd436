"""The header of the wal-index, the first 136 bytes of the ``-shm`` file. Numbers in the machine's byte order.

| offset | size | field |
|---|---|---|
| 0 | 48 | header, first copy |
| 48 | 48 | header, second copy |
| 96 | 4 | nBackfill: frames copied into the database file |
| 100 | 20 | read marks of slots 0 to 4; 0xffffffff: never used |
| 120 | 8 | locks: write, checkpoint, recover, read slots 0 to 4; only ever locked, never read or written |
| 128 | 4 | nBackfillAttempted: frames that a checkpoint has begun to copy |
| 132 | 4 | unused |

Each copy of the header:

| offset | size | field |
|---|---|---|
| 0 | 4 | version: 3007000 |
| 4 | 4 | unused |
| 8 | 4 | change counter, one more with each transaction |
| 12 | 1 | 1 once the wal-index is in use |
| 13 | 1 | 1 if the WAL's checksums read words as big-endian |
| 14 | 2 | page size in bytes, 1 meaning 65536 |
| 16 | 4 | mxFrame: number of the last committed frame |
| 20 | 4 | size of the database in pages |
| 24 | 8 | running checksum of frame mxFrame |
| 32 | 8 | salt-1, salt-2: copied from the WAL header, so big-endian |
| 40 | 8 | checksum of bytes 0 to 39, words in the machine's byte order, seed (0, 0) |

A reader that holds no lock may take what it read if (1) all 136 bytes are there, (2) both copies are the same, (3) the
wal-index is in use, (4) the checksum holds; else a writer was at work, and it reads again. The checksum does not cover
nBackfill, the read marks and nBackfillAttempted: they move on their own, and each is only as true as its instant. A
restart of the WAL writes its new salts here first, with mxFrame 0; the header of the WAL file follows with the next
frame. Before the first frame of a new WAL the salts are zeros.

Source: https://sqlite.org/walformat.html section 2.1.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import Final

from litestream_py.errors import WalFormatError
from litestream_py.wal.checksum import checksum

WAL_INDEX_HEADER_SIZE: Final = 136
READ_MARK_UNUSED: Final = 0xFFFFFFFF

_COPY_SIZE: Final = 48
_CHECKSUMMED: Final = 40
_VERSION: Final = 3007000
_IN_USE = 12
_COPY = struct.Struct("=I4xIBBHIIII")
_SALTS = struct.Struct(">II")
_CHECKSUM = struct.Struct("=II")
_CHECKPOINT_INFO = struct.Struct("=I5I8xI")


@dataclass(frozen=True, slots=True)
class WalIndex:
    """What the wal-index said at one instant.

    mx_frame: number of the last committed frame, 0 for an empty WAL. n_page: size of the database in pages. page_size:
    bytes. salts: comparable with `WalHeader.salts`. frame_checksum: running checksum of frame mx_frame. change: counts
    transactions, modulo 2**32. n_backfill: frames copied into the database file. read_marks: of slots 0 to 4.
    """

    change: int
    big_endian: bool
    page_size: int
    mx_frame: int
    n_page: int
    frame_checksum: tuple[int, int]
    salts: tuple[int, int]
    n_backfill: int
    read_marks: tuple[int, int, int, int, int]
    n_backfill_attempted: int

    @property
    def wal_reset_bug_struck(self) -> bool:
        """Whether more frames count as copied than exist: the mark that SQLite's WAL-reset bug leaves.

        Proof only if the salts are the same before and after: a restart writes the two numbers one after the other.
        """
        return self.n_backfill > self.mx_frame > 0

    @classmethod
    def parse(cls, data: bytes) -> WalIndex | None:
        """Return what the first 136 bytes of a ``-shm`` file say, or None if they must be read again.

        None: too short, the two copies differ, not in use, or the checksum does not hold. Raises WalFormatError with
        the reason wal-index-version if a sound header is of another version: reading again would not help.
        """
        first = data[:_COPY_SIZE]
        if len(data) < WAL_INDEX_HEADER_SIZE or first != data[_COPY_SIZE : 2 * _COPY_SIZE] or not first[_IN_USE]:
            return None
        own_checksum = _CHECKSUM.unpack_from(data, _CHECKSUMMED)
        if checksum(first[:_CHECKSUMMED], big_endian=sys.byteorder == "big") != own_checksum:
            return None
        version, change, _, big_endian, page_size, mx_frame, n_page, sum1, sum2 = _COPY.unpack_from(data)
        if version != _VERSION:
            raise WalFormatError("wal-index-version", f"wal-index version {version}, not {_VERSION}", offset=0)
        salt1, salt2 = _SALTS.unpack_from(data, 32)
        n_backfill, mark0, mark1, mark2, mark3, mark4, attempted = _CHECKPOINT_INFO.unpack_from(data, 96)
        return cls(
            change=change,
            big_endian=bool(big_endian),
            page_size=65536 if page_size == 1 else page_size,
            mx_frame=mx_frame,
            n_page=n_page,
            frame_checksum=(sum1, sum2),
            salts=(salt1, salt2),
            n_backfill=n_backfill,
            read_marks=(mark0, mark1, mark2, mark3, mark4),
            n_backfill_attempted=attempted,
        )
