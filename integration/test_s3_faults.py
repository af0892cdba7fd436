"""A store that is down, refuses, hangs or loses its answers: nothing is lost, and the replica catches up."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import compare, writers
from tests.support.app import App
from tests.support.daemon import Daemon, Daemons
from tests.support.faultproxy import Fault, FaultProxy, fault_proxy
from tests.support.minio import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Bucket, minio_on
from tests.support.supervise import free_port

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.fault]


def _config(tmp_path: Path, bucket: str, endpoint: str, *, secret: str = SECRET_ACCESS_KEY) -> Path:
    config = tmp_path / "lsync.yml"
    config.write_text(
        f"addr: 127.0.0.1:0\nshutdown-sync-timeout: 20s\ndbs:\n  - path: {tmp_path}/app.db\n    replica:\n"
        f"      bucket: {bucket}\n      path: db\n      endpoint: {endpoint}\n      sync-interval: 100ms\n"
        f"      access-key-id: {ACCESS_KEY_ID}\n      secret-access-key: {secret}\n"
    )
    return config


def _captured(daemon: Daemon, at_least: int) -> None:
    """Wait until so many TXIDs are captured locally."""
    daemon.wait_until(lambda: daemon.metric("lsync_local_txid") >= at_least, f"{at_least} TXIDs captured")


def _check(tmp_path: Path, bucket: S3Bucket) -> None:
    state = compare.check_every_txid(compare.download_l0(bucket, "db", tmp_path / "l0"))
    compare.assert_same_as_source(state, tmp_path / "app.db", tmp_path)


def test_unreachable_at_start_and_killed_midway(tmp_path: Path, daemons: Daemons) -> None:
    """Capture begins without the store, the lag shows; it connects when the store appears, twice."""
    path, port = tmp_path / "app.db", free_port()
    data = tmp_path / "minio"
    data.mkdir()
    compare.create_ledger(path)
    daemon = daemons.start("--config", _config(tmp_path, "bucket", f"http://127.0.0.1:{port}"))
    with writers.ledger_writer(path, 1, pause_s=0.01):
        daemon.wait_event("upload failed", kind="transient_network")
        _captured(daemon, 3)
        assert daemon.metric("lsync_lag_seconds") > 0
        assert daemon.metric("lsync_unreplicated_bytes") > 0
        with minio_on(data, port) as server:
            bucket = S3Bucket(server, "bucket", server.raw())
            daemon.wait_event("upload failed", kind="not_found")
            bucket.raw.create_bucket(Bucket="bucket")
            daemon.wait_uploaded(3)
        failures = len(daemon.events("upload failed"))
        daemon.wait_event("upload failed", count=failures + 1)
        newest = int(daemon.metric("lsync_local_txid"))
        _captured(daemon, newest + 2)
        with minio_on(data, port) as server:
            daemon.wait_uploaded(newest + 2)
    with minio_on(data, port) as server:
        assert daemon.terminate() == 0
        _check(tmp_path, S3Bucket(server, "bucket", server.raw()))


def test_wrong_credentials(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """Refused credentials are told as such, capture goes on; with the right ones nothing is missing."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    endpoint = s3_bucket.server.endpoint
    daemon = daemons.start("--config", _config(tmp_path, s3_bucket.name, endpoint, secret="not-this-one"))
    said = daemon.wait_event("upload failed", kind="auth")
    with App(path) as app:
        app.sql("insert into t values(1)")
        _captured(daemon, 2)
    assert daemon.metric("lsync_uploads_total", outcome="auth") >= 1
    assert "not-this-one" not in daemon.output + daemon.errors
    assert said["hint"]
    config = tmp_path / "lsync.yml"
    config.write_text(config.read_text().replace("20s", "1s"))
    daemon.kill()
    daemon = daemons.start("--config", config)
    daemon.wait_event("upload failed", kind="auth")
    assert daemon.terminate() == 5

    daemon = daemons.start("--config", _config(tmp_path, s3_bucket.name, endpoint))
    daemon.wait_uploaded(2)
    assert daemon.terminate() == 0
    _check(tmp_path, s3_bucket)


@contextmanager
def _behind_a_proxy(tmp_path: Path, daemons: Daemons, bucket: S3Bucket) -> Iterator[tuple[Daemon, FaultProxy]]:
    compare.create_ledger(tmp_path / "app.db")
    with fault_proxy(bucket.server.endpoint) as proxy:
        yield daemons.start("--config", _config(tmp_path, bucket.name, proxy.endpoint)), proxy


@pytest.mark.parametrize("seed", [1, 2])
def test_a_store_that_fails_at_random(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket, seed: int) -> None:
    """Every third request fails, some after the store has carried them out; yet every TXID arrives once, in order."""
    rng = random.Random(seed)
    faults: tuple[Fault | None, ...] = ("slow-down", "reset", "lost", "lost", *[None] * 8)
    with fault_proxy(s3_bucket.server.endpoint) as proxy:
        proxy.choose = lambda *_: rng.choice(faults)
        compare.create_ledger(tmp_path / "app.db")
        daemon = daemons.start("--config", _config(tmp_path, s3_bucket.name, proxy.endpoint))
        with writers.ledger_writer(tmp_path / "app.db", 1, pause_s=0.01):
            daemon.wait_until(lambda: daemon.uploaded() >= 15, "15 TXIDs on the replica", limit_s=90)
            assert {"slow-down", "reset", "lost"} <= set(proxy.faults)
        proxy.choose = lambda *_: None
        assert daemon.terminate() == 0
    _check(tmp_path, s3_bucket)


FIRST: dict[str, Callable[[str, str], bool]] = {
    "owner": lambda method, path: method == "PUT" and path.endswith("/lsync/owner.json"),
    "snapshot": lambda method, path: method == "PUT" and "/0000/0000000000000001-" in path,
    "increment": lambda method, path: method == "PUT" and "/0000/0000000000000002-" in path,
}


@pytest.mark.parametrize("fault", ["lost", "reset", "slow-down"])
@pytest.mark.parametrize("what", FIRST)
def test_a_fault_at_each_write(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket, what: str, fault: Fault) -> None:
    """The first PUT of the owner, the snapshot or an increment fails, or lands and its answer is lost: no harm."""
    left = [fault]
    with _behind_a_proxy(tmp_path, daemons, s3_bucket) as (daemon, proxy):
        proxy.choose = lambda method, path: left.pop() if left and FIRST[what](method, path) else None
        daemon.wait_uploaded(1)
        with App(tmp_path / "app.db") as app:
            app.sql("insert into ledger values(1, 1, 1)")
            daemon.wait_uploaded(2)
        assert proxy.faults == [fault]
        assert daemon.terminate() == 0
    _check(tmp_path, s3_bucket)


def test_a_request_that_hangs(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """While an upload hangs, capture goes on."""
    with _behind_a_proxy(tmp_path, daemons, s3_bucket) as (daemon, proxy):
        daemon.wait_uploaded(1)
        proxy.choose = lambda method, _: "hang" if method == "PUT" else None
        with App(tmp_path / "app.db") as app:
            app.sql("insert into ledger values(1, 1, 1)")
            daemon.wait_until(lambda: bool(proxy.faults), "a request that hangs")
            app.sql("insert into ledger values(1, 2, 1)")
            _captured(daemon, 3)
            assert daemon.metric("lsync_replicated_txid") == 1
        daemon.kill()
    daemon = daemons.start("--config", _config(tmp_path, s3_bucket.name, s3_bucket.server.endpoint))
    daemon.wait_uploaded(3)
    assert daemon.terminate() == 0
    _check(tmp_path, s3_bucket)


def test_a_store_that_asks_to_slow_down(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """While the store refuses, it is asked ever less often, however many TXIDs are captured meanwhile."""
    with _behind_a_proxy(tmp_path, daemons, s3_bucket) as (daemon, proxy):
        daemon.wait_uploaded(1)
        proxy.choose = lambda *_: "slow-down"
        with writers.ledger_writer(tmp_path / "app.db", 1, pause_s=0.01):
            daemon.wait_event("upload failed", kind="throttled")
            before = proxy.count()
            _captured(daemon, int(daemon.metric("lsync_local_txid")) + 30)
            assert proxy.count() - before <= 20
        proxy.choose = lambda *_: None
        assert daemon.terminate() == 0
    _check(tmp_path, s3_bucket)
