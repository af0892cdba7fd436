"""Read committed frames of the WAL into arrays: which page, where its last version stands, and its checksum.

Memory: 20 bytes a frame, and the frames themselves only while they are few (`_KEPT_BYTES`); a transaction of gigabytes
is read again page by page when its L0 file is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from litestream_py.core.sync import ReadFrames
from litestream_py.errors import WalFormatError
from litestream_py.local.dbfiles import DatabaseFiles
from litestream_py.ltx.checksum import row_checksums
from litestream_py.wal.records import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader
from litestream_py.wal.scan import scan_frames

_CHUNK_BYTES: Final = 1 << 20
_KEPT_BYTES: Final = 4 << 20


class WalMoved(Exception):  # noqa: N818 - not an error: the caller plans again
    """The WAL was restarted between planning and reading: nothing was published."""


class SickWal(Exception):  # noqa: N818 - not an error of ours: the caller heals the WAL
    """Frames that the wal-index has published do not verify in the file (SQLite's savepoint bug, up to 3.50.1).

    offset: bytes into the WAL of the first frame that does not verify. stop: why.
    """

    def __init__(self, offset: int, stop: str) -> None:
        super().__init__(f"frame at byte {offset} does not verify: {stop}")
        self.offset = offset
        self.stop = stop


@dataclass(slots=True)
class WalPages:
    """The last committed version of each page in a stretch of the WAL.

    pgnos: ascending uint32. offsets: int64, byte offset of the page's data in the WAL. sums: uint64 page checksums.
    commit: size of the database in pages after the last commit. end: byte offset behind it; frame_checksum: running
    checksum there. limited: committed frames stand behind `end`. regrown: whether a commit behind the page's last frame
    had cut the page off.
    """

    pgnos: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    sums: npt.NDArray[np.uint64]
    commit: int
    end: int
    frame_checksum: tuple[int, int]
    limited: bool
    regrown: npt.NDArray[np.bool_]
    kept: list[tuple[int, bytes]] = field(default_factory=list)

    def page(self, files: DatabaseFiles, offset: int, page_size: int) -> bytes | memoryview:
        """Return the page whose data stands at `offset` of the WAL."""
        for start, data in self.kept:
            if start <= offset < start + len(data):
                return memoryview(data)[offset - start : offset - start + page_size]
        return files.read_wal(offset, page_size)


def read_header(files: DatabaseFiles, salts: tuple[int, int]) -> WalHeader:
    """Return the WAL's header; raises WalMoved if it is not (or no longer) that of the generation `salts`."""
    try:
        header = WalHeader.parse(files.read_wal(0, WAL_HEADER_SIZE))
    except WalFormatError as error:
        # An index that has published frames of this generation proves that its header was written whole.
        if files.read_index().salts == salts:
            raise SickWal(0, error.reason) from error
        raise WalMoved from error
    if header.salts != salts:
        raise WalMoved
    return header


def check_unmoved(files: DatabaseFiles, salts: tuple[int, int]) -> None:
    """Raise WalMoved unless file and index are still the generation `salts`: nothing read since was overwritten."""
    read_header(files, salts)
    if files.read_index().salts != salts:
        raise WalMoved


def read_pages(
    files: DatabaseFiles,
    plan: ReadFrames,
    *,
    page_size: int,
    seed: tuple[int, int],
    wal_bytes_max: int | None,
) -> WalPages:
    """Read and verify the planned frames, cut at a commit once `wal_bytes_max` is passed.

    seed: running checksum at plan.start; ignored at the first frame, where the header has it. Raises WalMoved, SickWal.
    """
    header = read_header(files, plan.salts)
    frame_bytes = FRAME_HEADER_SIZE + page_size
    chunk_bytes = max(1, _CHUNK_BYTES // frame_bytes) * frame_bytes
    checksum = header.checksum if plan.start == WAL_HEADER_SIZE else seed
    keep = plan.end - plan.start <= _KEPT_BYTES
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    kept: list[tuple[int, bytes]] = []
    position, committed, limited = plan.start, False, False
    while position < plan.end:
        if wal_bytes_max is not None and committed and position - plan.start >= wal_bytes_max:
            limited = True
            break
        data = files.read_wal(position, min(chunk_bytes, plan.end - position))
        batch = scan_frames(
            data, page_size=page_size, salts=plan.salts, big_endian=header.big_endian, seed=checksum
        )
        if batch.valid * frame_bytes < min(chunk_bytes, plan.end - position):
            check_unmoved(files, plan.salts)
            raise SickWal(position + batch.valid * frame_bytes, batch.stop)
        offsets = np.arange(position, position + len(data), frame_bytes, dtype=np.int64) + FRAME_HEADER_SIZE
        sums = _sums(data, batch.pgnos, batch.last_commit, page_size)
        columns.append((batch.pgnos, offsets, sums, batch.commits, batch.checksums))
        checksum = (int(batch.checksums[-1][0]), int(batch.checksums[-1][1]))
        committed = committed or batch.last_commit > 0
        if keep:
            kept.append((position, data))
        position += len(data)
    check_unmoved(files, plan.salts)
    return _last_versions(columns, page_size=page_size, start=plan.start, end=plan.end, limited=limited, kept=kept)


def _sums(
    data: bytes, pgnos: npt.NDArray[np.uint32], last_commit: int, page_size: int
) -> npt.NDArray[np.uint64]:
    """Return the LTX page checksums of whole frames; 0 for one that cannot be its page's last version.

    That is so where another frame of the page follows in `data` that is committed there (frame number `last_commit` or
    before): a busy page has many frames, and only the last one counts.
    """
    rows = np.frombuffer(data, np.uint8).reshape(len(pgnos), FRAME_HEADER_SIZE + page_size)[:, FRAME_HEADER_SIZE:]
    _, from_end = np.unique(pgnos[:last_commit][::-1], return_index=True)
    if len(from_end) == last_commit:
        return row_checksums(pgnos, rows, page_size)
    wanted = np.concatenate((np.sort(last_commit - 1 - from_end), np.arange(last_commit, len(pgnos))))
    sums = np.zeros(len(pgnos), np.uint64)
    sums[wanted] = row_checksums(pgnos[wanted], (rows[frame] for frame in wanted.tolist()), page_size)
    return sums


def _last_versions(
    columns: list[tuple[npt.NDArray[Any], ...]],
    *,
    page_size: int,
    start: int,
    end: int,
    limited: bool,
    kept: list[tuple[int, bytes]],
) -> WalPages:
    pgnos, offsets, sums, commits, checksums = (np.concatenate(column) for column in zip(*columns, strict=True))
    commit_frames = commits.nonzero()[0]
    if not commit_frames.size:
        raise SickWal(start, "no commit frame before mxFrame")
    last = int(commit_frames[-1])
    commit = int(commits[last])
    pgnos, offsets, sums = pgnos[: last + 1], offsets[: last + 1], sums[: last + 1]
    unique, from_end = np.unique(pgnos[::-1], return_index=True)
    newest = len(pgnos) - 1 - from_end
    inside = unique <= commit  # pages that a later commit of this stretch cut off are gone
    unique, newest = unique[inside], newest[inside]
    sizes = np.where(commits[: last + 1] > 0, commits[: last + 1], np.iinfo(np.uint32).max)
    smallest_later = np.minimum.accumulate(sizes[::-1])[::-1]
    behind = int(offsets[last]) + page_size
    return WalPages(
        pgnos=unique,
        offsets=offsets[newest],
        sums=sums[newest],
        commit=commit,
        end=behind,
        frame_checksum=(int(checksums[last][0]), int(checksums[last][1])),
        limited=limited or behind < end,
        regrown=smallest_later[newest] < unique,
        kept=kept,
    )


def find_in_generation(
    files: DatabaseFiles, wanted: npt.NDArray[Any], *, backfilled_to: int, copied_to: int, end: int, page_size: int
) -> dict[int, int]:
    """Return, for pages that the stretch being copied does not hold, where another frame of this generation has them.

    backfilled_to, copied_to, end: offsets in the WAL, the last two of the end of the stretch and of the last published
    frame. The last frame before copied_to, else the first one behind. Needed for a page that the database shrank below
    and grew over again without writing it: SQLite takes its last frame, unless that was backfilled: then the file has
    the page, and zeros if it was cut off meanwhile.
    """
    frame_bytes = FRAME_HEADER_SIZE + page_size
    chunk_bytes = max(1, _CHUNK_BYTES // frame_bytes) * frame_bytes
    found: dict[int, int] = {}
    for position in range(WAL_HEADER_SIZE, end, chunk_bytes):
        data = files.read_wal(position, min(chunk_bytes, end - position))
        words = np.frombuffer(data, ">u4", count=len(data) // frame_bytes * (frame_bytes // 4))
        pgnos = words.reshape(-1, frame_bytes // 4)[:, 0]
        for frame in np.isin(pgnos, wanted).nonzero()[0].tolist():
            pgno, start = int(pgnos[frame]), position + frame * frame_bytes
            if backfilled_to <= start < copied_to or (start >= copied_to and pgno not in found):
                found[pgno] = start + FRAME_HEADER_SIZE
    return found
