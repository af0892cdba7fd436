"""Levels, snapshots and retention of a real daemon, at fractions of a second: whatever is promised restores."""

from __future__ import annotations

import importlib
import pkgutil
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import litestream_py
from litestream_py import failpoints
from litestream_py.clients.factory import open_client
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.restorer import restore_txid
from litestream_py.ltx.ids import TXID
from tests.support import compare, writers
from tests.support import levels as quick
from tests.support.app import App
from tests.support.daemon import Daemon, Daemons
from tests.support.faultproxy import Fault, FaultProxy, fault_proxy
from tests.support.minio import S3Bucket

pytestmark = [pytest.mark.slow]

for _module in pkgutil.walk_packages(litestream_py.__path__, "litestream_py."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)

MAINTENANCE = ("compact.", "snapshot.", "retention.")


@contextmanager
def lived(tmp_path: Path, daemons: Daemons, replica: str, *, retention: bool = True) -> Iterator[Daemon]:
    """A daemon, and a writer that commits a hundred times a second; after the block both have ended in order."""
    path = tmp_path / "app.db"
    compare.create_ledger(path)
    config = quick.configuration(path, replica, retention=retention)
    daemon = daemons.start("--config", config, program=quick.HASTE)
    with writers.ledger_writer(path, 1, pause_s=0.01):
        yield daemon
    assert daemon.terminate() == 0
    daemons.final("--config", config)


def test_what_is_promised_restores(tmp_path: Path, daemons: Daemons) -> None:
    """On a folder: after merging, snapshots and deletions everything that is left restores, and it is not much."""
    with lived(tmp_path, daemons, quick.on_folder(tmp_path / "replica")) as daemon:
        quick.wait_lived(daemon)
        assert not daemon.events("maintain failed")
        assert not daemon.events("snapshot given up")
    client = quick.folder_client(tmp_path / "replica")
    quick.check(client, tmp_path / "app.db")
    made = sum(len(daemon.events(kind)) for kind in ("uploaded", "compacted", "snapshot"))
    assert len(list_replica(client)) < made
    snapshots = [str(event["file"]) for event in daemon.events("snapshot")]
    assert len(snapshots) == len(set(snapshots))


def test_every_txid_restores_without_retention(tmp_path: Path, daemons: Daemons) -> None:
    """With retention.enabled: false every TXID stays, and restores to what the oracle makes of level 0."""
    with lived(tmp_path, daemons, quick.on_folder(tmp_path / "replica"), retention=False) as daemon:
        quick.wait_lived(daemon, compactions=6, deletions=0)
        assert not daemon.events("deleted by retention")
    client = quick.folder_client(tmp_path / "replica")
    points = quick.check(client, tmp_path / "app.db")
    assert points == list(range(1, len(points) + 1))
    compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))


@pytest.mark.s3
def test_restores_meanwhile_never_fail(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """On MinIO: while levels, snapshots and retention run, restores of the newest state and of L1's steps succeed."""
    client = open_client(s3_bucket.replica())
    rng, restores, rows = random.Random(1), 0, 0
    with lived(tmp_path, daemons, quick.on_s3(s3_bucket)) as daemon:
        daemon.wait_event("compacted")
        while restores < 30 or not _has_lived(daemon):
            target = None
            if rng.random() < 0.5:
                target = TXID(int(str(daemon.events("compacted")[-1]["file"]).split("-")[1][:16], 16))
            restored = tmp_path / f"restored-{restores}.db"
            result = restore_txid(client, restored, target)
            assert result.checksum is not None
            assert target is None or result.txid == target
            rows = max(rows, len(compare.ledger_rows(restored)))
            restored.unlink()
            restores += 1
    assert rows > 30
    quick.check(client, tmp_path / "app.db", s3=True)


def _has_lived(daemon: Daemon) -> bool:
    return len(daemon.events("snapshot")) >= 3 and len(daemon.events("deleted by retention")) >= 3


@pytest.mark.fault
@pytest.mark.parametrize("passage", [1, 2])
@pytest.mark.parametrize("name", sorted(name for name in failpoints.NAMES if name.startswith(MAINTENANCE)))
def test_killed_there(tmp_path: Path, daemons: Daemons, name: str, passage: int) -> None:
    """After a kill in merging, snapshot or retention and a restart, all goes on and everything promised restores."""
    path, root = tmp_path / "app.db", tmp_path / "replica"
    compare.create_ledger(path)
    config = quick.configuration(path, quick.on_folder(root))
    with writers.ledger_writer(path, 1, pause_s=0.01):
        env = {"LSYNC_FAILPOINT": f"{name}@{passage}"}
        assert daemons.start("--config", config, program=quick.HASTE, env=env).exit_code() == -9
        daemon = daemons.start("--config", config, program=quick.HASTE)
        quick.wait_lived(daemon, compactions=2, snapshots=1, deletions=1)
    assert daemon.terminate() == 0
    daemons.final("--config", config)
    quick.check(quick.folder_client(root), path)
    assert not daemon.events("maintain failed")


def test_a_commit_after_a_quiet_time_is_merged(tmp_path: Path, daemons: Daemons) -> None:
    """Deletions that wait for their hour hold nothing up: what is committed after a pause is merged in its turn."""
    path = tmp_path / "app.db"
    compare.create_ledger(path)
    config = quick.configuration(path, quick.on_folder(tmp_path / "replica"))
    daemon = daemons.start("--config", config)  # with the hour for restores as it is
    with App(path) as app:
        for number in (1, 2):
            daemon.wait_uploaded(number)
            app.sql(f"insert into ledger values(1, {number}, 1)")
            daemon.wait_event("compacted", file=f"2/{number + 1:016x}-{number + 1:016x}.ltx")
            daemon.wait_event("snapshot", count=number)
    assert daemon.terminate() == 0
    assert not daemon.events("deleted by retention")


def test_the_write_lock_is_held(tmp_path: Path, daemons: Daemons) -> None:
    """While an application holds the write lock no snapshot can begin; that is told, and it does so afterwards."""
    path = tmp_path / "app.db"
    compare.create_ledger(path)
    config = quick.configuration(path, quick.on_folder(tmp_path / "replica"))
    daemon = daemons.start("--config", config, program=quick.HASTE)
    with App(path) as app:
        daemon.wait_uploaded(1)
        app.sql("insert into ledger values(1, 1, 1)", "begin immediate")
        daemon.wait_uploaded(2)
        daemon.wait_event("snapshot given up", count=2)
        assert daemon.metric("lsync_lag_seconds") == 0
        assert not daemon.events("sync failed")
        app.sql("insert into ledger values(1, 2, 1)", "commit")
        daemon.wait_uploaded(3)
        daemon.wait_event("snapshot")
    assert daemon.terminate() == 0
    quick.check(quick.folder_client(tmp_path / "replica"), path)


def test_a_damaged_file_among_the_inputs(tmp_path: Path, daemons: Daemons) -> None:
    """A file of level 1 that is damaged is told of by name; all else goes on, and level 2 behind the next snapshot."""
    path, root = tmp_path / "app.db", tmp_path / "replica"
    compare.create_ledger(path)
    config = quick.configuration(path, quick.on_folder(root), levels="200ms 3s", retention=False)
    daemon = daemons.start("--config", config, program=quick.HASTE)
    with writers.ledger_writer(path, 1, pause_s=0.01):
        # Right after level 2 was made there are three seconds to damage what goes into it next.
        daemon.wait_until(lambda: bool(_merged_into(daemon, 2)), "a file of level 2")
        merged = len(_merged_into(daemon, 1))
        daemon.wait_until(lambda: len(_merged_into(daemon, 1)) > merged, "the next file of level 1")
        file = _merged_into(daemon, 1)[-1]
        damaged = root / "ltx" / file
        body = damaged.read_bytes()
        damaged.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        error = daemon.wait_event("maintain failed", kind="corrupt")
        assert file in str(error["error"])
        top = int(file.split("-")[1][:16], 16)
        daemon.wait_until(
            lambda: any(int(found[2:18], 16) > top for found in _merged_into(daemon, 2)),
            "level 2 behind the damage",
        )
    assert daemon.terminate() == 0
    daemons.final("--config", config)
    restored = tmp_path / "restored.db"
    restore_txid(quick.folder_client(root), restored, None)
    assert restored.read_bytes() == _image(path)


def _merged_into(daemon: Daemon, level: int) -> list[str]:
    files = [str(event["file"]) for event in daemon.events("compacted")]
    return [file for file in files if file.startswith(f"{level}/")]


# --- a store that fails -----------------------------------------------------------------------------------------------


@pytest.mark.s3
@pytest.mark.fault
@pytest.mark.parametrize(("fault", "kind"), [("denied", "auth"), ("kept", "other")])
def test_a_store_that_does_not_delete(
    tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket, fault: Fault, kind: str
) -> None:
    """Denied deletions, and those confirmed and not done, are counted and told; replication and levels go on."""
    with fault_proxy(s3_bucket.server.endpoint) as proxy:
        proxy.choose = lambda method, path: fault if method == "DELETE" or "?delete" in path else None
        with lived(tmp_path, daemons, quick.on_s3(s3_bucket, proxy.endpoint)) as daemon:
            error = daemon.wait_event("maintain failed", kind=kind)
            assert "delete" in str(error["error"])
            assert error["hint"]
            daemon.wait_event("maintain failed", count=2, kind=kind)
            merged = len(daemon.events("compacted"))
            daemon.wait_event("compacted", count=merged + 3)
            daemon.wait_uploaded(daemon.uploaded() + 3)
            assert daemon.metric("lsync_maintenance_errors_total", kind=kind) >= 2
            assert not daemon.events("deleted by retention")
            assert {str(event["kind"]) for event in daemon.events("maintain failed")} == {kind}
            proxy.choose = lambda *_: None
            daemon.wait_event("deleted by retention", count=2)
    quick.check(open_client(s3_bucket.replica()), tmp_path / "app.db", s3=True)


@pytest.mark.s3
@pytest.mark.fault
@pytest.mark.parametrize("level", ["0001", "0009"])
def test_sigterm_while_a_file_hangs(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket, level: str) -> None:
    """SIGTERM while a merged file or a snapshot hangs: the last commits are shipped, the end comes in time, with 0."""
    path = tmp_path / "app.db"
    compare.create_ledger(path)
    with fault_proxy(s3_bucket.server.endpoint) as proxy:
        replica = quick.on_s3(s3_bucket, proxy.endpoint)
        more = "shutdown-sync-timeout: 2s\n"
        config = quick.configuration(path, replica, more=more, retention=False)
        proxy.choose = lambda method, target: "hang" if method == "PUT" and f"/db/{level}/" in target else None
        daemon = daemons.start("--config", config, program=quick.HASTE)
        with writers.ledger_writer(path, 1, pause_s=0.01):
            daemon.wait_until(lambda: "hang" in proxy.faults, f"a file of level {level} that hangs", limit_s=30)
            daemon.wait_uploaded(daemon.uploaded() + 5)
        with App(path) as app:
            app.sql("insert into ledger values(1, (select max(n) + 1 from ledger), 'last')")
        started_s = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - started_s < 8
        proxy.choose = lambda *_: None
    restored = tmp_path / "restored.db"
    restore_txid(open_client(s3_bucket.replica()), restored, None)
    assert restored.read_bytes() == _image(path)
    daemons.final("--config", quick.configuration(path, quick.on_s3(s3_bucket)))
    quick.check(open_client(s3_bucket.replica()), path, s3=True)


def _image(path: Path) -> bytes:
    target = path.with_name("image")
    with App(path) as app:
        app.image(target)
    return target.read_bytes()


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.s3
def test_what_it_costs(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """A PUT for each TXID and each merged file, no LIST but those of the start; nothing once all has settled."""
    path = tmp_path / "app.db"
    compare.create_ledger(path)
    with fault_proxy(s3_bucket.server.endpoint) as proxy:
        replica = quick.on_s3(s3_bucket, proxy.endpoint)
        daemon = daemons.start("--config", quick.configuration(path, replica), program=quick.HASTE)
        with writers.ledger_writer(path, 1, pause_s=0.1) as writer:
            daemon.wait_event("compacted")
            lists = _lists(proxy)
            quick.wait_lived(daemon, snapshots=1)
            writer.end()
        quiet_s = _wait_settled(daemon, proxy)
        requests = proxy.count()
        time.sleep(quiet_s)  # an idle time in which nothing may be sent
        assert proxy.count() == requests
        assert _lists(proxy) == lists
        made = [len(daemon.events(kind)) for kind in ("uploaded", "compacted", "snapshot")]
        assert proxy.count("PUT") == sum(made) + 2  # the owner, and the copy of the base at level 9
        assert made[1] + made[2] < made[0]
        assert daemon.terminate() == 0
    quick.check(open_client(s3_bucket.replica()), path, s3=True)


def _lists(proxy: FaultProxy) -> int:
    return sum("list-type" in path for _, path in proxy.requests)


def _wait_settled(daemon: Daemon, proxy: FaultProxy) -> float:
    """Wait until no request was sent for longer than any interval; returns that time in seconds."""
    longest_s = 2 * (3.0 + quick.GRACE_S)  # twice the window and the time for restores
    seen, since_s = proxy.count(), time.monotonic()

    def settled() -> bool:
        nonlocal seen, since_s
        if proxy.count() != seen:
            seen, since_s = proxy.count(), time.monotonic()
        return time.monotonic() - since_s > longest_s

    daemon.wait_until(settled, "settled", limit_s=60)
    return 3.0
