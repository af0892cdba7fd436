"""What to do at attach: continue where the local chain ends, or compare the database with it. Decided by proof; pure.

Continuing is right in two cases only (design section 5), and in both only while the database file is just as it was
recorded: one that was written to meanwhile may hold anything, and comparing it costs no more than reading it. The WAL
is still the generation that the position is in, and the frame before the position is still the one we copied: then
everything committed since stands behind it. Or there is no WAL content at all, the database file alone was the state at
our TXID, and nobody has touched that file since.
"""

from __future__ import annotations

from dataclasses import dataclass

from litestream_py.core.position import FileFacts, WalPosition
from litestream_py.ltx.ids import TXID
from litestream_py.wal.records import WAL_HEADER_SIZE, frame_offset
from litestream_py.wal.walindex import WalIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalChain:
    """What the local state says: the newest L0, and where in the WAL it ends as far as that is known.

    wal, file: None where only a resync's L0 (which has no place in the WAL) or no `position.json` tells.
    checksum_known: the frame checksum in `wal` is remembered; otherwise it must be computed from the start of the WAL.
    txid 0: an empty chain.
    """

    txid: TXID
    database_checksum: int
    page_size: int
    commit: int
    wal: WalPosition | None
    file: FileFacts | None
    file_complete: bool
    timestamp_ms: int
    checksum_known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachFacts:
    """What was found under the write lock, with our read transaction begun.

    last_frame_intact: the frame that ends at the chain's WAL position carries the salts and checksum we remember.
    """

    file: FileFacts
    index: WalIndex
    last_frame_intact: bool


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on at this position."""

    wal: WalPosition


@dataclass(frozen=True, slots=True)
class Resync:
    """Compare the whole database with the page checksums of the chain; `reason` for log and metric."""

    reason: str


def decide_continuity(chain: LocalChain, facts: AttachFacts) -> Continue | Resync:
    """Decide; pure."""
    index = facts.index
    if chain.file is not None and not chain.file.same_file(facts.file):
        return Resync("database-replaced")
    if index.mx_frame == 0:
        if chain.file_complete and chain.file == facts.file:
            return Continue(WalPosition(index.salts, WAL_HEADER_SIZE, (0, 0)))
        return Resync("wal-gone")
    if chain.wal is None or chain.file is None:
        return Resync("position-unknown")
    if chain.wal.salts != index.salts:
        return Resync("wal-restarted-while-away")
    if frame_offset(index.mx_frame + 1, chain.page_size) < chain.wal.offset:
        return Resync("wal-shorter-than-position")
    if not facts.last_frame_intact:
        return Resync("wal-rewritten")
    if chain.file != facts.file:
        return Resync("database-written-while-away")
    return Continue(chain.wal)
