"""What a verification found: values, and what of a replica is lost when some of its files are bad; pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from litestream_py.core.listing import is_base, is_sound
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import FILE_SIZE_MIN, restorable_txids
from litestream_py.errors import ExitCode, LsyncError
from litestream_py.ltx.ids import TXID, FileName


class Depth(StrEnum):
    """How closely to look.

    quick: the listing, and header and end of every file. deep: every byte, every checksum, and the database's checksum
    rebuilt from file to file. full: that, and a restore of the newest state that SQLite checks.
    """

    QUICK = "quick"
    DEEP = "deep"
    FULL = "full"


class Outcome(StrEnum):
    """ok: all that is promised can be restored. failed: something is wrong. inconclusive: it could not be found out."""

    OK = "ok"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Problem(NamedTuple):
    """One thing that is wrong. reason: a stable name. name: the file to blame, if any. txid: the first concerned."""

    reason: str
    detail: str
    name: FileName | None = None
    txid: TXID | None = None

    def __str__(self) -> str:
        where = f"{self.name}: " if self.name else ""
        return f"{where}{self.detail} [{self.reason}]"


@dataclass(frozen=True, slots=True)
class Span:
    """Some TXIDs: how many, the first and the last; both None for none."""

    count: int
    first: TXID | None = None
    last: TXID | None = None

    @classmethod
    def of(cls, txids: Sequence[TXID]) -> Span:
        """Return the span of ascending TXIDs."""
        return cls(len(txids), txids[0], txids[-1]) if txids else _NOTHING

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON, TXIDs as 16 hex digits."""
        return {
            "count": self.count,
            "first": None if self.first is None else str(self.first),
            "last": None if self.last is None else str(self.last),
        }

    def __str__(self) -> str:
        if self.count > 1:
            return f"{self.count} TXIDs from {self.first} to {self.last}"
        return f"TXID {self.first}" if self.count else "no TXID"


_NOTHING: Final = Span(0)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a listing can restore. gaps: TXIDs that no file holds. lost: ends of files that cannot be restored.

    unused: number of files from before the oldest base, which nothing can be restored from; no problem by themselves.
    """

    gaps: tuple[Problem, ...]
    restorable: Span
    lost: Span
    unused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one verification.

    problems: in TXID order. prevented: what kept it from being complete. newest: the newest TXID of the listing.
    checksum: the database checksum at that TXID that was carried by the chain and rebuilt from its files, None where
    the chain carries none or it was not rebuilt. states: how many states were rebuilt; proven: of these, how many
    carried a checksum to compare with. integrity: what SQLite's check of a restored copy said. live: the comparison
    with the database.
    """

    url: str
    depth: Depth
    problems: tuple[Problem, ...] = ()
    prevented: LsyncError | None = None
    newest: TXID | None = None
    restorable: Span = _NOTHING
    lost: Span = _NOTHING
    unused: int = 0
    files: int = 0
    read_bytes: int = 0
    states: int = 0
    proven: int = 0
    checksum: int | None = None
    integrity: str | None = None
    live: str | None = None
    duration_s: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """Failed as soon as anything is wrong or lost, whether or not the rest could be seen."""
        if self.problems or self.lost.count:
            return Outcome.FAILED
        return Outcome.OK if self.prevented is None else Outcome.INCONCLUSIVE

    @property
    def exit_code(self) -> ExitCode:
        """0, 6, or the code of what prevented it."""
        if self.outcome is Outcome.FAILED:
            return ExitCode.CORRUPT
        return ExitCode.OK if self.prevented is None else self.prevented.exit_code

    @property
    def first_bad(self) -> Problem | None:
        """The first problem that blames a file, else the first."""
        return next((p for p in self.problems if p.name is not None), self.problems[0] if self.problems else None)

    @property
    def proof(self) -> str:
        """What is known of the database checksum of the newest state, in words."""
        if self.checksum is not None:
            return f"verified ({self.checksum:016x})"
        return "not rebuilt" if self.states == 0 else "not carried by this chain"

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON: TXIDs as 16 hex digits, sizes in bytes."""
        return {
            "replica": self.url,
            "verdict": str(self.outcome),
            "depth": str(self.depth),
            "newest_txid": None if self.newest is None else str(self.newest),
            "problems": [
                {
                    "reason": problem.reason,
                    "detail": problem.detail,
                    "file": None if problem.name is None else str(problem.name),
                    "txid": None if problem.txid is None else str(problem.txid),
                }
                for problem in self.problems
            ],
            "prevented": None if self.prevented is None else str(self.prevented),
            "restorable": self.restorable.to_json(),
            "lost": self.lost.to_json(),
            "unused_files": self.unused,
            "files": self.files,
            "read_bytes": self.read_bytes,
            "states": self.states,
            "proven_states": self.proven,
            "checksum": self.proof,
            "integrity_check": self.integrity,
            "live": self.live,
            "duration_ms": round(self.duration_s * 1000),
        }


def short_files(listing: Sequence[FileInfo]) -> list[Problem]:
    """Return the files that the listing alone shows to be cut off."""
    return [
        Problem("truncated", f"it has {i.size} bytes, an LTX file at least {FILE_SIZE_MIN}", i.name, i.name.min_txid)
        for i in listing
        if i.size < FILE_SIZE_MIN
    ]


def assess(listing: Sequence[FileInfo], damaged: Collection[FileName]) -> Assessment:
    """Return what can be restored without the damaged files, and what is missing without any being damaged.

    Of no account are ends before the oldest base (retention may have been interrupted there), and ends that a coarser
    level has merged into one step: that is how levels are thinned.
    """
    reached = restorable_txids(listing, damaged=damaged)
    sound = [info for info in listing if is_sound(info, ())]
    whole = restorable_txids(sound)
    begins = min((info.name.max_txid for info in sound if is_base(info)), default=TXID(0))
    ends = {info.name.max_txid for info in listing if info.name.max_txid > begins}
    broken = ends.difference(whole, _merged(sound, whole, ends))
    return Assessment(
        gaps=tuple(_gaps(listing, broken)),
        restorable=Span.of(reached),
        lost=Span.of(sorted(broken.union(whole).difference(reached))),
        unused=sum(info.name.max_txid <= begins and not is_base(info) for info in listing),
    )


def _merged(sound: Sequence[FileInfo], whole: Sequence[TXID], ends: Collection[TXID]) -> set[TXID]:
    """Return the ends that lie inside a step: an increment leads over them, from one restorable TXID to the next."""
    reach: dict[TXID, TXID] = {}
    for info in sound:
        if not is_base(info):
            low, high = info.name.min_txid, info.name.max_txid
            reach[high] = min(low, reach.get(high, low))
    found = set()
    for end in ends:
        at = bisect_left(whole, end)
        if 0 < at < len(whole) and whole[at] in reach and reach[whole[at]] <= whole[at - 1] + 1:
            found.add(end)
    return found


def _gaps(listing: Sequence[FileInfo], broken: Collection[TXID]) -> list[Problem]:
    """Return a problem for each file with a broken end that no file leads up to, one for the same missing TXIDs."""
    ends = sorted({info.name.max_txid for info in listing})
    found: dict[TXID, Problem] = {}
    names = [info.name for info in listing if info.name.max_txid in broken and not is_base(info)]
    for name in sorted(names, key=lambda name: (name.min_txid, name.max_txid)):
        at = bisect_left(ends, name.min_txid - 1)
        if at < len(ends) and ends[at] < name.max_txid:
            continue
        first, last = TXID((ends[at - 1] if at else 0) + 1), TXID(name.min_txid - 1)
        missing = f"TXID {first} is missing" if first == last else f"TXIDs {first} to {last} are missing"
        found.setdefault(first, Problem("gap", f"{missing}, no file leads up to this one", name, first))
    return list(found.values())
