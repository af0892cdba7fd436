"""`choose_checkpoint`: when to move frames into the database file, and how; pure.

Holding one read mark for ever costs the application nothing but disk: its WAL grows without end. Moving the mark and a
PASSIVE checkpoint are nearly free. Sealing takes the write lock for some milliseconds (an fsync of our L0 file) and
lets the next writer restart the WAL. So: seal when the WAL has some size worth it, or once in a while; TRUNCATE only
when the file itself has become large. After an incomplete attempt (a reader of somebody else pins old frames) wait
longer each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from litestream_py.wal.walindex import WalIndex


class Checkpoint(StrEnum):
    """What to do."""

    NONE = "none"
    SEAL = "seal"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLimits:
    """Thresholds, from the configuration.

    pages_min: frames in the WAL that make a checkpoint worth it. interval_s: checkpoint changes not older than this
    anyway (0: never for age). truncate_pages: size of the WAL file that is cut back (0: never). retry_max_s: longest
    pause after attempts that did not complete.
    """

    pages_min: int = 1000
    interval_s: float = 60.0
    truncate_pages: int = 121_359
    retry_max_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What the decision is made from.

    index: the published wal-index. wal_file_pages: size of the WAL file in frames, whatever generation they are of.
    may_restart: we hold slot 0 at a sealed position, so the next writer can restart without our doing anything.
    changed: frames were copied since the last complete checkpoint. last_s: monotonic time of the last complete one (or
    of the attach). failed, failed_s: attempts in a row that somebody's lock or reader kept from completing,
    and when the last one was. truncate_failed_s: when a TRUNCATE last came too late, None if it did not.
    """

    index: WalIndex
    wal_file_pages: int
    may_restart: bool
    changed: bool
    last_s: float
    failed: int = 0
    failed_s: float = 0.0
    truncate_failed_s: float | None = None


def retry_at_s(facts: CheckpointFacts, limits: CheckpointLimits) -> float:
    """Return the monotonic time before which no attempt is made: later after each that was kept from completing."""
    if not facts.failed:
        return 0.0
    return facts.failed_s + min(limits.retry_max_s, 0.5 * 2.0 ** min(facts.failed, 10))


def choose_checkpoint(facts: CheckpointFacts, limits: CheckpointLimits, now_s: float) -> Checkpoint:
    """Decide; `now_s` is monotonic seconds."""
    if now_s < retry_at_s(facts, limits):
        return Checkpoint.NONE
    # A writer that never rests commits between seal and TRUNCATE. Its WAL restarts all the same, and the file grows no
    # longer than it was: there is no hurry.
    tried_s = facts.truncate_failed_s
    may_truncate = limits.truncate_pages and (tried_s is None or now_s - tried_s >= limits.retry_max_s)
    if may_truncate and facts.wal_file_pages >= limits.truncate_pages:
        return Checkpoint.TRUNCATE
    if facts.index.mx_frame == 0 or facts.may_restart:
        return Checkpoint.NONE
    if facts.index.mx_frame >= limits.pages_min:
        return Checkpoint.SEAL
    if limits.interval_s and facts.changed and now_s - facts.last_s >= limits.interval_s:
        return Checkpoint.SEAL
    return Checkpoint.NONE
