"""The sick WAL that SQLite's savepoint bug leaves: noticed, healed with an empty WAL, or waited for with a notice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litestream_py import failpoints
from litestream_py.core.state import CheckpointResult, SyncResult
from litestream_py.engine import sick
from litestream_py.engine.events import SickWalNotice
from litestream_py.engine.walread import SickWal
from litestream_py.errors import DatabaseBusyError, LsyncError
from tests.support import sickwal
from tests.support.lab import Lab


def notices(lab: Lab) -> list[bool]:
    """Return, for each notice of a sick WAL, whether it says that it was healed."""
    return [event.healed for event in lab.events if isinstance(event, SickWalNotice)]


def reasons(lab: Lab) -> list[str | None]:
    """Return the reasons of all results."""
    return [event.reason for event in lab.events if isinstance(event, SyncResult)]


def find(lab: Lab) -> SickWal:
    """Sync, which must find the WAL sick."""
    with pytest.raises(SickWal) as found:
        lab.tailer.sync(now_ms=lab.now_ms())
    return found.value


def test_it_is_noticed_and_healed(lab: Lab) -> None:
    """Frames that do not verify are healed with TRUNCATE, and what differs is shipped as the next TXID."""
    app = sickwal.create(lab)
    lab.note()
    sickwal.make_sick(app)
    (result,) = lab.sync()
    assert result.reason == "sick-wal"
    assert notices(lab) == [True]
    lab.note()
    assert lab.tailer.files.wal_size() == 0
    app.sql("insert into t(b) values(fill(100, 3))")
    (result,) = lab.sync()
    assert result.reason is None


def test_healthy_commits_in_front_are_shipped_too(lab: Lab) -> None:
    """The comparison covers what stands in front of the first bad frame as well as what stands behind it."""
    app = sickwal.create(lab)
    lab.note()
    app.sql("insert into t(b) values(fill(100, 9))")
    sickwal.make_sick(app)
    app.sql("delete from t where id < 50")
    lab.note()
    assert reasons(lab) == ["first-snapshot", "sick-wal"]


def test_the_state_is_the_same_until_it_is_healed(lab: Lab) -> None:
    """Finding the WAL sick changes nothing, however often."""
    app = sickwal.create(lab)
    lab.note()
    sickwal.make_sick(app)
    state, newest = lab.tailer.state, lab.newest
    assert find(lab).offset == find(lab).offset > state.wal.offset
    assert (lab.tailer.state, lab.newest) == (state, newest)
    assert lab.tailer.behind()


@pytest.mark.parametrize("obstacle", ["reader", "writer"])
def test_it_waits_for_others_and_does_nothing_half_way(lab: Lab, obstacle: str) -> None:
    """While a reader pins old frames or a writer is at work, nothing is backfilled: the old prefix is still there."""
    lab.limits = replace(lab.limits, attach_wait_s=0.05)
    app = sickwal.create(lab)
    lab.note()
    app.sql("begin", "select count(*) from t", conn="other")
    if obstacle == "writer":
        app.sql("rollback", conn="other")
    sickwal.make_sick(app)
    if obstacle == "writer":
        app.sql("begin immediate", conn="other")
    before = lab.tailer.files.read_index()
    found = find(lab)
    for _ in range(2):
        with pytest.raises(DatabaseBusyError):
            sick.heal(lab.tailer, found, now_ms=lab.now_ms())
    after = lab.tailer.files.read_index()
    assert (after.n_backfill, after.mx_frame) == (before.n_backfill, before.mx_frame)
    assert notices(lab) == [False, False]
    assert lab.tailer.database.reading
    app.sql("rollback", conn="other")
    lab.sync()
    assert notices(lab) == [False, False, True]
    lab.note()


def test_it_is_found_at_the_first_snapshot(lab: Lab) -> None:
    """A WAL that was sick before we came is emptied first; then the snapshot is taken."""
    app = sickwal.create(lab)
    sickwal.make_sick(app)
    lab.note()
    assert notices(lab) == [True]
    assert reasons(lab) == ["first-snapshot"]


def test_it_is_found_at_a_restart(lab: Lab) -> None:
    """A WAL that became sick while we were away is healed when tailing goes on."""
    app = sickwal.create(lab)
    lab.note()
    lab.stop()
    sickwal.make_sick(app)
    lab.note()
    assert notices(lab) == [True]
    assert reasons(lab)[-1] == "sick-wal"


@pytest.mark.parametrize("attached", [True, False])
def test_the_crash_that_it_leads_to_is_found(lab: Lab, attached: bool) -> None:
    """SQLite recovers the prefix only; the chain then follows the database, lost commits and all."""
    app = sickwal.create(lab)
    lab.note()
    rows = app.sql("select count(*) from t")[0][0]
    if not attached:
        lab.stop()
    sickwal.make_sick(app)
    lab.crash_app()
    lab.stop()  # with the last connection gone, the next one recovers from the file
    assert lab.app.sql("select count(*) from t")[0][0] == rows, "the bug costs the commits behind the bad frame"
    lab.note()


@pytest.mark.parametrize("name", [sick.READER_ENDED, sick.AFTER_TRUNCATE, "resync.after_l0", "l0.before_write"])
def test_a_failure_while_healing_is_made_good(lab: Lab, name: str) -> None:
    """Whichever step fails, the next try ends with what the database holds."""
    app = sickwal.create(lab)
    lab.note()
    sickwal.make_sick(app)
    failpoints.arm(name, "error")
    with pytest.raises((LsyncError, failpoints.InjectedError)):
        lab.sync()
    failpoints.disarm()
    lab.note()
    assert [event.outcome for event in lab.events if isinstance(event, CheckpointResult)].count("complete") <= 1


def test_a_checkpoint_that_finds_it_first_stops(lab: Lab) -> None:
    """Frames that came after the last sync are read under the write lock before the reader ends; then it is healed."""
    app = sickwal.create(lab)
    lab.note()
    sickwal.make_sick(app)
    with pytest.raises(SickWal):
        lab.checkpoint()
    assert lab.tailer.database.reading
    assert not lab.tailer.database.locked
    lab.note()
    assert notices(lab) == [True]
