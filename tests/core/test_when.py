"""Points in time, as users write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.core.when import BadTimeError, parse_when

NOW_MS = int(datetime(2026, 8, 3, 12, 0, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "before_now_ms"),
    [
        ("2026-08-03T12:00:00Z", 0),
        ("2026-08-03T11:59:59.5Z", 500),
        ("2026-08-03t11:00:00z", 3_600_000),
        ("2026-08-03 13:00:00+02:00", 3_600_000),
        ("2026-08-03T06:30:00-05:30", 0),
        ("2026-08-03T11:59:59.9990001Z", 0),  # strictly before it are 11:59:59.999 and less
        ("2026-08-03T11:59:59.000999999999Z", 999),
        ("10 minutes ago", 600_000),
        ("10m ago", 600_000),
        ("  2H   AGO ", 7_200_000),
        ("1.5 hours ago", 5_400_000),
        ("1 second ago", 1_000),
        ("3 days ago", 259_200_000),
        ("1w ago", 604_800_000),
        ("0 s ago", 0),
        ("now", 0),
    ],
)
def test_a_time_is_understood(text: str, before_now_ms: int) -> None:
    """RFC 3339 with any offset and fraction, and a number, a unit and "ago"."""
    assert parse_when(text, NOW_MS) == NOW_MS - before_now_ms


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "it is not a point in time"),
        ("yesterday", "it is not a point in time"),
        ("2026-08-03", "it is not a point in time"),
        ("2026-08-03T12:00Z", "it is not a point in time"),
        ("1754222400", "it is not a point in time"),
        ("-5 minutes ago", "it is not a point in time"),
        ("10 minutes", "it is not a point in time"),
        ("٣ days ago", "it is not a point in time"),
        ("2026-08-03T12:00:00", "the offset from UTC is missing"),
        ("2026-08-03T12:00:00+24:00", "there is no such offset"),
        ("2026-02-30T12:00:00Z", "day"),
        ("2026-08-03T25:00:00Z", "hour"),
        ("2026-08-03T11:59:60Z", "second"),
        ("0000-01-01T00:00:00Z", "year"),
        ("2 months ago", "'months' is not a unit from seconds to weeks"),
        ("2062-08-03T12:00:00Z", r"it lies in the future: it is 2026-08-03T12:00:00\+00:00 now"),
    ],
)
def test_what_is_no_time_is_refused_with_examples(text: str, cause: str) -> None:
    """A ConfigError (exit 2) that is a ValueError too names the text, what is wrong with it, and how to write one."""
    with pytest.raises(BadTimeError, match=cause) as caught:
        parse_when(text, NOW_MS)
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, ValueError)
    assert repr(text) in str(caught.value)
    assert caught.value.hint is not None
    for example in caught.value.hint.split('"')[1::2]:
        assert parse_when(example, 1 << 42) > 0


def test_a_clock_that_is_a_little_ahead_is_forgiven() -> None:
    """A minute into the future is another machine's clock, more is a mistake."""
    assert parse_when("2026-08-03T12:01:00Z", NOW_MS) == NOW_MS + 60_000
    with pytest.raises(BadTimeError):
        parse_when("2026-08-03T12:01:00.001Z", NOW_MS)


@given(micros=st.integers(0, 253_402_000_000_000_000), offset_min=st.integers(-1439, 1439))
def test_every_rfc_3339_time_comes_back(micros: int, offset_min: int) -> None:
    """The text of a moment at whichever offset is that moment, rounded up to the millisecond."""
    epoch = datetime(1970, 1, 2, tzinfo=timezone(timedelta(minutes=offset_min)))
    since = epoch + timedelta(microseconds=micros) - datetime(1970, 1, 1, tzinfo=UTC)
    text = (epoch + timedelta(microseconds=micros)).isoformat()
    assert parse_when(text, 253_402_300_799_000) == since // timedelta(milliseconds=1) + bool(
        since % timedelta(milliseconds=1)
    )
