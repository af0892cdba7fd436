"""Kill -9 of the daemon, again and again at random instants, while the application writes on and checkpoints."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from litestream_py.ltx.decoder import decode
from tests.support import compare, writers
from tests.support.daemon import Daemons
from tests.support.minio import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Bucket
from tests.support.nursery import Nursery
from tests.support.oracle import l0_files

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]

ROWS = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)"


def kill_cycles(path: Path, root: Path, daemons: Daemons, nursery: Nursery, *, cycles: int, seed: int) -> None:
    """Run so many cycles, then end in order; the replica must be whole and hold what the source holds."""
    rng = random.Random(seed)
    compare.create_ledger(path, "create table ballast(b)", f"{ROWS} insert into ballast select randomblob(3000) from n")
    url = f"file://{root}"
    writer = writers.ledger_writer(path, 1, pause_s=0.001, checkpoints=True)
    try:
        for _ in range(cycles):
            daemon = daemons.start(path, url, nursery=nursery)
            _let_it_live(rng)
            if rng.random() < 0.2:  # the application too, before or after
                writer.stop()
            daemon.kill()
            if not writer.running:
                writer = writers.ledger_writer(path, 1, pause_s=0.001, checkpoints=True)
        writers.wait_acknowledged(path, 200)
    finally:
        writer.stop()
    daemons.final(path, url, nursery=nursery)

    l0 = compare.replica_l0(root)
    state = compare.check_every_txid(l0)
    compare.assert_same_as_source(state, path, path.parent)
    restored = path.with_name("restored.db")
    compare.restore(url, restored)
    assert compare.missing(writers.acknowledged(path), compare.ledger_rows(restored)) == []
    # A restart ships what differs, never all pages again.
    large = [name for name in l0_files(l0) if _pages(l0 / name.name) > 1000]
    assert large == l0_files(l0)[:1]


def tortured_cycles(path: Path, root: Path, daemons: Daemons, nursery: Nursery, *, cycles: int, seed: int) -> None:
    """The same with writers that shrink, VACUUM, roll back and hold snapshots."""
    rng = random.Random(seed)
    compare.create(path, "pragma auto_vacuum=incremental", "vacuum", "create table t(id integer primary key, b)")
    url = f"file://{root}"
    with ExitStack() as stack:
        for number in range(2):
            stack.enter_context(writers.torture_writer(path, seed * 10 + number, checkpoints=number == 0))
        stack.enter_context(writers.reader(path, seed * 10 + 9))
        for _ in range(cycles):
            daemon = daemons.start(path, url, nursery=nursery)
            _let_it_live(rng)
            daemon.kill()
    daemons.final(path, url, nursery=nursery)
    compare.skip_if_damaged(path)
    compare.assert_same_as_source(compare.check_every_txid(compare.replica_l0(root)), path, path.parent)


def _let_it_live(rng: random.Random) -> None:
    """The instant of the kill is the test's input, not something it waits for."""
    time.sleep(rng.choice((rng.uniform(0, 0.1), rng.uniform(0, 0.5), rng.uniform(0.2, 1.3))))


def _pages(file: Path) -> int:
    return len(decode(file.read_bytes()).pages)


@pytest.mark.slow
def test_kill_at_random(tmp_path: Path, daemons: Daemons, nursery: Nursery) -> None:
    """After 40 kills and restarts, every TXID restores, the newest equals the source, and nothing was sent twice."""
    kill_cycles(tmp_path / "app.db", tmp_path / "replica", daemons, nursery, cycles=40, seed=1)


@pytest.mark.slow
@pytest.mark.s3
def test_kill_at_random_on_s3(tmp_path: Path, daemons: Daemons, nursery: Nursery, s3_bucket: S3Bucket) -> None:
    """After 10 kills and restarts in front of a real S3 server, every TXID restores, and the newest is the source."""
    path, config, rng = tmp_path / "app.db", tmp_path / "lsync.yml", random.Random(3)
    compare.create_ledger(path)
    config.write_text(
        f"dbs:\n  - path: {path}\n    replica:\n      bucket: {s3_bucket.name}\n      path: db\n"
        f"      endpoint: {s3_bucket.server.endpoint}\n      sync-interval: 50ms\n"
        f"      access-key-id: {ACCESS_KEY_ID}\n      secret-access-key: {SECRET_ACCESS_KEY}\n"
    )
    with writers.ledger_writer(path, 1, pause_s=0.002, checkpoints=True):
        for _ in range(10):
            daemon = daemons.start("--config", config, nursery=nursery)
            time.sleep(rng.uniform(0.2, 1.5))  # the instant of the kill
            daemon.kill()
    daemons.final("--config", config, nursery=nursery)
    state = compare.check_every_txid(compare.download_l0(s3_bucket, "db", tmp_path / "l0"))
    compare.assert_same_as_source(state, path, tmp_path)
    assert state.txid > 10


@pytest.mark.slow
def test_kill_at_random_under_torture(tmp_path: Path, daemons: Daemons, nursery: Nursery) -> None:
    """After 20 kills and restarts, every TXID restores, and the newest equals the source."""
    tortured_cycles(tmp_path / "app.db", tmp_path / "replica", daemons, nursery, cycles=20, seed=2)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 17))
def test_kill_at_random_soak(tmp_path: Path, daemons: Daemons, nursery: Nursery, seed: int) -> None:
    """The same, 700 kills in all."""
    kill_cycles(tmp_path / "app.db", tmp_path / "replica", daemons, nursery, cycles=100, seed=seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20, 26))
def test_kill_at_random_under_torture_soak(tmp_path: Path, daemons: Daemons, nursery: Nursery, seed: int) -> None:
    """The same, 300 kills in all."""
    tortured_cycles(tmp_path / "app.db", tmp_path / "replica", daemons, nursery, cycles=50, seed=seed)
