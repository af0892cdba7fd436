"""`plan_compaction`: which files of a level become one file of the next, and when a level or a snapshot is due; pure.

Rules, so that lsync and Litestream can each restore, compact and continue what the other left:

1. Inputs are whole files of the level below, in TXID order, that begin behind the newest TXID of the level; the output
   holds exactly their range. So nothing comes into L1 that L0 did not have, and no level reaches beyond L0.
2. A base (min TXID 1) is never an input: a whole database would be written again at every level. A level begins behind
   the base instead, and the base must be at L9 by then, because Litestream's retention deletes every L0 file up to the
   end of L1 without looking at what covers it. Where it is not, the plan says what to copy there first (`needs_base`).
3. Each input begins where the one before it ended. TXIDs that are missing, or that two files claim, are an error that
   names them (two writers, a deleted or damaged file), unless a base at L9 holds the database behind them: then the
   level goes on behind the trouble, and a chain heals with its next snapshot.
4. A file does not reach across a snapshot: a restore from that snapshot would take it for a part only, or keep to its
   parts, which retention is about to delete.
5. One compaction is bounded in bytes and in files; the rest follows in the next one (`more`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from litestream_py.core.levels import LevelConfig, due_ms
from litestream_py.core.listing import NONE_DAMAGED, bases_at_snapshot_level, is_base, is_sound
from litestream_py.core.ports import FileInfo
from litestream_py.errors import ChainGapError, CorruptError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName

BYTES_MAX: Final = 1 << 30
FILES_MAX: Final = 512
_HINT: Final = "lsync verify says what can still be restored; the next snapshot lets the level go on"


class ChainOverlapError(CorruptError):
    """Two files of one level hold the same TXID: two writers, or an upload that was tried twice in different ways."""


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """Merge `inputs`, oldest first, into `output`.

    needs_base: copy this file to level 9 first, as `base_copy`; None if a base is there. more: input was left over, for
    another plan right after this one.
    """

    inputs: tuple[FileInfo, ...]
    needs_base: FileInfo | None
    more: bool

    @property
    def output(self) -> FileName:
        """Name of the merged file."""
        first, last = self.inputs[0].name, self.inputs[-1].name
        return FileName(first.level + 1, first.min_txid, last.max_txid)

    @property
    def base_copy(self) -> FileName | None:
        """Name under which `needs_base` has to be at level 9."""
        return None if self.needs_base is None else _base_copy(self.needs_base)

    @property
    def bytes(self) -> int:
        """Bytes to read."""
        return sum(info.size for info in self.inputs)


def plan_compaction(
    listing: Sequence[FileInfo],
    level: int,
    *,
    damaged: Collection[FileName] = NONE_DAMAGED,
    bytes_max: int = BYTES_MAX,
    files_max: int = FILES_MAX,
) -> CompactionPlan | None:
    """Return the next compaction into `level` (1 to 8), None if the level has no new input.

    Args:
        listing: every file of every level, in any order.
        level: where to compact into; the inputs are of the level below.
        damaged: files found to be damaged; they and files too short to be LTX count as missing.
        bytes_max: bytes of the inputs together, unless the first alone has more.
        files_max: number of the inputs.

    Raises:
        ChainGapError: the next TXIDs are in no sound file of the level below, nor in a base.
        ChainOverlapError: two files of the level below hold the same TXIDs, and no base at level 9 lies behind them.
    """
    at = _end(info for info in listing if info.name.level == level)
    snapshots = {base.name.max_txid for base in bases_at_snapshot_level(listing, damaged)}
    covered = max(snapshots, default=0)
    inputs: list[FileInfo] = []
    needs_base: FileInfo | None = None
    size = 0
    more = False
    for info in _new_inputs(listing, level, damaged):
        low, high = info.name.min_txid, info.name.max_txid
        overlaps, gap = low <= at, low > at + 1
        if overlaps and high > covered:
            raise _overlap(info, at, inputs, level)
        full = size + info.size > bytes_max or len(inputs) >= files_max
        more = bool(inputs) and (overlaps or gap or full or at in snapshots)
        if more:
            break
        if gap and covered < low - 1:
            needs_base = _base_behind(listing, at, low, damaged, level)
        inputs.append(info)
        size += info.size
        at = high
    return CompactionPlan(tuple(inputs), needs_base, more) if inputs else None


def compaction_due_ms(
    listing: Sequence[FileInfo],
    level: LevelConfig,
    *,
    last_ms: int,
    now_ms: int,
    damaged: Collection[FileName] = NONE_DAMAGED,
) -> int | None:
    """Return when the level is due (Unix ms, perhaps past), None while it has no new input.

    last_ms: when this process last worked on the level, with or without success, 0 if never.
    """
    waiting = _new_inputs(listing, level.number, damaged)
    if not waiting:
        return None
    oldest_ms = min(info.created_ms for info in waiting)
    return due_ms(level.interval_s, oldest_input_ms=oldest_ms, last_ms=last_ms, now_ms=now_ms)


def snapshot_due_ms(
    listing: Sequence[FileInfo],
    interval_s: float,
    *,
    last_ms: int,
    now_ms: int,
    damaged: Collection[FileName] = NONE_DAMAGED,
) -> int | None:
    """Return when the next snapshot is due (Unix ms, perhaps past), None while nothing changed since the last one.

    The last one is the newest base at level 9, or at any level while level 9 has none. A snapshot must not reach beyond
    the newest TXID of level 0.
    """
    bases = bases_at_snapshot_level(listing, damaged) or [i for i in listing if is_base(i) and is_sound(i, damaged)]
    at = _end(bases)
    newer = [info.created_ms for info in listing if info.name.max_txid > at]
    if not newer:
        return None
    return due_ms(interval_s, oldest_input_ms=min(newer), last_ms=last_ms, now_ms=now_ms)


def _new_inputs(listing: Sequence[FileInfo], level: int, damaged: Collection[FileName]) -> list[FileInfo]:
    """Return the sound increments of the level below that reach beyond the end of `level`, in order.

    One that begins before that end is new only if no base at level 9 makes up for it (rule 3).
    """
    at = _end(info for info in listing if info.name.level == level)
    covered = _end(bases_at_snapshot_level(listing, damaged))
    below = [info for info in listing if info.name.level == level - 1 and info.name.max_txid > at]
    found = [info for info in below if info.name.min_txid > at or info.name.max_txid > covered]
    return sorted((i for i in found if not is_base(i) and is_sound(i, damaged)), key=lambda info: info.name)


def _end(files: Iterable[FileInfo]) -> int:
    return max((info.name.max_txid for info in files), default=0)


def _base_behind(
    listing: Sequence[FileInfo], at: int, low: TXID, damaged: Collection[FileName], level: int
) -> FileInfo:
    """Return the smallest base below level 9 that holds all TXIDs after `at` and before `low`.

    Raises ChainGapError without one. A base whose copy at level 9 is there, and damaged, cannot be copied again.
    """
    names = {info.name for info in listing}
    bases = [info for info in listing if is_base(info) and is_sound(info, damaged)]
    reaching = [info for info in bases if info.name.max_txid >= low - 1]
    useful = [info for info in reaching if _base_copy(info) not in names]
    if useful:
        return min(useful, key=lambda info: (info.size, info.name))
    if reaching:
        raise ChainGapError("compact", f"level {level}", f"its base {_base_copy(reaching[0])} is damaged", hint=_HINT)
    held = max([at, *(info.name.max_txid for info in bases)])
    missing = f"TXID {low - 1:016x} is" if held + 2 == low else f"TXIDs {held + 1:016x} to {low - 1:016x} are"
    bad = [i.name for i in listing if i.name.max_txid > held and i.name.min_txid < low and not is_sound(i, damaged)]
    why = f"{bad[0]} is damaged" if bad else f"no file of level {level - 1} holds it, nor does a base"
    raise ChainGapError("compact", f"level {level}", f"{missing} missing: {why}", hint=_HINT)


def _base_copy(base: FileInfo) -> FileName:
    return base.name._replace(level=SNAPSHOT_LEVEL)


def _overlap(info: FileInfo, at: int, inputs: Sequence[FileInfo], level: int) -> ChainOverlapError:
    other = f"{inputs[-1].name}" if inputs else f"level {level}, which ends at {TXID(at)}"
    return ChainOverlapError("compact", f"level {level}", f"{info.name} overlaps {other}", hint=_HINT)
