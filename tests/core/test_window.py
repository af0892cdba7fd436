"""What can be restored, and which TXID a time means: against what Litestream chose, tables, and a model."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.core.levels import LEVELS_DEFAULT
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import restorable_txids
from litestream_py.core.when import parse_when
from litestream_py.core.window import (
    choose_txid,
    describe_steps,
    describe_window,
    finest_ends,
    listed_time,
    restore_window,
)
from litestream_py.errors import ChainGapError, CorruptError, LsyncError, NothingToRestoreError, TargetError
from litestream_py.ltx.ids import TXID
from tests.support import golden_replicas as golden
from tests.support.listings import file, files, name


@pytest.mark.parametrize(
    ("listing", "ranges"),
    [
        ("", []),
        ("0:1 0:2 0:3", [(0, 1, 3, 3)]),
        ("9:1", [(9, 1, 1, 1)]),
        ("9:1 1:2-5 1:6-9 0:9", [(1, 1, 9, 3)]),
        ("9:1 1:2-5 1:6-9 0:8 0:9 0:10", [(1, 1, 9, 3), (0, 10, 10, 1)]),
        ("9:1 1:2-5 2:2-9 9:1-7 0:10", [(1, 1, 5, 2), (2, 7, 9, 2), (0, 10, 10, 1)]),
        ("9:1 1:2-9 9:1-4 1:10-12", [(1, 1, 12, 4)]),  # a snapshot amid is a point more
        ("9:1 9:1-20 9:1-40 1:35-41 1:42-50", [(9, 1, 20, 2), (1, 40, 50, 3)]),
        ("0:1 0:2 0:5 0:6", [(0, 1, 2, 2)]),
        ("0:1 0:2 0:5 0:6 9:1-5", [(0, 1, 2, 2), (0, 5, 6, 2)]),  # what lies between is missing
        ("1:1-3 1:4-6", [(1, 3, 6, 2)]),
        ("0:5 0:6", []),
    ],
)
def test_ranges_tell_what_survives_and_how_fine(listing: str, ranges: list[tuple[int, int, int, int]]) -> None:
    """Ranges are (level, oldest, newest, points); what is unreachable is in none."""
    window = restore_window(files(listing))
    assert [(part.level, part.oldest, part.newest, part.points) for part in window] == ranges


def test_a_range_tells_its_times_and_sizes() -> None:
    """The times are those of the finest files at its ends; sizes count what ends in it at any level."""
    listing = [file("9:1", at_ms=50), file("0:2", at_ms=20), file("0:1", at_ms=10), file("1:2", at_ms=99, size=7000)]
    (part,) = restore_window(listing)
    assert (part.oldest_ms, part.newest_ms, part.files, part.bytes) == (10, 20, 4, 10_000)
    asked: list[FileInfo] = []

    def exact(info: FileInfo) -> int:
        asked.append(info)
        return info.created_ms - 5

    (part,) = restore_window(listing, timestamp_of=exact)
    assert (part.oldest_ms, part.newest_ms) == (5, 15)
    assert len(asked) == 2


def test_the_window_in_words() -> None:
    """Words tell times, TXIDs and steps of each range."""
    listing = [file("9:1", at_ms=0), file("1:2-5", at_ms=60_000), file("0:6", at_ms=61_500)]
    assert describe_window(restore_window(listing), LEVELS_DEFAULT) == (
        "can be restored: "
        "1970-01-01T00:00:00.000Z (0000000000000001) to 1970-01-01T00:01:00.000Z (0000000000000005): "
        "steps of level 1, made every 30 s; "
        "1970-01-01T00:01:01.500Z (0000000000000006) to 1970-01-01T00:01:01.500Z (0000000000000006): every transaction"
    )
    assert describe_window(()) == "nothing can be restored"
    assert describe_steps(9, LEVELS_DEFAULT) == "snapshots only"
    assert describe_steps(2) == "steps of level 2"


@pytest.mark.parametrize("case", golden.FILE_CASES)
def test_times_mean_the_txids_that_litestream_chose(case: str) -> None:
    """Times mean the TXIDs that Litestream restored from sound golden replicas, or one nearer to the time.

    A time later than the newest state, which Litestream refuses, means the newest.
    """
    listing = golden.listing(case)
    for item in golden.expect(case)["restore_timestamp"]:
        target_ms = parse_when(item["timestamp"], 1 << 42)
        if "txid" in item and case in golden.SOUND:
            chosen = choose_txid(listing, target_ms, listed_time)
            theirs = TXID.parse(item["txid"])
            assert chosen >= theirs
            assert chosen == theirs or listed_time(finest_ends(listing)[chosen]) < target_ms
        elif target_ms > max(info.created_ms for info in listing) and case in golden.SOUND:
            assert choose_txid(listing, target_ms, listed_time) == max(i.name.max_txid for i in listing)
        elif target_ms <= min(info.created_ms for info in listing if info.size):
            with pytest.raises((TargetError, CorruptError)):
                choose_txid(listing, target_ms, listed_time)


def at(listing: list[FileInfo], target_ms: int, **options: object) -> int:
    return int(choose_txid(listing, target_ms, listed_time, **options))  # type: ignore[arg-type]


CHAIN = [file(f"0:{n}", at_ms=n * 10) for n in range(1, 7)]


@pytest.mark.parametrize(("target_ms", "txid"), [(11, 1), (20, 1), (21, 2), (60, 5), (61, 6), (10**15, 6)])
def test_the_last_state_strictly_before_a_time_is_chosen(target_ms: int, txid: int) -> None:
    """A state of exactly that millisecond is not before it."""
    assert at(CHAIN, target_ms) == txid


def test_a_time_before_everything_names_the_window() -> None:
    """Nothing older is an error (exit 1) with what can be restored, and how fine."""
    with pytest.raises(TargetError, match=r"nothing is as old as 1970-01-01T00:00:00\.010Z; can be .*every trans") as e:
        at(CHAIN, 10)
    assert e.value.exit_code == 1
    assert e.value.hint == "give a time after 1970-01-01T00:00:00.010Z"


def test_a_snapshots_own_time_is_not_that_of_the_change() -> None:
    """Of several files that end at a TXID the finest tells its time."""
    listing = [*CHAIN, file("9:1-3", at_ms=1000), file("1:2-3", at_ms=1000)]
    assert at(listing, 31) == 3


def test_a_damaged_file_is_not_asked_for_its_time() -> None:
    """Where a sound file of another level ends at a TXID, that one tells the time."""
    asked = []

    def ask(info: FileInfo) -> int:
        asked.append(info.name)
        return info.created_ms

    listing = [*CHAIN, file("1:2-3", at_ms=30), file("1:4-5", at_ms=50)]
    assert choose_txid(listing, 31, ask, damaged={name("0:3")}) == 3
    assert name("1:2-3") in asked
    assert name("0:3") not in asked


def test_few_times_are_asked() -> None:
    """Ten thousand TXIDs need some fourteen timestamps."""
    asked = 0

    def ask(info: FileInfo) -> int:
        nonlocal asked
        asked += 1
        return info.created_ms

    listing = [file(f"0:{n}", at_ms=n) for n in range(1, 10_001)]
    assert choose_txid(listing, 7_778, ask) == 7_777
    assert asked <= 15


def test_a_gap_before_the_time_is_an_error_never_an_older_state() -> None:
    """A time whose state lies behind a gap, or behind a damaged file, is refused; one before it is not."""
    gap = [item for item in CHAIN if item.name != name("0:4")]
    assert at(gap, 45) == 3
    with pytest.raises(ChainGapError, match="have up to 0000000000000003, the next file starts at 0000000000000005"):
        at(gap, 51)
    short = [*gap, file("0:4", at_ms=40, size=10)]
    assert at(short, 40) == 3
    for options in ({}, {"damaged": {name("0:4")}}):
        with pytest.raises(CorruptError, match="damaged"):
            at(short if not options else CHAIN, 41, **options)
    with pytest.raises(CorruptError):
        at([item for item in CHAIN if item.name != name("0:1")], 41)
    with pytest.raises(NothingToRestoreError):
        at([], 41)


def test_leftovers_of_a_finer_level_are_no_gap() -> None:
    """Where a coarser level holds what lies between, some L0 files that were not deleted yet don't make a gap."""
    listing = [file("9:1", at_ms=10), file("1:2-6", at_ms=60), *CHAIN[3:5]]
    assert at(listing, 55) == 1
    assert at(listing, 61) == 6
    with pytest.raises(ChainGapError):
        at([file("9:1", at_ms=10), *CHAIN[3:]], 55)


@given(
    spans=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=25),
    base=st.integers(1, 5),
    removed=st.sets(st.integers(0, 24), max_size=2),
    target_ms=st.integers(0, 600),
)
def test_times_and_ranges_agree_with_a_model(
    spans: list[tuple[int, int]], base: int, removed: set[int], target_ms: int
) -> None:
    """Ranges hold every restorable TXID once, in order; a time means the last of them before it, or is an error."""
    listing = [file(f"9:1-{base}", at_ms=base * 5)]
    at_txid = base
    for position, (level, span) in enumerate(spans):
        if position not in removed:
            listing.append(file(f"{level}:{at_txid + 1}-{at_txid + span}", at_ms=(at_txid + span) * 5))
        at_txid += span
    points = restorable_txids(listing)
    window = restore_window(listing)
    assert sum(part.points for part in window) == len(points)
    assert [part.oldest for part in window] == sorted({part.oldest for part in window} & set(points))
    for part in window:
        inside = [txid for txid in points if part.oldest <= txid <= part.newest]
        assert (len(inside), inside[-1]) == (part.points, part.newest)
    times = [listed_time(finest_ends(listing)[txid]) for txid in points]
    before = bisect_left(times, target_ms)
    lost = [info.created_ms for info in listing if info.name.max_txid > points[-1]]
    if before == 0 or (lost and min(lost) < target_ms):
        with pytest.raises(LsyncError):
            choose_txid(listing, target_ms, listed_time)
    else:
        assert choose_txid(listing, target_ms, listed_time) == points[before - 1]
