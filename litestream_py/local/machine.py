"""Who this machine is: a stable name for the owner object of a replica."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")


def writer_id(database: Path) -> str:
    """Return a stable hex name of (machine, database path): it survives restarts and the loss of local state."""
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        machine = ""
    text = f"{machine or socket.gethostname()}\0{database}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def host_name() -> str:
    """Return the name of this host, for people."""
    return socket.gethostname()
