"""Wal-index values for decision tables."""

from __future__ import annotations

from litestream_py.wal.walindex import WalIndex


def wal_index(
    mx_frame: int, n_backfill: int = 0, *, salts: tuple[int, int] = (1, 2), page_size: int = 4096
) -> WalIndex:
    """Return what a wal-index with these numbers says."""
    return WalIndex(
        change=1,
        big_endian=False,
        page_size=page_size,
        mx_frame=mx_frame,
        n_page=10,
        frame_checksum=(3, 4),
        salts=salts,
        n_backfill=n_backfill,
        read_marks=(0, 0, 0, 0, 0),
        n_backfill_attempted=n_backfill,
    )
