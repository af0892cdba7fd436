"""Logging: one line per event, as logfmt or JSON, with secrets masked.

Text is logfmt (`time=... level=info event="file uploaded" txid=...`), JSON has the same keys. What libraries log
through the standard library at warning or above comes out in the same form, as event "library". structlog is imported
on first use: commands that log nothing don't pay for it.

Masked are the values of keys that name a secret, and user info and secret query parameters in every URL, wherever in
a value it stands. A secret that is put into the text of an event under no such name is not recognised.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LEVELS: Final = {"trace": 0, "debug": 10, "info": 20, "warn": 30, "error": 40}
"""Names of the levels, Litestream's; `warning` is taken for `warn`."""

MASK: Final = "***"
_SECRET_KEY = re.compile(
    r"secret|password|passwd|token|credential|authorization|private[-_]?key|sse[-_]\w*key", re.IGNORECASE
)
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:secret|password|token|credential|signature|access-?key)[^=&\s]*=)[^&\s\"']+", re.IGNORECASE
)

Event = MutableMapping[str, Any]


class LineSink:
    """Writes whole lines to a stream; a stream that fails costs the line, never the program.

    A full disk behind stderr must not stop replication. Lines that could not be written are counted, and the next one
    that can be says how many are missing.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._lost = 0

    def msg(self, message: str) -> None:
        """Write one line; safe to call from several threads."""
        with self._lock:
            gap = f"lost_log_lines={self._lost}\n" if self._lost else ""
            try:
                self._stream.write(f"{gap}{message}\n")
                self._stream.flush()
                self._lost = 0
            except (OSError, ValueError):  # ValueError: the stream has been closed
                self._lost += 1

    log = debug = info = warn = warning = error = critical = exception = msg


class _LibraryHandler(logging.Handler):
    """Passes on what libraries log, so that it is formatted and masked like the rest."""

    def emit(self, record: logging.LogRecord) -> None:
        log = get_logger().warning if record.levelno < logging.ERROR else get_logger().error
        log("library", logger=record.name, detail=record.getMessage())


def configure(
    *, level: str = "info", form: Literal["text", "json"] = "text", stderr: bool = False, stream: TextIO | None = None
) -> None:
    """Set up logging for the process; may be called again, the last call counts.

    level: a name of `LEVELS`, in any case. form: logfmt or JSON. stderr: else standard output. stream: where to write
    instead, for tests.
    """
    import structlog

    if stream is None:
        stream = sys.stderr if stderr else sys.stdout
    sink = LineSink(stream)
    renderer: Any = structlog.processors.JSONRenderer(default=lambda value: mask(str(value)))
    if form == "text":
        renderer = structlog.processors.LogfmtRenderer(key_order=["time", "level", "event"], bool_as_flag=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            redact,
            *([_flatten] if form == "text" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[normal_level(level)]),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _LibraryHandler)]
    root.addHandler(_LibraryHandler(logging.WARNING))


def get_logger(**bound: object) -> FilteringBoundLogger:
    """Return a structlog logger whose every event carries `bound`."""
    import structlog

    logger: FilteringBoundLogger = structlog.get_logger(**bound)
    return logger


def normal_level(name: str) -> str:
    """Return the name of a level as `LEVELS` has it; raises ValueError for anything else."""
    lowered = name.lower()
    lowered = "warn" if lowered == "warning" else lowered
    if lowered not in LEVELS:
        raise ValueError(f"{name!r} is no log level: {', '.join(LEVELS)}")
    return lowered


def redact(_logger: object, _method: str, event: Event) -> Event:
    """Mask the secrets of an event, nested values included (a structlog processor)."""
    return {key: MASK if _SECRET_KEY.search(key) and value else mask(value) for key, value in event.items()}


def mask(value: Any) -> Any:
    """Return a value with the secrets in it masked: strings, mappings, sequences; an exception as its text."""
    if isinstance(value, str):
        return _SECRET_PARAMETER.sub(rf"\1{MASK}", _USER_INFO.sub(f"{MASK}@", value))
    if isinstance(value, Mapping):
        return redact(None, "", dict(value))
    if isinstance(value, (list, tuple)):
        return [mask(item) for item in value]
    if isinstance(value, BaseException):
        return mask(str(value))
    return value


def _flatten(_logger: object, _method: str, event: Event) -> Event:
    """Make every value something that logfmt can hold in one line."""
    return {key: value if isinstance(value, (bool, int, float)) else mask(str(value)) for key, value in event.items()}
