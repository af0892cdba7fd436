"""What a replica can restore, from when to when and how finely, and what that takes to store.

Read from one listing and the timestamps of a few files: the ends of each range, and the snapshots.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from litestream_py.core.levels import LevelConfig
from litestream_py.core.listing import is_base, is_sound
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import plan_restore
from litestream_py.core.window import RestoreRange, TimestampOf, describe_steps, restore_window, stamp
from litestream_py.engine.fetch import PARALLELISM_DEFAULT
from litestream_py.engine.moment import ask
from litestream_py.engine.pool import Pool
from litestream_py.errors import CorruptError
from litestream_py.ltx.ids import TXID, FileName


@dataclass(frozen=True, slots=True)
class LevelSize:
    """What one level holds, damaged files included: number of files, bytes, and the TXIDs at its two ends."""

    level: int
    files: int
    bytes: int
    min_txid: TXID
    max_txid: TXID


@dataclass(frozen=True, slots=True)
class SnapshotTime:
    """A file that holds every page at its max TXID, of several the one of the highest level.

    timestamp_ms: Unix milliseconds, as its header says.
    """

    info: FileInfo
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class History:
    """Ranges and snapshots are oldest first. problem: why the newest TXID cannot be restored, if it cannot."""

    url: str
    ranges: tuple[RestoreRange, ...]
    levels: tuple[LevelSize, ...]
    snapshots: tuple[SnapshotTime, ...]
    problem: CorruptError | None

    @property
    def files(self) -> int:
        """Number of all files."""
        return sum(level.files for level in self.levels)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(level.bytes for level in self.levels)

    def to_json(self, levels: Sequence[LevelConfig] = ()) -> dict[str, Any]:
        """Return it for JSON: TXIDs as 16 hex digits, times as RFC 3339, sizes in bytes."""
        return {
            "replica": self.url,
            "restorable": [
                {
                    "from": stamp(part.oldest_ms),
                    "to": stamp(part.newest_ms),
                    "min_txid": str(part.oldest),
                    "max_txid": str(part.newest),
                    "level": part.level,
                    "steps": describe_steps(part.level, levels),
                    "points": part.points,
                }
                for part in self.ranges
            ],
            "levels": [
                {
                    "level": level.level,
                    "files": level.files,
                    "size": level.bytes,
                    "min_txid": str(level.min_txid),
                    "max_txid": str(level.max_txid),
                }
                for level in self.levels
            ],
            "snapshots": [
                {
                    "txid": str(item.info.name.max_txid),
                    "timestamp": stamp(item.timestamp_ms),
                    "level": item.info.name.level,
                    "size": item.info.size,
                }
                for item in self.snapshots
            ],
            "files": self.files,
            "size": self.bytes,
            "problem": None if self.problem is None else str(self.problem),
        }


def read_history(client: ReplicaClient) -> History:
    """Return what a replica holds.

    Raises NothingToRestoreError for an empty one, ChainGapError or DamagedFileError if nothing at all can be restored,
    and what the client raises.
    """

    def look(
        listing: list[FileInfo], lookup: TimestampOf, damaged: Collection[FileName]
    ) -> tuple[tuple[RestoreRange, ...], tuple[SnapshotTime, ...]]:
        found = sorted((i for i in listing if is_base(i) and is_sound(i, damaged)), key=lambda info: info.name)
        bases = sorted({i.name.max_txid: i for i in found}.values(), key=lambda info: info.name.max_txid)
        with Pool(PARALLELISM_DEFAULT, "timestamps") as pool:
            asked = [(info, pool.submit(partial(lookup, info))) for info in bases]
            snapshots = tuple(SnapshotTime(info, future.result()) for info, future in asked)
        return restore_window(listing, damaged=damaged, timestamp_of=lookup), snapshots

    listing, damaged, (ranges, snapshots) = ask(client, look)
    problem: CorruptError | None = None
    try:
        plan_restore(listing, None, damaged=damaged, source=client.url)
    except CorruptError as error:
        if not ranges:
            raise
        problem = error
    return History(client.url, ranges, _sizes(listing), snapshots, problem)


def _sizes(listing: Sequence[FileInfo]) -> tuple[LevelSize, ...]:
    sizes = []
    for number in sorted({info.name.level for info in listing}):
        files = [info for info in listing if info.name.level == number]
        sizes.append(
            LevelSize(
                level=number,
                files=len(files),
                bytes=sum(info.size for info in files),
                min_txid=min(info.name.min_txid for info in files),
                max_txid=max(info.name.max_txid for info in files),
            )
        )
    return tuple(sizes)
