"""Hours in the life of a replica, with real bytes: every promised TXID restores; after any damage, no wrong byte."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.clients.memory import MemoryClient, Stored
from litestream_py.core.levels import ladder
from litestream_py.core.retention import RetentionPolicy
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.moment import Moment
from litestream_py.engine.restorer import restore_txid
from litestream_py.errors import LsyncError
from litestream_py.local.meta import MetaDir
from litestream_py.ltx.ids import TXID
from tests.support.litestream_rules import violations
from tests.support.living import LivingReplica
from tests.support.ltx_strategies import unhurried

START_MS = 1_795_000_000_000
HOUR_MS = 3_600_000


def begin(folder: Path) -> LivingReplica:
    """Return a replica on a ladder of 10 s, 1 min and 5 min, with a snapshot each half an hour and a window of one."""
    meta = MetaDir(folder / "meta")
    meta.l0.mkdir(parents=True)
    policy = RetentionPolicy(window_s=3600.0, l0_s=60.0)
    return LivingReplica(meta, ladder([10.0, 60.0, 300.0]), 1800.0, policy)


def live(replica: LivingReplica, hours: float, seed: int, *, burst: bool) -> None:
    """Commit for some hours: now and then, or in bursts with pauses; thin out every ten minutes."""
    dice, at_ms, thinned_ms = random.Random(seed), max(replica.now_ms, START_MS), max(replica.now_ms, START_MS)
    end_ms = at_ms + round(hours * HOUR_MS)
    while at_ms < end_ms:
        quick = burst and dice.random() < 0.97
        at_ms += dice.randint(1, 3_000) if quick else dice.randint(1_000, 1_200_000 if burst else 120_000)
        while thinned_ms + HOUR_MS // 6 < at_ms:
            thinned_ms += HOUR_MS // 6
            replica.advance(thinned_ms)
            replica.thin_out()
            check(replica)
        replica.commit(at_ms, dice)
    replica.advance(end_ms + HOUR_MS // 6)


def check(replica: LivingReplica) -> None:
    """Every promised TXID is exact."""
    for txid in replica.promised():
        assert replica.image_of(txid) == replica.history.image(txid), f"TXID {txid}"


@pytest.mark.parametrize(("burst", "seed"), [(False, 1), (True, 2)])
def test_every_promised_txid_restores(tmp_path: Path, burst: bool, seed: int) -> None:
    """While it is merged, snapshotted and thinned out for hours, every promised TXID restores to its exact bytes."""
    replica = begin(tmp_path)
    for part in range(6):
        live(replica, 1, seed + 10 * part, burst=burst)
        assert violations(replica.client) == []  # Litestream could go on from here
    assert replica.newest > 200
    assert replica.deleted > 300
    assert {name.level for name in replica.client.files} == {0, 1, 2, 3, 9}
    assert len(replica.client.files) < 2 * replica.newest
    for txid in replica.promised()[:: len(replica.promised()) // 10]:
        result = restore_txid(replica.client, tmp_path / f"{txid}.db", txid)
        assert result.path.read_bytes() == replica.history.image(txid)
        assert result.checksum == replica.history.checksum(txid)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> LivingReplica:
    """A replica that has lived for two hours and a half."""
    replica = begin(tmp_path_factory.mktemp("lived"))
    live(replica, 2.5, 3, burst=False)
    replica.thin_out()
    return replica


def test_points_in_time(lived: LivingReplica, tmp_path: Path) -> None:
    """A point in time within the window restores the last state before it that L1 holds, or the exact one."""
    dice = random.Random(4)
    for number in range(12):
        at_ms = lived.now_ms - dice.randint(1, HOUR_MS)
        exact = sum(committed < at_ms for committed in lived.committed_ms)
        result = restore_txid(lived.client, tmp_path / f"{number}.db", Moment(at_ms))
        assert result.path.read_bytes() == lived.history.image(result.txid)
        step_ms = at_ms - at_ms % 10_000
        assert sum(committed < step_ms for committed in lived.committed_ms) <= result.txid <= exact
        assert result.timestamp_ms == lived.committed_ms[result.txid - 1]


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, float]]:
    """Draw what happens to which files: kind, which file and where in it, both as fractions."""
    fraction = st.floats(0, 1, exclude_max=True)
    kinds = st.sampled_from(["delete", "flip", "cut", "empty", "swap"])
    return draw(st.lists(st.tuples(kinds, fraction, fraction), min_size=1, max_size=12))


def damaged(client: MemoryClient, damage: list[tuple[str, float, float]]) -> MemoryClient:
    """Return a copy of a replica with the damage done. Files of higher levels are hit as often as those of level 0."""
    copy = MemoryClient()
    copy.files = dict(client.files)
    for kind, which, where in damage:
        level = sorted({name.level for name in copy.files})
        names = sorted(n for n in copy.files if n.level == level[int(which * len(level))])
        name = names[int((which * len(level)) % 1 * len(names))]
        body, at = copy.files[name].body, int(where * len(copy.files[name].body))
        match kind:
            case "delete":
                del copy.files[name]
                continue
            case "flip" if body:
                body = body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :]
            case "cut":
                body = body[:at]
            case "empty":
                body = b""
            case "swap":
                body = copy.files[sorted(copy.files)[int(where * len(copy.files))]].body
        copy.files[name] = Stored(body, copy.files[name].timestamp_ms)
    return copy


@pytest.mark.property
@unhurried
@given(damage=damages(), which=st.floats(0, 1), newest=st.booleans())
def test_after_any_damage_exact_or_an_error(
    lived: LivingReplica,
    tmp_path_factory: pytest.TempPathFactory,
    damage: list[tuple[str, float, float]],
    which: float,
    newest: bool,
) -> None:
    """Whatever is deleted, cut, flipped or swapped: a restore gives the exact state that was asked for, or an error.

    The newest state is that of the newest TXID that the listing shows, never one in front of a gap.
    """
    client, folder = damaged(lived.client, damage), tmp_path_factory.mktemp("damage")
    listing = list_replica(client)
    target = None if newest else TXID(1 + int(which * (lived.newest - 1)))
    try:
        result = restore_txid(client, folder / "out.db", target)
    except LsyncError:
        assert list(folder.iterdir()) == []
        return
    wanted = max(info.name.max_txid for info in listing) if target is None else target
    assert result.txid == wanted
    assert result.path.read_bytes() == lived.history.image(wanted)


@pytest.mark.property
@unhurried
@given(damage=damages(), seed=st.integers(0, 99))
def test_maintenance_never_makes_damage_worse(
    lived: LivingReplica, tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[str, float, float]], seed: int
) -> None:
    """On a damaged replica merging and thinning out end with a named error or do right: no state gets lost or wrong."""
    replica = begin(tmp_path_factory.mktemp("worse"))
    replica.client, replica.history = damaged(lived.client, damage), lived.history
    replica.now_ms, replica.committed_ms = lived.now_ms + 5 * HOUR_MS, lived.committed_ms
    replica.l1_ends = lived.l1_ends
    promised = lived.promised()[::5]
    before = [txid for txid in promised if _exact(replica, txid)]
    for level in random.Random(seed).sample([1, 2, 3], 3):
        with contextlib.suppress(LsyncError):
            replica.merge(level)
    assert [txid for txid in promised if _exact(replica, txid)] == before
    replica.now_ms = lived.now_ms
    with contextlib.suppress(LsyncError):
        replica.thin_out()
    after = [txid for txid in promised if _exact(replica, txid)]
    assert set(before) <= set(after)


def _exact(replica: LivingReplica, txid: TXID) -> bool:
    """Tell whether a TXID restores, and that it does so exactly if it does."""
    try:
        image = replica.image_of(txid)
    except LsyncError:
        return False
    assert image == replica.history.image(txid)
    return True
