"""The restore plan, against what Litestream chose, decision tables, and a brute-force model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import FILE_COST_BYTES, FILE_SIZE_MIN, plan_restore, restorable_txids
from litestream_py.errors import ChainGapError, CorruptError, NothingToRestoreError, TargetError
from litestream_py.ltx.ids import TXID, FileName
from tests.support import golden_replicas as golden


def info(level: int, low: int, high: int, size: int = 1000) -> FileInfo:
    return FileInfo(FileName(level, TXID(low), TXID(high)), size, 0)


def chain(*files: FileInfo) -> list[str]:
    return [f"{item.name.level}:{int(item.name.min_txid)}-{int(item.name.max_txid)}" for item in files]


@pytest.mark.parametrize("case", golden.SOUND)
def test_restorable_txids_are_those_that_litestream_restores(case: str) -> None:
    """From every sound golden replica exactly the TXIDs are restorable that Litestream restored."""
    wanted = [TXID.parse(txid) for txid, out in golden.expect(case)["restore_txid"].items() if "sha256" in out]
    listing = golden.listing(case)
    assert restorable_txids(listing) == wanted
    assert plan_restore(listing, None).max_txid == TXID.parse(golden.expect(case)["restore_latest"]["txid"])


@pytest.mark.parametrize("case", golden.SOUND)
def test_plans_cost_no_more_than_litestreams(case: str) -> None:
    """For every TXID of the golden replicas our chain is at most as dear as the one that Litestream used."""
    listing = golden.listing(case)
    sizes = {str(item.name): item.size for item in listing}
    for txid, out in golden.expect(case)["restore_txid"].items():
        if "plan" in out:
            plan = plan_restore(listing, TXID.parse(txid))
            theirs = sum(sizes[name] + FILE_COST_BYTES for name in out["plan"])
            assert plan.bytes + len(plan.files) * FILE_COST_BYTES <= theirs


def test_newest_snapshot_then_the_fewest_increments() -> None:
    """A snapshot replaces what lies before it, and a higher level replaces the small files that it merged."""
    listing = [info(0, n, n) for n in range(1, 13)]
    listing += [info(1, 1, 4), info(1, 5, 8), info(2, 1, 8, 2000), info(9, 1, 6, 3000)]
    plan = plan_restore(listing, None)
    assert chain(*plan.files) == ["2:1-8", "0:9-9", "0:10-10", "0:11-11", "0:12-12"]
    assert (plan.min_txid, plan.max_txid, plan.bytes) == (1, 12, 6000)
    assert chain(*plan_restore(listing, TXID(7)).files) == ["9:1-6", "0:7-7"]


def test_overlapping_files_continue_a_chain() -> None:
    """A file that starts before the end of the chain continues it, if it reaches further."""
    listing = [info(9, 1, 4), info(2, 3, 7), info(0, 8, 8)]
    assert chain(*plan_restore(listing, None).files) == ["9:1-4", "2:3-7", "0:8-8"]


def test_a_missing_file_is_bridged_by_another_level() -> None:
    """Where L0 has a hole and L1 covers it, the plan goes through L1."""
    listing = [info(0, 1, 1), info(0, 2, 2), info(0, 5, 5), info(1, 2, 4, 50_000)]
    assert chain(*plan_restore(listing, None).files) == ["0:1-1", "1:2-4", "0:5-5"]


def test_an_all_pages_file_with_a_later_min_txid_is_no_base() -> None:
    """Level 9 does not make a base: only min TXID 1 does."""
    with pytest.raises(ChainGapError, match="no file starts at TXID 0000000000000001"):
        plan_restore([info(9, 2, 8)], None)


def test_an_empty_listing_is_nothing_to_restore() -> None:
    """A replica without a file has nothing to restore (exit 3), whatever the target."""
    for target in (None, TXID(5)):
        with pytest.raises(NothingToRestoreError):
            plan_restore([], target)


GAP = [info(0, 1, 1), info(0, 2, 2), info(0, 4, 4), info(1, 5, 8)]


@pytest.mark.parametrize("target", [None, TXID(3), TXID(4), TXID(8)])
def test_a_gap_is_named_and_never_restored_short(target: TXID | None) -> None:
    """Beyond a missing file nothing is restorable, latest included, and the error names both sides of it."""
    text = "have up to 0000000000000002, the next file starts at 0000000000000004"
    with pytest.raises(ChainGapError, match=text) as caught:
        plan_restore(GAP, target)
    assert caught.value.exit_code == 6
    assert caught.value.hint == "--txid 0000000000000002 restores the last state before the gap"


def test_a_target_before_a_gap_is_restored() -> None:
    """A gap behind the target does no harm to it."""
    assert chain(*plan_restore(GAP, TXID(2)).files) == ["0:1-1", "0:2-2"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (TXID(4), "merged into a larger step; nearest: 0000000000000003 and 0000000000000006"),
        (TXID(2), "merged into a larger step; nearest: 0000000000000003"),
        (TXID(9), "beyond the newest, 0000000000000007"),
    ],
)
def test_a_target_that_is_no_end_names_the_window_and_its_neighbours(target: TXID, text: str) -> None:
    """A TXID that was merged away or lies beyond the end is refused (exit 1) with what can be had instead."""
    window = "3 TXIDs from 0000000000000003 to 0000000000000007 can be restored"
    with pytest.raises(TargetError, match=f"{text}; {window}") as caught:
        plan_restore([info(9, 1, 3), info(1, 4, 6), info(0, 7, 7)], target)
    assert caught.value.exit_code == 1


def test_a_short_file_that_is_needed_is_named() -> None:
    """A file too short to be LTX makes its TXID and what follows corrupt (exit 6), with the file's name."""
    listing = [info(0, 1, 1), info(0, 2, 2, FILE_SIZE_MIN - 1), info(0, 3, 3)]
    text = r"file 0/0000000000000002-0000000000000002\.ltx is damaged: it has 130 bytes"
    for target in (None, TXID(2), TXID(3)):
        with pytest.raises(CorruptError, match=text):
            plan_restore(listing, target)
    assert chain(*plan_restore(listing, TXID(1)).files) == ["0:1-1"]


def test_a_damaged_file_is_planned_around() -> None:
    """A short file, or one reported as damaged, is replaced by another level and listed as avoided."""
    listing = [info(0, 1, 1), info(0, 2, 2, 0), info(0, 3, 3), info(1, 1, 2, 9000), info(1, 1, 3, 9900)]
    plan = plan_restore(listing, None)
    assert (chain(*plan.files), chain(*plan.avoided)) == (["1:1-3"], ["0:2-2"])
    plan = plan_restore(listing, None, damaged={FileName(1, TXID(1), TXID(3))})
    assert (chain(*plan.files), chain(*plan.avoided)) == (["1:1-2", "0:3-3"], ["0:2-2", "1:1-3"])


def _is_chain(files: tuple[FileInfo, ...], target: int) -> bool:
    at = 0
    for item in files:
        if item.name.min_txid > at + 1 or item.name.max_txid <= at:
            return False
        at = item.name.max_txid
    return at == target


def _model(files: list[FileInfo]) -> dict[int, int]:
    """Return the least cost to every TXID by relaxing every pair until nothing changes."""
    cost = {0: 0}
    changed = True
    while changed:
        changed = False
        for item in files:
            for at in [at for at in cost if item.name.min_txid <= at + 1 and at < item.name.max_txid]:
                total = cost[at] + item.size + FILE_COST_BYTES
                if total < cost.get(item.name.max_txid, 1 << 60):
                    cost[item.name.max_txid] = total
                    changed = True
    del cost[0]
    return cost


FILES = st.builds(
    lambda level, low, span, size: info(level, low, low + span, size),
    st.integers(0, 9),
    st.integers(1, 12),
    st.integers(0, 5),
    st.sampled_from([0, FILE_SIZE_MIN, 5_000, 300_000, 4_000_000]),
)


@given(listing=st.lists(FILES, min_size=1, max_size=14, unique_by=lambda item: item.name))
def test_every_target_gets_the_cheapest_chain_or_a_named_error(listing: list[FileInfo]) -> None:
    """For random listings each TXID has a chain exactly when the model reaches it, at the model's cost."""
    model = _model([item for item in listing if item.size >= FILE_SIZE_MIN])
    assert restorable_txids(listing) == sorted(model)
    newest = int(max(item.name.max_txid for item in listing))
    for target in range(1, newest + 2):
        if target in model:
            plan = plan_restore(listing, TXID(target))
            assert _is_chain(plan.files, target)
            assert plan.bytes + FILE_COST_BYTES * len(plan.files) == model[target]
        else:
            with pytest.raises((ChainGapError, CorruptError, TargetError)) as caught:
                plan_restore(listing, TXID(target))
            assert caught.value.exit_code == (1 if isinstance(caught.value, TargetError) else 6)
    if newest in model:
        assert plan_restore(listing, None).max_txid == newest
    else:
        with pytest.raises(CorruptError):  # ChainGapError is one
            plan_restore(listing, None)


def test_a_long_listing_is_planned_in_a_moment() -> None:
    """A hundred thousand L0 files over one snapshot are planned without quadratic work."""
    listing = [info(9, 1, 10)] + [info(0, n, n) for n in range(1, 100_001)]
    assert len(plan_restore(listing, None).files) == 1 + 99_990
