"""Restarts: nothing is sent that is there already, and no chain is ever broken, whatever happened while it was down."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from litestream_py.ltx.decoder import decode
from litestream_py.ltx.ids import LEVEL_MAX, TXID
from tests.support import compare, golden_replicas
from tests.support.app import App
from tests.support.daemon import Daemon, Daemons
from tests.support.faultproxy import fault_proxy
from tests.support.minio import S3Bucket
from tests.support.oracle import l0_files

pytestmark = [pytest.mark.fault]

ROWS = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)"
BALLAST = (
    "create table ballast(b)",
    f"{ROWS} insert into ballast select randomblob(3000) from n",
    "create table t(x)",
)


class Place:
    """A database, its file replica and its daemons."""

    def __init__(self, tmp_path: Path, daemons: Daemons) -> None:
        self.tmp_path = tmp_path
        self.path = tmp_path / "app.db"
        self.root = tmp_path / "replica"
        self.meta = tmp_path / ".app.db-lsync"
        self._daemons = daemons
        compare.create(self.path, *BALLAST)

    @property
    def l0(self) -> Path:
        """The L0 folder of the replica."""
        return compare.replica_l0(self.root)

    def start(self) -> Daemon:
        """Start a daemon that looks five times a second, and wait until it tails the database."""
        config = self.tmp_path / "lsync.yml"
        config.write_text(
            f"dbs:\n  - path: {self.path}\n    monitor-interval: 200ms\n    replica: {{path: {self.root}}}\n"
        )
        daemon = self._daemons.start("--config", config)
        daemon.wait_event("attached")
        return daemon

    def once(self) -> TXID:
        """Replicate what is there, end in order; returns the newest TXID of the replica."""
        assert self.start().terminate() == 0
        return compare.newest(self.l0)

    def pages(self, txid: int) -> int:
        """Return the number of pages in the L0 file of a TXID."""
        name = next(name for name in l0_files(self.l0) if name.max_txid == txid)
        return len(decode((self.l0 / name.name).read_bytes()).pages)

    def snapshot_of_replica(self) -> dict[str, tuple[int, int]]:
        """Return inode and mtime of every file of the replica."""
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def check(self) -> None:
        """Every TXID restores, and the newest is what the source holds."""
        compare.assert_same_as_source(compare.check_every_txid(self.l0), self.path, self.tmp_path)


@pytest.fixture
def place(tmp_path: Path, daemons: Daemons) -> Place:
    """A database of some 2 MB, not replicated yet."""
    return Place(tmp_path, daemons)


def test_unchanged(place: Place) -> None:
    """A restart on an unchanged database writes nothing to the replica, and the next commit is there soon."""
    place.once()
    before = place.snapshot_of_replica()
    place.once()
    assert place.snapshot_of_replica() == before
    daemon = place.start()
    assert daemon.events("attached", continued=True)
    with App(place.path) as app:
        app.sql("insert into t values(1)")
        daemon.wait_uploaded(2)
    assert place.pages(2) <= 3
    assert daemon.terminate() == 0
    place.check()


def test_unchanged_after_a_kill(place: Place) -> None:
    """The same after kill -9."""
    daemon = place.start()
    daemon.wait_uploaded(1)
    before = place.snapshot_of_replica()
    daemon.kill()
    place.once()
    assert place.snapshot_of_replica() == before


def test_the_application_closed_last(place: Place) -> None:
    """The application's last connection deletes the WAL while we are down: the difference is shipped, and no more."""
    place.once()
    with App(place.path) as app:
        app.sql("insert into t values(1)")
        app.close()
    assert not os.path.exists(f"{place.path}-wal")
    assert place.once() == 2
    assert place.pages(2) <= 3
    place.check()
    assert place.once() == 2


@pytest.mark.parametrize("mode", ["passive", "full", "restart", "truncate"])
def test_checkpoints_while_down(place: Place, mode: str) -> None:
    """Commits, checkpoints of every mode and commits again while we are down: the difference, and no more."""
    place.once()
    with App(place.path) as app:
        for number in range(5):
            app.sql(f"insert into t values({number})", f"pragma wal_checkpoint({mode})")
        app.sql("insert into t values(99)")
    assert place.once() <= 3
    assert place.pages(2) <= 3
    place.check()


def test_the_local_state_is_lost(place: Place) -> None:
    """Without the local state the chain goes on from the replica, by difference."""
    place.once()
    shutil.rmtree(place.meta)
    before = place.snapshot_of_replica()
    assert place.once() == 1
    assert place.snapshot_of_replica() == before
    shutil.rmtree(place.meta)
    with App(place.path) as app:
        app.sql("insert into t values(1)")
    assert place.once() == 2
    assert place.pages(2) <= 3
    with App(place.path) as app:
        app.sql("insert into t values(2)")
    assert place.once() == 3
    place.check()


@pytest.mark.parametrize("damaged", ["position.json", "pages.crc", "ltx"])
def test_the_local_state_is_damaged(place: Place, damaged: str) -> None:
    """Whatever part of the local state is zeros, the chain goes on."""
    place.once()
    target = place.meta / damaged
    if target.is_dir():
        target = next((target / "0").iterdir())
    target.unlink()  # the newest L0 file is a link of the replica's own
    target.write_bytes(bytes(100))
    with App(place.path) as app:
        app.sql("insert into t values(1)")
    assert place.once() == 2
    assert place.pages(2) <= 3
    place.check()


def test_the_replica_is_emptied_while_down(place: Place) -> None:
    """On an emptied replica a new chain begins with a snapshot."""
    daemon = place.start()
    with App(place.path) as app:
        daemon.wait_uploaded(1)
        app.sql("insert into t values(1)")
        daemon.wait_uploaded(2)
    assert daemon.terminate() == 0
    shutil.rmtree(place.root)
    assert place.once() == 1
    place.check()


def test_the_replica_lost_files(place: Place) -> None:
    """A chain with a gap is not added to: told aloud, exit code 6, capture goes on."""
    daemon = place.start()
    with App(place.path) as app:
        daemon.wait_uploaded(1)
        app.sql("insert into t values(1)")
        daemon.wait_uploaded(2)
    assert daemon.terminate() == 0
    (place.l0 / l0_files(place.l0)[0].name).unlink()
    before = place.snapshot_of_replica()
    daemon = place.start()
    told = daemon.wait_event("upload failed", kind="corrupt")
    assert "new URL" in str(told["hint"])
    with App(place.path) as app:
        app.sql("insert into t values(2)")
        daemon.wait_event("synced")
    assert daemon.terminate() == 6
    assert place.snapshot_of_replica() == before


@pytest.mark.parametrize("larger", [True, False])
def test_the_database_is_replaced_while_running(place: Place, larger: bool) -> None:
    """Another database renamed over ours is noticed, and its difference shipped in the same chain."""
    daemon = place.start()
    daemon.wait_uploaded(1)
    other = place.tmp_path / "other.db"
    compare.create(other, *(BALLAST if larger else ()), "create table another(x)")
    with App(other) as app:
        app.sql("pragma wal_checkpoint(truncate)")
        app.close()
    os.unlink(f"{place.path}-wal")
    os.unlink(f"{place.path}-shm")
    other.rename(place.path)
    with App(place.path) as app:
        app.sql("insert into another values(1)")
        daemon.wait_until(lambda: bool(daemon.events("compared", reason="database-replaced")), "the change noticed")
        app.sql("insert into another values(2)")
    assert daemon.terminate() == 0
    place.check()


def test_the_database_is_deleted_and_made_anew(place: Place) -> None:
    """A deleted database is waited for; the new one goes on in the chain of the old."""
    daemon = place.start()
    daemon.wait_uploaded(1)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(f"{place.path}{suffix}")
    daemon.wait_event("waiting for database", reason="missing")
    compare.create(place.path, "create table another(x)")
    daemon.wait_uploaded(2)
    assert daemon.terminate() == 0
    place.check()


def test_a_replica_that_litestream_wrote(tmp_path: Path, daemons: Daemons) -> None:
    """Its chain is continued: TXIDs go on, every older one still restores to the listed bytes, the newest to ours."""
    root = golden_replicas.place("simple-4096", tmp_path)
    url, path = f"file://{root}", tmp_path / "app.db"
    listed = {TXID.parse(txid): found for txid, found in golden_replicas.expect("simple-4096")["restore_txid"].items()}
    newest = compare.newest(compare.replica_l0(root))
    compare.restore(url, path)
    with App(path) as app:
        app.sql("pragma journal_mode=wal", "create table ours(x)", "insert into ours values(1)")
        daemon = daemons.start(path, url)
        daemon.wait_uploaded(newest + 1)
        app.sql("insert into ours values(2)")
        daemon.wait_uploaded(newest + 2)
        daemon.kill()
        app.sql("insert into ours values(3)")
        daemon = daemons.start(path, url)
        daemon.wait_uploaded(newest + 3)
        image = app.image()
    assert daemon.terminate() == 0
    assert compare.newest(compare.replica_l0(root)) == newest + 3
    assert compare.sha256(compare.restore(url, tmp_path / "newest.db")) == image
    for txid, found in listed.items():
        if "sha256" in found:
            restored = compare.restore(url, tmp_path / f"{txid}.db", txid=txid)
            assert compare.sha256(restored) == found["sha256"]


@pytest.mark.s3
def test_unchanged_on_s3(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """A restart on an unchanged database sends no PUT; while idle no request is sent at all."""
    path, env = tmp_path / "app.db", s3_bucket.server.environment
    compare.create(path, *BALLAST)
    with fault_proxy(s3_bucket.server.endpoint) as proxy:
        url = f"s3://{s3_bucket.name}/db?endpoint={proxy.endpoint}"
        daemon = daemons.start(path, url, env=env)
        daemon.wait_uploaded(1)
        assert daemon.terminate() == 0
        puts = proxy.count("PUT")
        assert puts == 2  # the owner and the snapshot
        daemon = daemons.start(path, url, env=env)
        daemon.wait_event("replica connected", pending=0)
        requests = proxy.count()
        time.sleep(2)  # an idle time in which nothing may be sent
        assert proxy.count() == requests
        with App(path) as app:
            app.sql("insert into t values(1)")
            daemon.wait_uploaded(2)
        assert daemon.terminate() == 0
        assert proxy.count("PUT") == puts + 1
        # The owner is read once, the increment put; the levels are listed, once, for what is to be merged some day.
        assert proxy.count() - requests <= 2 + LEVEL_MAX + 1


@pytest.mark.s3
def test_the_replica_is_emptied_while_running(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """After a silence the owner object is looked at; where it is gone, a new chain begins with a snapshot."""
    path, env = tmp_path / "app.db", s3_bucket.server.environment
    compare.create(path, *BALLAST)
    clock = "import time; real = time.time_ns; jump = [0]; time.time_ns = lambda: real() + jump[0]"
    jump = "import signal; signal.signal(signal.SIGUSR1, lambda *_: jump.__setitem__(0, 100_000_000_000))"
    daemon = daemons.start(path, s3_bucket.url(), env=env, program=f"{clock}\n{jump}")
    daemon.wait_uploaded(1)
    for key in list(s3_bucket.keys()):
        s3_bucket.raw.delete_object(Bucket=s3_bucket.name, Key=key)
    daemon.signal(signal.SIGUSR1)
    with App(path) as app:
        app.sql("insert into t values(1)")
        daemon.wait_event("starting over from the replica's chain", reason="replica-emptied")
        app.sql("insert into t values(2)")
    assert daemon.terminate() == 0
    state = compare.check_every_txid(compare.download_l0(s3_bucket, "db", tmp_path / "l0"))
    compare.assert_same_as_source(state, path, tmp_path)
