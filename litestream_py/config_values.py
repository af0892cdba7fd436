"""What the values of configuration keys mean: durations, sizes, switches, addresses, paths.

Each parser takes the text of a scalar and raises BadValueError, with a hint how to write it, for what it does not
take. A value that is not text is one of our own (a default, or an argument of a constructor) and passes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator

from litestream_py.errors import ConfigError

_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt])(i)?)?b?", re.ASCII | re.IGNORECASE)
_BOOLS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LOOPBACK: Final = "127.0.0.1"
TRUNCATE_PAGES_DEFAULT: Final = 121_359
"""Litestream's: 500 MB of WAL at 4 KiB pages."""


class BadValueError(ConfigError, ValueError):
    """A value that its key does not take, and how to write it; a ValueError because that is what pydantic collects."""

    def __init__(self, cause: str, hint: str | None = None) -> None:
        super().__init__("read", "value", cause, hint=hint)

    def __str__(self) -> str:
        return self.cause


class Address(NamedTuple):
    """Where to listen: host name or IP address, and port (0: any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_duration(text: str) -> float:
    """Return the seconds that a Go duration ("1.5s", "1h30m", "500ms", "0") stands for; negative ones don't exist."""
    if text == "0":
        return 0.0
    if _NUMBER.fullmatch(text):
        raise BadValueError(f"the duration {text!r} has no unit", f"write {text}s, {text}ms or {text}m")
    if not _DURATION.fullmatch(text):
        raise BadValueError(f"{text!r} is not a duration", 'write for example "500ms", "10s", "1m" or "1h30m"')
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))


def parse_size(text: str) -> int:
    """Return the bytes that a size stands for: "4096", "5MB" (10^6) or "5MiB" (2^20)."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise BadValueError(f"{text!r} is not a size", 'write for example "1048576", "5MB" or "5MiB"')
    number, prefix, binary = match.groups()
    power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def parse_count(text: str) -> int:
    """Return a whole number, negative ones included."""
    if not re.fullmatch(r"-?[0-9]+", text, re.ASCII):
        raise BadValueError(f"{text!r} is not a whole number")
    return int(text)


def parse_switch(text: str) -> bool:
    """Return what "true", "yes", "on" and their opposites say."""
    value = _BOOLS.get(text.lower())
    if value is None:
        raise BadValueError(f"{text!r} is neither true nor false", "write true or false")
    return value


def parse_address(text: str) -> Address:
    """Return where to listen: "HOST:PORT"; ":PORT" is loopback, never every interface (say 0.0.0.0 for that)."""
    host, colon, port = text.rpartition(":")
    bad = BadValueError(f"{text!r} is not an address", 'write HOST:PORT, or ":9090" for loopback only')
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise bad
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if (":" in host) != bracketed or any(c in host for c in "/ []"):
        raise bad
    return Address(host or _LOOPBACK, int(port))


def parse_path(text: str) -> Path:
    """Return an absolute path: `sqlite://` and `sqlite3://` are stripped, `~` is the home directory."""
    for scheme in ("sqlite3://", "sqlite://"):
        text = text.removeprefix(scheme)
    if not text:
        raise BadValueError("the path is empty")
    if "\0" in text:
        raise BadValueError("the path holds a zero byte")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise BadValueError(f"{text.partition('://')[0]}:// is a URL, not a path")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise BadValueError(f"no home directory is known for {text!r}", "write the path in full")
    return Path(os.path.abspath(expanded))


def _from_text(parse: Callable[[str], object]) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _positive(parse: Callable[[str], Any]) -> Callable[[str], object]:
    def checked(text: str) -> object:
        value = parse(text)
        if value <= 0:
            raise BadValueError(f"{text!r} must be greater than zero")
        return value

    return checked


def _zero_is_none(parse: Callable[[str], Any]) -> Callable[[str], object]:
    return lambda text: parse(text) or None


def _pages_or_never(text: str) -> int:
    count = parse_count(text)
    return TRUNCATE_PAGES_DEFAULT if count == 0 else max(count, 0)


def _one_of(*words: str) -> Callable[[str], object]:
    def checked(text: str) -> object:
        if text.lower() not in words:
            raise BadValueError(f"{text!r} is not one of {', '.join(words)}")
        return text.lower()

    return checked


Duration = Annotated[float, _from_text(parse_duration)]
PositiveDuration = Annotated[float, _from_text(_positive(parse_duration))]
DurationOrOff = Annotated[float | None, _from_text(_zero_is_none(parse_duration))]
"""Seconds; "0" turns the matter off: None."""
PositiveSize = Annotated[int, _from_text(_positive(parse_size))]
SizeOrUnlimited = Annotated[int | None, _from_text(_zero_is_none(parse_size))]
"""Bytes; "0" sets no limit: None."""
PagesOrNever = Annotated[int, _from_text(_pages_or_never)]
"""Pages, in Litestream's spelling; 0 as a value of ours means never."""
PositiveCount = Annotated[int, _from_text(_positive(parse_count))]
Switch = Annotated[bool, _from_text(parse_switch)]
ListenAddress = Annotated[Address, _from_text(parse_address)]
LocalPath = Annotated[Path, _from_text(parse_path)]


def word(*words: str) -> BeforeValidator:
    """Return the validator of a key that takes one of a few words, in any case."""
    return _from_text(_one_of(*words))
