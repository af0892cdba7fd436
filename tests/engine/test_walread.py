"""What is read from the WAL: the last committed version of each page, where it stands, and its checksum."""

from __future__ import annotations

import pytest

from litestream_py.core.sync import ReadFrames
from litestream_py.engine import walread
from litestream_py.ltx.checksum import page_checksum
from litestream_py.wal.records import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frame_offset
from tests.support.lab import Lab

_PAGE = 512


@pytest.mark.parametrize("chunk_frames", [1, 3, 7, 10_000])
def test_each_page_comes_with_the_checksum_of_its_last_version(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, chunk_frames: int
) -> None:
    """Whatever is read at a time and wherever the reading is cut: checksum and place belong to one frame, the last."""
    app = lab.create(page_size=_PAGE)
    lab.sync()
    app.sql(*(f"insert or replace into t values({n % 5}, fill({100 + 60 * n}, {n}))" for n in range(40)))
    app.sql("begin", *(f"update t set b = fill(900, {n})" for n in range(3)), "commit")
    tailer = lab.tailer
    files, state, index = tailer.files, tailer.state, tailer.files.read_index()
    assert index.salts == state.wal.salts
    monkeypatch.setattr(walread, "_CHUNK_BYTES", chunk_frames * (FRAME_HEADER_SIZE + _PAGE))
    end = frame_offset(index.mx_frame + 1, _PAGE)
    assert (end - state.wal.offset) // (FRAME_HEADER_SIZE + _PAGE) > 50
    last: dict[int, int] = {}
    for wal_bytes_max in (1, 2_000, 9_000, 30_000, None):
        plan = ReadFrames(index.salts, state.wal.offset, end)
        pages = walread.read_pages(
            files, plan, page_size=_PAGE, seed=state.wal.frame_checksum, wal_bytes_max=wal_bytes_max
        )
        last.clear()
        for at in range(plan.start, pages.end, FRAME_HEADER_SIZE + _PAGE):
            last[int.from_bytes(files.read_wal(at, 4), "big")] = at + FRAME_HEADER_SIZE
        assert dict(zip(pages.pgnos.tolist(), pages.offsets.tolist(), strict=True)) == last
        sums = [page_checksum(pgno, files.read_wal(at, _PAGE)) for pgno, at in sorted(last.items())]
        assert pages.sums.tolist() == sums
    assert plan.start > WAL_HEADER_SIZE
