"""Every golden WAL file reads as SQLite reads it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from litestream_py.errors import WalFormatError
from litestream_py.wal.records import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_count, frame_offset
from litestream_py.wal.scan import FrameBatch, Stop, scan_frames

GOLDEN = Path(__file__).parents[1] / "golden" / "wal"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "manifest.json").read_text("utf-8"))["cases"]
READABLE = [case for case in CASES if case["header_valid"]]
UNREADABLE = [case for case in CASES if not case["header_valid"]]

STOPS = {
    "end of file": Stop.END,
    "short frame": Stop.SHORT_FRAME,
    "salt": Stop.SALT,
    "page number 0": Stop.PAGE_NUMBER,
    "frame checksum": Stop.CHECKSUM,
}
REASONS = {
    "no header": "wal-header-short",
    "magic": "wal-magic",
    "header checksum": "wal-header-checksum",
    "version": "wal-version",
}


def name(case: dict[str, Any]) -> str:
    return str(case["name"])


def read_wal(case: dict[str, Any]) -> bytes:
    return Path(GOLDEN, case["wal"]).read_bytes()


def scan(header: WalHeader, frames: bytes | memoryview, seed: tuple[int, int] | None = None) -> FrameBatch:
    return scan_frames(
        frames,
        page_size=header.page_size,
        salts=header.salts,
        big_endian=header.big_endian,
        seed=header.checksum if seed is None else seed,
    )


def frames_of(batch: FrameBatch) -> list[list[int]]:
    return [[int(pgno), int(commit)] for pgno, commit in zip(batch.pgnos, batch.commits, strict=True)]


def test_every_case_is_either_readable_or_not() -> None:
    """The manifest names every golden WAL file, and both kinds are among them."""
    assert {case["wal"] for case in CASES} == {path.name for path in GOLDEN.glob("*.db-wal")}
    assert len(READABLE) > len(UNREADABLE) > 0


@pytest.mark.parametrize("case", READABLE, ids=name)
def test_header_fields(case: dict[str, Any]) -> None:
    """The header parses to the fields that the manifest lists."""
    header = WalHeader.parse(read_wal(case))
    assert header.page_size == case["page_size"]
    assert header.checkpoint_seq == case["checkpoint_seq"]
    assert header.salts == (int(case["salt1"], 16), int(case["salt2"], 16))
    assert header.big_endian == (case["checksum_endian"] == "big")


@pytest.mark.parametrize("case", UNREADABLE, ids=name)
def test_bad_header_is_refused_with_its_reason(case: dict[str, Any]) -> None:
    """A WAL header that SQLite does not use is refused, and the reason says why."""
    with pytest.raises(WalFormatError) as caught:
        WalHeader.parse(read_wal(case))
    assert caught.value.reason == REASONS[case["stop"]]


@pytest.mark.parametrize("case", READABLE, ids=name)
def test_frames(case: dict[str, Any]) -> None:
    """Read whole, a WAL has the valid frames, the committed frames, the end and the stop that SQLite sees."""
    wal = read_wal(case)
    header = WalHeader.parse(wal)
    batch = scan(header, wal[WAL_HEADER_SIZE:])
    assert frame_count(len(wal), header.page_size) == case["frame_slots_in_file"]
    assert batch.valid == case["valid_frames"]
    assert batch.last_commit == case["committed_frames"]
    assert batch.stop is STOPS[case["stop"]]
    assert frames_of(batch) == case["frames"]
    assert frame_offset(batch.valid + 1, header.page_size) == case["end_offset"]


@pytest.mark.parametrize("case", READABLE, ids=name)
def test_recovered_database(case: dict[str, Any]) -> None:
    """For every commit, the database file overlaid with the frames up to it is what SQLite recovers."""
    wal = read_wal(case)
    header = WalHeader.parse(wal)
    batch = scan(header, memoryview(wal)[WAL_HEADER_SIZE:])
    commits = [i + 1 for i in range(batch.valid) if batch.commits[i]]
    assert commits == [commit["frame"] for commit in case["commits"]]
    size = header.page_size
    pages = bytearray((GOLDEN / case["db"]).read_bytes())
    done = 0
    for commit in case["commits"]:
        for frame_no in range(done + 1, commit["frame"] + 1):
            pgno = int(batch.pgnos[frame_no - 1])
            start = frame_offset(frame_no, size) + FRAME_HEADER_SIZE
            pages.extend(bytes(max(0, pgno * size - len(pages))))
            pages[(pgno - 1) * size : pgno * size] = wal[start : start + size]
        done = commit["frame"]
        assert int(batch.commits[done - 1]) == commit["db_pages"]
        image = bytes(pages[: commit["db_pages"] * size])
        assert hashlib.sha256(image).hexdigest() == commit["db_sha256"]


@pytest.mark.parametrize("case", READABLE, ids=name)
@pytest.mark.parametrize("frames_a_piece", [1, 2, 3])
def test_in_pieces(case: dict[str, Any], frames_a_piece: int) -> None:
    """Read a few frames at a time, each piece seeded by the one before, a WAL gives the same frames."""
    wal = read_wal(case)
    header = WalHeader.parse(wal)
    whole = scan(header, wal[WAL_HEADER_SIZE:])
    seed, seen, position = header.checksum, [], WAL_HEADER_SIZE
    step = frames_a_piece * (FRAME_HEADER_SIZE + header.page_size)
    while True:
        piece = scan(header, wal[position : position + step], seed)
        seen += frames_of(piece)
        if piece.valid < frames_a_piece:
            break
        seed = (int(piece.checksums[-1, 0]), int(piece.checksums[-1, 1]))
        assert seed == tuple(whole.checksums[len(seen) - 1])
        position += step
    assert seen == frames_of(whole)
    assert piece.stop is whole.stop


@pytest.mark.parametrize("case_name", ["plain-512", "big-endian-512", "page-number-zero"])
def test_truncated_at_every_offset(case_name: str) -> None:
    """Cut at any byte, a WAL is refused if its header is cut, else it gives the frames before the cut."""
    case = next(case for case in CASES if case["name"] == case_name)
    wal = read_wal(case)
    header = WalHeader.parse(wal)
    for cut in range(len(wal)):
        if cut < WAL_HEADER_SIZE:
            with pytest.raises(WalFormatError) as caught:
                WalHeader.parse(wal[:cut])
            assert caught.value.reason == "wal-header-short"
            continue
        batch = scan(header, wal[WAL_HEADER_SIZE:cut])
        slots = frame_count(cut, header.page_size)
        assert batch.valid == min(slots, case["valid_frames"])
        assert batch.last_commit == max((c["frame"] for c in case["commits"] if c["frame"] <= slots), default=0)
        if slots <= case["valid_frames"]:
            assert batch.stop is (Stop.END if cut == frame_offset(slots + 1, header.page_size) else Stop.SHORT_FRAME)


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 5000, b"\x01", bytes(range(256)) * 20], ids=len)
def test_trailing_garbage(tail: bytes) -> None:
    """Whatever follows the last valid frame, the frames are the same."""
    wal = (GOLDEN / "plain-512.db-wal").read_bytes()
    header = WalHeader.parse(wal)
    batch = scan(header, wal[WAL_HEADER_SIZE:] + tail)
    assert batch.valid == batch.last_commit == 10
    assert batch.stop is (Stop.SHORT_FRAME if len(tail) < FRAME_HEADER_SIZE + header.page_size else Stop.SALT)
