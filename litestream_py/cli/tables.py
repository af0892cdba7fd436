"""How tables, times and sizes look on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def rfc3339(ms: int) -> str:
    """Return Unix milliseconds as a UTC time with milliseconds, "2026-11-20T13:37:09.870Z"."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return the rows below their heads, columns aligned by two spaces or more, without trailing blanks."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def size_text(size: float) -> str:
    """Return a number of bytes in the largest unit that leaves it at 1 or more: "996 B", "1.5 MiB"."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def amount_text(files: int, size: int) -> str:
    """Return a number of files and their bytes: "1 file, 996 B"."""
    return f"{files} file{'' if files == 1 else 's'}, {size_text(size)}"
