"""What the planners ask of a replica's listing: which files can be used at all, and which are bases."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import FILE_SIZE_MIN
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, FileName

NONE_DAMAGED: Final[frozenset[FileName]] = frozenset()


def is_sound(info: FileInfo, damaged: Collection[FileName]) -> bool:
    """Return whether a file may hold what its name says: long enough for LTX, and not known to be damaged."""
    return info.size >= FILE_SIZE_MIN and info.name not in damaged


def is_base(info: FileInfo) -> bool:
    """Return whether a file holds every page: only a min TXID of 1 says so, the level does not."""
    return info.name.min_txid == 1


def bases_at_snapshot_level(
    listing: Iterable[FileInfo], damaged: Collection[FileName] = NONE_DAMAGED
) -> list[FileInfo]:
    """Return the sound bases of level 9, ascending by max TXID."""
    found = [i for i in listing if i.name.level == SNAPSHOT_LEVEL and is_base(i) and is_sound(i, damaged)]
    return sorted(found, key=lambda info: info.name.max_txid)
