"""What attach has to find out about the WAL before continuity can be decided."""

from __future__ import annotations

import struct
from dataclasses import replace

from litestream_py.core.continuity import LocalChain
from litestream_py.core.position import WalPosition
from litestream_py.core.sync import ReadFrames
from litestream_py.engine.walread import SickWal, WalMoved, read_header, read_pages
from litestream_py.local.dbfiles import DatabaseFiles
from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID
from litestream_py.wal.records import FRAME_HEADER_SIZE, WAL_HEADER_SIZE

_FRAME_HEADER = struct.Struct(">6I")


def empty_chain(page_size: int) -> LocalChain:
    """Return the chain before the first snapshot."""
    return LocalChain(
        txid=TXID(0),
        database_checksum=CHECKSUM_FLAG,
        page_size=page_size,
        commit=0,
        wal=None,
        file=None,
        file_complete=False,
        timestamp_ms=0,
    )


def complete_position(files: DatabaseFiles, chain: LocalChain) -> LocalChain:
    """Fill in the running checksum of a position that only an L0 header tells, by verifying the WAL from its start.

    Where the WAL does not hold together up to there, the position is unknown.
    """
    if chain.wal is None or chain.checksum_known:
        return chain
    try:
        plan = ReadFrames(chain.wal.salts, WAL_HEADER_SIZE, chain.wal.offset)
        pages = read_pages(files, plan, page_size=chain.page_size, seed=(0, 0), wal_bytes_max=None)
    except (SickWal, WalMoved):
        return replace(chain, wal=None, checksum_known=True)
    if pages.end != chain.wal.offset:
        return replace(chain, wal=None, checksum_known=True)
    position = WalPosition(chain.wal.salts, chain.wal.offset, pages.frame_checksum)
    return replace(chain, wal=position, checksum_known=True)


def last_frame_intact(files: DatabaseFiles, chain: LocalChain) -> bool:
    """Tell whether the frame that ends at the chain's position still has its salts and running checksum."""
    if chain.wal is None:
        return False
    try:
        header = read_header(files, chain.wal.salts)
    except (SickWal, WalMoved):
        return False
    if chain.wal.offset == WAL_HEADER_SIZE:
        return True
    start = chain.wal.offset - FRAME_HEADER_SIZE - chain.page_size
    data = files.read_wal(start, FRAME_HEADER_SIZE)
    if len(data) < FRAME_HEADER_SIZE:
        return False
    _, _, salt1, salt2, sum1, sum2 = _FRAME_HEADER.unpack(data)
    return (salt1, salt2) == header.salts and (sum1, sum2) == chain.wal.frame_checksum
