"""The database as its page checksums, brought forward file by file: what proves a chain without keeping a page; pure.

1. A file that begins at or behind the TXID that follows, and ends behind it, is *applied*: the state moves to its end.
2. A file that ends where the state is (another level's, a snapshot) is *compared*: its pages must be those of the
   state, its size the same, and it must hold every page that is known to have changed since its first TXID.
3. Either way the database checksums that it carries must be those of the states before and behind it.
4. Growth: an applied file holds every page that the database grew over since the smallest size within its TXIDs.

A file that breaks a rule changes nothing. Memory: 12 bytes for each page of the database.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checks import check_checksums, check_growth
from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from litestream_py.ltx.ids import FileName
    from litestream_py.ltx.records import Header, Trailer


@dataclass(frozen=True, slots=True, eq=False)
class FilePages:
    """A decoded file without its pages: their numbers (ascending) and checksums."""

    name: FileName
    header: Header
    trailer: Trailer
    pgnos: NDArray[np.uint32]
    sums: NDArray[np.uint64]


class PageState:
    """The state at `txid` (0: no database yet): its size in pages, its checksum, and that of each page."""

    def __init__(self) -> None:
        self.txid = TXID(0)
        self.page_size = 0
        self.commit = 0
        self.checksum = CHECKSUM_FLAG
        self.checksums: dict[int, int] = {}
        """The checksum of every state so far, by TXID."""
        self._sums = np.zeros(1, np.uint64)
        self._changed_by = np.zeros(1, np.uint32)
        self._first_txids: list[int] = [0]
        self._lowest: list[tuple[int, int]] = []

    def continues(self, name: FileName) -> bool:
        """Tell whether a file of this name can be applied."""
        return name.min_txid <= self.txid + 1 and name.max_txid > self.txid

    def page_sums(self, first: int, count: int) -> NDArray[np.uint64]:
        """Return the checksums of `count` pages from page `first`; the lock page's is 0."""
        return self._sums[first : first + count]

    def apply(self, file: FilePages) -> None:
        """Move the state to the end of a file that continues it; raises LtxFormatError, and nothing has changed."""
        header = file.header
        base = file.name.min_txid == 1
        if not base:
            self._check_page_size(header)
            check_growth(header, _numbers(file.pgnos), self._lowest_commit(file.name.min_txid - 1))
        checksum = _xor(file.sums) if base else self._checksum_after(file)
        before = None if base else self.checksums.get(file.name.min_txid - 1)
        check_checksums(header, file.trailer, before=before, after=checksum | CHECKSUM_FLAG)
        self._resize(header.commit)
        if base:
            self._sums[:] = 0
        self._sums[file.pgnos] = file.sums
        self._changed_by[file.pgnos] = len(self._first_txids)
        self._first_txids.append(file.name.min_txid)
        self.txid, self.page_size, self.commit = file.name.max_txid, header.page_size, header.commit
        self.checksum = checksum | CHECKSUM_FLAG
        self.checksums[self.txid] = self.checksum
        while self._lowest and self._lowest[-1][1] >= self.commit:
            self._lowest.pop()
        self._lowest.append((self.txid, self.commit))

    def compare(self, file: FilePages) -> None:
        """Check a file that ends where the state is; raises LtxFormatError."""
        header = file.header
        self._check_page_size(header)
        if header.commit != self.commit:
            raise LtxFormatError("commit-differs", f"{header.commit} pages; by other files there are {self.commit}")
        differs = np.flatnonzero(self._sums[file.pgnos] != file.sums)
        if len(differs):
            pgno = int(file.pgnos[differs[0]])
            raise LtxFormatError("page-differs", f"page {pgno} is not what other files make of it at {self.txid}")
        left_out = np.setdiff1d(self._changed_since(file.name.min_txid), file.pgnos, assume_unique=True)
        if len(left_out):
            raise LtxFormatError("page-left-out", f"page {int(left_out[0])} changed in its TXIDs, and is not in it")
        before = self.checksums.get(file.name.min_txid - 1)
        check_checksums(header, file.trailer, before=before, after=self.checksum)

    def _check_page_size(self, header: Header) -> None:
        if self.txid and header.page_size != self.page_size:
            raise LtxFormatError("page-size-differs", f"pages of {header.page_size} bytes, before {self.page_size}")

    def _lowest_commit(self, txid: int) -> int:
        """Return the smallest size in pages of the states from `txid` on; of the present one if `txid` is newer."""
        at = bisect_left(self._lowest, (txid, 0))
        return self._lowest[at][1] if at < len(self._lowest) else self.commit

    def _checksum_after(self, file: FilePages) -> int:
        commit = file.header.commit
        known = file.pgnos[: int(np.searchsorted(file.pgnos, self.commit, side="right"))]
        dropped = self._sums[commit + 1 : self.commit + 1]
        return (self.checksum & ~CHECKSUM_FLAG) ^ _xor(self._sums[known]) ^ _xor(dropped) ^ _xor(file.sums)

    def _resize(self, commit: int) -> None:
        length = len(self._sums)
        if commit >= length:
            room = np.zeros(max(commit + 1, min(length * 5 // 4, length + (1 << 20))), np.uint64)
            room[:length] = self._sums
            self._sums = room
            changed = np.zeros(len(room), np.uint32)
            changed[:length] = self._changed_by
            self._changed_by = changed
        self._sums[commit + 1 : self.commit + 1] = 0
        self._changed_by[commit + 1 : self.commit + 1] = 0

    def _changed_since(self, txid: int) -> NDArray[np.int64]:
        """Return the pages that were last changed by files that hold nothing before `txid`."""
        at = len(self._first_txids)
        while self._first_txids[at - 1] >= txid:
            at -= 1
        return np.flatnonzero(self._changed_by[: self.commit + 1] >= at)


def _numbers(pgnos: NDArray[np.uint32]) -> Sequence[int]:
    return pgnos  # type: ignore[return-value]  # bisect and len are all that is asked of it


def _xor(sums: NDArray[np.uint64]) -> int:
    """Return the XOR without the flag bit, which depends on the number of pages alone."""
    return int(np.bitwise_xor.reduce(sums, initial=np.uint64(0))) & ~CHECKSUM_FLAG
