"""Sealing and truncating: what completes, what is left alone, and how long the application's writers may wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from litestream_py.core.checkpoint import Checkpoint, CheckpointLimits, choose_checkpoint
from litestream_py.core.state import SyncResult, Unsealed
from litestream_py.engine import checkpointer
from litestream_py.engine.checkpointer import Outcome
from tests.support.lab import Lab


def at(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], object]) -> None:
    """Let the application act at a failpoint of the checkpointer, once."""
    pending = [action]

    def hit(reached: str) -> None:
        if reached == name and pending:
            pending.pop()()

    monkeypatch.setattr(checkpointer, "hit", hit)


def rows(*numbers: int) -> list[str]:
    """Return statements that commit a page or two each."""
    return [f"insert into t(b) values(fill(3000, {number}))" for number in numbers]


def test_the_mark_moves_in_a_new_generation(lab: Lab) -> None:
    """A WAL that was restarted is backfilled in the bulk phase however far the mark stood in the one before."""
    lab.limits = replace(lab.limits, lock_work_bytes=16 << 10)
    app = lab.create(*rows(*range(300)))
    assert lab.checkpoint().complete
    for first in range(300, 600, 60):
        app.sql(*rows(*range(first, first + 60)))
        assert lab.checkpoint().complete
    app.sql(*rows(1))
    assert lab.tailer.files.read_index().mx_frame < 10


def test_a_seal_leaves_a_restartable_wal(lab: Lab) -> None:
    """After a complete seal the next commit restarts the WAL and is continued at its first frame."""
    app = lab.create(*rows(1, 2, 3))
    lab.sync()
    salts = lab.tailer.state.wal.salts
    assert lab.checkpoint().complete
    app.sql(*rows(4))
    (result,) = lab.sync()
    assert result.wal.salts != salts
    assert result.reason is None
    lab.note()


def test_truncate_empties_the_file(lab: Lab) -> None:
    """TRUNCATE after a seal cuts the WAL file to nothing, and the chain goes on in the new generation."""
    app = lab.create(*rows(*range(50)))
    assert lab.truncate().truncated
    assert lab.tailer.files.wal_size() == 0
    app.sql(*rows(51))
    (result,) = lab.sync()
    assert result.reason is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("obstacle", ["commit", "reader"])
def test_a_blocked_truncate_does_not_hold_the_write_lock(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """TRUNCATE waits for readers under the write lock: a patient busy timeout (here a minute) would stop writers."""
    lab.limits = replace(lab.limits, busy_timeout_s=60.0)
    app = lab.create(*rows(*range(50)))
    lab.sync()
    if obstacle == "reader":
        app.sql("begin", "select count(*) from t", conn="reader")
        outcome = lab.truncate()
        app.sql("rollback", conn="reader")
    else:
        at(monkeypatch, checkpointer.AFTER_SEAL, lambda: app.sql(*rows(51)))
        outcome = lab.truncate()
    assert outcome.complete
    assert not outcome.truncated
    lab.note()


@pytest.mark.timeout(20)
def test_the_write_lock_is_not_waited_for_beyond_the_budget(lab: Lab) -> None:
    """While an application writes, a seal gives up in time, and the state is what it was."""
    lab.limits = replace(lab.limits, lock_wait_s=0.05)
    app = lab.create(*rows(1))
    lab.sync()
    app.sql("begin immediate", "insert into t(b) values(1)")
    state = lab.tailer.state
    outcome = lab.checkpoint()
    assert outcome.seal is Outcome.BUSY
    assert lab.tailer.database.reading
    assert replace(lab.tailer.state, synced_since_checkpoint=True) == state
    app.sql("commit")
    assert lab.checkpoint().complete


def test_too_much_work_is_not_done_under_the_write_lock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came after the bulk phase and is more than the budget is left for the next try; nothing is lost."""
    lab.limits = replace(lab.limits, lock_work_bytes=16 << 10)
    app = lab.create(*rows(1))
    lab.sync()
    at(monkeypatch, checkpointer.BEFORE_SEAL, lambda: app.sql(*rows(*range(2, 30))))
    assert lab.checkpoint().seal is Outcome.TOO_MUCH
    assert lab.checkpoint().complete


def test_a_foreign_reader_makes_the_seal_incomplete(lab: Lab) -> None:
    """A reader of another process at an old mark lets only a part be backfilled; the position is sealed as well."""
    app = lab.create(*rows(1))
    lab.sync()
    app.sql("begin", "select count(*) from t", conn="reader")
    app.sql(*rows(2, 3))
    outcome = lab.checkpoint()
    assert outcome.seal is Outcome.PINNED
    assert not lab.tailer.state.file_complete
    app.sql("rollback", conn="reader")
    assert lab.checkpoint().complete


def test_a_comparison_is_not_made_under_the_write_lock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuity lost between the phases makes the seal give up: comparing the database takes its time."""
    app = lab.create(*rows(1))
    lab.sync()
    assert lab.checkpoint().complete
    lab.tailer.apply(Unsealed())  # on slot 0 of a wholly backfilled WAL, and not sealed
    compared = []
    resync = lab.tailer.resync

    def watch(reason: str, *, now_ms: int) -> object:
        app.sql("begin immediate", "rollback")  # fails if we hold the write lock
        compared.append(reason)
        return resync(reason, now_ms=now_ms)

    monkeypatch.setattr(lab.tailer, "resync", watch)
    at(monkeypatch, checkpointer.BEFORE_SEAL, lambda: app.sql(*rows(3)))
    assert lab.checkpoint().seal is Outcome.BUSY
    assert compared == []
    lab.sync()
    assert compared == ["restarted-while-not-sealed"]
    assert lab.checkpoint().complete


def test_checkpoint_reads_its_outcome_from_the_row(lab: Lab) -> None:
    """A blocked checkpoint is a row with its counts, not an error; one that moved a part says how much."""
    app = lab.create(*rows(1))
    lab.sync()
    app.sql("begin", "select count(*) from t", conn="reader")
    app.sql(*rows(2, 3))
    lab.sync()
    lab.tailer.hand_over_read(lab.tailer.files.read_index())
    partial = lab.tailer.database.checkpoint("PASSIVE")
    assert (partial.busy, partial.outcome) == (False, "partial")
    assert 0 < partial.checkpointed < partial.log
    blocked = lab.tailer.database.checkpoint("TRUNCATE")
    assert blocked.outcome == "busy"
    app.sql("rollback", conn="reader")


def test_a_writer_that_never_rests_leaves_the_wal_bounded(lab: Lab) -> None:
    """Asking `choose_checkpoint` after each sync keeps the WAL's generations short, however fast the application is."""
    limits = CheckpointLimits(pages_min=200, interval_s=0, truncate_pages=2000)
    app = lab.create(*rows(*range(100)))
    lab.sync()
    generations = {lab.tailer.state.wal.salts}
    longest = 0
    app.hammer("insert into t(b) values(fill(3000, 1))", "delete from t where id % 50 = 0")
    while len(generations) < 6 and longest < 100_000:
        lab.tailer.sync(now_ms=lab.now_ms())
        facts = lab.checkpoint_facts()
        longest = max(longest, facts.index.mx_frame)
        what = choose_checkpoint(facts, limits, now_s=0.0)
        if what is not Checkpoint.NONE:
            lab.checkpoint(what)
        generations.add(lab.tailer.state.wal.salts)
    app.calm()
    assert longest < 100_000
    compared = [event.reason for event in lab.events if isinstance(event, SyncResult) and event.reason]
    assert compared == ["first-snapshot"]
