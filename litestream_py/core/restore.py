"""Which files of a replica make the database at a TXID: decided from the listing alone.

A *chain* is a sequence of LTX files that, applied in order, gives the database at the last one's max TXID:

1. The first file has min TXID 1. Such a file holds every page, whatever its level (the decoder checks it). A file with
   a larger min TXID may hold every page too, but neither its name nor its level says so, and so it is never a base.
2. Each next file has min TXID <= the max TXID before it + 1, so that nothing is missing between them. Overlap is
   harmless: a file holds the newest version, at its max TXID, of each page that changed since before its min TXID.
3. Each next file has a larger max TXID than the one before it.
4. The last file ends at the target exactly.

Rule 2 makes the set of reachable TXIDs independent of the path taken to them, so one pass in order of max TXID finds
for every TXID the cheapest chain that ends there (`_cheapest_chains`). What cannot be reached is an error that names
the gap or the damaged file, or a target that was merged away, with its nearest neighbours; never an older state.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from litestream_py.core.ports import FileInfo
from litestream_py.errors import ChainGapError, CorruptError, LsyncError, NothingToRestoreError, TargetError
from litestream_py.ltx.ids import TXID, FileName

FILE_SIZE_MIN: Final = 100 + 6 + 9 + 16
"""Bytes of the shortest LTX file: header, end of pages, empty page index, trailer."""
FILE_COST_BYTES: Final = 64 * 1024
"""What fetching one more file costs beside its bytes, in bytes: a request's latency, shared by those in flight."""

_LIST_HINT: Final = "lsync ltx --level all lists what the replica holds"


class DamagedFileError(CorruptError):
    """A file of the replica that is not what was stored: `name` tells a new plan what to go around."""

    def __init__(self, name: FileName, source: str, cause: str, *, hint: str | None = None) -> None:
        self.name = name
        super().__init__("restore", source, f"file {name} is damaged: {cause}", hint=hint)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """The files that make a database, oldest first; applied in order they give it at `max_txid`.

    avoided: files that are known to be damaged, for which others stand in.
    """

    files: tuple[FileInfo, ...]
    avoided: tuple[FileInfo, ...] = ()

    @property
    def min_txid(self) -> TXID:
        """First TXID of the chain: 1."""
        return self.files[0].name.min_txid

    @property
    def max_txid(self) -> TXID:
        """The TXID that the plan restores."""
        return self.files[-1].name.max_txid

    @property
    def bytes(self) -> int:
        """Bytes to fetch."""
        return sum(info.size for info in self.files)


def plan_restore(
    listing: Sequence[FileInfo],
    target: TXID | None,
    *,
    damaged: Collection[FileName] = (),
    source: str = "replica",
) -> RestorePlan:
    """Return the cheapest chain that ends at `target`, or at the newest TXID of the listing if it is None.

    Args:
        listing: every file of every level, in any order.
        target: the TXID to restore, inclusive.
        damaged: files found to be damaged, not to be used; files too short to be LTX are left out without being told.
        source: what to call the replica in an error.

    Raises:
        NothingToRestoreError: the listing is empty.
        ChainGapError: the target exists, or must have existed, and files before it are missing.
        DamagedFileError: the target can be reached only through a file known to be damaged.
        TargetError: the target lies beyond the newest TXID, or was merged into a larger step.
    """
    if not listing:
        raise NothingToRestoreError("restore", source, "the replica holds no backup")
    sound = [info for info in listing if not _known_bad(info, damaged)]
    chains = _cheapest_chains(sound)
    end = max(info.name.max_txid for info in listing) if target is None else target
    if end not in chains:
        raise _unreachable(listing, sound, chains, end, source)
    avoided = [info for info in listing if _known_bad(info, damaged) and info.name.max_txid <= end]
    return RestorePlan(_walk_back(chains, end), tuple(sorted(avoided, key=lambda info: info.name)))


def restorable_txids(listing: Sequence[FileInfo], *, damaged: Collection[FileName] = ()) -> list[TXID]:
    """Return, ascending, every TXID that `plan_restore` would accept as a target."""
    return sorted(_cheapest_chains([info for info in listing if not _known_bad(info, damaged)]))


@dataclass(frozen=True, slots=True)
class _Chain:
    """The cheapest chain that ends with `last`; `before` is the TXID it continues from, 0 for a base."""

    cost: int
    last: FileInfo
    before: int


def _known_bad(info: FileInfo, damaged: Collection[FileName]) -> bool:
    return info.size < FILE_SIZE_MIN or info.name in damaged


def _cheapest_chains(files: Sequence[FileInfo]) -> dict[TXID, _Chain]:
    """Return the cheapest chain to every reachable TXID; O(n log n) for n files.

    A file may continue any chain that ends in [min - 1, max - 1]. In order of max TXID these are the ends from min - 1
    onwards, so a stack of ends that keeps only those no later end undercuts (costs strictly rising) answers "cheapest
    of a suffix" with its first entry at or after min - 1.
    """
    chains: dict[TXID, _Chain] = {}
    ends, costs = [0], [0]
    group: dict[TXID, _Chain] = {}
    ordered = sorted(files, key=lambda info: (info.name.max_txid, -info.name.level, info.name.min_txid))
    for position, info in enumerate(ordered):
        at = bisect_left(ends, info.name.min_txid - 1)
        if at < len(ends):
            cost = costs[at] + info.size + FILE_COST_BYTES
            end = info.name.max_txid
            if end not in group or cost < group[end].cost:
                group[end] = _Chain(cost, info, ends[at])
        if position + 1 == len(ordered) or ordered[position + 1].name.max_txid != info.name.max_txid:
            for end, chain in group.items():
                chains[end] = chain
                keep = bisect_left(costs, chain.cost)
                del ends[keep:], costs[keep:]
                ends.append(end)
                costs.append(chain.cost)
            group.clear()
    return chains


def _walk_back(chains: dict[TXID, _Chain], end: TXID) -> tuple[FileInfo, ...]:
    files = []
    at: int = end
    while at:
        chain = chains[TXID(at)]
        files.append(chain.last)
        at = chain.before
    return tuple(reversed(files))


def _unreachable(
    listing: Sequence[FileInfo], sound: Sequence[FileInfo], chains: dict[TXID, _Chain], end: TXID, source: str
) -> LsyncError:
    """Return the error that says why no chain ends at `end`."""
    newest = max(info.name.max_txid for info in listing)
    ends = sorted(chains)
    if end > newest:
        cause = f"TXID {end} is beyond the newest, {newest}{_window(ends)}"
        return TargetError("restore", source, cause, hint=_LIST_HINT)
    with_bad = _cheapest_chains(listing)
    if end in with_bad:
        usable = set(sound)
        bad = next(info for info in _walk_back(with_bad, end) if info not in usable)
        return _damaged_file(bad, ends, source)
    exists = any(info.name.max_txid == end for info in listing)
    covered = any(info.name.min_txid <= end <= info.name.max_txid for info in listing)
    if covered and not exists and ends:
        return TargetError("restore", source, _merged_away(end, ends), hint=_LIST_HINT)
    return _gap(sound, ends, end, source)


def _gap(sound: Sequence[FileInfo], ends: Sequence[TXID], end: TXID, source: str) -> ChainGapError:
    reached = max((txid for txid in ends if txid < end), default=None)
    following = min((info.name.min_txid for info in sound if info.name.min_txid > (reached or 0) + 1), default=None)
    starts = "no sound file follows" if following is None else f"the next file starts at {following}"
    if reached is None:
        return ChainGapError("restore", source, f"no file starts at TXID {TXID(1)}: {starts}", hint=_LIST_HINT)
    hint = f"--txid {reached} restores the last state before the gap"
    return ChainGapError("restore", source, f"the chain has a gap: have up to {reached}, {starts}", hint=hint)


def _damaged_file(bad: FileInfo, ends: Sequence[TXID], source: str) -> CorruptError:
    size = f"it has {bad.size} bytes, an LTX file at least {FILE_SIZE_MIN}"
    cause = size if bad.size < FILE_SIZE_MIN else "its content does not decode"
    before = [txid for txid in ends if txid < bad.name.max_txid]
    hint = f"--txid {before[-1]} restores the last state before it" if before else _LIST_HINT
    return DamagedFileError(bad.name, source, cause, hint=hint)


def _merged_away(end: TXID, ends: Sequence[TXID]) -> str:
    at = bisect_right(ends, end)
    near = [str(txid) for txid in (*ends[max(at - 1, 0) : at], *ends[at : at + 1])]
    return f"TXID {end} was merged into a larger step; nearest: {' and '.join(near)}{_window(ends)}"


def _window(ends: Sequence[TXID]) -> str:
    if not ends:
        return "; no TXID can be restored"
    return f"; {len(ends)} TXIDs from {ends[0]} to {ends[-1]} can be restored"
