"""A year of a busy, a quiet and a bursty database on a simulated clock, looked at after every hour.

The busy one commits all the time, on a ladder whose intervals are stretched: what counts is how many steps there are.
The slow form is a database that commits every second for two days, on the default ladder.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from litestream_py.core.levels import LEVELS_DEFAULT, SNAPSHOT_INTERVAL_S, ladder, previous_tick_ms
from litestream_py.core.restore import restorable_txids
from litestream_py.core.retention import RetentionPolicy
from litestream_py.core.window import choose_txid, restore_window
from litestream_py.ltx.ids import TXID, FileName
from tests.support.simulated import SimulatedReplica, budget

START_MS = 20_000 * 86_400_000 + 12_345
SECOND_MS, HOUR_MS, DAY_MS = 1000, 3_600_000, 86_400_000
YEAR_MS = 365 * DAY_MS


def busy() -> Iterator[int]:
    """Commit every eight minutes or so."""
    dice, at_ms = random.Random(1), START_MS
    while True:
        yield at_ms
        at_ms += dice.randint(1, 960_000)


def quiet() -> Iterator[int]:
    """Commit about once a day, and not at all for a month in summer."""
    dice, at_ms = random.Random(2), START_MS
    while True:
        yield at_ms
        at_ms += round(dice.expovariate(1 / DAY_MS)) + 1
        if 180 * DAY_MS < at_ms - START_MS < 210 * DAY_MS:
            at_ms = START_MS + 210 * DAY_MS


def bursty() -> Iterator[int]:
    """Commit every 5 seconds for ten minutes, then rest for five days or so."""
    dice, at_ms = random.Random(3), START_MS
    while True:
        for _ in range(120):
            yield at_ms
            at_ms += dice.randint(1, 10 * SECOND_MS)
        at_ms += round(dice.uniform(0, 10) * DAY_MS)


def steady() -> Iterator[int]:
    """Commit every second."""
    yield from range(START_MS, 1 << 60, SECOND_MS)


def check(replica: SimulatedReplica) -> None:
    """Hold the replica against its promises and its budget."""
    now_ms, policy = replica.now_ms, replica.policy
    points = restorable_txids(replica.listing)
    begin_ms = now_ms - policy.window_s * 1000
    promised = {replica.newest}
    for txid in reversed(replica.l1_ends):
        promised.add(txid)
        if replica.commits[txid - 1][0] < begin_ms:
            break
    l0_ms = now_ms - (policy.l0_s or 0) * 1000
    promised.update(TXID(txid) for txid in range(replica.last_before(l0_ms) + 1, replica.newest + 1))
    assert promised <= set(points)
    assert FileName(0, replica.newest, replica.newest) in replica.files
    names, size = budget(replica)
    assert len(replica.files) <= names
    assert sum(info.size for info in replica.listing) <= size


def check_times(replica: SimulatedReplica, dice: random.Random) -> None:
    """Ask for times in the window: exact where L0 survives, else no older than the step of L1 before."""
    now_ms, policy = replica.now_ms, replica.policy
    listing = replica.listing
    for age_ms in (0.0, policy.window_s * 1000, dice.uniform(0, policy.window_s * 1000)):
        at_ms = round(now_ms - age_ms)
        exact = replica.last_before(at_ms)
        if exact == 0:
            continue
        found = choose_txid(listing, at_ms, lambda info: replica.commits[info.name.max_txid - 1][0])
        if age_ms < (policy.l0_s or 0) * 1000:
            assert found == exact
        step_ms = previous_tick_ms(replica.levels[0].interval_s, at_ms)
        assert max(replica.last_before(step_ms), 1) <= found <= exact
    window = restore_window(listing)
    assert window[-1].newest == replica.newest
    assert all(earlier.newest < later.oldest for earlier, later in pairwise(window))


def live(replica: SimulatedReplica, commits: Iterator[int], span_ms: int) -> tuple[int, int]:
    """Let time pass, checking after every hour; return how many hours there were, and how many of them idle.

    An hour is idle if nothing was committed for so long that everything has been compacted and retired.
    """
    dice = random.Random(4)
    settle_ms = round((replica.policy.window_s + 2 * replica.snapshot_interval_s) * 1000) + 3 * HOUR_MS
    next_ms, hours, idle = next(commits), 0, 0
    for hour_ms in range(START_MS + HOUR_MS, START_MS + span_ms + 1, HOUR_MS):
        before = replica.plans, replica.requests.total()
        while next_ms <= hour_ms:
            replica.commit(next_ms, dice.randint(200, 20_000))
            next_ms = next(commits)
        replica.advance(hour_ms)
        replica.retire()
        hours += 1
        if replica.commits[-1][0] < hour_ms - HOUR_MS - settle_ms:
            idle += 1
            assert (replica.plans, replica.requests.total()) == before
            assert replica.is_settled()
            continue
        check(replica)
        if hours % 7 == 0:
            check_times(replica, dice)
    return hours, idle


YEARS = {
    "busy": (busy, ladder([3600, 14_400, 43_200]), RetentionPolicy(l0_s=3600.0)),
    "quiet": (quiet, LEVELS_DEFAULT, RetentionPolicy(snapshots_min=2)),
    "bursty": (bursty, LEVELS_DEFAULT, RetentionPolicy(window_s=3 * 86_400.0)),
}


@pytest.mark.parametrize("kind", YEARS)
def test_a_year_later_every_promised_point_is_there_and_the_replica_small(kind: str) -> None:
    """After every hour of a year each promised TXID and time can be restored, within the budget of files and bytes.

    Hours in which nothing happens bring no request, and no planner is asked.
    """
    commits, levels, policy = YEARS[kind]
    replica = SimulatedReplica(levels, SNAPSHOT_INTERVAL_S, policy, database_size=50_000_000)
    hours, idle = live(replica, commits(), YEAR_MS)
    assert hours == 365 * 24
    assert (idle > 0) == (kind != "busy")
    # Every commit is one PUT, and each level at most one more; a snapshot a day and the files cut at it.
    assert replica.requests["put"] <= len(replica.commits) * (1 + len(levels)) + 366 * (1 + len(levels))


def test_an_hour_of_a_commit_a_second_costs_no_more_than_promised() -> None:
    """3,600 commits on the default ladder cost at most 3,750 PUTs, the levels and a snapshot included."""
    replica = SimulatedReplica(LEVELS_DEFAULT, SNAPSHOT_INTERVAL_S, RetentionPolicy(), database_size=1_000_000)
    for at_ms in range(DAY_MS - HOUR_MS // 2, DAY_MS + HOUR_MS // 2, SECOND_MS):
        replica.commit(at_ms, 5000)
    replica.retire()
    assert len(replica.commits) == 3600
    assert sum(name.level == 9 for name in replica.files) == 2
    assert 3600 + 120 + 12 + 1 <= replica.requests["put"] <= 3750


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_commit_every_second_on_the_default_ladder() -> None:
    """Two days of it, and retention of six hours: every promised point each hour, within the budget."""
    policy = RetentionPolicy(window_s=6 * 3600.0)
    replica = SimulatedReplica(LEVELS_DEFAULT, 12 * 3600.0, policy, database_size=1_000_000_000)
    assert live(replica, steady(), 2 * DAY_MS) == (48, 0)
