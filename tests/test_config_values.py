"""Values of configuration keys: what is taken for what, and what is refused with which advice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.config_values import (
    Address,
    BadValueError,
    parse_address,
    parse_count,
    parse_duration,
    parse_path,
    parse_size,
    parse_switch,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("1h30m", 5400.0), ("500ms", 0.5), ("1.5s", 1.5), (".5s", 0.5), ("2m3.s", 123.0), ("0", 0.0),
     ("10us", 1e-5), ("10µs", 1e-5), ("7ns", 7e-9)],
)  # fmt: skip
def test_durations_are_those_of_go(text: str, seconds: float) -> None:
    """Go's spelling of durations is understood."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("5MB", 5_000_000), ("5MiB", 5 << 20), ("1.5KiB", 1536), ("2 gb", 2_000_000_000),
     ("3k", 3000), ("3Ki", 3072), ("12B", 12), ("1TiB", 1 << 40)],
)  # fmt: skip
def test_sizes_are_decimal_or_binary_as_written(text: str, size: int) -> None:
    """MB is a power of ten, MiB of two."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "address"),
    [(":9090", Address("127.0.0.1", 9090)), ("0.0.0.0:0", Address("0.0.0.0", 0)), ("db1:80", Address("db1", 80)),
     ("[::1]:9090", Address("::1", 9090))],
)  # fmt: skip
def test_an_address_without_host_is_loopback(text: str, address: Address) -> None:
    """Every interface has to be asked for by name."""
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("parse", "text", "cause", "hint"),
    [
        (parse_duration, "30", "the duration '30' has no unit", "write 30s, 30ms or 30m"),
        (parse_duration, "1d", "'1d' is not a duration", "1h30m"),
        (parse_duration, "-1s", "'-1s' is not a duration", "1h30m"),
        (parse_duration, "1s ", "'1s ' is not a duration", "1h30m"),
        (parse_duration, "٣s", "is not a duration", "1h30m"),
        (parse_size, "5XB", "'5XB' is not a size", "5MiB"),
        (parse_size, "-1", "'-1' is not a size", "5MiB"),
        (parse_count, "1.5", "'1.5' is not a whole number", None),
        (parse_count, "1_000", "'1_000' is not a whole number", None),
        (parse_switch, "maybe", "'maybe' is neither true nor false", "true or false"),
        (parse_switch, "1", "'1' is neither true nor false", "true or false"),
        (parse_address, "9090", "'9090' is not an address", ":9090"),
        (parse_address, "h:70000", "is not an address", "loopback"),
        (parse_address, "::1:80", "is not an address", "loopback"),
        (parse_address, "http://h:80", "is not an address", "loopback"),
        (parse_path, "s3://b/x", "s3:// is a URL, not a path", None),
        (parse_path, "sqlite://", "the path is empty", None),
        (parse_path, "a\0b", "the path holds a zero byte", None),
        (parse_path, "~nobody-of-this-name/x", "no home directory is known", "in full"),
    ],
)
def test_what_is_refused_says_why(parse: Callable[[str], object], text: str, cause: str, hint: str | None) -> None:
    """A bad value is quoted, and the hint shows how to write it."""
    with pytest.raises(BadValueError) as caught:
        parse(text)
    assert cause in str(caught.value)
    assert (caught.value.hint is None) if hint is None else hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "path"),
    [("/a/../b", "/b"), ("sqlite:///x/y.db", "/x/y.db"), ("sqlite3://rel.db", f"{Path.cwd()}/rel.db"),
     ("~/z", f"{Path.home()}/z"), ("x", f"{Path.cwd()}/x")],
)  # fmt: skip
def test_paths_become_absolute(text: str, path: str) -> None:
    """SQLite's schemes, the home directory and the working folder are resolved."""
    assert parse_path(text) == Path(os.path.normpath(path))


@given(st.text(alphabet="0123456789.smhunµKMGiB -+:[]/~$abc\0"))
def test_no_text_brings_another_error(text: str) -> None:
    """Whatever is written, a parser answers with a value or with its own error."""
    for parse in (parse_duration, parse_size, parse_count, parse_switch, parse_address, parse_path):
        try:
            parse(text)
        except BadValueError as error:
            assert str(error)  # noqa: PT017 - the error is one of two right answers
