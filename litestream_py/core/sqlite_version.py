"""Which SQLite libraries have the WAL-reset bug, and which the savepoint bug.

The WAL-reset bug (3.7.0 to 3.51.2; fixed in 3.51.3, backported to 3.44.6 and 3.50.7) loses commits when a checkpointer
races a writer that restarts the WAL. Only the library of the checkpointer matters, so ours must be free of it.
"""

from __future__ import annotations

from typing import Final

SAVEPOINT_BUG_FIXED_IN: Final = "3.50.2"
WAL_RESET_BUG_FIXED_IN: Final = "3.51.3"

_FIXED: Final = (3, 51, 3)
_BACKPORTS: Final = {(3, 44): 6, (3, 50): 7}


def parse_version(text: str) -> tuple[int, int, int]:
    """Return (major, minor, patch) of an SQLite version such as "3.51.3"; raises ValueError."""
    major, minor, patch = (int(part) for part in [*text.split("."), "0", "0"][:3])
    return major, minor, patch


def has_wal_reset_bug(version: str) -> bool:
    """Tell whether an SQLite library of this version loses commits as a checkpointer."""
    parsed = parse_version(version)
    if parsed >= _FIXED:
        return False
    patch = _BACKPORTS.get(parsed[:2])
    return patch is None or parsed[2] < patch
