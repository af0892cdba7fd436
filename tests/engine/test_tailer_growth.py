"""Pages that a database grows over: cut off and grown again by SQLite, and never written at all (built by hand).

No SQLite that was tried leaves a page unwritten that it grows over (18 programs with 3.40.1: freed leaves, dropped
tables, savepoints, spilled caches, every secure_delete). The format allows it, and a chain without it cannot be
restored, so the files are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from litestream_py.core.sync import ReadFrames
from litestream_py.engine.l0 import add_growth_pages
from litestream_py.engine.resync import read_snapshot
from litestream_py.engine.walread import WalPages, read_pages
from litestream_py.local.dbfiles import DatabaseFiles, shm_path, wal_path
from litestream_py.ltx.checksum import page_checksum
from litestream_py.wal.records import frame_offset
from tests.support.app import App
from tests.support.lab import Lab
from tests.support.walbuild import Frame, build_frames, build_header, build_wal_index

SIZE = 512
SALTS = (11, 12)


def regrow(app: App, pages: int) -> None:
    """Grow by `pages` pages in one transaction and free them again."""
    app.sql(
        "begin",
        f"insert into t(id, b) values(1000000, fill({pages * 500}, 7))",
        "delete from t where id = 1000000",
        "insert into t(b) values(fill(300, 8))",
        "commit",
    )


@pytest.mark.parametrize("checkpoint", ["none", "passive", "seal", "truncate"])
@pytest.mark.parametrize("synced", [True, False])
def test_pages_cut_off_and_grown_over_again(lab: Lab, checkpoint: str, synced: bool) -> None:
    """Shrink, then regrow, with or without a sync and a checkpoint in between: each TXID restores to what was seen."""
    app = lab.create("insert into t(b) values(fill(60000, 1))", page_size=SIZE)
    lab.note()
    app.sql("update t set b = fill(60000, 2)")
    if synced:
        lab.note()
    app.sql("delete from t", "vacuum")
    if synced:
        lab.note()
    match checkpoint:
        case "passive":  # all backfilled, and our mark keeps the WAL from being restarted
            lab.tailer.hand_over_read(lab.tailer.files.read_index())
            (row,) = app.sql("pragma wal_checkpoint(passive)")
            assert row[1] == row[2]
        case "seal":
            assert lab.checkpoint().complete
        case "truncate":
            assert lab.truncate().truncated
    regrow(app, 100)
    lab.note()
    app.sql("insert into t(b) values(fill(20000, 3))")
    lab.note()


def test_a_backlog_is_cut_at_commits(lab: Lab) -> None:
    """With more WAL than one file may take, each file ends at a commit and all of them together at the newest state."""
    lab.limits = replace(lab.limits, sync_wal_bytes_max=1 << 20)
    app = lab.create()
    lab.note()
    app.sql(*[f"insert into t(b) values(fill(700000, {number}))" for number in range(5)], "delete from t", "vacuum")
    results = lab.sync()
    assert [result.limited for result in results] == [True] * (len(results) - 1) + [False]
    assert len(results) >= 3
    assert all(result.wal_bytes <= 2 << 20 for result in results[:-1])
    lab.note()


# --- files built by hand ---


def page(letter: str) -> bytes:
    """Return a page of one letter."""
    return letter.encode() * SIZE


class Built:
    """A database of one-letter pages and a WAL of (page, commit, letter) frames, as descriptors."""

    def __init__(self, folder: Path, database: str, frames: Sequence[tuple[int, int, str]], n_backfill: int) -> None:
        self.path = folder / "built.db"
        head = b"SQLite format 3\0" + SIZE.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32])
        self.path.write_bytes(head.ljust(SIZE, b"\0") + b"".join(map(page, database[1:])))
        header = build_header(page_size=SIZE, salts=SALTS, big_endian=False)
        seed = (int.from_bytes(header[24:28], "big"), int.from_bytes(header[28:32], "big"))
        chain = [Frame(pgno, commit, page(letter)) for pgno, commit, letter in frames]
        wal_path(self.path).write_bytes(header + build_frames(chain, salts=SALTS, big_endian=False, seed=seed))
        index = build_wal_index(mx_frame=len(frames), n_backfill=n_backfill, page_size=SIZE, salts=SALTS)
        shm_path(self.path).write_bytes(index)
        self.files = DatabaseFiles(self.path)
        self.files.open_database()
        self.files.open_sidecars()

    def stretch(self, first: int, last: int, *, wal_bytes_max: int | None = None) -> tuple[ReadFrames, WalPages]:
        """Read frames `first` to `last`; the seed is taken from the frame before."""
        start = frame_offset(first, SIZE)
        before = self.files.read_wal(start - (SIZE + 8 if first > 1 else 8), 8)
        seed = (int.from_bytes(before[:4], "big"), int.from_bytes(before[4:], "big"))
        plan = ReadFrames(SALTS, start, frame_offset(last + 1, SIZE))
        return plan, read_pages(self.files, plan, page_size=SIZE, seed=seed, wal_bytes_max=wal_bytes_max)

    def letters(self, pages: WalPages) -> str:
        """Return number and letter of each page that would be written, checking its checksum."""
        out = ""
        for pgno, offset, expected in zip(pages.pgnos, pages.offsets, pages.sums, strict=True):
            in_file = offset < 0
            data = self.files.read_database((pgno - 1) * SIZE, SIZE) if in_file else self.files.read_wal(offset, SIZE)
            assert page_checksum(int(pgno), data) == expected
            out += f"{pgno}{chr(data[0]) if data[0] else '0'} "
        return out.strip()


Build = Callable[[str, Sequence[tuple[int, int, str]], int], Built]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Builds files, and closes their descriptors in the end."""
    with ExitStack() as exits:

        def make(database: str, frames: Sequence[tuple[int, int, str]], n_backfill: int) -> Built:
            built = Built(tmp_path, database, frames, n_backfill)
            exits.callback(built.files.close)
            return built

        yield make


# In the file pages are "xab...", x being page 1. Frames are (page, size at commit or 0, letter).
OLD = [(3, 0, "p"), (4, 4, "q"), (2, 2, "r")]  # two pages written, then cut off
NEW = [(1, 5, "s")]  # grown over pages 3, 4 and 5, none of them written


@pytest.mark.parametrize(
    ("database", "frames", "first", "commit_before", "n_backfill", "expected"),
    [
        pytest.param("xabc", [(1, 5, "s")], 1, 2, 0, "1s 3b 4c 50", id="never written: the file, zeros behind its end"),
        pytest.param("xabc", [*OLD, *NEW], 4, 2, 0, "1s 3p 4q 50", id="frame not backfilled"),
        pytest.param("xr", [*OLD, *NEW], 4, 2, 3, "1s 30 40 50", id="backfilled after the cut"),
        pytest.param("xabq", [*OLD, *NEW], 4, 2, 2, "1s 3b 4q 50", id="backfilled in part"),
        pytest.param("xabc", [*OLD, *NEW], 1, 4, 0, "1s 2r 3p 4q 50", id="cut within the stretch, not backfilled"),
        pytest.param("xr", [*OLD, *NEW], 1, 4, 3, "1s 2r 30 40 50", id="cut within the stretch, backfilled"),
        pytest.param("xr", [*OLD, *NEW, (3, 5, "t")], 1, 4, 3, "1s 2r 3t 40 50", id="written again after the cut"),
    ],
)
def test_a_page_grown_over_holds_what_sqlite_reads(
    build: Build,
    database: str,
    frames: list[tuple[int, int, str]],
    first: int,
    commit_before: int,
    n_backfill: int,
    expected: str,
) -> None:
    """A frame that is not backfilled counts, else the database file does: so every new reader of SQLite has it."""
    built = build(database, frames, n_backfill)
    plan, pages = built.stretch(first, len(frames))
    pages = add_growth_pages(built.files, pages, plan, commit_before=commit_before, page_size=SIZE)
    assert built.letters(pages) == expected


def test_a_comparison_takes_backfilled_pages_from_the_file(build: Build) -> None:
    """The snapshot under a read mark overlays only frames that are not backfilled."""
    built = build("xr", [*OLD, *NEW], 3)
    index = built.files.read_index()
    snapshot = read_snapshot(built.files, replace(index, n_page=5), SIZE)
    assert "".join(chr(data[0]) if data[0] else "0" for _, data in snapshot.pages(2, 5)) == "r000"
    assert [bytes(data) for _, data in snapshot.pages(1, 1)] == [page("s")]


def test_a_page_written_behind_the_cut_is_stable(build: Build) -> None:
    """Where the stretch ends before the page's first frame, that frame stands in: the file may change any moment."""
    built = build("xab", [(1, 5, "s"), (4, 5, "t"), (5, 5, "u")], 0)
    plan, pages = built.stretch(1, 1)
    plan = replace(plan, end=frame_offset(4, SIZE))
    pages = add_growth_pages(built.files, pages, plan, commit_before=3, page_size=SIZE)
    assert built.letters(pages) == "1s 4t 5u"
