"""Listings of replicas, written and read in short: `1:2-30` is the file of level 1 that holds TXIDs 2 to 30."""

from __future__ import annotations

from collections.abc import Iterable

from litestream_py.core.ports import FileInfo
from litestream_py.ltx.ids import TXID, FileName


def name(short: str) -> FileName:
    """Return the name that "level:min-max" or "level:txid" stands for."""
    level, _, txids = short.partition(":")
    low, _, high = txids.partition("-")
    return FileName(int(level), TXID(int(low)), TXID(int(high or low)))


def file(short: str, *, at_ms: int = 0, size: int = 1000) -> FileInfo:
    """Return a file as a listing shows it."""
    return FileInfo(name(short), size, at_ms)


def files(shorts: str, *, at_ms: int = 0) -> list[FileInfo]:
    """Return the files of a list in short, all of one time."""
    return [file(short, at_ms=at_ms) for short in shorts.split()]


def short(what: FileInfo | FileName) -> str:
    """Return the short form of a file; a single TXID is written once."""
    found = what.name if isinstance(what, FileInfo) else what
    low, high = int(found.min_txid), int(found.max_txid)
    return f"{found.level}:{low}" if low == high else f"{found.level}:{low}-{high}"


def shorts(found: Iterable[FileInfo | FileName]) -> str:
    """Return the short forms in the order given."""
    return " ".join(short(item) for item in found)
