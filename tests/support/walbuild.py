"""Builds WAL files and wal-index headers from values, with the plain checksum only."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

from litestream_py.wal.checksum import checksum


class Frame(NamedTuple):
    """What a frame holds: page number, commit size in pages (0: none), page."""

    pgno: int
    commit: int
    page: bytes


def build_header(
    *, page_size: int, salts: tuple[int, int], big_endian: bool, version: int = 3007000, checkpoint_seq: int = 0
) -> bytes:
    """Return the 32 bytes of a WAL header."""
    fields = struct.pack(">6I", 0x377F0683 if big_endian else 0x377F0682, version, page_size, checkpoint_seq, *salts)
    return fields + struct.pack(">2I", *checksum(fields, big_endian=big_endian))


def build_frames(frames: Iterable[Frame], *, salts: tuple[int, int], big_endian: bool, seed: tuple[int, int]) -> bytes:
    """Return the bytes of a chain of frames."""
    out = bytearray()
    for frame in frames:
        head = struct.pack(">2I", frame.pgno, frame.commit)
        seed = checksum(head + frame.page, big_endian=big_endian, seed=seed)
        out += head + struct.pack(">4I", *salts, *seed) + frame.page
    return bytes(out)


def build_wal_index(
    *,
    mx_frame: int,
    n_backfill: int = 0,
    page_size: int = 4096,
    salts: tuple[int, int] = (1, 2),
    version: int = 3007000,
    in_use: int = 1,
    read_marks: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0),
) -> bytes:
    """Return the first 136 bytes of a ``-shm`` file."""
    copy = struct.pack("=I4xIBBHIIII", version, 7, in_use, 0, page_size & 0xFFFF or 1, mx_frame, 3, 11, 12)
    copy += struct.pack(">II", *salts)
    copy += struct.pack("=II", *checksum(copy, big_endian=sys.byteorder == "big"))
    return copy * 2 + struct.pack("=I5I8xI4x", n_backfill, *read_marks, n_backfill)
