"""How the bytes of an object are divided into parts: of a file, whose size is known, and of a stream, whose is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeAlias, cast

from litestream_py.clients.s3_body import FileSlice
from litestream_py.clients.specs import PART_SIZE_MAX
from litestream_py.errors import LocalIOError

Body: TypeAlias = "bytes | IO[bytes]"

PARTS_MAX: Final = 10_000
"""S3's limit on the parts of one upload."""

STREAM_PART_BYTES: Final = 8 << 20
"""Of a stream's first part, at most: unlike a file's parts, it lies in memory until it has arrived."""
STEADY_PARTS: Final = 3_000
"""Parts of a stream that have the size of the first; then it doubles every `GROWTH_PARTS`."""
GROWTH_PARTS: Final = 700


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes to upload; `slice` gives a fresh body for a part of them, from any thread."""

    size: int
    slice: Callable[[int, int], Body]


@contextmanager
def open_source(source: Path | bytes) -> Iterator[Source]:
    """Yield a source with its size in bytes; raises LocalIOError where the file cannot be opened."""
    if isinstance(source, bytes):
        view = source
        yield Source(len(view), lambda offset, size: view[offset : offset + size])
        return
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LocalIOError("read", source, error.strerror or error) from error
    try:
        yield Source(
            os.fstat(fd).st_size, lambda offset, size: cast("IO[bytes]", FileSlice(fd, offset, size, source))
        )
    finally:
        os.close(fd)


def part_ranges(size: int, part_size: int) -> list[tuple[int, int]]:
    """Return (offset, size) of each part, in bytes; the part size grows where S3's limit of 10,000 asks for it."""
    part_size = max(part_size, -(-size // PARTS_MAX))
    return [(offset, min(part_size, size - offset)) for offset in range(0, size, part_size)]


def stream_part_size(part_size: int, number: int) -> int:
    """Return the size of a stream's part by its number (from 1): nobody knows its end, and parts are 10,000 at most.

    8 MiB stay so up to 23 GiB, are 64 MiB at 100 GiB and reach 11 TiB; 5 MiB, the least, reach 6.8 TiB.
    """
    doublings = max(0, -(-(number - STEADY_PARTS) // GROWTH_PARTS))
    return min(min(part_size, STREAM_PART_BYTES) << doublings, PART_SIZE_MAX)


def cut(chunks: Iterator[bytes], part_size: Callable[[int], int]) -> Iterator[bytes]:
    """Yield a stream in parts, each of `part_size(number)` bytes but the last; none is empty.

    They are bytearrays, called bytes: the SDK sends one as it is, where it would wrap bytes into a file.
    """
    number, part, filled = 1, bytearray(part_size(1)), 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            taken = min(len(rest), len(part) - filled)
            memoryview(part)[filled : filled + taken] = rest[:taken]
            rest, filled = rest[taken:], filled + taken
            if filled == len(part):
                yield cast("bytes", part)
                number, part, filled = number + 1, bytearray(part_size(number + 1)), 0
    if filled:
        del part[filled:]
        yield cast("bytes", part)
