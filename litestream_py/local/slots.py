"""Who holds which read slot of the wal-index: F_GETLK on the lock bytes of `-shm` (SQLite WAL format, 2.3.1)."""

from __future__ import annotations

import fcntl
import struct
import sys
from typing import Final

READ_SLOT_BYTE: Final = 123
"""Lock byte of read slot 0; slot k is k bytes on."""
NOT_USED: Final = 0xFFFFFFFF
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, len, pid


def foreign_reader_on(shm_fd: int, slot: int) -> bool:
    """Tell whether another process holds read slot `slot`; True where this platform cannot tell."""
    if not sys.platform.startswith("linux"):
        return True
    query = _FLOCK.pack(fcntl.F_WRLCK, 0, READ_SLOT_BYTE + slot, 1, 0)
    kind = int(_FLOCK.unpack(fcntl.fcntl(shm_fd, fcntl.F_GETLK, query))[0])
    return kind != fcntl.F_UNLCK


def reader_pinned_below(shm_fd: int, read_marks: tuple[int, ...], mx_frame: int) -> bool:
    """Tell whether another process reads at a mark below `mx_frame`, which would stop a checkpoint half-way.

    read_marks: the five marks of the wal-index; slot 0 stands for "the database file alone", which stops all backfill.
    """
    if foreign_reader_on(shm_fd, 0):
        return True
    return any(
        mark != NOT_USED and mark < mx_frame and foreign_reader_on(shm_fd, slot)
        for slot, mark in enumerate(read_marks)
        if slot > 0
    )
