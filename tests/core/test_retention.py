"""What retention deletes and keeps: tables of single rules, and the proof that promised points survive any crash."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.core.compact import plan_compaction
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import plan_restore, restorable_txids
from litestream_py.core.retention import (
    RESTORE_GRACE_MS,
    Reason,
    RetentionPlan,
    RetentionPolicy,
    UnsafeRetentionError,
    plan_retention,
)
from litestream_py.errors import ChainGapError, ConfigError, CorruptError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName
from tests.support import golden_replicas as golden
from tests.support.listings import file, files, name, short, shorts

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NOW_MS = 400 * DAY_MS
SNAPSHOT_SIZE = 9000
DEFAULT = RetentionPolicy()


def ago(age_ms: float, what: str, **options: int) -> FileInfo:
    return file(what, at_ms=round(NOW_MS - age_ms), **options)


def reasons(plan: RetentionPlan) -> dict[str, str]:
    return {short(item.info): item.reason.value for item in plan.decisions}


# Two days of one change an hour: a snapshot at midnight, L1 holds all but the newest change.
CHAIN = [
    ago(60 * HOUR_MS, "9:1"),
    *(ago((60 - n) * HOUR_MS, f"1:{n}") for n in range(2, 60)),
    ago(48 * HOUR_MS, "9:1-12"),
    ago(24 * HOUR_MS, "9:1-36"),
    *(ago((60 - n) * HOUR_MS, f"0:{n}") for n in range(52, 61)),
]


def test_the_window_begins_with_the_newest_snapshot_that_is_older() -> None:
    """Everything up to that snapshot goes but itself, all that reaches beyond it stays; L0 goes once it is in L1."""
    plan = plan_retention(CHAIN, DEFAULT, NOW_MS)
    assert shorts(plan.deletes) == "9:1 " + shorts(file(f"1:{n}") for n in range(2, 13)) + " " + shorts(
        file(f"0:{n}") for n in range(52, 59)
    )
    found = reasons(plan)
    assert (found["9:1"], found["1:12"], found["0:58"]) == ("before-window", "before-window", "merged")
    assert (found["9:1-12"], found["9:1-36"], found["1:13"]) == ("window-base", "newest", "in-window")
    assert (found["1:59"], found["0:59"], found["0:60"]) == ("newest", "l0-young", "newest")
    assert plan.bytes == 1000 * len(plan.deletes)


def test_the_newest_snapshot_is_not_the_start_of_the_window_on_the_dot() -> None:
    """A snapshot begins the window when it is older than the window and an hour for running restores, not before."""
    old_ms = DAY_MS + RESTORE_GRACE_MS
    listing = [ago(80 * HOUR_MS, "9:1"), ago(70 * HOUR_MS, "1:2-5"), ago(0, "0:7"), ago(0, "1:6-7"), ago(0, "9:1-7")]
    for age_ms, gone in ((old_ms, ""), (old_ms + 1, "9:1 1:2-5")):
        assert shorts(plan_retention([*listing, ago(age_ms, "9:1-5")], DEFAULT, NOW_MS).deletes) == gone


@pytest.mark.parametrize(
    ("l1_age_ms", "l0_s", "reason"),
    [
        (65 * MINUTE_MS, 300.0, "merged"),
        (65 * MINUTE_MS - 1, 300.0, "l0-young"),
        (60 * MINUTE_MS, 0.001, "l0-young"),
        (60 * MINUTE_MS, 0.0, "merged"),
        (60 * MINUTE_MS - 1, 0.0, "l0-young"),
        (20 * DAY_MS, None, "l0-forever"),
        (20 * DAY_MS, 86_400.0 * 30, "l0-young"),
    ],
)
def test_l0_goes_when_l1_has_held_it_long_enough(l1_age_ms: int, l0_s: float | None, reason: str) -> None:
    """An L0 file stays for l0-retention and an hour from when L1 got it; for ever if l0-retention is 0 (None here)."""
    listing = [ago(30 * DAY_MS, "9:1"), ago(21 * DAY_MS, "0:2"), ago(l1_age_ms, "1:2-3"), *files("0:3 0:4", at_ms=1)]
    plan = plan_retention(listing, RetentionPolicy(l0_s=l0_s), NOW_MS)
    assert reasons(plan)["0:2"] == reason


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("", "not-in-l1"),
        ("1:3-5", "not-in-l1"),
        ("2:1-3", "not-in-l1"),
        ("9:1-8", "not-in-l1"),
        ("9:1-3", "not-in-l1"),
        ("1:2-3", "merged"),
        ("1:2-3 1:2-5", "merged"),
        ("1:1-3", "merged"),
    ],
)
def test_l0_stays_until_l1_holds_it(extra: str, reason: str) -> None:
    """Only a file of L1 that holds the whole of an L0 file stands in for it, not a higher level nor a snapshot."""
    listing = [*files("0:2-3 0:4 0:5 0:6 0:7 0:8 0:9 " + extra, at_ms=NOW_MS - 20 * HOUR_MS), ago(30 * HOUR_MS, "9:1")]
    assert reasons(plan_retention(listing, DEFAULT, NOW_MS))["0:2-3"] == reason


def test_a_base_in_l0_goes_when_level_9_has_the_same() -> None:
    """The first snapshot leaves L0 only if its copy at level 9 is there; a later snapshot is no copy."""
    old = files("0:1 0:2 0:3 1:2-3", at_ms=NOW_MS - 20 * HOUR_MS)
    for base, reason in (("9:1", "merged"), ("9:1-3", "not-in-l1")):
        assert reasons(plan_retention([*old, ago(20 * HOUR_MS, base)], DEFAULT, NOW_MS))["0:1"] == reason


def test_a_longer_l0_retention_widens_the_window() -> None:
    """L0 files of a week are of use only with a base that is as old."""
    listing = [ago(9 * DAY_MS, "9:1"), ago(8 * DAY_MS, "1:2"), ago(2 * DAY_MS, "9:1-2"), *files("9:1-3 0:3 0:4")]
    assert shorts(plan_retention(listing, DEFAULT, NOW_MS).deletes) != ""
    week = RetentionPolicy(l0_s=7 * 86_400.0)
    listing = [ago(9 * DAY_MS, "9:1"), ago(6 * DAY_MS, "0:2"), ago(6 * DAY_MS, "1:2"), ago(2 * DAY_MS, "9:1-2"),
               ago(DAY_MS, "0:3")]  # fmt: skip
    assert plan_retention(listing, week, NOW_MS).deletes == ()


def test_the_window_may_close_before_l0_retention_does() -> None:
    """A snapshot taken just before L1 got an L0 file lets that file go first, and the plan says when."""
    taken_ms = NOW_MS - DAY_MS
    listing = [
        *files("9:1 0:2", at_ms=taken_ms - 20_000),
        file("9:1-2", at_ms=taken_ms),
        file("1:2", at_ms=taken_ms + 30_000),
        *files("0:3 1:3 9:1-3", at_ms=NOW_MS),
    ]
    policy = RetentionPolicy(l0_s=2 * 86_400.0)
    plan = plan_retention(listing, policy, NOW_MS)
    assert (plan.deletes, plan.next_ms) == ((), taken_ms + 2 * DAY_MS + RESTORE_GRACE_MS + 1)
    assert reasons(plan_retention(listing, policy, plan.next_ms or 0))["0:2"] == "before-window"


def test_a_number_of_snapshots_stays_whatever_its_age() -> None:
    """The newest so many snapshots stay; the states between those before the window go."""
    listing = [*files("9:1 1:2-3 9:1-3 1:4-6 9:1-6 1:7-9 9:1-9", at_ms=1), *files("0:10 1:10", at_ms=NOW_MS)]
    for minimum, left in ((1, "9:1-9"), (2, "9:1-6 9:1-9"), (3, "9:1-3 9:1-6 9:1-9"), (9, "9:1 9:1-3 9:1-6 9:1-9")):
        plan = plan_retention(listing, RetentionPolicy(snapshots_min=minimum), NOW_MS)
        assert shorts(sorted(item.info.name for item in plan.decisions if item.keep)) == f"0:10 1:10 {left}"


def test_an_idle_database_keeps_its_only_base_and_ends_of_levels() -> None:
    """However long nothing changes: newest snapshot and newest file of each level stay, and nothing is due any more."""
    listing = files("9:1 9:1-9 0:8 0:9 1:2-5 1:6-9 2:2-5", at_ms=1)
    plan = plan_retention(listing, DEFAULT, NOW_MS)
    left = [item.info for item in plan.decisions if item.keep]
    assert shorts(left) == "0:9 1:6-9 2:2-5 9:1-9"
    again = plan_retention(left, DEFAULT, NOW_MS + 1000 * DAY_MS)
    assert (again.deletes, again.next_ms) == ((), None)
    assert plan_compaction(left, 1) is None


def test_a_chain_without_a_snapshot_at_level_9_loses_no_base() -> None:
    """The only base stays at whatever level it is."""
    for listing in ("0:1 0:2 0:3 0:4", "1:1-3 1:4 0:4", "3:1-3 2:1-2 1:4 0:4"):
        plan = plan_retention(files(listing, at_ms=1), DEFAULT, NOW_MS)
        assert all(item.keep for item in plan.decisions if item.info.name.min_txid == 1)
        assert plan_retention([], DEFAULT, NOW_MS).decisions == ()


@pytest.mark.parametrize(
    ("what", "options", "reason"),
    [
        ("9:1", {}, "before-window"),
        ("1:2-3", {}, "before-window"),
        ("1:2-3", {"restoring": {name("1:2-3")}}, "restoring"),
        ("1:2-3", {"appeared_ms": {name("1:2-3"): NOW_MS - HOUR_MS + 1}}, "recent"),
        ("1:2-3", {"appeared_ms": {name("1:2-3"): NOW_MS - HOUR_MS}}, "before-window"),
        ("1:2-3", {"appeared_ms": {name("9:1-3"): NOW_MS - HOUR_MS + 1}}, "in-window"),
        ("1:2-3", {"damaged": {name("9:1-3")}}, "in-window"),
        ("0:4", {}, "merged"),
        ("0:4", {"restoring": {name("0:4")}}, "restoring"),
        ("0:4", {"appeared_ms": {name("1:4"): NOW_MS - HOUR_MS + 1}}, "merged-recently"),
        ("0:4", {"appeared_ms": {name("1:4"): NOW_MS - HOUR_MS}}, "merged"),
        ("0:4", {"damaged": {name("1:4")}}, "not-in-l1"),
        ("2:4", {"damaged": {name("2:4")}}, "damaged"),
        ("2:2-3", {"damaged": {name("2:2-3")}}, "before-window"),
    ],
)
def test_what_running_restores_need_stays(what: str, options: dict[str, object], reason: str) -> None:
    """Files in use, and those superseded less than an hour ago, stay; a damaged file stands in for none."""
    listing = [
        *files("9:1 1:2-3 2:2-3 9:1-3", at_ms=NOW_MS - 3 * DAY_MS),
        *files("0:4 1:4 2:4 0:5 1:5 2:5", at_ms=NOW_MS - 5 * HOUR_MS),
        *files("0:6 9:1-6", at_ms=NOW_MS),
    ]
    plan = plan_retention(listing, DEFAULT, NOW_MS, **options)  # type: ignore[arg-type]
    assert reasons(plan)[what] == reason


def test_times_in_the_future_prove_nothing() -> None:
    """A file from the future stays until its time has come, and neither begins the window nor holds L0."""
    listing = [
        *files("9:1 1:2 0:3", at_ms=1),
        *files("9:1-2 1:3", at_ms=NOW_MS + 1),
        *files("0:4 1:4 9:1-4", at_ms=NOW_MS - 1),
    ]
    plan = plan_retention(listing, DEFAULT, NOW_MS)
    assert plan.deletes == ()
    found = reasons(plan)
    assert (found["1:3"], found["1:2"], found["0:3"]) == ("future", "in-window", "l0-young")
    assert plan.next_ms == NOW_MS + 1


def test_every_reason_has_words_and_every_decision_a_reason() -> None:
    """Each reason can be shown to a user."""
    assert all(reason.words for reason in Reason)
    assert len({reason.words for reason in Reason}) == len(Reason)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"window_s": 0.0}, "0 s is no window"),
        ({"window_s": float("nan")}, "nan s is no window"),
        ({"l0_s": -1.0}, "-1 s is negative"),
        ({"snapshots_min": 0}, "nothing to restore from"),
    ],
)
def test_a_policy_that_promises_nothing_is_refused(options: dict[str, float], cause: str) -> None:
    """Such a policy is a ConfigError (exit 2)."""
    with pytest.raises(ConfigError, match=cause):
        RetentionPolicy(**options)  # type: ignore[arg-type]


def test_a_broken_chain_is_not_thinned() -> None:
    """While the newest TXID cannot be restored, nothing is deleted: the error is that of the restore."""
    with pytest.raises(ChainGapError):
        plan_retention([item for item in CHAIN if item.name not in {name("0:60"), name("9:1-36")}] + files("0:62"),
                       DEFAULT, NOW_MS)  # fmt: skip
    with pytest.raises(CorruptError, match="damaged"):
        plan_retention(CHAIN, DEFAULT, NOW_MS, damaged={name("0:60")})
    with pytest.raises(CorruptError, match="damaged"):
        plan_retention([*CHAIN[:-1], ago(0, "0:60", size=7)], DEFAULT, NOW_MS)


def test_levels_that_overlap_are_not_thinned_on_trust() -> None:
    """If the rules would take a promised TXID away, because files of one level overlap, the plan is refused."""
    listing = [
        *files("9:1 1:2-8 1:4-6 1:9", at_ms=NOW_MS - 3 * HOUR_MS),
        *(ago(3 * HOUR_MS, f"0:{n}") for n in range(2, 10)),
    ]
    with pytest.raises(UnsafeRetentionError, match="would lose TXID 0000000000000006, which is promised"):
        plan_retention(listing, DEFAULT, NOW_MS)


@pytest.mark.parametrize("case", golden.SOUND)
def test_litestreams_chains_are_thinned_without_loss(case: str) -> None:
    """Every sound golden replica still restores its newest TXID, and all of L1 behind the window's beginning."""
    listing = golden.listing(case)
    now_ms = max(info.created_ms for info in listing) + 7 * HOUR_MS
    plan = plan_retention(listing, RetentionPolicy(window_s=6 * 3600.0), now_ms)
    left = [item.info for item in plan.decisions if item.keep]
    assert plan_restore(left, None).max_txid == plan_restore(listing, None).max_txid
    floor = max((i.name.max_txid for i in listing if i.name.level == 9), default=TXID(1))
    assert {i.name.max_txid for i in listing if i.name.level == 1 and i.name.max_txid >= floor} <= set(
        restorable_txids(left)
    )
    assert plan_retention(left, RetentionPolicy(window_s=6 * 3600.0), now_ms).deletes == ()


# --- properties -------------------------------------------------------------------------------------------------------


def grown(seed: int, policy: RetentionPolicy) -> tuple[list[FileInfo], int]:
    """Return a replica after some days of uploads, compactions, snapshots and now and then a deletion, and the time."""
    dice = random.Random(seed)
    now_ms, txid = NOW_MS, 0
    listing: list[FileInfo] = []
    for _ in range(dice.randint(3, 60)):
        now_ms += round(dice.choice([MINUTE_MS, 20 * MINUTE_MS, 5 * HOUR_MS]) * dice.uniform(0.1, 2))
        span = dice.choice([1, 1, 1, 1, 6])
        size = dice.randint(200, 5000) if txid else SNAPSHOT_SIZE
        listing.append(FileInfo(FileName(0, TXID(txid + 1), TXID(txid + span)), size, now_ms))
        txid += span
        for level in (1, 2, 3):
            plan = plan_compaction(listing, level, files_max=20) if dice.random() < 1 / level / 2 else None
            if plan is not None:
                if plan.needs_base is not None and plan.base_copy is not None:
                    listing.append(FileInfo(plan.base_copy, plan.needs_base.size, now_ms))
                listing.append(FileInfo(plan.output, plan.bytes, dice.choice([now_ms, plan.inputs[-1].created_ms])))
        if dice.random() < 0.25 and not any(i.name == FileName(9, TXID(1), TXID(txid)) for i in listing):
            listing.append(FileInfo(FileName(9, TXID(1), TXID(txid)), SNAPSHOT_SIZE, now_ms))
        if dice.random() < 0.1:
            gone = set(plan_retention(listing, policy, now_ms).deletes)
            listing = [info for info in listing if info not in gone]
    return listing, now_ms + round(dice.choice([0, HOUR_MS, 30 * HOUR_MS]) * dice.random())


POLICIES = st.builds(
    RetentionPolicy,
    window_s=st.sampled_from([1.0, 3600.0, 86_400.0]),
    l0_s=st.sampled_from([0.0, 300.0, 7200.0, 2 * 86_400.0, None]),
    snapshots_min=st.integers(1, 4),
)


def promised(listing: Sequence[FileInfo], policy: RetentionPolicy, now_ms: int) -> set[TXID]:
    """Return the TXIDs that the documentation promises at `now_ms`, from its words alone.

    The newest; of those that are the state at some moment of the window, the ends of files above L0, and those of L0
    that are younger than l0-retention or not in L1; the newest snapshots.
    """
    points = set(restorable_txids(listing))
    time_of: dict[TXID, int] = {}
    for info in listing:
        time_of[info.name.max_txid] = min(info.created_ms, time_of.get(info.name.max_txid, info.created_ms))
    above = {info.name.max_txid for info in listing if info.name.level > 0} & points
    begin_ms = now_ms - policy.window_s * 1000
    first = max((txid for txid in above if time_of[txid] < begin_ms), default=TXID(1))
    in_l1 = max((info.name.max_txid for info in listing if info.name.level == 1), default=0)
    l0 = {
        info.name.max_txid
        for info in listing
        if info.name.level == 0
        and (policy.l0_s is None or now_ms - info.created_ms < policy.l0_s * 1000 or info.name.max_txid > in_l1)
    }
    snapshots = sorted(info.name.max_txid for info in listing if info.name.level == SNAPSHOT_LEVEL)
    in_window = {txid for txid in points & (above | l0) if txid >= first}
    return in_window | {max(points)} | set(snapshots[-policy.snapshots_min :])


@given(seed=st.integers(0, 1 << 32), policy=POLICIES, cut=st.floats(0, 1))
def test_any_prefix_of_the_deletions_keeps_what_is_promised(seed: int, policy: RetentionPolicy, cut: float) -> None:
    """Cut short anywhere, deletions leave every promised TXID; the next plan names just the rest, in the same order.

    Out of order, as a store may carry out a batch, they keep the same.
    """
    listing, now_ms = grown(seed, policy)
    wanted = promised(listing, policy, now_ms)
    plan = plan_retention(listing, policy, now_ms)
    done = round(len(plan.deletes) * cut)
    left = [info for info in listing if info not in set(plan.deletes[:done])]
    assert wanted <= set(restorable_txids(left))
    assert plan_retention(left, policy, now_ms).deletes == plan.deletes[done:]
    mixed = set(random.Random(seed).sample(plan.deletes, done))
    assert wanted <= set(restorable_txids([info for info in listing if info not in mixed]))


@given(seed=st.integers(0, 1 << 32), policy=POLICIES)
def test_what_can_be_restored_shrinks_from_its_old_end(seed: int, policy: RetentionPolicy) -> None:
    """One deletion after the other, states above L0 vanish oldest first, or are promised."""
    listing, now_ms = grown(seed, policy)
    plan = plan_retention(listing, policy, now_ms)
    kept = {item.info.name.max_txid for item in plan.decisions if item.keep}
    above = {info.name.max_txid for info in listing if info.name.level > 0}
    left = list(listing)
    points = set(restorable_txids(left))
    for info in plan.deletes:
        left.remove(info)
        now = set(restorable_txids(left))
        lost = (points - now) & above
        rest = (now & above) - kept
        assert not lost or not rest or max(lost) < min(rest)
        points = now


@given(seed=st.integers(0, 1 << 32), policy=POLICIES, wait=st.floats(0, 0.999), pick=st.integers(0, 1 << 32))
def test_a_restore_has_an_hour_from_its_plan_to_its_last_file(
    seed: int, policy: RetentionPolicy, wait: float, pick: int
) -> None:
    """What a restore to a promised TXID planned is there for an hour, whatever retention does meanwhile."""
    listing, now_ms = grown(seed, policy)
    settled = set(plan_retention(listing, policy, now_ms).deletes)
    listing = [info for info in listing if info not in settled]
    wanted = sorted(promised(listing, policy, now_ms))
    needed = plan_restore(listing, wanted[pick % len(wanted)]).files
    gone = set(plan_retention(listing, policy, now_ms + round(wait * HOUR_MS)).deletes)
    assert not gone & set(needed)


@given(seed=st.integers(0, 1 << 32), policy=POLICIES, early_ms=st.integers(1, 10 * DAY_MS))
def test_before_the_next_time_nothing_is_to_be_deleted(seed: int, policy: RetentionPolicy, early_ms: int) -> None:
    """A plan says until when another one is in vain."""
    listing, now_ms = grown(seed, policy)
    plan = plan_retention(listing, policy, now_ms)
    left = [item.info for item in plan.decisions if item.keep]
    next_ms = NOW_MS * 100 if plan.next_ms is None else plan.next_ms
    assert next_ms > now_ms
    for at_ms in (next_ms - 1, max(next_ms - early_ms, now_ms)):
        assert plan_retention(left, policy, at_ms).deletes == ()


@given(seed=st.integers(0, 1 << 32), policy=POLICIES, level=st.integers(1, 3))
def test_compaction_goes_on_after_retention(seed: int, policy: RetentionPolicy, level: int) -> None:
    """What retention leaves can be compacted on, and is not compacted again."""
    listing, now_ms = grown(seed, policy)
    before = plan_compaction(listing, level)
    plan = plan_retention(listing, policy, now_ms)
    after = plan_compaction([item.info for item in plan.decisions if item.keep], level)
    assert (after is None) or before is not None
    if before is not None and after is not None:
        assert set(after.inputs) <= {item.info for item in plan.decisions if item.keep}
        assert after.output.min_txid >= before.output.min_txid
