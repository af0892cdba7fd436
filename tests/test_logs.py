"""Logging: one line per event in both forms, levels, secrets masked, and a broken stream that harms nobody."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import PurePath

import pytest

from litestream_py import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream to log to; logging is as it was afterwards."""
    import structlog

    handlers = list(logging.getLogger().handlers)
    yield io.StringIO()
    logging.getLogger().handlers = handlers
    structlog.reset_defaults()


def test_text_is_one_logfmt_line_per_event(stream: io.StringIO) -> None:
    """Even a traceback and a value with a newline stay on the event's line."""
    logs.configure(stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logs.get_logger(db="/a b.db").error("sync failed", exc_info=True, note="x\ny", nothing=None)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("time=")
    assert ' level=error event="sync failed" db="/a b.db" note=x\\ny nothing=None exception="Traceback' in line


def test_json_is_one_object_per_event(stream: io.StringIO) -> None:
    """Numbers and nested values keep their types."""
    logs.configure(form="json", stream=stream)
    logs.get_logger(db="/a.db").info("file uploaded", size=12, pages=[1, 2])
    event = json.loads(stream.getvalue())
    assert event.pop("time").endswith("Z")
    assert event == {"db": "/a.db", "event": "file uploaded", "level": "info", "size": 12, "pages": [1, 2]}


@pytest.mark.parametrize(("level", "told"), [("trace", 3), ("debug", 3), ("INFO", 2), ("warning", 1), ("error", 0)])
def test_the_level_filters(stream: io.StringIO, level: str, told: int) -> None:
    """A level tells itself and what is worse; its name is taken in any case."""
    logs.configure(level=level, stream=stream)
    log = logs.get_logger()
    log.debug("a")
    log.info("b")
    log.warning("c")
    assert len(stream.getvalue().splitlines()) == told


def test_an_unknown_level_is_named() -> None:
    """A level that does not exist is an error that lists those that do."""
    with pytest.raises(ValueError, match="'loud' is no log level: trace, debug, info, warn, error"):
        logs.configure(level="loud")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_reaches_the_stream(stream: io.StringIO, form: str) -> None:
    """Secrets in keys, URLs, exceptions, nested values and the words of libraries are masked in both forms."""
    logs.configure(form="json" if form == "json" else "text", stream=stream)
    log = logs.get_logger(replica="s3://user:HUSH@host/x?secret-access-key=HUSH&region=eu")
    log.info("a", secret_access_key="HUSH", sse_customer_key="HUSH", path=PurePath("x/y"))
    log.info("a", error=ValueError("https://u:HUSH@h/?X-Amz-Signature=HUSH"))
    log.info("b", nested={"password": "HUSH", "urls": ["sftp://u:HUSH@h"]})
    logging.getLogger("urllib3").warning("retrying https://u:HUSH@h?sessionToken=HUSH")
    text = stream.getvalue()
    assert "HUSH" not in text
    assert text.count("***") == 2 * 3 + 2 + 2 + 2 + 2
    assert "region=eu" in text


def test_libraries_speak_in_our_form_from_warning_up(stream: io.StringIO) -> None:
    """A library's warning becomes one event, its chatter none; setting up twice does not double it."""
    logs.configure(level="debug", form="json", stream=stream)
    logs.configure(level="debug", form="json", stream=stream)
    logging.getLogger("botocore").info("chatter")
    logging.getLogger("botocore").error("gone %s", "wrong")
    event = json.loads(stream.getvalue())
    assert (event["event"], event["logger"], event["detail"], event["level"]) == (
        "library", "botocore", "gone wrong", "error",
    )  # fmt: skip


class _Broken(io.StringIO):
    """A stream that is out of space for its first two writes."""

    refusals = 2

    def write(self, text: str) -> int:
        if self.refusals:
            self.refusals -= 1
            raise OSError(28, "no space left on device")
        return super().write(text)


def test_a_stream_that_fails_costs_lines_and_says_how_many(stream: io.StringIO) -> None:
    """Logging to a full disk raises nothing, and the gap is told once there is room again."""
    broken = _Broken()
    logs.configure(stream=broken)
    for event in ("one", "two", "three"):
        logs.get_logger().info(event)
    first, second = broken.getvalue().splitlines()
    assert first == "lost_log_lines=2"
    assert "event=three" in second
