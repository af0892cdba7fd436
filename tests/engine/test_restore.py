"""Restoring synthetic chains: what is proven, what is refused, and that the target is old or complete."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litestream_py import failpoints
from litestream_py.clients.memory import Call, MemoryClient, Stored
from litestream_py.core.restore import DamagedFileError, plan_restore
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.restorer import Integrity, Progress, RestoreOptions, restore, restore_txid
from litestream_py.errors import (
    AccessDeniedError,
    ChainGapError,
    CorruptError,
    LsyncError,
    NotFoundError,
    NothingToRestoreError,
    StateUnknownError,
    TargetError,
)
from litestream_py.local import restore_target
from litestream_py.ltx import ids
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID, FileName
from litestream_py.ltx.records import Header
from tests.support.chains import History, sample

NO_CHECK = RestoreOptions(integrity=Integrity.NONE)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_every_txid_of_a_history_restores_exactly(tmp_path: Path) -> None:
    """A history that grows, shrinks and grows again restores byte for byte at each TXID, proven by its checksum."""
    history = sample()
    client = history.replica()
    for txid in range(1, history.newest + 1):
        result = restore_txid(client, tmp_path / f"{txid}.db", TXID(txid))
        assert (tmp_path / f"{txid}.db").read_bytes() == history.image(txid)
        assert (result.checksum, result.integrity) == (history.checksum(txid), Integrity.NONE)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_lock_page_is_zeros(page_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock page, here moved to page 4, is in no file and reads as zeros, also as the last page of the database."""
    monkeypatch.setattr(ids, "PENDING_BYTE", 3 * page_size)
    history = History(page_size)
    for pages in (3, 4, 5, 4, 6):
        history.commit({1}, pages)
    client = history.replica()
    for txid in range(1, 6):
        restore_txid(client, tmp_path / f"{txid}.db", TXID(txid))
        assert (tmp_path / f"{txid}.db").read_bytes() == history.image(txid)


def test_pages_of_overlapping_files_come_from_the_newest(tmp_path: Path) -> None:
    """Snapshots, merged and overlapping files on any level give the same bytes as the single steps."""
    history = sample()
    client = MemoryClient()
    for level, low, high in [(9, 1, 3), (2, 3, 5), (1, 2, 4), (1, 5, 7)]:
        history.put(client, level, low, high)
    for txid in (3, 4, 5, 7):
        restore_txid(client, tmp_path / f"{txid}.db", TXID(txid))
        assert (tmp_path / f"{txid}.db").read_bytes() == history.image(txid)


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(
    client: MemoryClient, tmp_path: Path, error: type[LsyncError], match: str, txid: int | None = None
) -> LsyncError:
    """Expect the restore to fail by name, with nothing left on disk."""
    target = tmp_path / "refused"
    target.mkdir(exist_ok=True)
    with pytest.raises(error, match=match) as caught:
        restore_txid(client, target / "out.db", None if txid is None else TXID(txid), NO_CHECK)
    assert list(target.iterdir()) == []
    return caught.value


def test_a_growth_page_that_is_missing_is_refused(tmp_path: Path) -> None:
    """A file that grew the database and lacks one of the new pages is refused, although an older file has that page."""
    history = sample()
    client = MemoryClient()
    for txid in range(1, 8):
        history.put(client, 0, txid, txid, drop=9 if txid == 6 else 0, lsyn=False)
    told = refused(client, tmp_path, DamagedFileError, r"0/0{15}6-0{15}6\.ltx is damaged.*growth-page-missing")
    assert told.exit_code == 6
    restore_txid(client, tmp_path / "five.db", TXID(5), NO_CHECK)
    assert (tmp_path / "five.db").read_bytes() == history.image(5)


def test_a_chain_that_contradicts_its_checksums_is_refused(tmp_path: Path) -> None:
    """A file of another history in the place of our own is caught, by its neighbour's checksum and by the result's."""
    history, other = sample(), sample()
    other.states[4][4] = other.page(4, 77)
    for txid in range(5, 8):
        other.states[txid][4] = other.page(4, 77)
    client = history.replica()
    client.files[history.file(0, 4, 4)[0]] = Stored(other.file(0, 4, 4)[1], 4000)
    refused(client, tmp_path, CorruptError, "ends with database checksum", txid=5)
    # The last file's own claim is checked against the pages that were written.
    name, body = history.file(0, 4, 4, lsyn=False)
    client.files[name] = Stored(other.file(0, 4, 4, lsyn=False)[1], 4000)
    assert body != client.files[name].body
    refused(client, tmp_path, CorruptError, "the database's checksum is", txid=5)


def test_page_sizes_must_agree(tmp_path: Path) -> None:
    """A file of another page size in the chain is refused."""
    small, large = sample(512), sample(1024)
    client = small.replica()
    name, body = large.file(0, 7, 7)
    client.files[name] = Stored(body, 7000)
    refused(client, tmp_path, CorruptError, "page size 512 in .*, 1024 in")


def test_a_commit_beyond_what_the_files_can_hold_is_refused(tmp_path: Path) -> None:
    """A header that claims a huge database is refused before memory is taken for it."""
    client = sample().replica()
    name = FileName(0, TXID(8), TXID(8))
    header = Header(512, 1 << 30, TXID(8), TXID(8), 8000, wal_offset=32)
    client.put(name, b"".join(encode(header, [(1, bytes(512))])), timestamp_ms=8000)
    refused(client, tmp_path, DamagedFileError, "commit-beyond-chain")


def test_every_file_is_decoded_even_where_its_pages_lose(tmp_path: Path) -> None:
    """A flipped bit in pages that newer files replace anyway is noticed: a damaged replica is not overlooked."""
    history = History()
    history.commit(set(), 4)
    history.commit({1, 2, 3, 4}, 4)
    history.commit({1, 2, 3, 4}, 4)
    client = history.replica()
    name, body = history.file(0, 2, 2)
    client.files[name] = Stored(body[:150] + bytes([body[150] ^ 1]) + body[151:], 2000)
    refused(client, tmp_path, DamagedFileError, r"0/0{15}2-0{15}2\.ltx is damaged")


def test_an_integrity_check_that_fails_refuses_the_result(tmp_path: Path) -> None:
    """Without a checksum in the chain the result must be a sound SQLite database, unless that check is waived."""
    client = sample().replica(lsyn=False)
    with pytest.raises(CorruptError, match="fails its integrity check") as caught:
        restore_txid(client, tmp_path / "out.db", None)
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []
    assert restore_txid(client, tmp_path / "out.db", None, NO_CHECK).checksum is None


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_missing_and_damaged_files_never_give_other_bytes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever files are missing or flipped, each TXID restores to its exact bytes or to a named error with no file."""
    history = History()
    for _ in range(data.draw(st.integers(1, 6), label="TXIDs")):
        pages = data.draw(st.integers(1, 9), label="pages")
        history.commit(data.draw(st.sets(st.integers(1, 9), max_size=4), label="changed"), pages)
    client = history.replica(lsyn=data.draw(st.booleans(), label="lsyn"))
    for level in range(1, data.draw(st.integers(1, 4), label="merged") + 1):
        low = data.draw(st.integers(1, history.newest), label="low")
        history.put(client, level, low, data.draw(st.integers(low, history.newest), label="high"))
    names = sorted(client.files)
    for name in data.draw(st.sets(st.sampled_from(names), max_size=3), label="missing"):
        del client.files[name]
    for name in data.draw(st.sets(st.sampled_from(names), max_size=2), label="flipped"):
        if name in client.files:
            body = bytearray(client.files[name].body)
            at = data.draw(st.integers(0, len(body) - 1), label="byte")
            body[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
            client.files[name] = Stored(bytes(body), 0)
    target = tmp_path_factory.mktemp("restore")
    for txid in (*range(1, history.newest + 1), None):
        path = target / "out.db"
        try:
            result = restore_txid(client, path, None if txid is None else TXID(txid), NO_CHECK)
        except (CorruptError, TargetError, NothingToRestoreError):
            assert list(target.iterdir()) == []
            continue
        assert path.read_bytes() == history.image(result.txid)
        assert txid in {None, result.txid}
        path.unlink()


# --- a replica that changes or fails meanwhile ------------------------------------------------------------------------


def test_a_broken_connection_is_resumed(tmp_path: Path) -> None:
    """Connections that break in the middle of bodies do not show in the result."""
    history = sample()
    restore_txid(history.replica("stream:cut*3 stream:ok stream:cut@9*2"), tmp_path / "out.db", None)
    assert (tmp_path / "out.db").read_bytes() == history.image(history.newest)


def test_files_that_vanish_are_listed_again(tmp_path: Path) -> None:
    """Compaction that replaces planned files while the restore runs does not fail it."""
    history = sample()

    def compact(call: Call) -> None:
        if call.operation == "stream" and client.files.keys() >= set(planned):
            client.delete(planned)
            history.put(client, 1, 2, 5)

    client = MemoryClient(on_call=compact)
    for txid in range(1, 8):
        history.put(client, 0, txid, txid)
    planned = [history.file(0, txid, txid)[0] for txid in range(2, 6)]
    restore_txid(client, tmp_path / "out.db", None)
    assert (tmp_path / "out.db").read_bytes() == history.image(7)
    assert client.counts["list"] == 20


def test_a_file_that_is_listed_and_never_there_ends_the_restore(tmp_path: Path) -> None:
    """A listing that keeps naming a missing file is an error after a few rounds, not a loop."""
    client = sample().replica("stream:notfound*")
    with pytest.raises(NotFoundError):
        restore_txid(client, tmp_path / "out.db", None)
    assert list(tmp_path.iterdir()) == []


def test_denied_and_empty_replicas_are_told_apart(tmp_path: Path) -> None:
    """A replica that refuses us is exit 5 and one without files exit 3: never one for the other."""
    with pytest.raises(AccessDeniedError):
        restore_txid(MemoryClient("list:auth*"), tmp_path / "out.db", None)
    with pytest.raises(NothingToRestoreError):
        restore_txid(MemoryClient(), tmp_path / "out.db", None)


def test_progress_adds_up_to_the_plan(tmp_path: Path) -> None:
    """The bytes reported are the bytes of the plan, each counted once."""
    client = sample().replica()
    seen: list[int] = []
    planned: list[int] = []
    progress = Progress(lambda plan: planned.append(plan.bytes), seen.append)
    result = restore_txid(client, tmp_path / "out.db", None, progress=progress)
    assert [sum(seen)] == planned == [result.fetched_bytes]


# --- the target -------------------------------------------------------------------------------------------------------

OLD = b"old database" * 100
SIDECARS = ("-wal", "-journal", "-shm")


def old_database(folder: Path, *sidecars: str) -> Path:
    path = folder / "app.db"
    path.write_bytes(OLD)
    for suffix in sidecars:
        Path(f"{path}{suffix}").write_bytes(b"old" + suffix.encode())
    return path


@pytest.mark.parametrize("present", ["app.db", "app.db-wal", "app.db-shm", "app.db-journal"])
def test_what_exists_is_not_overwritten(present: str, tmp_path: Path) -> None:
    """A database, or a sidecar without one, is refused (exit 1) before anything is fetched, and stays as it is."""
    (tmp_path / present).write_bytes(OLD)
    client = sample().replica()
    before = client.counts
    with pytest.raises(TargetError) as caught:
        restore_txid(client, tmp_path / "app.db", None)
    assert caught.value.exit_code == 1
    assert "--force" in (caught.value.hint or "")
    assert client.counts == before
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [(present, OLD)]


def test_a_directory_is_never_replaced(tmp_path: Path) -> None:
    """A directory in the place of the target is refused, with --force as well."""
    (tmp_path / "app.db").mkdir()
    with pytest.raises(TargetError, match="not a regular file"):
        restore_txid(sample().replica(), tmp_path / "app.db", None, RestoreOptions(force=True))


def test_an_empty_file_is_filled(tmp_path: Path) -> None:
    """A zero-length file without sidecars may be replaced, and passes on its mode."""
    path = tmp_path / "app.db"
    path.touch()
    path.chmod(0o640)
    restore_txid(sample().replica(), path, None)
    assert path.read_bytes() == sample().image(7)
    assert path.stat().st_mode & 0o777 == 0o640


def test_missing_directories_are_made(tmp_path: Path) -> None:
    """The directories above the target come into being with it."""
    restore_txid(sample().replica(), tmp_path / "a" / "b" / "app.db", None)
    assert (tmp_path / "a" / "b" / "app.db").read_bytes() == sample().image(7)


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """The file that a link names is replaced, where SQLite looks for its sidecars; the link stays."""
    (tmp_path / "data").mkdir()
    real = old_database(tmp_path / "data", "-wal")
    link = tmp_path / "app.db"
    link.symlink_to(real)
    with pytest.raises(TargetError):
        restore_txid(sample().replica(), link, None)
    result = restore_txid(sample().replica(), link, None, RestoreOptions(force=True))
    assert link.is_symlink()
    assert result.path == real
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["app.db"]
    assert real.read_bytes() == sample().image(7)


def test_force_replaces_the_database_and_its_sidecars(tmp_path: Path) -> None:
    """With --force the new database stands alone: no sidecar of the old one remains, under any name."""
    path = old_database(tmp_path, *SIDECARS)
    restore_txid(sample().replica(), path, None, RestoreOptions(force=True))
    assert path.read_bytes() == sample().image(7)
    assert [entry.name for entry in tmp_path.iterdir()] == ["app.db"]


def test_a_target_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    """A database that an application creates during the restore is not overwritten."""
    path = tmp_path / "app.db"

    def appear(call: Call) -> None:
        if call.operation == "stream":
            path.write_bytes(OLD)

    client = MemoryClient(on_call=appear)
    for txid in range(1, 8):
        sample().put(client, 0, txid, txid)
    with pytest.raises(TargetError):
        restore_txid(client, path, None)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("app.db", OLD)]


POINTS = [
    restore_target.AFTER_CREATE,
    restore_target.BEFORE_RENAME,
    restore_target.SIDECARS_ASIDE,
    restore_target.AFTER_RENAME,
    restore_target.AFTER_DIR_FSYNC,
]


@pytest.mark.fault
@pytest.mark.parametrize("point", POINTS)
def test_an_error_leaves_the_old_or_the_new_database(point: str, tmp_path: Path) -> None:
    """An error before the rename leaves the old database and its sidecars, after it the new; never a temporary file."""
    path = old_database(tmp_path, *SIDECARS)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    failpoints.arm(point, "error")
    with pytest.raises(LsyncError) as caught:
        restore_txid(sample().replica(), path, None, RestoreOptions(force=True))
    after = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    assert not [name for name in after if "lsync-restore" in name]
    if point in {restore_target.AFTER_RENAME, restore_target.AFTER_DIR_FSYNC}:
        assert isinstance(caught.value, StateUnknownError)
        assert after["app.db"] == sample().image(7)
        assert not [name for name in after if name in {f"app.db{suffix}" for suffix in SIDECARS}]
    else:
        assert after == before


def test_a_running_restore_keeps_its_file(tmp_path: Path) -> None:
    """Two restores to one target at a time do not take each other's temporary file for a dead one's."""
    path = tmp_path / "app.db"
    with restore_target.RestoreTarget(path) as first, restore_target.RestoreTarget(path) as second:
        assert first.temp != second.temp
        assert first.temp.exists()
        assert second.temp.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_carried_out_as_it_is(tmp_path: Path) -> None:
    """`restore` follows the plan it is given and reports a vanished file instead of choosing another."""
    history = sample()
    client = history.replica()
    plan = plan_restore(list_replica(client), None)
    digest = hashlib.sha256(history.image(7)).hexdigest()
    result = restore(client, plan, tmp_path / "out.db")
    assert hashlib.sha256((tmp_path / "out.db").read_bytes()).hexdigest() == digest
    assert (result.files, result.fetched_bytes) == (len(plan.files), plan.bytes)
    del client.files[plan.files[3].name]
    with pytest.raises(NotFoundError):
        restore(client, plan, tmp_path / "other.db")
    with pytest.raises(ChainGapError):
        restore_txid(client, tmp_path / "other.db", None)
