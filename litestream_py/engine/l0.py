"""Execute a planned sync: changed pages of a stretch of WAL become one durable L0 file, the page checksums follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from litestream_py.core.position import WalPosition
from litestream_py.core.state import SyncResult, SyncState
from litestream_py.core.sync import ReadFrames
from litestream_py.engine.walread import WalMoved, WalPages, check_unmoved, find_in_generation
from litestream_py.errors import LsyncError, StateUnknownError
from litestream_py.failpoints import declare, hit
from litestream_py.local.dbfiles import DatabaseFiles
from litestream_py.local.meta import MetaDir
from litestream_py.local.pagesums import PageSums, Sums, xor_sums
from litestream_py.ltx.checksum import CHECKSUM_FLAG, page_checksum
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID, lock_pgno
from litestream_py.ltx.records import Header
from litestream_py.wal.records import frame_offset

AFTER_L0 = declare("sync.after_l0")
AFTER_SUMS = declare("sync.after_page_sums")

IN_DATABASE_FILE = -1
"""Stands for an offset in the WAL where a page's content is in the database file."""


def add_growth_pages(
    files: DatabaseFiles, pages: WalPages, plan: ReadFrames, *, commit_before: int, page_size: int
) -> WalPages:
    """Add every page that the database grew over without writing it in this stretch of WAL.

    A free-list leaf need not be written when the file grows past it; without it the chain could not be restored. Its
    content is its last frame of this generation that is not backfilled, else what the database file holds (zeros beyond
    its end). A frame behind this stretch counts too: a checkpoint may have put it into the file already, and the file
    must not change while we read.
    """
    grown = np.arange(commit_before + 1, pages.commit + 1, dtype=np.uint32)
    backfilled_to = frame_offset(files.read_index().n_backfill + 1, page_size)
    # Cut off, backfilled so (or skipped by that backfill), and grown over again: the frame is not what SQLite reads.
    stale = pages.regrown & (pages.offsets < backfilled_to)
    if stale.any():
        grown = np.union1d(grown, pages.pgnos[stale])
        pages.pgnos, pages.offsets, pages.sums = pages.pgnos[~stale], pages.offsets[~stale], pages.sums[~stale]
        pages.regrown = pages.regrown[~stale]
    missing = np.setdiff1d(grown, pages.pgnos, assume_unique=True)
    missing = missing[missing != lock_pgno(page_size)]
    if not missing.size:
        return pages
    earlier = find_in_generation(
        files, missing, backfilled_to=backfilled_to, copied_to=pages.end, end=plan.end, page_size=page_size
    )
    offsets = np.array([earlier.get(int(pgno), IN_DATABASE_FILE) for pgno in missing], np.int64)
    sums = np.array(
        [
            page_checksum(pgno, _read_page(files, pgno, offset, page_size))
            for pgno, offset in zip(missing.tolist(), offsets.tolist(), strict=True)
        ],
        np.uint64,
    )
    pgnos = np.concatenate((pages.pgnos, missing))
    order = np.argsort(pgnos, kind="stable")
    pages.pgnos = pgnos[order]
    pages.offsets = np.concatenate((pages.offsets, offsets))[order]
    pages.sums = np.concatenate((pages.sums, sums))[order]
    return pages


def _read_page(files: DatabaseFiles, pgno: int, offset: int, page_size: int) -> bytes:
    if offset == IN_DATABASE_FILE:
        return files.read_database((pgno - 1) * page_size, page_size)
    return files.read_wal(offset, page_size)


def checksum_after(sums: PageSums, state: SyncState, pages: WalPages) -> int:
    """Return the database checksum after these pages are written over the database at `state`."""
    replaced = pages.pgnos[pages.pgnos <= state.commit]
    total = state.database_checksum ^ xor_sums(sums.read(replaced)) ^ xor_sums(pages.sums)
    if pages.commit < state.commit:
        total ^= sums.checksum(pages.commit + 1, state.commit)
    return total | CHECKSUM_FLAG


def write_sync(
    meta: MetaDir,
    files: DatabaseFiles,
    sums: PageSums,
    state: SyncState,
    plan: ReadFrames,
    pages: WalPages,
    *,
    now_ms: int,
) -> SyncResult:
    """Write the L0 file of the next TXID, then the page checksums; durable on return.

    Raises WalMoved (nothing published) if the WAL was restarted while it was read, StateUnknownError if the file may or
    may not be published, or is and the page checksums could not follow: both are rolled forward when the state is
    derived again.
    """
    txid, page_size = state.txid.next(), state.page_size
    after = checksum_after(sums, state, pages)
    timestamp_ms = max(now_ms, state.timestamp_ms + 1)
    header = Header(
        page_size=page_size,
        commit=pages.commit,
        min_txid=txid,
        max_txid=txid,
        timestamp_ms=timestamp_ms,
        wal_offset=plan.start,
        wal_size=pages.end - plan.start,
        wal_salt1=plan.salts[0],
        wal_salt2=plan.salts[1],
    ).with_lsyn(state.database_checksum, after)

    def check() -> None:
        check_unmoved(files, plan.salts)

    chunks = _checked(encode(header, _contents(files, pages, page_size)), check)
    size = meta.write_l0(txid, chunks, timestamp_ms=timestamp_ms)
    hit_or_unknown(meta, AFTER_L0)
    follow(meta, sums, pages.pgnos, pages.sums, txid=txid, commit=pages.commit)
    hit_or_unknown(meta, AFTER_SUMS)
    return SyncResult(
        txid=txid,
        database_checksum=after,
        page_size=page_size,
        commit=pages.commit,
        wal=WalPosition(plan.salts, pages.end, pages.frame_checksum),
        timestamp_ms=timestamp_ms,
        pages=len(pages.pgnos),
        ltx_bytes=size,
        wal_bytes=pages.end - plan.start,
        limited=pages.limited,
    )


def _contents(files: DatabaseFiles, pages: WalPages, page_size: int) -> Iterator[tuple[int, bytes | memoryview]]:
    for pgno, offset, expected in zip(pages.pgnos.tolist(), pages.offsets.tolist(), pages.sums.tolist(), strict=True):
        if offset == IN_DATABASE_FILE:
            page = files.read_database((pgno - 1) * page_size, page_size)
            if page_checksum(pgno, page) != expected:  # backfilled between our two looks: the frame is there now
                raise WalMoved
            yield pgno, page
        else:
            yield pgno, pages.page(files, offset, page_size)


def _checked(chunks: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    """Pass chunks on, and check after the last page was read, before anything is published."""
    yield from chunks
    check()


def follow(
    meta: MetaDir, sums: PageSums, pgnos: npt.NDArray[np.uint32], values: Sums, *, txid: TXID, commit: int
) -> None:
    """Bring the page checksums up to a published L0 file; idempotent."""
    try:
        sums.write(pgnos, values)
        sums.stamp(txid, commit)
    except LsyncError as error:
        raise StateUnknownError("update", meta.pages_crc, error.cause) from error


def hit_or_unknown(meta: MetaDir, name: str) -> None:
    """Pass a failpoint that stands behind durability: an error there is an unknown outcome."""
    try:
        hit(name)
    except OSError as error:
        raise StateUnknownError("sync", meta.path, error) from error
