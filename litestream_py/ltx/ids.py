"""TXIDs, LTX file names and the lock page: the small nouns that every layer shares.

A TXID numbers one sync, which may hold several SQLite transactions. It is a positive 64-bit integer, printed as 16
lower-case hex digits wherever a human or another program reads it. A file is named after the inclusive TXID range that
it holds: ``<min>-<max>.ltx``, so that names sort in TXID order.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TXID_MAX: Final = (1 << 64) - 1
LEVEL_MAX: Final = 9
SNAPSHOT_LEVEL: Final = 9
PENDING_BYTE: Final = 0x40000000
"""Offset of the byte SQLite locks; the page that holds it never holds data (SQLite file format, section 1.7)."""

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx", re.ASCII)
_TXID = re.compile(r"[0-9a-fA-F]{16}", re.ASCII)


class TXID(int):
    """A transaction ID; `str()` and f-strings print 16 hex digits."""

    def __str__(self) -> str:
        return f"{int(self):016x}"

    def __repr__(self) -> str:
        return f"TXID({self})"

    def next(self) -> TXID:
        """Return the TXID that follows."""
        return TXID(self + 1)

    @classmethod
    def parse(cls, text: str) -> TXID:
        """Return the TXID that 16 hex digits spell; raises ValueError for anything else, zero included."""
        if not _TXID.fullmatch(text) or int(text, 16) == 0:
            raise ValueError(f"{text!r} is not a TXID: 16 hex digits, at least {TXID(1)}")
        return cls(int(text, 16))


class FileName(NamedTuple):
    """Where an LTX file stands in a replica: its level and its inclusive TXID range."""

    level: int
    min_txid: TXID
    max_txid: TXID

    @property
    def name(self) -> str:
        """The bare file name, ``<min>-<max>.ltx``."""
        return f"{self.min_txid}-{self.max_txid}.ltx"

    def __str__(self) -> str:
        return f"{self.level}/{self.name}"


def parse_file_name(level: int, name: str) -> FileName | None:
    """Return what a file's name says; None if it is not an LTX file's name (reversed or zero TXIDs included)."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    low, high = int(match[1], 16), int(match[2], 16)
    return FileName(level, TXID(low), TXID(high)) if 0 < low <= high else None


def lock_pgno(page_size: int) -> int:
    """Return the number of the lock page, which no LTX file holds and a restored database has as zeros."""
    return PENDING_BYTE // page_size + 1
