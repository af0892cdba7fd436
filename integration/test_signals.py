"""SIGTERM and SIGINT: a final sync, an honest exit code, an end in time; a second signal ends it at once."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support import compare
from tests.support.app import App
from tests.support.daemon import Daemons
from tests.support.faultproxy import fault_proxy
from tests.support.minio import S3Bucket
from tests.support.supervise import free_port

pytestmark = [pytest.mark.fault]

MARGIN_S = 10.0
"""What an end may take beyond its time-out on a busy machine; the hang it must not wait for is longer."""


def _config(tmp_path: Path, replica: str, *, timeout: str = "1s", **more: str) -> Path:
    config = tmp_path / "lsync.yml"
    lines = "".join(f"{key}: {value}\n" for key, value in more.items())
    config.write_text(
        f"shutdown-sync-timeout: {timeout}\n{lines}dbs:\n  - path: {tmp_path}/app.db\n    replica: {{{replica}}}\n"
    )
    return config


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_final_sync(tmp_path: Path, daemons: Daemons, number: signal.Signals) -> None:
    """What was committed just before the signal is on the replica when the daemon has exited 0."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    daemon = daemons.start("--config", _config(tmp_path, f"path: {tmp_path}/replica, sync-interval: 1h", timeout="9s"))
    daemon.wait_uploaded(1)
    with App(path) as app:
        app.sql("insert into t values(1)")
        daemon.wait_uploaded(2)
        app.sql("insert into t values(2)")  # within the hour: captured by nothing but the end
    daemon.signal(number)
    assert daemon.exit_code() == 0
    assert daemon.events("stopped", unreplicated_databases=0)
    state = compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))
    compare.assert_same_as_source(state, path, tmp_path)


def test_while_waiting_for_a_database(tmp_path: Path, daemons: Daemons) -> None:
    """Where there is nothing to replicate yet, the end is orderly and leaves nothing behind."""
    daemon = daemons.start("--config", _config(tmp_path, f"path: {tmp_path}/replica"))
    daemon.wait_event("waiting for database")
    assert daemon.terminate() == 0
    assert not (tmp_path / "replica").exists()
    assert not (tmp_path / ".app.db-lsync").exists()


@pytest.mark.parametrize("timeout", ["0s", "1s"])
def test_unreachable_replica(tmp_path: Path, daemons: Daemons, timeout: str) -> None:
    """With the replica unreachable it exits 4 in time, and after a restart nothing is missing."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    keys = "access-key-id: a, secret-access-key: b"
    nobody = f"bucket: nobody, path: db, {keys}, endpoint: 'http://127.0.0.1:{free_port()}'"
    daemon = daemons.start("--config", _config(tmp_path, nobody, timeout=timeout))
    daemon.wait_event("upload failed")
    with App(path) as app:
        app.sql("insert into t values(1)")
    started_s = time.monotonic()
    assert daemon.terminate() == 4
    assert time.monotonic() - started_s < 1 + MARGIN_S
    assert daemon.events("not everything is on the replica", kind="transient_network")

    daemon = daemons.start("--config", _config(tmp_path, f"path: {tmp_path}/replica"))
    daemon.wait_event("attached")
    assert daemon.terminate() == 0
    state = compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))
    compare.assert_same_as_source(state, path, tmp_path)


@pytest.mark.s3
def test_a_replica_that_does_not_answer(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """A store that takes requests and never answers does not hold the end up beyond its time-out."""
    path, env = tmp_path / "app.db", s3_bucket.server.environment
    compare.create(path, "create table t(x)")
    with fault_proxy(s3_bucket.server.endpoint) as proxy:
        config = _config(tmp_path, f"bucket: {s3_bucket.name}, path: db, endpoint: '{proxy.endpoint}'")
        daemon = daemons.start("--config", config, env=env)
        daemon.wait_uploaded(1)
        proxy.choose = lambda method, _: "hang" if method == "PUT" else None
        with App(path) as app:
            app.sql("insert into t values(1)")
        daemon.wait_until(lambda: "hang" in proxy.faults, "a request that hangs")
        started_s = time.monotonic()
        assert daemon.terminate() == 4
        assert time.monotonic() - started_s < 1 + MARGIN_S
        assert daemon.events("not everything is on the replica")
        assert daemon.events("stopped", unreplicated_databases=1)

    daemon = daemons.start(path, s3_bucket.url(), env=env)
    daemon.wait_uploaded(2)
    assert daemon.terminate() == 0
    state = compare.check_every_txid(compare.download_l0(s3_bucket, "db", tmp_path / "l0"))
    compare.assert_same_as_source(state, path, tmp_path)


@pytest.mark.s3
def test_a_second_signal_aborts(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """The second signal ends it at once, in the middle of a request, with a code that says that data is left."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    with fault_proxy(s3_bucket.server.endpoint) as proxy:
        proxy.choose = lambda *_: "hang"
        config = _config(tmp_path, f"bucket: {s3_bucket.name}, path: db, endpoint: '{proxy.endpoint}'", timeout="60s")
        daemon = daemons.start("--config", config, env=s3_bucket.server.environment)
        daemon.wait_until(lambda: bool(proxy.requests), "a request that hangs")
        daemon.signal(signal.SIGTERM)
        daemon.wait_until(lambda: "final sync" in daemon.errors, "the first signal taken note of")
        started_s = time.monotonic()
        daemon.signal(signal.SIGINT)
        assert daemon.exit_code() == 4
        assert time.monotonic() - started_s < 5
    assert "second signal" in daemon.errors


def test_during_the_first_snapshot(tmp_path: Path, daemons: Daemons) -> None:
    """A signal during the first snapshot: it is completed and the code 0, or the code says that it was not."""
    path, root = tmp_path / "app.db", tmp_path / "replica"
    rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 8000)"
    compare.create(path, "create table t(x)", f"{rows} insert into t select randomblob(3000) from n")
    codes = set()
    for delay_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        daemon = daemons.start("--config", _config(tmp_path, f"path: {root}", timeout="9s"))
        daemon.wait_event("started")
        time.sleep(delay_s)  # the instant of the signal is what the test varies
        code = daemon.terminate()
        codes.add(code)
        if code == 0:
            state = compare.check_every_txid(compare.replica_l0(root))
            compare.assert_same_as_source(state, path, tmp_path)
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(tmp_path / ".app.db-lsync", ignore_errors=True)
    assert codes <= {0, 4}
    assert 0 in codes


def test_a_replica_folder_that_cannot_be_made(tmp_path: Path, daemons: Daemons) -> None:
    """A file where the replica's folder should be does not stop capture, and the exit code tells of it."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    (tmp_path / "replica").write_text("in the way")
    daemon = daemons.start("--config", _config(tmp_path, f"path: {tmp_path}/replica"))
    daemon.wait_event("attached")
    daemon.wait_event("upload failed")
    assert daemon.terminate() == 1
    (tmp_path / "replica").unlink()
    daemon = daemons.start("--config", _config(tmp_path, f"path: {tmp_path}/replica"))
    daemon.wait_uploaded(1)
    assert daemon.terminate() == 0
    compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))
