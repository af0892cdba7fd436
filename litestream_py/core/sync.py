"""`plan_sync`: from what we hold and what the wal-index publishes, decide which frames to read next.

Only frames that the wal-index has published (mxFrame) are read: they are what every SQLite connection takes for
committed and none of them changes any more. The file alone would also show a commit whose writer failed before
publishing it.
"""

from __future__ import annotations

from dataclasses import dataclass

from litestream_py.core.state import SyncState
from litestream_py.wal.records import WAL_HEADER_SIZE, frame_offset
from litestream_py.wal.walindex import WalIndex


@dataclass(frozen=True, slots=True)
class Nothing:
    """No committed frame beyond the position."""


@dataclass(frozen=True, slots=True)
class ReadFrames:
    """Read the committed frames in [start, end) of the generation `salts`.

    At the first frame of a generation (start == 32) the seed of the running checksum is in the WAL header.
    """

    salts: tuple[int, int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ContinuityLost:
    """What we hold and what the WAL holds no longer join; only comparing the database heals this."""

    reason: str


SyncPlan = Nothing | ReadFrames | ContinuityLost


def plan_sync(state: SyncState, index: WalIndex) -> SyncPlan:
    """Decide what to read; pure. `index` must be stable and read while our read transaction is held."""
    if index.mx_frame and index.page_size != state.page_size:
        return ContinuityLost("page-size-changed")
    # An empty generation (mxFrame 0) is judged like any other: restarted or truncated before we had copied all of the
    # one before, it is a loss, though there is nothing to read in it.
    end = frame_offset(index.mx_frame + 1, state.page_size)
    if index.salts == state.wal.salts:
        if end < state.wal.offset:
            return ContinuityLost("wal-shorter-than-position")
        return Nothing() if end == state.wal.offset else ReadFrames(index.salts, state.wal.offset, end)
    if not state.sealed:
        return ContinuityLost("restarted-while-not-sealed")
    return ReadFrames(index.salts, WAL_HEADER_SIZE, end) if index.mx_frame else Nothing()
