"""What a sync must never take for "nothing to do", and what must never be taken for proven after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from litestream_py import failpoints
from litestream_py.core.state import SyncResult
from litestream_py.engine.events import WalResetBugNotice
from litestream_py.errors import DiskFullError, LsyncError, StateUnknownError
from litestream_py.local import files
from litestream_py.local.dbfiles import shm_path
from tests.support import sickwal
from tests.support.lab import Lab


def resyncs(lab: Lab) -> list[str]:
    """Reasons of the results that shipped differences, in order; the first snapshot left out."""
    reasons = [event.reason for event in lab.events if isinstance(event, SyncResult) and event.reason]
    return [reason for reason in reasons if reason != "first-snapshot"]


def poke_wal_index(lab: Lab, offset: int, data: bytes) -> None:
    """Write to `-shm` from a process that holds no locks on it."""
    code = "import os,sys;os.pwrite(os.open(sys.argv[1],os.O_RDWR),bytes.fromhex(sys.argv[2]),int(sys.argv[3]))"
    path = str(shm_path(lab.path))
    subprocess.run([sys.executable, "-S", "-c", code, path, data.hex(), str(offset)], check=True)


def test_a_wal_emptied_before_its_frames_were_copied_is_compared(lab: Lab) -> None:
    """Attached to a wholly backfilled WAL we cannot stop a TRUNCATE; the commits in it reach the chain all the same."""
    app = lab.create("insert into t(b) values(fill(5000, 1))")
    lab.sync()
    app.sql("insert into t(b) values(fill(5000, 2))")
    lab.tailer.hand_over_read(lab.tailer.files.read_index())
    lab.tailer.apply(lab.tailer.database.checkpoint("PASSIVE"))  # as the bulk phase does before it copies
    lab.stop()
    assert lab.tailer.behind()
    assert app.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]
    assert lab.tailer.behind()
    lab.sync()
    assert resyncs(lab) == ["restarted-while-not-sealed"]


def test_a_database_that_was_checkpointed_while_we_were_away_is_compared(lab: Lab) -> None:
    """Frames were backfilled behind our back: the file is no longer as recorded, so its content is compared at attach.

    What a TRUNCATE takes away right after that was copied.
    """
    app = lab.create("insert into t(b) values(fill(5000, 1))")
    lab.sync()
    lab.stop()
    app.sql("insert into t(b) values(fill(5000, 2))", "pragma wal_checkpoint(passive)")
    txid = lab.tailer.state.txid
    assert app.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]
    assert not lab.tailer.behind()
    assert lab.tailer.state.txid == txid
    assert resyncs(lab) == ["database-written-while-away"]


def test_a_page_overwritten_in_place_while_we_were_away_is_shipped(lab: Lab) -> None:
    """The WAL is as we left it and the file is the same inode, yet somebody wrote to it: found by comparing."""
    app = lab.create("insert into t(b) values(fill(20000, 1))", "pragma wal_checkpoint(truncate)")
    app.sql("insert into t(b) values(9)")
    lab.sync()
    lab.stop()
    code = "import os,sys;os.pwrite(os.open(sys.argv[1],os.O_RDWR),b'other',4*4096+1000)"
    subprocess.run([sys.executable, "-S", "-c", code, str(lab.path)], check=True)
    lab.sync()
    assert resyncs(lab) == ["database-written-while-away"]


def test_a_heal_that_failed_after_its_truncate_is_made_good(lab: Lab) -> None:
    """The WAL was emptied, the comparison failed: the next sync compares, though there is no frame to copy."""
    app = sickwal.create(lab)
    lab.sync()
    sickwal.make_sick(app)
    failpoints.arm(files.BEFORE_WRITE, "error")
    with pytest.raises(LsyncError):
        lab.sync()
    assert lab.tailer.files.read_index().mx_frame == 0
    assert lab.tailer.behind()
    lab.sync()
    lab.check()


def test_a_crash_between_truncate_and_comparison_is_made_good(lab: Lab) -> None:
    """A sealed position, a sick WAL healed with TRUNCATE, a crash before the comparison: attach must not continue."""
    app = sickwal.create(lab)
    lab.sync()
    assert lab.checkpoint().complete
    sickwal.make_sick(app)
    failpoints.arm(files.BEFORE_WRITE, "error")
    with pytest.raises(LsyncError):
        lab.sync()
    lab.stop()  # without another step: what a crash would leave
    assert resyncs(lab) == []
    assert lab.tailer.attached
    assert resyncs(lab) == ["wal-gone"]


def test_frames_backfilled_before_they_were_copied_do_not_count_as_copied(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits that come between the sync and the hand-over are backfilled uncopied; a crash then must not hide them."""
    app = lab.create("insert into t(b) values(fill(5000, 1))")
    lab.sync()
    assert lab.checkpoint().complete
    tailer = lab.tailer
    hand_over = tailer.hand_over_read

    def commit_first(_index: object) -> None:
        app.sql("insert into t(b) values(fill(5000, 2))")
        hand_over(tailer.files.read_index())

    monkeypatch.setattr(tailer, "hand_over_read", commit_first)
    failpoints.arm("checkpoint.before_seal", "error")
    with pytest.raises(failpoints.InjectedError):
        lab.checkpoint()
    lab.stop()
    assert app.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]
    assert lab.tailer.attached
    assert resyncs(lab) == ["wal-gone"]


def test_a_position_that_cannot_be_written_does_not_hide_the_result(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up between the L0 file and `position.json`: the TXID is there, so it is published."""
    app = lab.create()
    lab.sync()
    app.sql("insert into t(b) values(fill(5000, 1))")
    real = os.open

    def full(path: str | os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        if "position.json" in os.fspath(path):
            raise OSError(28, "No space left on device")
        return real(path, flags, mode)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        with pytest.raises(DiskFullError):
            lab.sync()
    published = [event.txid for event in lab.events if isinstance(event, SyncResult)]
    assert published[-1] == lab.newest == lab.tailer.state.txid


def test_page_checksums_are_written_whole(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pwrite that takes only part of what it was given is continued: the chain's checksums stay true."""
    app = lab.create("insert into t(b) values(fill(50000, 1))")
    lab.sync()
    real = os.pwrite
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[: max(1, len(data) // 2)], at))
        app.sql("update t set b = fill(60000, 2)")
        lab.sync()
    app.sql("update t set b = fill(40000, 3)")
    lab.sync()
    lab.stop()
    assert lab.tailer.attached
    assert resyncs(lab) == []


def test_an_unknown_outcome_drops_the_state(lab: Lab) -> None:
    """After a rename whose durability is not known no step can go on from the old state."""
    app = lab.create()
    lab.sync()
    app.sql("insert into t(b) values(1)")
    failpoints.arm(files.AFTER_RENAME, "error")
    tailer = lab.tailer
    with pytest.raises(StateUnknownError):
        tailer.sync(now_ms=lab.now_ms())
    assert not tailer.attached


def test_a_writer_that_died_while_publishing_does_not_stall_us(lab: Lab) -> None:
    """A wal-index header left half-written is mended through SQLite's own recovery, under the write lock."""
    app = lab.create("insert into t(b) values(fill(5000, 1))")
    lab.sync()
    app.sql("insert into t(b) values(fill(5000, 2))")
    lab.crash_app()
    poke_wal_index(lab, 8, b"\xff\xff\xff\xff")
    lab.sync()
    lab.check()


def test_the_wal_reset_bug_is_compared_until_that_succeeds(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """More backfilled frames than there are: alarm once, and compare again if the first comparison fails."""
    app = lab.create("insert into t(b) values(fill(5000, 1))")
    lab.sync()
    app.sql("insert into t(b) values(fill(5000, 2))")
    lab.sync()
    index = lab.tailer.files.read_index()
    poke_wal_index(lab, 96, (index.mx_frame + 3).to_bytes(4, sys.byteorder))
    lab.unverified = "the wal-index was damaged by hand"
    compared = []
    resync = lab.tailer.resync

    def watch(reason: str, *, now_ms: int) -> SyncResult | None:
        compared.append(reason)
        return resync(reason, now_ms=now_ms)

    monkeypatch.setattr(lab.tailer, "resync", watch)
    failpoints.arm(files.BEFORE_WRITE, "error")
    with pytest.raises(LsyncError):
        lab.sync()
    lab.sync()
    lab.sync()
    assert compared == ["wal-reset-bug", "wal-reset-bug"]
    (notice,) = [event for event in lab.events if isinstance(event, WalResetBugNotice)]
    assert (notice.mx_frame, notice.n_backfill) == (index.mx_frame, index.mx_frame + 3)


def test_a_generation_that_the_wal_reset_bug_struck_is_never_copied(lab: Lab) -> None:
    """SQLite overlooks its frames, so each TXID is what a new reader sees, until the WAL has been restarted."""
    app = lab.create("insert into t(b) values(fill(5000, 1))")
    lab.note()
    assert lab.checkpoint().complete
    app.sql("update t set b = fill(5000, 2)")
    lab.note()
    index = lab.tailer.files.read_index()
    poke_wal_index(lab, 96, (index.mx_frame + 4).to_bytes(4, sys.byteorder))
    lab.note()
    other = lab.other_app()
    for number in range(6):
        other.sql(f"update t set b = fill(5000, {number})", conn=f"new {number}")
        lab.note()
    assert set(resyncs(lab)) == {"wal-reset-bug"}
    other.sql("pragma wal_checkpoint(truncate)")
    lab.stop()
    other.sql("pragma wal_checkpoint(truncate)", "update t set b = fill(9000, 9)")
    lab.note()


def test_a_half_written_index_is_no_proof_of_the_wal_reset_bug(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart writes mxFrame and nBackfill one after the other: what is gone at the second look was never there."""
    lab.create("insert into t(b) values(fill(5000, 1))")
    lab.sync()
    tailer = lab.tailer
    struck = replace(tailer.files.read_index(), n_backfill=99)
    real = tailer.files.read_index
    looks = [struck]
    monkeypatch.setattr(tailer.files, "read_index", lambda: looks.pop() if looks else real())
    assert tailer.sync(now_ms=lab.now_ms()) is None
    assert not [event for event in lab.events if isinstance(event, WalResetBugNotice)]
