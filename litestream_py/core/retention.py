"""`plan_retention`: which files may go, and why each other one stays; pure.

The promise is recoverability, not a number of files:

1. The state at every moment of the last `window_s` can be restored, at the steps of L1 (and, for the last `l0_s`, at
   every TXID). So the newest snapshot that is older than the window stays, with all that reaches beyond it. Where
   `l0_s` is the longer one, it is the window.
2. The newest `snapshots_min` snapshots stay, whatever their age.
3. In every level the newest file stays: it says where the level goes on, for lsync and for Litestream; in L0 it is the
   position of the replica.
4. An L0 file stays until a file of L1 holds its TXIDs, and that one is older than `l0_s`.
5. What became superfluous within the last hour stays: rules 1 and 4 are applied as of an hour ago, to the files that
   were there then. A restore planned since then for a promised point finds its files: a merged file costs less to
   fetch than its parts, so no plan for such a point takes what was superfluous already.
6. Times in the future (the store's clock is not ours) prove nothing: such a file stays until its time has come.

The plan proves itself with the planner of restores: each promised TXID that can be restored before can be restored
after, or the plan is refused. A replica whose newest TXID cannot be restored now is not thinned at all.

Order of deletion: old bases first, oldest first, then the rest by TXID. Removing a base takes every point away that
depends on it, at once, so that what can be restored only ever shrinks from its old end, wherever a crash cuts the
deletions short; the next plan names just the rest. Deleting more files never makes a TXID restorable, and so each step
on the way keeps what the end keeps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final, NamedTuple

from litestream_py.core.listing import NONE_DAMAGED, bases_at_snapshot_level, is_base, is_sound
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import plan_restore, restorable_txids
from litestream_py.errors import ConfigError, CorruptError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName

RESTORE_GRACE_MS: Final = 3_600_000
"""How long a restore may take from its plan to its last file."""


class UnsafeRetentionError(CorruptError):
    """Deleting what the rules name would take away a TXID that is promised: the levels do not fit together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """What is promised. window_s: `snapshot.retention`. l0_s: `l0-retention`; None (0 in the file) keeps L0 for ever.

    Raises ConfigError: a window of no length, negative l0_s, fewer than one snapshot.
    """

    window_s: float = 86_400.0
    l0_s: float | None = 300.0
    snapshots_min: int = 1

    def __post_init__(self) -> None:
        if not self.window_s > 0:
            raise ConfigError("use", "snapshot retention", f"{self.window_s:g} s is no window to restore within")
        if self.l0_s is not None and not self.l0_s >= 0:
            raise ConfigError("use", "l0-retention", f"{self.l0_s:g} s is negative")
        if self.snapshots_min < 1:
            raise ConfigError("use", "minimum of snapshots", "without any there is nothing to restore from")


class Reason(StrEnum):
    """Why a file stays or goes; the value is a stable name, `words` what a user reads."""

    FUTURE = "future"
    RESTORING = "restoring"
    RECENT = "recent"
    NEWEST = "newest"
    SNAPSHOT_MINIMUM = "snapshot-minimum"
    WINDOW_BASE = "window-base"
    IN_WINDOW = "in-window"
    DAMAGED = "damaged"
    L0_FOREVER = "l0-forever"
    L0_YOUNG = "l0-young"
    NOT_IN_L1 = "not-in-l1"
    MERGED_RECENTLY = "merged-recently"
    MERGED = "merged"
    BEFORE_WINDOW = "before-window"

    @property
    def words(self) -> str:
        """The reason in words."""
        return _WORDS[self]


_WORDS: Final = {
    Reason.FUTURE: "its time lies in the future: the clocks differ",
    Reason.RESTORING: "a running restore reads it",
    Reason.RECENT: "it appeared within the last hour",
    Reason.NEWEST: "it is the newest of its level",
    Reason.SNAPSHOT_MINIMUM: "it is among the snapshots that are always kept",
    Reason.WINDOW_BASE: "the oldest states of the window are restored from it",
    Reason.IN_WINDOW: "states within the window are restored from it",
    Reason.DAMAGED: "it is damaged and nothing within the window stands in for it",
    Reason.L0_FOREVER: "l0-retention is 0: level 0 is kept for ever",
    Reason.L0_YOUNG: "level 1 did not hold it for the time of l0-retention, an hour ago",
    Reason.NOT_IN_L1: "level 1 does not hold it yet",
    Reason.MERGED_RECENTLY: "level 1 got it within the last hour: a restore may be reading it",
    Reason.MERGED: "level 1 holds it, and l0-retention is over",
    Reason.BEFORE_WINDOW: "a later snapshot begins the window",
}
_DELETES: Final = frozenset({Reason.MERGED, Reason.BEFORE_WINDOW})


class Decision(NamedTuple):
    """One file's fate; until_ms: when time alone may change it (Unix ms), None if it takes more than time."""

    info: FileInfo
    reason: Reason
    until_ms: int | None = None

    @property
    def keep(self) -> bool:
        """Whether the file stays."""
        return self.reason not in _DELETES


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """Decisions in order of level and TXID, and what to delete in this order, one by one."""

    decisions: tuple[Decision, ...]
    deletes: tuple[FileInfo, ...]

    @property
    def bytes(self) -> int:
        """Bytes that go."""
        return sum(info.size for info in self.deletes)

    @property
    def next_ms(self) -> int | None:
        """Before this time (Unix ms) another plan for the files that stay would delete nothing; None: never will."""
        times = [item.until_ms for item in self.decisions if item.keep and item.until_ms is not None]
        return min(times, default=None)


def plan_retention(
    listing: Sequence[FileInfo],
    policy: RetentionPolicy,
    now_ms: int,
    *,
    restoring: Collection[FileName] = NONE_DAMAGED,
    damaged: Collection[FileName] = NONE_DAMAGED,
    appeared_ms: Mapping[FileName, int] | None = None,
    source: str = "replica",
) -> RetentionPlan:
    """Return what to delete from a replica.

    Args:
        listing: every file of every level, in any order, complete.
        policy: what is promised.
        now_ms: Unix milliseconds.
        restoring: files of restores that are known to run; they stay.
        damaged: files found to be damaged: nothing is deleted because of them.
        appeared_ms: when files appeared, where that is known better than by their time (a file replica shows the time
            of the last change in a file, so one merged late looks old at once); the later one counts.
        source: what to call the replica in an error.

    Raises:
        ChainGapError, DamagedFileError: the newest TXID cannot be restored; nothing is deleted then.
        UnsafeRetentionError: the rules would delete what a promised TXID needs.
    """
    if not listing:
        return RetentionPlan((), ())
    restorable = restorable_txids(listing, damaged=damaged)
    if restorable[-1:] != [max(info.name.max_txid for info in listing)]:
        plan_restore(listing, None, damaged=damaged, source=source)  # raises, and says what is wrong
    rules = _Rules(listing, policy, now_ms, frozenset(restoring), frozenset(damaged), appeared_ms or {})
    decisions = tuple(rules.decide(info) for info in sorted(listing, key=lambda info: info.name))
    deletes = [item.info for item in decisions if not item.keep]
    if deletes:
        _prove(decisions, restorable, rules.floor, damaged, source)
    return RetentionPlan(decisions, tuple(sorted(deletes, key=_deletion_order)))


def _deletion_order(info: FileInfo) -> tuple[bool, TXID, int]:
    return not is_base(info), info.name.max_txid, info.name.level


class _Rules:
    """The policy, applied to one listing as it was an hour ago.

    floor: max TXID of the snapshot that begins the window, 0 while there is none.
    """

    def __init__(
        self,
        listing: Sequence[FileInfo],
        policy: RetentionPolicy,
        now_ms: int,
        restoring: frozenset[FileName],
        damaged: frozenset[FileName],
        appeared_ms: Mapping[FileName, int],
    ) -> None:
        self._now_ms = now_ms
        self._restoring = restoring
        self._damaged = damaged
        self._appeared = appeared_ms
        self._l0_ms = None if policy.l0_s is None else round(policy.l0_s * 1000)
        self._window_ms = max(round(policy.window_s * 1000), self._l0_ms or 0)
        newest: dict[int, FileInfo] = {}
        for info in listing:
            end = newest.setdefault(info.name.level, info)
            if (info.name.max_txid, info.name.min_txid) > (end.name.max_txid, end.name.min_txid):
                newest[info.name.level] = info
        self._newest = {info.name for info in newest.values()}
        self._bases = bases_at_snapshot_level(listing, damaged)
        self._minimum = {info.name for info in self._bases[-policy.snapshots_min :]}
        self._base_of_end = {info.name.max_txid: info for info in self._bases}
        self.floor = max((b.name.max_txid for b in self._bases if self._begins_ms(b) <= now_ms), default=TXID(0))
        # By max TXID: the earliest time at which the window begins with this snapshot or a later one.
        self._ends = [base.name.max_txid for base in self._bases]
        self._begins = list(accumulate((self._begins_ms(base) for base in reversed(self._bases)), min))[::-1]
        level_1 = [i for i in listing if i.name.level == 1 and is_sound(i, damaged)]
        level_1.sort(key=lambda info: info.name.min_txid)
        self._l1_starts = [info.name.min_txid for info in level_1]
        self._l1_reach = list(accumulate(level_1, _further))

    def decide(self, info: FileInfo) -> Decision:
        """Return the first rule that speaks for or against a file."""
        name = info.name
        appeared_ms = self._appeared_ms(info)
        if info.created_ms > self._now_ms:
            return Decision(info, Reason.FUTURE, info.created_ms)
        if name in self._restoring:
            return Decision(info, Reason.RESTORING)
        if name in self._newest:
            return Decision(info, Reason.NEWEST)
        if name in self._minimum:
            return Decision(info, Reason.SNAPSHOT_MINIMUM)
        if appeared_ms > self._now_ms - RESTORE_GRACE_MS:
            return Decision(info, Reason.RECENT, appeared_ms + RESTORE_GRACE_MS)
        if name.level == 0 and self._l0_ms is None:
            return Decision(info, Reason.L0_FOREVER)
        if name.level == SNAPSHOT_LEVEL and name.max_txid == self.floor and is_base(info):
            return Decision(info, Reason.WINDOW_BASE, self._expires_ms(info))
        if name.max_txid <= self.floor:
            return Decision(info, Reason.BEFORE_WINDOW)
        if not is_sound(info, self._damaged):
            return Decision(info, Reason.DAMAGED, self._expires_ms(info))
        if name.level == 0 and self._l0_ms is not None:
            return self._decide_l0(info, self._l0_ms)
        return Decision(info, Reason.IN_WINDOW, self._expires_ms(info))

    def _decide_l0(self, info: FileInfo, l0_ms: int) -> Decision:
        """Decide about an L0 file within the window.

        Its age is that of the file of L1 that holds it: restoring a young TXID takes every L0 file that went into the
        same file of L1 before it.
        """
        expires_ms = self._expires_ms(info)
        holder = self._holder(info)
        if holder is None:
            return Decision(info, Reason.NOT_IN_L1, expires_ms)
        for reason, free_ms in (
            (Reason.L0_YOUNG, holder.created_ms + l0_ms + RESTORE_GRACE_MS),
            (Reason.MERGED_RECENTLY, self._appeared_ms(holder) + RESTORE_GRACE_MS),
        ):
            if free_ms > self._now_ms:
                return Decision(info, reason, free_ms if expires_ms is None else min(free_ms, expires_ms))
        return Decision(info, Reason.MERGED)

    def _appeared_ms(self, info: FileInfo) -> int:
        return max(info.created_ms, self._appeared.get(info.name, 0))

    def _begins_ms(self, base: FileInfo) -> int:
        """Return when a snapshot is old enough to begin the window, for a restore planned an hour before."""
        return max(base.created_ms + self._window_ms + 1, self._appeared_ms(base)) + RESTORE_GRACE_MS

    def _expires_ms(self, info: FileInfo) -> int | None:
        """Return when the window will begin behind a file, None as long as no snapshot lies behind it."""
        find = bisect_right if is_base(info) and info.name.level == SNAPSHOT_LEVEL else bisect_left
        at = find(self._ends, info.name.max_txid)
        return self._begins[at] if at < len(self._ends) else None

    def _holder(self, info: FileInfo) -> FileInfo | None:
        """Return the file that keeps an L0 file's TXIDs: one of L1, or for a base its copy at level 9."""
        at = bisect_right(self._l1_starts, info.name.min_txid)
        if at and self._l1_reach[at - 1].name.max_txid >= info.name.max_txid:
            return self._l1_reach[at - 1]
        return self._base_of_end.get(info.name.max_txid) if is_base(info) else None


def _further(one: FileInfo, other: FileInfo) -> FileInfo:
    return other if other.name.max_txid > one.name.max_txid else one


def _prove(
    decisions: Sequence[Decision],
    restorable: Sequence[TXID],
    floor: TXID,
    damaged: Collection[FileName],
    source: str,
) -> None:
    """Raise UnsafeRetentionError unless every promised TXID that can be restored can be restored after the deletions.

    Promised are the ends of all files that stay, and of those above L0 that go, from the window's beginning on; and the
    snapshots that stay.
    """
    promised = {
        item.info.name.max_txid
        for item in decisions
        if (item.keep and (is_base(item.info) or item.info.name.max_txid >= floor))
        or (item.info.name.level > 0 and item.info.name.max_txid >= floor)
    }
    after = restorable_txids([item.info for item in decisions if item.keep], damaged=damaged)
    lost = promised.intersection(restorable).difference(after)
    if lost:
        cause = f"the plan would lose TXID {min(lost)}, which is promised: the levels overlap or have gaps"
        hint = "lsync verify names the files; retention goes on when they are older than the window"
        raise UnsafeRetentionError("thin out", source, cause, hint=hint)
