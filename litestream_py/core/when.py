"""What a user means by a point in time: RFC 3339, or "10 minutes ago"; pure.

```
2026-08-03T14:05:00Z    2026-08-03 14:05:00.25+02:00    a date, a time, and an offset: RFC 3339, any number of decimals
10 minutes ago          2h ago          1.5 days ago    a number, a unit from seconds to weeks, and "ago"
now
```
A time is compared *strictly before* with timestamps of whole milliseconds, so a fraction of a millisecond rounds up.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from math import ceil
from typing import Final

from litestream_py.errors import ConfigError

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?(?:([Zz])|([+-])(\d\d):(\d\d))?", re.ASCII
)
_AGO = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]+) ago", re.ASCII)
_UNITS_MS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1_000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
    **dict.fromkeys(("w", "week", "weeks"), 604_800_000),
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SKEW_MS: Final = 60_000
"""A user's clock may be ahead of ours by this much; a time beyond it is a slip of the pen."""
_HINT: Final = 'write for example "2026-08-03T14:05:00Z", "2026-08-03T14:05:00+02:00", "10 minutes ago" or "2h ago"'


class BadTimeError(ConfigError, ValueError):
    """A text that is not a point in time that a database could be restored to."""

    def __init__(self, text: str, cause: str) -> None:
        super().__init__("read", f"time {text!r}", cause, hint=_HINT)


def parse_when(text: str, now_ms: int) -> int:
    """Return the point in time that `text` names, in Unix milliseconds.

    now_ms: the time that "ago" counts from. Raises BadTimeError: not a time, no offset, or in the future.
    """
    at_ms = _parse(text, now_ms)
    if at_ms > now_ms + _SKEW_MS:
        now = (_EPOCH + timedelta(milliseconds=now_ms)).isoformat(timespec="seconds")
        raise BadTimeError(text, f"it lies in the future: it is {now} now")
    return at_ms


def _parse(text: str, now_ms: int) -> int:
    plain = " ".join(text.split())
    if plain.lower() == "now":
        return now_ms
    ago = _AGO.fullmatch(plain.lower())
    if ago is not None:
        if ago[2] not in _UNITS_MS:
            raise BadTimeError(text, f"{ago[2]!r} is not a unit from seconds to weeks")
        return ceil(now_ms - Fraction(ago[1]) * _UNITS_MS[ago[2]])
    stamp = _RFC_3339.fullmatch(plain)
    if stamp is None:
        raise BadTimeError(text, "it is not a point in time")
    if stamp[8] is None and stamp[9] is None:
        raise BadTimeError(text, "the offset from UTC is missing: end with Z, or with +02:00 and the like")
    return _stamp_ms(text, stamp)


def _stamp_ms(text: str, stamp: re.Match[str]) -> int:
    hours, minutes = (0, 0) if stamp[9] is None else (int(stamp[10]), int(stamp[11]))
    if hours > 23 or minutes > 59:
        raise BadTimeError(text, "there is no such offset")
    offset = timedelta(hours=hours, minutes=minutes) * (-1 if stamp[9] == "-" else 1)
    year, month, day, hour, minute, second = (int(stamp[i]) for i in range(1, 7))
    try:
        whole = datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset))
    except ValueError as error:
        raise BadTimeError(text, str(error)) from error
    return (whole - _EPOCH) // timedelta(milliseconds=1) + ceil(Fraction(stamp[7] or "0") * 1000)
