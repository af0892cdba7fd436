"""Named instants at which a crash is most dangerous; a test makes the process die or fail there.

A failpoint costs one dictionary look-up when none is armed. They are armed only through the environment variable
``LSYNC_FAILPOINT`` (``name``, ``name=error`` or ``name@3`` for the third time it is reached), read once at start, or by
`arm` in a test of the same process. A crash is SIGKILL: no handler, no flush, no clean-up runs.
"""

from __future__ import annotations

import os
import signal
from typing import Final

NAMES: Final[set[str]] = set()
"""Every failpoint that the code declares; the sweep test takes them from here."""

_armed: dict[str, tuple[str, int]] = {}
_reached: dict[str, int] = {}


class InjectedError(OSError):
    """The error that an armed failpoint raises; an OSError so that it takes the path of a real one."""


def declare(name: str) -> str:
    """Register a failpoint when its module is imported, and return its name."""
    NAMES.add(name)
    return name


def hit(name: str) -> None:
    """Die or fail here if the failpoint is armed; otherwise do nothing."""
    if not _armed:
        return
    armed = _armed.get(name)
    if armed is None:
        return
    action, count = armed
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] != count:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise InjectedError(5, f"injected at failpoint {name}")


def arm(name: str, action: str = "kill", count: int = 1) -> None:
    """Arm a failpoint for its `count`-th passage: action "kill" or "error"."""
    if action not in {"kill", "error"}:
        raise ValueError(f"unknown failpoint action {action!r}: kill or error")
    _armed[name] = (action, count)
    _reached.pop(name, None)


def disarm() -> None:
    """Disarm every failpoint."""
    _armed.clear()
    _reached.clear()


def _arm_from_environment(spec: str | None) -> None:
    for item in (spec or "").split(","):
        if item:
            target, _, action = item.partition("=")
            name, _, count = target.partition("@")
            arm(name, action or "kill", int(count or 1))


_arm_from_environment(os.environ.get("LSYNC_FAILPOINT"))
