"""`pages.crc`: one LTX page checksum per page of the database, as of one TXID.

All little-endian:

| offset | size | field                                            |
|--------|------|--------------------------------------------------|
| 0      | 8    | magic `LSYNPCRC`                                 |
| 8      | 4    | version, 1                                       |
| 12     | 4    | page size, bytes                                 |
| 16     | 4    | commit: database size, pages                     |
| 20     | 4    | zero                                             |
| 24     | 8    | TXID                                             |
| 32     | 8    | CRC-64/ISO of bytes 0 to 31                      |
| 40     | 24   | zero                                             |
| 64     | 8·n  | checksum of page 1, 2, ... commit (lock page: 0) |

The array is valid if the XOR of its entries, top bit set, is the database checksum (`LSYN` after) of that TXID. Entries
are written before the header; neither is fsynced. So after a process crash some entries may be those of the next TXID,
whose L0 file is durable already: applying that file again is idempotent. After a power failure the XOR tells whether it
is whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from litestream_py.core.oserrors import os_errors
from litestream_py.ltx.checksum import CHECKSUM_FLAG, crc64
from litestream_py.ltx.ids import TXID

MAGIC: Final = b"LSYNPCRC"
HEADER_SIZE: Final = 64
_FIELDS: Final = struct.Struct("<8sIIIIQ")
_BLOCK_ENTRIES: Final = 8192

Sums = npt.NDArray[np.uint64]


def xor_sums(sums: npt.NDArray[Any]) -> int:
    """Return the XOR of page checksums, top bit set: a database checksum."""
    return int(np.bitwise_xor.reduce(sums.astype(np.uint64, copy=False), initial=np.uint64(0))) | CHECKSUM_FLAG


class PageSums:
    """The open `pages.crc`; page numbers count from 1."""

    def __init__(self, path: Path, fd: int, page_size: int, commit: int, txid: TXID) -> None:
        self._path = path
        self._fd = fd
        self.page_size = page_size
        self.commit = commit
        self.txid = txid

    @classmethod
    def create(cls, path: Path, page_size: int) -> PageSums:
        """Create an empty array; it has no TXID, and is not valid, until `stamp`."""
        with os_errors("create", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        return cls(path, fd, page_size, 0, TXID(0))

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> PageSums | None:
        """Open an existing array; None where it is absent, cut or its header damaged."""
        with os_errors("open", path):
            try:
                fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            head = os.pread(fd, HEADER_SIZE, 0)
            size = os.fstat(fd).st_size
        if len(head) == HEADER_SIZE:
            magic, version, page_size, commit, _, txid = _FIELDS.unpack_from(head)
            (crc,) = struct.unpack_from("<Q", head, _FIELDS.size)
            whole = size >= HEADER_SIZE + 8 * commit
            if magic == MAGIC and version == 1 and crc == crc64(head[: _FIELDS.size]) and whole:
                return cls(path, fd, page_size, commit, TXID(txid))
        os.close(fd)
        return None

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Close the file and remove it."""
        self.close()
        with os_errors("remove", self._path):
            self._path.unlink(missing_ok=True)

    def read_range(self, first: int, count: int) -> Sums:
        """Return the checksums of `count` pages from page `first`; pages beyond the file read as 0."""
        with os_errors("read", self._path):
            data = os.pread(self._fd, 8 * count, HEADER_SIZE + 8 * (first - 1))
        sums = np.zeros(count, np.uint64)
        sums[: len(data) // 8] = np.frombuffer(data[: len(data) // 8 * 8], "<u8")
        return sums

    def write_range(self, first: int, sums: Sums) -> None:
        """Store checksums from page `first` on."""
        with os_errors("write", self._path):
            self._write_all(sums.astype("<u8").tobytes(), HEADER_SIZE + 8 * (first - 1))

    def read(self, pgnos: npt.NDArray[Any]) -> Sums:
        """Return the checksums of these pages (ascending page numbers)."""
        result = np.empty(len(pgnos), np.uint64)
        for low, high, first, count in _blocks(pgnos):
            result[low:high] = self.read_range(first, count)[pgnos[low:high].astype(np.int64) - first]
        return result

    def write(self, pgnos: npt.NDArray[Any], sums: Sums) -> None:
        """Store the checksums of these pages (ascending page numbers)."""
        for low, high, first, count in _blocks(pgnos):
            block = self.read_range(first, count)
            block[pgnos[low:high].astype(np.int64) - first] = sums[low:high]
            self.write_range(first, block)

    def stamp(self, txid: TXID, commit: int) -> None:
        """Declare the array to be that of `txid`, `commit` pages long; entries beyond are cut off."""
        head = _FIELDS.pack(MAGIC, 1, self.page_size, commit, 0, txid)
        head += struct.pack("<Q", crc64(head))
        with os_errors("write", self._path):
            self._write_all(head.ljust(HEADER_SIZE, b"\0"), 0)
            # After the header: a crash in between leaves entries too many, which the header says, not entries too few.
            if commit < self.commit:
                os.ftruncate(self._fd, HEADER_SIZE + 8 * commit)
        self.txid, self.commit = txid, commit

    def _write_all(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:  # a disk that fills up takes a part before it refuses the rest
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    def checksum(self, first: int = 1, last: int | None = None) -> int:
        """Return the XOR of the checksums of pages first to last (default: all), top bit set."""
        total = 0
        end = self.commit if last is None else last
        for start in range(first, end + 1, _BLOCK_ENTRIES):
            total ^= xor_sums(self.read_range(start, min(_BLOCK_ENTRIES, end + 1 - start)))
        return total | CHECKSUM_FLAG

    def replace_into(self, path: Path) -> None:
        """Rename the file over another one, whose array it supersedes."""
        with os_errors("rename", self._path):
            self._path.replace(path)
        self._path = path


def _blocks(pgnos: npt.NDArray[Any]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (low, high, first page, entries) so that pgnos[low:high] lie in one stretch of at most a block."""
    low = 0
    while low < len(pgnos):
        first = int(pgnos[low])
        high = int(np.searchsorted(pgnos, first + _BLOCK_ENTRIES))
        yield low, high, first, int(pgnos[high - 1]) - first + 1
        low = high
