"""Frames of a WAL, verified in bulk. The rules are those of `records`, in its order.

The caller reads bytes from its position on, without knowing how many of them are frames of this generation: the buffer
may end inside a frame, run into frames of older generations, or into a transaction that is being written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from litestream_py.wal.checksum import U32Array, expected_checksums
from litestream_py.wal.records import FRAME_HEADER_SIZE

_BLOCK_BYTES: Final = 512 << 10
"""Checksummed at a time: it stays in the processor's cache, and stale bytes behind the last valid frame cost little."""

_PGNO, _COMMIT, _SALT1, _SALT2, _SUM1, _FIELDS = 0, 1, 2, 3, 4, 6


class Stop(StrEnum):
    """Why the valid frames end."""

    END = "end"
    SHORT_FRAME = "short-frame"
    SALT = "salt"
    PAGE_NUMBER = "page-number"
    CHECKSUM = "checksum"


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """The valid frames at the beginning of a buffer; all arrays have `valid` rows and none refers to the buffer.

    pgnos: page numbers. commits: size of the database in pages for a commit frame, else 0. checksums: shape (valid, 2),
    the running checksum behind each frame. last_commit: number of frames up to and including the last commit frame, 0
    if there is none; the frames behind it are not committed. stop: why frame `valid` (counted from 0) is not valid.
    """

    valid: int
    pgnos: U32Array
    commits: U32Array
    stop: Stop
    checksums: U32Array
    last_commit: int


def scan_frames(
    buf: bytes | bytearray | memoryview,
    *,
    page_size: int,
    salts: tuple[int, int],
    big_endian: bool,
    seed: tuple[int, int],
) -> FrameBatch:
    """Return the valid frames that `buf` begins with.

    buf: bytes of the WAL file from a frame boundary on. page_size: bytes. salts, big_endian: the WAL header's. seed:
    the running checksum before the first frame: the header's, or that of the last frame of the batch before. Raises
    nothing: whatever the bytes, the valid frames end somewhere.
    """
    frame_bytes = FRAME_HEADER_SIZE + page_size
    slots, rest = divmod(len(buf), frame_bytes)
    frames = np.frombuffer(buf, dtype=">u4" if big_endian else "<u4", count=slots * (frame_bytes // 4))
    frames = frames.reshape(slots, frame_bytes // 4)
    headers = np.ascontiguousarray(frames.view(">u4")[:, :_FIELDS].T, dtype=np.uint32)

    valid, stop = _valid_headers(headers, salts)
    if stop is Stop.END and rest:
        stop = Stop.SHORT_FRAME
    stored = headers[_SUM1:].T
    chained = _chained(frames[:valid], stored[:valid], page_size, seed)
    if chained < valid:
        valid, stop = chained, Stop.CHECKSUM

    commits = headers[_COMMIT, :valid]
    commit_frames = commits.nonzero()[0]
    return FrameBatch(
        valid=valid,
        pgnos=headers[_PGNO, :valid],
        commits=commits,
        stop=stop,
        checksums=stored[:valid],
        last_commit=int(commit_frames[-1]) + 1 if commit_frames.size else 0,
    )


def _valid_headers(headers: U32Array, salts: tuple[int, int]) -> tuple[int, Stop]:
    """Return how many frames have the right salts and a page number, and what is wrong with the next one.

    headers: shape (6, n), a field a row.
    """
    foreign = (headers[_SALT1] != salts[0]) | (headers[_SALT2] != salts[1])
    wrong = foreign | (headers[_PGNO] == 0)
    first = _first_true(wrong)
    if first == len(wrong):
        return first, Stop.END
    return first, Stop.SALT if foreign[first] else Stop.PAGE_NUMBER


def _chained(frames: U32Array, stored: U32Array, page_size: int, seed: tuple[int, int]) -> int:
    """Return how many frames store the checksum that follows from the frame before them.

    stored: shape (n, 2), the checksums in the frames' headers.
    """
    before = np.empty_like(stored)
    before[:1] = seed
    before[1:] = stored[:-1]
    step = max(1, _BLOCK_BYTES // (FRAME_HEADER_SIZE + page_size))
    for start in range(0, len(frames), step):
        block = slice(start, start + step)
        wrong = expected_checksums(frames[block], before[block], page_size=page_size) != stored[block]
        first = _first_true(wrong[:, 0] | wrong[:, 1])
        if first < len(wrong):
            return start + first
    return len(frames)


def _first_true(flags: npt.NDArray[np.bool_]) -> int:
    """Return the index of the first true flag, or their number if there is none."""
    if not flags.size:
        return 0
    first = int(flags.argmax())
    return first if flags[first] else flags.size
