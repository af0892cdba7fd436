"""Keys and metadata of an S3 replica.

| object | key |
|---|---|
| LTX file | ``<prefix>/%04x/<min>-<max>.ltx``, the level as four hex digits |
| side object | ``<prefix>/lsync/<key>`` |

Without a prefix the leading slash falls away too. Each LTX file carries the metadata ``litestream-timestamp``: the
timestamp of its header as RFC 3339 in UTC with milliseconds, trailing zeros of the fraction trimmed and no fraction
at all where it is zero ("2026-11-20T13:37:09.87Z").
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from litestream_py.ltx.ids import FileName

TIMESTAMP_METADATA: Final = "litestream-timestamp"
CONTENT_TYPE: Final = "application/octet-stream"

_RFC3339 = re.compile(r"([0-9-]{10})[Tt]([0-9:]{8})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII)


def level_prefix(prefix: str, level: int) -> str:
    """Return the prefix that all keys of a level share, the slash at its end included."""
    return f"{_folder(prefix)}{level:04x}/"


def file_key(prefix: str, name: FileName) -> str:
    """Return the key of an LTX file."""
    return level_prefix(prefix, name.level) + name.name


def side_key(prefix: str, key: str) -> str:
    """Return the key of a side object."""
    return f"{_folder(prefix)}lsync/{key}"


def format_timestamp(timestamp_ms: int) -> str:
    """Return Unix milliseconds as the metadata spells them."""
    seconds, ms = divmod(timestamp_ms, 1000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{ms:03d}".rstrip("0").rstrip(".") + "Z" if ms else f"{whole}Z"


def parse_timestamp(text: str) -> int | None:
    """Return the Unix milliseconds of an RFC 3339 time (finer digits are cut off), or None if it is none."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    try:
        whole = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[4].upper()}")
    except ValueError:  # a 30th of February
        return None
    return int(whole.timestamp()) * 1000 + int(f"{match[3] or ''}000"[:3])


def _folder(prefix: str) -> str:
    return f"{prefix}/" if prefix else ""
