"""The ladder of levels and its ticks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.core.levels import LEVELS_DEFAULT, due_ms, ladder, next_tick_ms, previous_tick_ms
from litestream_py.errors import ConfigError


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_the_default_ladder_is_litestreams() -> None:
    """L1 30 seconds, L2 5 minutes, L3 1 hour."""
    assert ladder([30, 300, 3600]) == LEVELS_DEFAULT


@pytest.mark.parametrize(
    ("intervals_s", "cause"),
    [
        ([], "there are 0 of them, 1 to 8 can be"),
        ([float(n) for n in range(1, 10)], "there are 9 of them"),
        ([0.0], "the interval of level 1 is 0 s, 1 ms is the shortest"),
        ([1.0, -1.0], "the interval of level 2 is -1 s"),
        ([float("nan")], "the interval of level 1 is nan s"),
        ([30.0, 30.0], r"level 2 \(30 s\) is not made less often than the one below \(30 s\)"),
        ([30.0, 300.0, 60.0], r"level 3 \(60 s\) is not made less often"),
    ],
)
def test_a_ladder_that_does_not_ascend_is_refused(intervals_s: list[float], cause: str) -> None:
    """One to eight levels, each made less often than the one below; anything else is a ConfigError (exit 2)."""
    with pytest.raises(ConfigError, match=cause):
        ladder(intervals_s)


@pytest.mark.parametrize(
    ("interval_s", "at", "previous", "following"),
    [
        (30, "2026-08-03T10:00:29.999", "2026-08-03T10:00:00", "2026-08-03T10:00:30"),
        (30, "2026-08-03T10:00:30", "2026-08-03T10:00:30", "2026-08-03T10:01:00"),
        (300, "2026-08-03T10:04:59", "2026-08-03T10:00:00", "2026-08-03T10:05:00"),
        (86_400, "2026-08-03T23:59:59", "2026-08-03T00:00:00", "2026-08-04T00:00:00"),
        # Year 1 began on a Monday, 1970 on a Thursday: weeks tell from which of them ticks are counted.
        (604_800, "2026-08-05T12:00:00", "2026-08-03T00:00:00", "2026-08-10T00:00:00"),
        (0.25, "2026-08-03T10:00:00.300", "2026-08-03T10:00:00.250", "2026-08-03T10:00:00.500"),
    ],
)
def test_ticks_stand_where_litestream_puts_them(interval_s: float, at: str, previous: str, following: str) -> None:
    """Ticks are multiples of the interval since year 1, UTC."""
    assert previous_tick_ms(interval_s, ms(at)) == ms(previous)
    assert next_tick_ms(interval_s, ms(at)) == ms(following)


@pytest.mark.parametrize(
    ("oldest", "last", "due"),
    [
        ("10:00:10", "09:00:00", "10:00:30"),
        ("10:00:31", "10:00:30", "10:01:00"),
        ("07:00:00", "10:00:30", "07:00:30"),  # what a bounded compaction left over: at once
        ("10:09:00", "10:00:30", "10:01:00"),  # from the future
        ("10:09:00", None, "00:00:30"),
    ],
)
def test_a_level_is_due_at_the_tick_behind_its_oldest_input(oldest: str, last: str | None, due: str) -> None:
    """Due is the first tick behind the oldest input; behind the last work where the input's time lies ahead."""
    day = "2026-08-03T"
    last_ms = 0 if last is None else ms(day + last)
    wanted = 30_000 if last is None else ms(day + due)
    assert due_ms(30, oldest_input_ms=ms(day + oldest), last_ms=last_ms, now_ms=ms(day + "10:00:45")) == wanted


@given(interval_s=st.floats(0.001, 1e7), at_ms=st.integers(0, 1 << 43))
def test_ticks_enclose_every_moment(interval_s: float, at_ms: int) -> None:
    """A moment lies between its previous tick, which it may be itself, and the next, one interval later."""
    previous, following = previous_tick_ms(interval_s, at_ms), next_tick_ms(interval_s, at_ms)
    assert previous <= at_ms < following
    assert following - previous == round(interval_s * 1000)
    assert previous_tick_ms(interval_s, previous) == previous
    assert previous_tick_ms(interval_s, following) == following
