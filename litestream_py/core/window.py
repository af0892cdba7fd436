"""What a replica can restore, and which TXID a point in time means; pure.

A *range* is a run of restorable TXIDs whose steps are equally fine. A step is as fine as the finest level that still
holds what lies between its two TXIDs: in a range of level 0 every TXID can be restored, in one of level 1 the states at
the ends of L1 files. Where no increments lie between, there is no step: snapshots that stand alone make up ranges of
level 9.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from litestream_py.core.levels import LevelConfig
from litestream_py.core.listing import NONE_DAMAGED, is_base, is_sound
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import plan_restore, restorable_txids
from litestream_py.errors import TargetError
from litestream_py.ltx.ids import LEVEL_MAX, SNAPSHOT_LEVEL, TXID, FileName

TimestampOf = Callable[[FileInfo], int]
"""Returns the timestamp of a file's newest change, Unix ms."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RestoreRange:
    """Restorable TXIDs from `oldest` to `newest`, both included, in steps of `level` (0: each TXID).

    oldest_ms, newest_ms: their timestamps, Unix ms. points: how many there are. files, bytes: what is stored of them:
    the files of all levels that end in the range.
    """

    level: int
    oldest: TXID
    newest: TXID
    oldest_ms: int
    newest_ms: int
    points: int
    files: int
    bytes: int


def listed_time(info: FileInfo) -> int:
    """Return the time that the listing shows of a file: exact for a file replica, that of the upload on S3."""
    return info.created_ms


def restore_window(
    listing: Sequence[FileInfo],
    *,
    damaged: Collection[FileName] = NONE_DAMAGED,
    timestamp_of: TimestampOf = listed_time,
) -> tuple[RestoreRange, ...]:
    """Return what can be restored, oldest range first; nothing if nothing can be.

    timestamp_of is asked for the two ends of each range.
    """
    points = restorable_txids(listing, damaged=damaged)
    if not points:
        return ()
    sound = [info for info in listing if is_sound(info, damaged)]
    finest = finest_ends(sound)
    steps = _Steps(sound)
    fineness = [steps.level(before, after) for before, after in pairwise(points)]
    levels: list[int] = []
    cuts: list[int] = []
    for at in range(len(points)):
        into = fineness[at - 1] if at else None
        level = into if into is not None else fineness[at] if at < len(fineness) else None
        levels.append(SNAPSHOT_LEVEL if level is None else level)
        if at == 0 or levels[at] != levels[at - 1] or (into is None and levels[at] != SNAPSHOT_LEVEL):
            cuts.append(at)
    ends = sorted((info.name.max_txid, info.size) for info in sound)
    ranges = []
    for first, behind in pairwise([*cuts, len(points)]):
        oldest, newest = points[first], points[behind - 1]
        inside = ends[bisect_left(ends, (oldest, -1)) : bisect_left(ends, (newest.next(), -1))]
        ranges.append(
            RestoreRange(
                level=levels[first],
                oldest=oldest,
                newest=newest,
                oldest_ms=timestamp_of(finest[oldest]),
                newest_ms=timestamp_of(finest[newest]),
                points=behind - first,
                files=len(inside),
                bytes=sum(size for _, size in inside),
            )
        )
    return tuple(ranges)


def choose_txid(
    listing: Sequence[FileInfo],
    target_ms: int,
    timestamp_of: TimestampOf,
    *,
    damaged: Collection[FileName] = NONE_DAMAGED,
    source: str = "replica",
) -> TXID:
    """Return the TXID that holds the state at `target_ms`: the last restorable one with a timestamp before it.

    timestamp_of is asked some log2(n) times, for the finest file that ends at a TXID: a snapshot tells when it was
    taken, not when the change was made. Where the clock once ran backwards, the TXID returned is before the target and
    the next one is not.

    Raises:
        TargetError: no restorable state is older; the words name what can be restored.
        NothingToRestoreError, ChainGapError, DamagedFileError: nothing can be restored, or the state at the target lies
            behind a gap or a damaged file: never the state in front of it instead.
    """
    points = restorable_txids(listing, damaged=damaged)
    if not points:
        return plan_restore(listing, None, damaged=damaged, source=source).max_txid
    finest = finest_ends(listing) | finest_ends([info for info in listing if is_sound(info, damaged)])
    low, high = 0, len(points)
    while low < high:
        middle = (low + high) // 2
        if timestamp_of(finest[points[middle]]) < target_ms:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        ranges = restore_window(listing, damaged=damaged, timestamp_of=timestamp_of)
        cause = f"nothing is as old as {stamp(target_ms)}; {describe_window(ranges)}"
        raise TargetError("restore", source, cause, hint=f"give a time after {stamp(ranges[0].oldest_ms)}")
    chosen, behind = points[low - 1], points[low : low + 1]
    if behind and _Steps([i for i in listing if is_sound(i, damaged)]).level(chosen, behind[0]) is not None:
        return chosen
    lost = [end for end in finest if end > chosen and (not behind or end < behind[0])]
    if lost and timestamp_of(finest[min(lost)]) < target_ms:
        plan_restore(listing, min(lost), damaged=damaged, source=source)
    return chosen


def finest_ends(listing: Sequence[FileInfo]) -> dict[TXID, FileInfo]:
    """Return, for each TXID at which a file ends, the one of the lowest level (its timestamp is that of the change)."""
    return {info.name.max_txid: info for info in sorted(listing, key=lambda info: info.name, reverse=True)}


def describe_steps(level: int, levels: Sequence[LevelConfig] = ()) -> str:
    """Return in words how fine the steps of a range are; `levels` adds the configured intervals."""
    if level == 0:
        return "every transaction"
    if level == SNAPSHOT_LEVEL:
        return "snapshots only"
    interval = next((f", made every {item.interval_s:g} s" for item in levels if item.number == level), "")
    return f"steps of level {level}{interval}"


def describe_window(ranges: Sequence[RestoreRange], levels: Sequence[LevelConfig] = ()) -> str:
    """Return in words what can be restored."""
    if not ranges:
        return "nothing can be restored"
    parts = [
        f"{stamp(part.oldest_ms)} ({part.oldest}) to {stamp(part.newest_ms)} ({part.newest}): "
        f"{describe_steps(part.level, levels)}"
        for part in ranges
    ]
    return f"can be restored: {'; '.join(parts)}"


def stamp(at_ms: int) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Steps:
    """What the increments of each level hold.

    The file that ends at a restorable TXID continues a chain that ends at one before it, so it holds the whole step
    between them: the step is of one level, the finest that holds it.
    """

    def __init__(self, sound: Sequence[FileInfo]) -> None:
        increments = sorted((info for info in sound if not is_base(info)), key=lambda info: info.name.min_txid)
        self._levels = [_merge([i for i in increments if i.name.level == n]) for n in range(LEVEL_MAX + 1)]

    def level(self, before: TXID, after: TXID) -> int | None:
        """Return the finest level that holds all that lies between two TXIDs; None if none does."""
        held = (n for n, intervals in enumerate(self._levels) if _inside(intervals, before + 1, after))
        return next(held, None)


def _merge(increments: Sequence[FileInfo]) -> list[tuple[int, int]]:
    """Return the intervals that files, ascending by min TXID, hold together."""
    merged: list[tuple[int, int]] = []
    for info in increments:
        low, high = int(info.name.min_txid), int(info.name.max_txid)
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def _inside(intervals: Sequence[tuple[int, int]], low: int, high: int) -> bool:
    at = bisect_right(intervals, low, key=lambda interval: interval[0])
    return at > 0 and intervals[at - 1][1] >= high
