"""Compare the whole database with the page checksums of the chain, and ship what differs as one ordinary L0 file.

The first snapshot is the same with nothing to compare with: all pages differ. Two passes under one read transaction:
the first computes every page's checksum and marks what differs (one bit a page), the second reads the marked pages and
encodes them, because the database checksum stands in the header, in front. Memory: one block of pages, and the bits.

While our read transaction is held, a page's content at the read mark does not change: it is its last frame up to
mxFrame, which nobody can overwrite, or else the database file, which backfill changes only for pages that have such a
frame. On a fully backfilled WAL it is the database file alone, and nobody can backfill (slot 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from litestream_py.core.continuity import LocalChain
from litestream_py.core.position import WalPosition
from litestream_py.core.state import SyncResult
from litestream_py.core.sync import ReadFrames
from litestream_py.engine.walread import WalPages, read_pages
from litestream_py.errors import LsyncError, StateUnknownError
from litestream_py.failpoints import declare, hit
from litestream_py.local.dbfiles import DatabaseFiles
from litestream_py.local.meta import MetaDir
from litestream_py.local.pagesums import PageSums
from litestream_py.ltx.checksum import page_checksum, page_checksums
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import lock_pgno
from litestream_py.ltx.records import Header
from litestream_py.wal.records import WAL_HEADER_SIZE, frame_offset
from litestream_py.wal.walindex import WalIndex

AFTER_L0 = declare("resync.after_l0")
AFTER_SUMS = declare("resync.after_page_sums")

_BLOCK_BYTES: Final = 4 << 20
_READ_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Snapshot:
    """The database as of a read mark: `commit` pages, from the WAL where `overlay` has them, else from the file."""

    files: DatabaseFiles
    page_size: int
    commit: int
    wal: WalPosition
    overlay: WalPages | None
    fully_backfilled: bool

    def pages(self, first: int, last: int) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield pages first to last in order, the lock page left out."""
        size, lock = self.page_size, lock_pgno(self.page_size)
        for start, data, newer in self._stretches(first, last):
            view = memoryview(data)
            for pgno in range(start, start + len(data) // size):
                if pgno == lock:
                    continue
                offset = newer.get(pgno)
                at = (pgno - start) * size
                yield pgno, view[at : at + size] if offset is None else self.files.read_wal(offset, size)

    def checksums(self, first: int, last: int) -> npt.NDArray[np.uint64]:
        """Return the LTX checksums of pages first to last; that of the lock page is 0."""
        size, lock = self.page_size, lock_pgno(self.page_size)
        sums = np.empty(last - first + 1, np.uint64)
        for start, data, newer in self._stretches(first, last):
            end = start + len(data) // size
            sums[start - first : end - first] = page_checksums(np.arange(start, end, dtype=np.uint32), data, size)
            for pgno, offset in newer.items():
                sums[pgno - first] = page_checksum(pgno, self.files.read_wal(offset, size))
        if first <= lock <= last:
            sums[lock - first] = 0
        return sums

    def _stretches(self, first: int, last: int) -> Iterator[tuple[int, bytes, dict[int, int]]]:
        """Yield first page, bytes in the database file, and offsets in the WAL of pages that are newer there."""
        step = max(1, _READ_BYTES // self.page_size)
        for start in range(first, last + 1, step):
            count = min(step, last + 1 - start)
            data = self.files.read_database((start - 1) * self.page_size, count * self.page_size)
            yield start, data, self._overlay_offsets(start, start + count - 1)

    def _overlay_offsets(self, first: int, last: int) -> dict[int, int]:
        if self.overlay is None:
            return {}
        low, high = np.searchsorted(self.overlay.pgnos, (first, last + 1)).tolist()
        return dict(
            zip(self.overlay.pgnos[low:high].tolist(), self.overlay.offsets[low:high].tolist(), strict=True)
        )


def read_snapshot(files: DatabaseFiles, index: WalIndex, page_size: int) -> Snapshot:
    """Describe the database as of `index`, read under the write lock with our read transaction begun.

    Raises SickWal if published frames do not verify, WalMoved never while the read transaction holds.
    """
    backfilled = index.mx_frame <= index.n_backfill
    if index.mx_frame == 0:
        size = files.facts().size
        wal = WalPosition(index.salts, WAL_HEADER_SIZE, (0, 0))
        return Snapshot(files, page_size, -(-size // page_size), wal, None, fully_backfilled=True)
    end = frame_offset(index.mx_frame + 1, page_size)
    overlay = None
    if not backfilled:
        plan = ReadFrames(index.salts, WAL_HEADER_SIZE, end)
        overlay = read_pages(files, plan, page_size=page_size, seed=(0, 0), wal_bytes_max=None)
        overlay.kept.clear()
        # Backfilled frames are in the file, or were skipped because a later commit had cut their pages off.
        newer = overlay.offsets >= frame_offset(index.n_backfill + 1, page_size)
        overlay.pgnos, overlay.offsets = overlay.pgnos[newer], overlay.offsets[newer]
    wal = WalPosition(index.salts, end, index.frame_checksum)
    return Snapshot(files, page_size, index.n_page, wal, overlay, fully_backfilled=backfilled)


def ship_differences(
    meta: MetaDir, snapshot: Snapshot, chain: LocalChain, old: PageSums | None, *, reason: str, now_ms: int
) -> tuple[SyncResult | None, PageSums]:
    """Write an L0 file of the pages that differ from `old` (None: all), and the new page checksums.

    Returns the result (None where no page differs: then no file is written) and the open `pages.crc`. Raises
    StateUnknownError when the file is published and the page checksums could not follow.
    """
    new = PageSums.create(meta.pages_crc.with_name("pages.crc.tmp"), snapshot.page_size)
    try:
        changed = _compare(snapshot, old, new)
        after = new.checksum(1, snapshot.commit)
        count = sum(int(np.count_nonzero(bits)) for bits in map(np.unpackbits, changed))
        if count == 0 and old is not None and snapshot.commit == chain.commit:
            new.discard()
            return None, old
        result = _write(meta, snapshot, chain, changed, count, after=after, reason=reason, now_ms=now_ms)
    except BaseException:
        new.discard()
        raise
    try:
        hit(AFTER_L0)
        new.stamp(result.txid, snapshot.commit)
        new.replace_into(meta.pages_crc)
        hit(AFTER_SUMS)
    except (LsyncError, OSError) as error:
        new.close()
        raise StateUnknownError("update", meta.pages_crc, error) from error
    if old is not None:
        old.close()
    return result, new


def _block_pages(snapshot: Snapshot) -> int:
    return max(8, _BLOCK_BYTES // snapshot.page_size)


def _compare(snapshot: Snapshot, old: PageSums | None, new: PageSums) -> list[npt.NDArray[np.uint8]]:
    """Compute every checksum into `new`; return, for each block of pages, the bits of those that differ from `old`."""
    changed = []
    step = _block_pages(snapshot)
    for first in range(1, snapshot.commit + 1, step):
        last = min(first + step - 1, snapshot.commit)
        sums = snapshot.checksums(first, last)
        new.write_range(first, sums)
        if old is None:
            differs = sums != 0
        else:
            before = old.read_range(first, last - first + 1)
            if last > old.commit:  # entries behind the old end are no checksums
                before[max(0, old.commit + 1 - first) :] = 0
            differs = sums != before
        changed.append(np.packbits(differs))
    return changed


def _write(
    meta: MetaDir,
    snapshot: Snapshot,
    chain: LocalChain,
    changed: list[npt.NDArray[np.uint8]],
    count: int,
    *,
    after: int,
    reason: str,
    now_ms: int,
) -> SyncResult:
    txid = chain.txid.next()
    timestamp_ms = max(now_ms, chain.timestamp_ms + 1)
    # The file has no place in the WAL. Offset 32 and size 0 say so, and let Litestream take the chain over.
    header = Header(
        page_size=snapshot.page_size,
        commit=snapshot.commit,
        min_txid=txid,
        max_txid=txid,
        timestamp_ms=timestamp_ms,
        wal_offset=WAL_HEADER_SIZE,
        wal_size=0,
        wal_salt1=snapshot.wal.salts[0],
        wal_salt2=snapshot.wal.salts[1],
    ).with_lsyn(chain.database_checksum if chain.txid else 0, after)

    def differing() -> Iterator[tuple[int, bytes | memoryview]]:
        step = _block_pages(snapshot)
        for number, bits in enumerate(changed):
            first = 1 + number * step
            last = min(first + step - 1, snapshot.commit)
            flags = np.unpackbits(bits, count=last - first + 1)
            if flags.any():
                low, high = first + int(flags.argmax()), last - int(flags[::-1].argmax())
                wanted = flags.tolist()
                for pgno, page in snapshot.pages(low, high):
                    if wanted[pgno - first]:
                        yield pgno, page

    size = meta.write_l0(txid, encode(header, differing()), timestamp_ms=timestamp_ms)
    return SyncResult(
        txid=txid,
        database_checksum=after,
        page_size=snapshot.page_size,
        commit=snapshot.commit,
        wal=snapshot.wal,
        timestamp_ms=timestamp_ms,
        pages=count,
        ltx_bytes=size,
        wal_bytes=0,
        sealed=True,
        file_complete=snapshot.fully_backfilled,
        reason=reason,
    )
