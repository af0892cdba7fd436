"""The ladder of levels, and when each of its steps is due; pure.

| level | holds | made every |
|---|---|---|
| 0 | one file per sync, as uploaded | `sync-interval` |
| 1 to 8 | what came into the level below since, merged into one file | 30 s, 5 min, 1 h; configurable, up to 8 |
| 9 | snapshots: every page | 24 h |

Ticks are aligned to the UTC wall clock as Litestream aligns them: counted from year 1, not from 1970 (which matters for
intervals that do not divide a day). A level is due at the first tick behind the oldest change that it lacks, so a level
without new input is never due: an idle database needs no timer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from litestream_py.errors import ConfigError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL

SNAPSHOT_INTERVAL_S: Final = 86_400.0
_LEVELS_MAX: Final = SNAPSHOT_LEVEL - 1
_YEAR_1_MS: Final = 719_162 * 86_400_000
"""Milliseconds from 0001-01-01 to 1970-01-01, both UTC."""


@dataclass(frozen=True, slots=True)
class LevelConfig:
    """One level above L0: its number (1 to 8), and how often it takes in what the level below got."""

    number: int
    interval_s: float


LEVELS_DEFAULT: Final = (LevelConfig(1, 30.0), LevelConfig(2, 300.0), LevelConfig(3, 3600.0))


def ladder(intervals_s: Sequence[float]) -> tuple[LevelConfig, ...]:
    """Return levels 1, 2, ... with these intervals.

    Raises ConfigError unless there are 1 to 8, of a millisecond at least, each longer than the one below.
    """
    if not 1 <= len(intervals_s) <= _LEVELS_MAX:
        raise _bad(f"there are {len(intervals_s)} of them, 1 to {_LEVELS_MAX} can be")
    below_s = 0.0
    for number, interval_s in enumerate(intervals_s, 1):
        if not interval_s >= 0.001:
            raise _bad(f"the interval of level {number} is {interval_s:g} s, 1 ms is the shortest")
        if interval_s <= below_s:
            raise _bad(f"level {number} ({interval_s:g} s) is not made less often than the one below ({below_s:g} s)")
        below_s = interval_s
    return tuple(LevelConfig(number, interval_s) for number, interval_s in enumerate(intervals_s, 1))


def previous_tick_ms(interval_s: float, at_ms: int) -> int:
    """Return the last tick at or before `at_ms`; both Unix milliseconds."""
    return at_ms - (at_ms + _YEAR_1_MS) % _interval_ms(interval_s)


def next_tick_ms(interval_s: float, at_ms: int) -> int:
    """Return the first tick after `at_ms`; both Unix milliseconds."""
    return previous_tick_ms(interval_s, at_ms) + _interval_ms(interval_s)


def due_ms(interval_s: float, *, oldest_input_ms: int, last_ms: int, now_ms: int) -> int:
    """Return when a level with new input is due, perhaps in the past.

    oldest_input_ms: time of the oldest file that it lacks. last_ms: when this process last worked on the level, 0 if
    never. A time in the future (the store's clock is not ours) says nothing, so then the pace is kept from `last_ms`.
    """
    return next_tick_ms(interval_s, oldest_input_ms if oldest_input_ms <= now_ms else last_ms)


def _interval_ms(interval_s: float) -> int:
    return max(round(interval_s * 1000), 1)


def _bad(cause: str) -> ConfigError:
    return ConfigError("use", "levels", cause, hint="write for example intervals of 30s, 5m and 1h")
