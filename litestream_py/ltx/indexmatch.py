"""Compares an arriving page index with the frames seen, byte by byte, and names the rule where it differs.

There is one right index for given frames (rules 30 to 37), so it is made again, piece by piece, and compared. Only when
a byte differs is anything parsed. Memory: one piece of the index (some 40 KiB) and 30 bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.index import PIECE_ENTRIES, encode_index
from litestream_py.ltx.records import HEADER_SIZE
from litestream_py.ltx.uvarint import UVARINT_SIZE_MAX, read_uvarint

if TYPE_CHECKING:
    from array import array

ENTRY_SIZE_MAX: Final = 3 * UVARINT_SIZE_MAX


class IndexMatcher:
    """Takes the bytes behind the end marker, until `done`.

    pgnos, sizes: the frames seen, in file order, sizes in bytes; not to be changed meanwhile.
    """

    def __init__(self, pgnos: array[int], sizes: array[int], offset: int) -> None:
        self.size = 0
        """Bytes matched so far."""
        self.done = False
        self._pgnos = pgnos
        self._sizes = sizes
        self._offset = offset
        self._pieces = encode_index(pgnos, sizes)
        self._due = next(self._pieces)
        self._at = 0
        self._entry = 0
        self._frame_offset = 0
        self._suspect: bytearray | None = None

    def feed(self, view: memoryview, pos: int) -> int:
        """Return the position behind the last byte of the index in `view`; its end if there is more to come.

        Raises LtxFormatError with one of the reasons of rules 30 to 37.
        """
        while pos < len(view) and not self.done:
            if self._suspect is not None:
                self._suspect += view[pos : pos + ENTRY_SIZE_MAX]
                if len(self._suspect) >= ENTRY_SIZE_MAX:
                    raise self._difference(self._suspect)
                return len(view)
            due = self._due[self._at : self._at + len(view) - pos]
            got = bytes(view[pos : pos + len(due)])
            if got != due:
                start = self._find_entry(self._at + _common(got, due))
                self._suspect = bytearray(self._due[start : self._at])
                pos += max(0, start - self._at)
                continue
            self._at += len(due)
            self.size += len(due)
            pos += len(due)
            if self._at == len(self._due):
                self._next_piece()
        return pos

    def end(self) -> LtxFormatError | None:
        """Return what is wrong if the file ends here although an entry that differs has not been read to its end."""
        return None if self._suspect is None else self._difference(self._suspect)

    def _next_piece(self) -> None:
        self._entry = min(self._entry + PIECE_ENTRIES, len(self._pgnos))
        self._due = next(self._pieces, b"")
        self._at = 0
        self.done = not self._due

    def _find_entry(self, at: int) -> int:
        """Advance `_entry` from the piece's first to the one that holds the piece's byte `at`; return its start."""
        start = pos = 0
        while self._entry < len(self._pgnos):
            for _ in range(3):
                while self._due[pos] >= 0x80:
                    pos += 1
                pos += 1
            if at < pos:
                break
            start = pos
            self._entry += 1
        self._frame_offset = HEADER_SIZE + sum(self._sizes[: self._entry])
        return start

    def _difference(self, data: bytearray) -> LtxFormatError:
        """Name the rule that the entry in `data`, which is not the one due, breaks."""
        try:
            return self._compare(data)
        except LtxFormatError as error:
            return error

    def _compare(self, data: bytearray) -> LtxFormatError:
        at = self._offset + self.size
        cut = LtxFormatError("truncated", "the file ends in the page index", offset=at + len(data))
        parsed = read_uvarint(data, 0)
        if parsed is None:
            return cut
        pgno, pos = parsed
        due = self._pgnos[self._entry] if self._entry < len(self._pgnos) else 0
        if pgno != due:
            return self._wrong_page(pgno, due, at)
        for reason, what, value in (
            ("index-offset-wrong", "offset", self._frame_offset),
            ("index-size-wrong", "size", self._sizes[self._entry]),
        ):
            parsed = read_uvarint(data, pos)
            if parsed is None:
                return cut
            if parsed[0] != value:
                return LtxFormatError(reason, f"index: page {pgno} has {what} {value}, not {parsed[0]}", offset=at)
            pos = parsed[1]
        raise AssertionError("an index entry that differs in no field")

    def _wrong_page(self, pgno: int, due: int, at: int) -> LtxFormatError:
        """Name what it means that the index lists page `pgno` where `due` (0: the end) belongs."""
        if pgno >> 32:
            return LtxFormatError("index-page-number-over-32-bit", f"the index lists page {pgno}", offset=at)
        if pgno == 0:
            return LtxFormatError("index-entry-missing", f"the index ends where page {due} is due", offset=at)
        if self._entry and pgno <= self._pgnos[self._entry - 1]:
            return LtxFormatError("index-out-of-order", f"the index lists page {pgno} late or twice", offset=at)
        found = bisect_left(self._pgnos, pgno)
        if found < len(self._pgnos) and self._pgnos[found] == pgno:
            return LtxFormatError("index-entry-missing", f"the index lists page {pgno}, not {due} first", offset=at)
        return LtxFormatError("index-entry-extra", f"the index lists page {pgno}, which has no frame", offset=at)


def _common(left: bytes, right: bytes) -> int:
    """Count the bytes in which two strings agree, from the start."""
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
