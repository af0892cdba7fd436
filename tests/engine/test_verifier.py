"""`verify`: ok for everything that is sound, failed with the file's name for everything that is not, never a guess."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import Call, MemoryClient, Stored
from litestream_py.core.ports import ReplicaClient
from litestream_py.core.restore import restorable_txids
from litestream_py.core.verdict import Depth, Outcome, Span, Verdict
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.restorer import Integrity, RestoreOptions, restore_txid
from litestream_py.engine.verifier import Progress, VerifyOptions, verify
from litestream_py.errors import ExitCode, LsyncError
from litestream_py.ltx.ids import TXID, FileName
from tests.support import golden_replicas as golden
from tests.support.chains import History, sample
from tests.support.listings import name

QUICK, DEEP, FULL = (VerifyOptions(depth) for depth in Depth)


def depth_of(options: object) -> str:
    return str(options.depth) if isinstance(options, VerifyOptions) else str(options)


def checked(client: ReplicaClient, options: VerifyOptions = DEEP) -> Verdict:
    return verify(client, options)


def levelled(history: History | None = None, *, lsyn: bool = True) -> MemoryClient:
    """Return a replica of seven TXIDs with two levels above and two snapshots."""
    history = history or sample()
    client = history.replica(lsyn=lsyn)
    for level, low, high in ((1, 2, 3), (1, 4, 5), (1, 6, 7), (2, 2, 5), (9, 1, 1), (9, 1, 4)):
        history.put(client, level, low, high, lsyn=lsyn)
    return client


# --- what is sound ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", golden.SOUND)
@pytest.mark.parametrize("options", [QUICK, DEEP, FULL], ids=depth_of)
def test_litestreams_replicas_are_ok(case: str, options: VerifyOptions, tmp_path: Path) -> None:
    """Every sound golden replica passes at every depth; a chain of Litestream carries no checksum of the database."""
    client = open_client(f"file://{golden.place(case, tmp_path)}")
    verdict = checked(client, options)
    assert (verdict.outcome, verdict.problems, verdict.exit_code) == (Outcome.OK, (), ExitCode.OK)
    expected = golden.expect(case)
    points = [txid for txid, out in expected["restore_txid"].items() if "sha256" in out]
    assert (verdict.restorable.count, verdict.lost.count) == (len(points), 0)
    assert str(verdict.newest) == expected["restore_latest"]["txid"]
    if options is QUICK:
        assert (verdict.states, verdict.proof) == (0, "not rebuilt")
        return
    assert verdict.states == len(points)
    newest_sum = int(expected["restore_txid"][str(verdict.newest)]["ltx_checksum"], 16)
    assert verdict.checksum == (newest_sum if case == "lsyn-reserved" else None)
    assert verdict.integrity == ("ok" if options is FULL else None)


def test_litestreams_s3_objects_are_ok() -> None:
    """The golden S3 layout, levels and snapshots together."""
    client = MemoryClient()
    for file, body, timestamp_ms in golden.s3_objects():
        client.put(file, body, timestamp_ms=timestamp_ms)
    assert checked(client).outcome is Outcome.OK


def test_every_state_is_proven() -> None:
    """Each TXID that can be restored is rebuilt once, and compared with what the chain carries of it."""
    client = levelled()
    verdict = checked(client)
    assert verdict.outcome is Outcome.OK, verdict.problems
    assert (verdict.states, verdict.proven, verdict.checksum) == (7, 7, sample().checksum(7))
    assert verdict.states == len(restorable_txids(list_replica(client)))
    assert verdict.read_bytes == sum(len(stored.body) for stored in client.files.values())
    assert client.counts["put"] == 13, "verifying writes nothing"
    assert not client.counts.keys() & {"delete", "write_side", "copy", "put_stream"}


def test_a_thinned_replica_is_ok() -> None:
    """What retention leaves, whole groups of L0 gone and a leftover from before the oldest snapshot, is no failure."""
    history = sample()
    client = MemoryClient()
    for level, low, high in ((9, 1, 4), (1, 2, 3), (1, 4, 5), (1, 6, 7), (0, 7, 7)):
        history.put(client, level, low, high)
    verdict = checked(client)
    assert (verdict.outcome, verdict.unused, verdict.restorable.count) == (Outcome.OK, 1, 3)


# --- what is not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "reason", "bad", "restorable", "quick_sees_it"),
    [
        ("damaged-gap", "gap", 5, 3, True),
        ("damaged-no-snapshot", "gap", 2, 0, True),
        ("damaged-truncated-file", "truncated", 5, 4, True),
        ("damaged-bit-flip", "file-checksum-wrong", 6, 5, False),
        ("damaged-empty-newest", "truncated", 9, 8, True),
        ("damaged-wrong-name", "txid-not-of-its-name", 8, 7, True),
    ],
)
def test_damage_is_named_with_what_is_left(
    case: str, reason: str, bad: int, restorable: int, quick_sees_it: bool, tmp_path: Path
) -> None:
    """Each damaged golden replica fails, names the file and TXID, and says what can still be restored.

    Litestream restores damaged-wrong-name and an older state of damaged-gap without a word: not copied.
    """
    client = open_client(f"file://{golden.place(case, tmp_path)}")
    verdict = checked(client)
    assert (verdict.outcome, verdict.exit_code) == (Outcome.FAILED, ExitCode.CORRUPT)
    first = verdict.first_bad
    assert first is not None
    assert first.name is not None
    assert (first.reason, first.name.min_txid, verdict.restorable.count) == (reason, bad, restorable)
    assert verdict.restorable.last == (TXID(restorable) if restorable else None)
    assert verdict.lost.count > 0
    assert checked(client, QUICK).outcome is (Outcome.FAILED if quick_sees_it else Outcome.OK)
    full = checked(client, FULL)
    assert (full.outcome, full.integrity) == (Outcome.FAILED, "ok" if restorable else None)


@pytest.mark.parametrize("lsyn", [True, False])
def test_any_file_flipped_anywhere_is_found(lsyn: bool) -> None:
    """One bit wrong in the middle of any file of any level is a failure that names it; what is lost depends on it."""
    for victim in sorted(levelled(lsyn=lsyn).files):
        client = levelled(lsyn=lsyn)
        stored = client.files[victim]
        body = bytearray(stored.body)
        body[len(body) // 2] ^= 1
        client.files[victim] = Stored(bytes(body), stored.timestamp_ms)
        verdict = checked(client)
        assert [problem.name for problem in verdict.problems] == [victim]
        survivors = [info for info in list_replica(client) if info.name != victim]
        assert verdict.restorable.count == len(restorable_txids(survivors))
        assert verdict.lost.count == 7 - verdict.restorable.count


@pytest.mark.parametrize("options", [QUICK, DEEP], ids=depth_of)
def test_any_file_cut_or_gone_is_found_or_harmless(options: VerifyOptions) -> None:
    """A file cut short is named; one that is gone is a gap, unless other levels hold its TXIDs."""
    for victim in sorted(levelled().files):
        client = levelled()
        stored = client.files[victim]
        client.files[victim] = Stored(stored.body[:-9], stored.timestamp_ms)
        assert [problem.name for problem in checked(client, options).problems] == [victim]
        del client.files[victim]
        verdict = checked(client, options)
        assert (verdict.outcome, verdict.restorable.last) == (Outcome.OK, 7), "others hold its TXIDs"
        assert verdict.restorable.count == len(restorable_txids(list_replica(client)))


def test_a_gap_names_the_missing_txids() -> None:
    """The TXIDs that no file holds, and the file behind them."""
    client = sample().replica()
    for txid in (3, 4):
        del client.files[name(f"0:{txid}")]
    for options in (QUICK, DEEP):
        (problem,) = checked(client, options).problems
        assert (problem.reason, problem.txid, problem.name) == ("gap", 3, name("0:5"))
        assert "TXIDs 0000000000000003 to 0000000000000004 are missing" in problem.detail


def test_a_foreign_file_under_a_valid_name_is_named() -> None:
    """Text, zeros, and a file copied to another name are no LTX files of that name."""
    for body, reason in (
        (b"hello" * 100, "magic"),
        (bytes(500), "magic"),
        (sample().file(0, 6, 6)[1], "txid-not-of-its-name"),
    ):
        client = sample().replica()
        client.files[name("0:7")] = Stored(body, 0)
        for options in (QUICK, DEEP):
            assert [(p.name, p.reason) for p in checked(client, options).problems] == [(name("0:7"), reason)]


@pytest.mark.parametrize("options", [QUICK, DEEP], ids=depth_of)
def test_two_writers_are_noticed_where_they_part(options: VerifyOptions) -> None:
    """A file whose checksum before is not the one that the file in front of it left."""
    history, other = sample(), sample()
    other.states[4][1] = other.page(1, 99)
    other.states[5][3] = other.states[4].get(3, other.page(3, 98))
    client = history.replica()
    client.files[name("0:5")] = Stored(other.file(0, 5, 5)[1], 5_000)
    verdict = checked(client, options)
    assert verdict.problems[0].name == name("0:5")
    assert verdict.problems[0].reason == "lsyn-before-wrong"


def test_levels_that_contradict_each_other_are_noticed() -> None:
    """A merged file with another content than what it was merged from, whether or not checksums are carried."""
    history, other = sample(), sample()
    other.states[5][2] = other.page(2, 99)
    client = levelled(history, lsyn=False)
    client.files[name("1:4-5")] = Stored(other.file(1, 4, 5, lsyn=False)[1], 5_000)
    verdict = checked(client)
    assert [(p.name, p.reason) for p in verdict.problems] == [(name("1:4-5"), "page-differs")]
    assert verdict.lost.count == 0
    assert checked(client, QUICK).outcome is Outcome.OK, "quick does not look at pages"


def test_a_broken_writers_files_are_noticed() -> None:
    """Pages left out where the database grows, or where a merge forgot one: what a restore would fill with zeros."""
    history = sample()
    client = history.replica(lsyn=False)
    client.files[name("0:3")] = Stored(history.file(0, 3, 3, lsyn=False, drop=11)[1], 3_000)
    assert [(p.name, p.reason) for p in checked(client).problems] == [(name("0:3"), "growth-page-missing")]
    client = levelled(history, lsyn=False)
    client.files[name("1:4-5")] = Stored(history.file(1, 4, 5, lsyn=False, drop=4)[1], 5_000)
    assert [(p.name, p.reason) for p in checked(client).problems] == [(name("1:4-5"), "page-left-out")]


def test_another_page_size_is_named() -> None:
    """One file of another database in the same prefix."""
    client = sample().replica()
    client.files[name("0:7")] = Stored(sample(1024).file(0, 7, 7)[1], 7_000)
    for options in (QUICK, DEEP):
        assert [p.reason for p in checked(client, options).problems] == ["page-size-differs"]


def test_sqlite_has_the_last_word_in_full(tmp_path: Path) -> None:
    """Files that are right by every checksum may still hold no database: only the restored copy shows it."""
    client = sample().replica()
    assert checked(client).outcome is Outcome.OK
    verdict = checked(client, VerifyOptions(Depth.FULL, scratch=tmp_path))
    assert (verdict.outcome, verdict.integrity) == (Outcome.FAILED, "failed")
    assert [problem.reason for problem in verdict.problems] == ["restore-failed"]
    assert list(tmp_path.iterdir()) == [], "the scratch space is cleaned up"


@pytest.mark.parametrize("seed", range(25))
def test_the_verdict_is_what_a_restore_finds(seed: int, tmp_path: Path) -> None:
    """After random damage the TXIDs that a verdict calls restorable restore exactly, and no other does."""
    rng, history = random.Random(seed), sample()
    client = levelled(history, lsyn=rng.random() < 0.5)
    damaged = False
    for victim in rng.sample(sorted(client.files), rng.randint(0, 7)):
        stored, fault = client.files[victim], rng.choice(("gone", "cut", "flip", "empty"))
        body = bytearray(stored.body)
        if fault == "gone":
            del client.files[victim]
            continue
        if fault == "flip":
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        client.files[victim] = Stored(bytes(body[: {"cut": rng.randrange(len(body)), "empty": 0}.get(fault)]), 0)
        damaged = True
    verdict = checked(client)
    restored = set()
    for txid in range(1, 8):
        path = tmp_path / f"{txid}.db"
        try:
            restore_txid(client, path, TXID(txid), RestoreOptions(integrity=Integrity.NONE))
        except LsyncError:
            assert not path.exists()
        else:
            assert path.read_bytes() == history.image(txid)
            restored.add(txid)
    assert verdict.restorable == Span.of([TXID(txid) for txid in sorted(restored)])
    assert verdict.states == len(restored)
    assert (verdict.outcome is Outcome.FAILED) == (damaged or verdict.lost.count > 0 or not client.files)


# --- what prevents it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("list:auth*", ExitCode.ACCESS_DENIED),
        ("stream:auth*", ExitCode.ACCESS_DENIED),
        ("stream:diskfull", ExitCode.DISK_FULL),
        ("list:notfound*", ExitCode.FAILED),
    ],
)
def test_what_cannot_be_seen_is_inconclusive(script: str, code: ExitCode) -> None:
    """An error of the store gives its own exit code and no verdict about the replica."""
    verdict = checked(sample().replica(script))
    assert (verdict.outcome, verdict.exit_code) == (Outcome.INCONCLUSIVE, code)
    assert verdict.prevented is not None


def test_an_empty_replica_is_inconclusive() -> None:
    """There is nothing to be right or wrong: exit code 3, as for a restore."""
    verdict = checked(MemoryClient())
    assert (verdict.outcome, verdict.exit_code) == (Outcome.INCONCLUSIVE, ExitCode.NOTHING_TO_RESTORE)


def test_damage_found_before_the_store_failed_is_a_failure() -> None:
    """What was seen stays seen, and the verdict says that it is not all."""
    client = sample().replica()
    client.files[name("0:2")] = Stored(b"x" * 10, 0)
    client.rewrite("stream:auth*")
    verdict = checked(client)
    assert (verdict.outcome, verdict.exit_code) == (Outcome.FAILED, ExitCode.CORRUPT)
    assert verdict.prevented is not None


def test_transient_faults_are_waited_out() -> None:
    """A few failed and broken reads change nothing."""
    client = levelled()
    client.rewrite("list:503 stream:cut@9*2 stream:timeout read:503*2")
    assert checked(client).outcome is Outcome.OK
    client.rewrite("read:503*2 read:cut*2")
    assert checked(client, QUICK).outcome is Outcome.OK


# --- while retention and compaction run -------------------------------------------------------------------------------


def when_first_read(victims: list[FileName], then: Callable[[MemoryClient], None]) -> MemoryClient:
    """Return a levelled replica where the victims are deleted, and `then` is done, at the first read of a file."""
    client = levelled()

    def on_call(call: Call) -> None:
        if call.operation in {"stream", "read"} and any(victim in client.files for victim in victims):
            for victim in victims:
                client.files.pop(victim, None)
            then(client)

    client._on_call = on_call
    return client


@pytest.mark.parametrize("options", [QUICK, DEEP], ids=depth_of)
def test_files_that_retention_removes_meanwhile_are_no_problem(options: VerifyOptions) -> None:
    """L0 files that L1 holds may go while the verification runs: no failure, and not even a second pass."""
    client = when_first_read([name("0:2"), name("0:3")], lambda _: None)
    verdict = checked(client, options)
    assert (verdict.outcome, verdict.restorable.last) == (Outcome.OK, 7)


def test_files_that_are_merged_meanwhile_are_looked_for_again() -> None:
    """Where what vanished is in a file that the listing did not have yet, another listing shows it."""
    history = sample()

    def merge(client: MemoryClient) -> None:
        client.files[name("3:2-7")] = Stored(history.file(3, 2, 7)[1], 7_000)

    gone = [file for file in levelled().files if file.level in {0, 1, 2} and file != name("0:7") and file.min_txid > 1]
    verdict = checked(when_first_read(gone, merge))
    assert (verdict.outcome, verdict.restorable.last) == (Outcome.OK, 7), verdict.problems


def test_a_file_that_is_listed_and_cannot_be_read_is_a_problem() -> None:
    """A store whose listing shows what it has lost."""
    client = sample().replica()

    class Lying(MemoryClient):
        """Lists a file that it does not have."""

        def stream(self, name: FileName, *, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
            if name.max_txid == 4:
                self.rewrite("stream:notfound")
            return super().stream(name, offset=offset, size=size)

    lying = Lying()
    lying.files = client.files
    verdict = checked(lying)
    assert [(p.name, p.reason) for p in verdict.problems] == [(name("0:4"), "missing")]
    assert (verdict.restorable.last, verdict.lost.count) == (3, 4)


def test_progress_counts_every_byte() -> None:
    """What is announced is what comes."""
    for options in (QUICK, DEEP):
        told: list[int] = []
        started: list[int] = []
        verify(levelled(), options, progress=Progress(started.append, told.append))
        assert [sum(told)] == started
