"""Plans of compactions: tables, what Litestream wrote, and properties of random ladders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.core.compact import (
    ChainOverlapError,
    compaction_due_ms,
    plan_compaction,
    snapshot_due_ms,
)
from litestream_py.core.levels import LEVELS_DEFAULT, LevelConfig
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import plan_restore, restorable_txids
from litestream_py.errors import ChainGapError
from litestream_py.ltx.ids import TXID, FileName
from tests.support import golden_replicas as golden
from tests.support.listings import file, files, name, short, shorts


@pytest.mark.parametrize(
    ("listing", "level", "inputs", "needs_base"),
    [
        ("0:1", 1, "", None),
        ("0:1 0:2 0:3", 1, "0:2 0:3", "0:1"),
        ("0:1 0:2 0:3 9:1", 1, "0:2 0:3", None),
        ("0:1 0:2 0:3 9:1-3", 1, "0:2 0:3", None),
        ("0:2 0:3 0:4 9:1 1:2-3", 1, "0:4", None),
        ("0:3 9:1 1:2-3", 1, "", None),
        ("9:1-3", 1, "", None),
        ("0:1-5 0:6", 1, "0:6", "0:1-5"),  # a merged backlog with the base in it
        ("0:2-9 0:10 9:1", 1, "0:2-9 0:10", None),
        ("9:1 1:2-3 1:4-8", 2, "1:2-3 1:4-8", None),
        ("9:1 1:2-3 1:4-8 2:2-3", 2, "1:4-8", None),
        ("9:1-3 1:1-8 1:9-12 0:12", 2, "1:9-12", "1:1-8"),  # a chain whose base Litestream copied up
        ("1:1-8 1:9-12 2:1-8", 2, "1:9-12", None),
        ("9:1-79 1:80-85 1:86-99 2:2-40", 2, "1:80-85 1:86-99", None),  # what lay between was retired
        ("9:1-4 0:5 0:6", 1, "0:5 0:6", None),
    ],
)
def test_inputs_are_what_the_level_lacks(listing: str, level: int, inputs: str, needs_base: str | None) -> None:
    """A level takes in the whole files behind its end, never a base, and says which base level 9 lacks."""
    plan = plan_compaction(files(listing), level)
    if not inputs:
        assert plan is None
        return
    assert plan is not None
    assert shorts(plan.inputs) == inputs
    assert plan.output == FileName(level, plan.inputs[0].name.min_txid, plan.inputs[-1].name.max_txid)
    assert plan.bytes == 1000 * len(plan.inputs)
    assert not plan.more
    if needs_base is None:
        assert (plan.needs_base, plan.base_copy) == (None, None)
    else:
        assert plan.needs_base is not None
        assert plan.base_copy is not None
        assert short(plan.needs_base) == needs_base
        assert short(plan.base_copy) == "9" + needs_base[1:]


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("9:1 1:2-4 0:7 0:8", "TXIDs 0000000000000005 to 0000000000000006 are missing: no file of level 0 holds it"),
        ("9:1-5 1:2-4 0:7 0:8", "TXID 0000000000000006 is missing"),
        ("0:2 0:3", "TXID 0000000000000001 is missing"),
        ("9:1 0:4 0:5", "TXIDs 0000000000000002 to 0000000000000003 are missing"),
    ],
)
def test_a_gap_is_an_error_that_names_it(listing: str, words: str) -> None:
    """TXIDs that neither the level below nor a base holds are named, and nothing is planned across them."""
    with pytest.raises(ChainGapError, match=words) as caught:
        plan_compaction(files(listing), 1)
    assert caught.value.exit_code == 6


def test_what_lies_before_a_gap_is_planned_first() -> None:
    """A level goes as far as the gap, and says that more is to come; then the gap is the error, or covered."""
    listing = files("9:1 0:2 0:3 0:6")
    plan = plan_compaction(listing, 1)
    assert plan is not None
    assert (shorts(plan.inputs), plan.more) == ("0:2 0:3", True)
    with pytest.raises(ChainGapError):
        plan_compaction([*listing, file("1:2-3")], 1)
    healed = plan_compaction([*listing, file("1:2-3"), file("9:1-5"), file("0:7")], 1)
    assert healed is not None
    assert (shorts(healed.inputs), healed.needs_base) == ("0:6 0:7", None)


def test_a_damaged_file_counts_as_missing_and_is_named() -> None:
    """A file known to be damaged, or too short to be one, is no input: the error names it."""
    listing = [*files("9:1 0:2 0:4"), file("0:3", size=10)]
    plan = plan_compaction(listing, 1)
    assert plan is not None
    assert shorts(plan.inputs) == "0:2"
    with pytest.raises(ChainGapError, match=r"0/0000000000000003-0000000000000003\.ltx is damaged"):
        plan_compaction([*listing, file("1:2")], 1)
    with pytest.raises(ChainGapError, match="is damaged"):
        plan_compaction(files("9:1 0:2 0:3"), 1, damaged={name("0:2")})


def test_a_damaged_base_does_not_count() -> None:
    """A damaged base at level 9 carries no level, and is not to be copied over."""
    with pytest.raises(ChainGapError, match=r"9/0000000000000001-0000000000000001\.ltx is damaged"):
        plan_compaction(files("9:1 0:2"), 1, damaged={name("9:1")})
    plan = plan_compaction(files("9:1 0:1 1:1-2 0:2 0:3 2:1-2 1:3"), 2, damaged={name("9:1")})
    assert plan is not None
    assert (shorts(plan.inputs), plan.needs_base) == ("1:3", None)
    with pytest.raises(ChainGapError, match=r"its base 9/0000000000000001-0000000000000001\.ltx is damaged"):
        plan_compaction(files("9:1 0:1 0:2"), 1, damaged={name("9:1")})


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        ("9:1 0:2 0:3-5 0:4", "0000000000000004-0000000000000004.ltx overlaps 0/0000000000000003-0000000000000005.ltx"),
        ("9:1 1:2-4 0:3-5", "0000000000000003-0000000000000005.ltx overlaps level 1, which ends at 0000000000000004"),
        ("9:1-4 0:5 0:5-8", "overlaps"),
    ],
)
def test_an_overlap_is_an_error_that_names_both(listing: str, words: str) -> None:
    """Two files that claim the same TXIDs are never merged on trust."""
    with pytest.raises(ChainOverlapError, match=words) as caught:
        plan_compaction(files(listing), 1)
    assert caught.value.exit_code == 6


def test_a_snapshot_lets_a_level_go_on_behind_an_overlap() -> None:
    """Once a base holds what two files claim, the level continues behind them, without a hole inside of its files."""
    listing = files("9:1 9:1-8 0:5 0:5-8 0:9 0:10 1:2-4")
    plan = plan_compaction(listing, 1)
    assert plan is not None
    assert (shorts(plan.inputs), plan.more) == ("0:5", True)
    plan = plan_compaction([*listing, file("1:5")], 1)
    assert plan is not None
    assert shorts(plan.inputs) == "0:9 0:10"
    assert compaction_due_ms(files("9:1-9 0:5-8 1:2-5"), LEVELS_DEFAULT[0], last_ms=0, now_ms=0) is None


def test_a_compaction_is_bounded_and_the_rest_follows() -> None:
    """Bytes and files bound one plan; a single file larger than that is taken alone; nothing is left out."""
    listing = [*files("9:1"), *(file(f"0:{n}", size=400) for n in range(2, 9)), file("0:9", size=9999), file("0:10")]
    taken = []
    while True:
        plan = plan_compaction(listing, 1, bytes_max=800, files_max=3)
        if plan is None:
            break
        assert plan.bytes <= 800 or len(plan.inputs) == 1
        taken.append(shorts(plan.inputs))
        listing.append(FileInfo(plan.output, plan.bytes, 0))
        assert plan.more == (plan.output.max_txid < 10)
    assert taken == ["0:2 0:3", "0:4 0:5", "0:6 0:7", "0:8", "0:9", "0:10"]
    plan = plan_compaction(files("9:1 0:2 0:3 0:4 0:5"), 1, files_max=3)
    assert plan is not None
    assert (len(plan.inputs), plan.more) == (3, True)


def test_no_file_reaches_across_a_snapshot() -> None:
    """A level is cut where a snapshot ends, so that a restore from the snapshot needs each file behind it whole."""
    listing = files("9:1 0:2 0:3 0:4 9:1-3 0:5 9:1-5")
    taken = []
    while (plan := plan_compaction(listing, 1)) is not None:
        taken.append(short(plan.output))
        listing.append(FileInfo(plan.output, plan.bytes, 0))
        assert plan.more == (len(taken) == 1)
    assert taken == ["1:2-3", "1:4-5"]
    plan = plan_compaction(listing, 2)
    assert plan is not None
    assert (short(plan.output), plan.more) == ("2:2-3", True)


@pytest.mark.parametrize(
    ("listing", "due_ms"),
    [("9:1 0:1", None), ("9:1 1:2-3 0:3", None), ("9:1 0:2", 30_000), ("1:2-3 0:4", 30_000)],
)
def test_a_level_is_due_only_with_new_input(listing: str, due_ms: int | None) -> None:
    """Without new input a level is never due; with it, at the tick behind the oldest."""
    found = compaction_due_ms(files(listing, at_ms=5_000), LevelConfig(1, 30), last_ms=0, now_ms=6_000)
    assert found == due_ms


@pytest.mark.parametrize(
    ("listing", "due_ms"),
    [
        ("", None),
        ("0:1", None),
        ("9:1 0:1", None),
        ("9:1-3 9:1 0:3 1:2-3", None),
        ("1:1-3 0:3", None),
        ("0:1 0:2", 86_400_000),
        ("9:1-3 0:4", 86_400_000),
        ("9:1-3 1:1-4 0:4", 86_400_000),
    ],
)
def test_a_snapshot_is_due_only_after_a_change(listing: str, due_ms: int | None) -> None:
    """A database that did not change since its last snapshot, or its base, needs none."""
    assert snapshot_due_ms(files(listing, at_ms=5_000), 86_400, last_ms=0, now_ms=6_000) == due_ms


@pytest.mark.parametrize("case", golden.SOUND)
def test_litestreams_chains_are_continued(case: str) -> None:
    """Every sound golden replica gets all its levels without error, and keeps every restorable TXID."""
    listing = golden.listing(case)
    before = restorable_txids(listing)
    for level in (1, 2, 3):
        plan = plan_compaction(listing, level)
        if plan is None:
            continue
        if plan.needs_base is not None:
            assert plan.base_copy is not None
            listing.append(FileInfo(plan.base_copy, plan.needs_base.size, plan.needs_base.created_ms))
        listing.append(FileInfo(plan.output, plan.bytes, plan.inputs[-1].created_ms))
        while (plan := plan_compaction(listing, level)) is not None:
            listing.append(FileInfo(plan.output, plan.bytes, plan.inputs[-1].created_ms))
    assert restorable_txids(listing) == before


@given(
    spans=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    steps=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), max_size=12),
    files_max=st.integers(1, 6),
    snapshots=st.sets(st.integers(0, 30)),
)
def test_levels_never_hold_what_the_one_below_did_not(
    spans: list[int], steps: list[tuple[int, int]], files_max: int, snapshots: set[int]
) -> None:
    """For random uploads, snapshots and compactions, levels hold whole runs of files of the level below, behind a base.

    They never reach beyond L0, and each alone continues the bases of level 9.
    """
    listing: list[FileInfo] = []
    at = 0
    for position, span in enumerate(spans):
        listing.append(FileInfo(FileName(0, TXID(at + 1), TXID(at + span)), 500, position))
        at += span
        if position in snapshots:
            listing.append(FileInfo(FileName(9, TXID(1), TXID(at)), 500, position))
        for _, level in (step for step in steps if step[0] == position):
            plan = plan_compaction(listing, level, files_max=files_max)
            if plan is None:
                continue
            if plan.base_copy is not None:
                listing.append(FileInfo(plan.base_copy, 500, position))
            low, high = plan.output.min_txid, plan.output.max_txid
            assert low > 1
            assert len(plan.inputs) <= files_max
            below = [i.name for i in listing if i.name.level == level - 1 and low <= i.name.min_txid <= high]
            assert sorted(below) == [i.name for i in plan.inputs]
            assert not any(low <= i.name.max_txid < high for i in listing if i.name.level == 9)
            listing.append(FileInfo(plan.output, plan.bytes, position))
            bases = [i for i in listing if i.name.level == 9]
            increments = [i for i in listing if i.name.level == level]
            assert max(i.name.max_txid for i in bases) >= min(i.name.min_txid for i in increments) - 1
            newest = max(i.name.max_txid for i in [*bases, *increments])
            assert plan_restore([*bases, *increments], None).max_txid == newest
            assert max(i.name.max_txid for i in listing) == at
