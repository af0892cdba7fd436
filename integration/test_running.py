"""What a user sees of a daemon that runs: metrics, logs, latency, and what many idle databases cost."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.support import compare
from tests.support.app import App
from tests.support.daemon import Daemons, lsync
from tests.support.minio import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Bucket
from tests.support.supervise import wait_for

DATABASES = 100


def test_metrics_after_known_activity(tmp_path: Path, daemons: Daemons) -> None:
    """The port is reported; after three commits the TXIDs, lag, bytes, sizes and counters say what happened."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    daemon = daemons.start(path, f"file://{tmp_path}/replica", "--metrics-addr", "127.0.0.1:0")
    with App(path) as app:
        for number in range(2, 5):
            daemon.wait_uploaded(number - 1)
            app.sql("insert into t values(zeroblob(9000))")
        daemon.wait_uploaded(4)
        assert daemon.metric("lsync_local_txid", db=str(path)) == 4
        assert daemon.metric("lsync_replicated_txid", db=str(path), replica=f"file://{tmp_path}/replica") == 4
        assert daemon.metric("lsync_unreplicated_bytes") == 0
        assert daemon.metric("lsync_lag_seconds") == 0
        assert daemon.metric("lsync_sync_total", outcome="changed") == 4
        assert daemon.metric("lsync_uploads_total", kind="snapshot", outcome="ok") == 1
        assert daemon.metric("lsync_uploads_total", kind="l0", outcome="ok") == 3
        assert daemon.metric("lsync_databases") == 1
        assert daemon.metric("lsync_db_bytes") == app.sql("pragma page_count")[0][0] * 4096
        assert daemon.metric("lsync_wal_bytes") == os.path.getsize(f"{path}-wal")
        assert abs(daemon.metric("lsync_last_upload_success_timestamp_seconds") - time.time()) < 60
        sent = sum(file.stat().st_size for file in compare.replica_l0(tmp_path / "replica").iterdir())
        found = daemon.metrics()
        assert sum(value for name, value in found.items() if name.startswith("lsync_upload_bytes_total")) == sent
    assert daemon.terminate() == 0


@pytest.mark.parametrize("inotify", [True, False])
def test_a_commit_after_quiet(tmp_path: Path, daemons: Daemons, inotify: bool) -> None:
    """The first commit after a quiet time is told by the file system; without that, a look each interval finds it."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    refuse = (
        "import inotify_simple\n"
        "def refuse(*_, **__): raise OSError(24, 'Too many open files')\n"
        "inotify_simple.INotify = refuse"
    )
    daemon = daemons.start(path, f"file://{tmp_path}/replica", program="" if inotify else refuse)
    l0 = compare.replica_l0(tmp_path / "replica")
    waits = []
    with App(path) as app:
        for txid in range(2, 5):
            daemon.wait_uploaded(txid - 1)
            time.sleep(1.1)  # the quiet time
            started_s = time.monotonic()
            app.sql("insert into t values(1)")
            wait_for(lambda txid=txid: compare.newest(l0) == txid, lambda: "no upload")  # type: ignore[misc]
            waits.append(time.monotonic() - started_s)
    assert min(waits) < (0.3 if inotify else 1.5), waits
    assert daemon.terminate() == 0


def test_many_idle_databases(tmp_path: Path, daemons: Daemons) -> None:
    """A hundred databases: nothing is written and little computed while idle; then a commit of each is replicated."""
    folder = tmp_path / "dbs"
    folder.mkdir()
    template = folder / "template"
    compare.create(template, "create table t(x)")
    with App(template) as app:
        app.sql("pragma wal_checkpoint(truncate)")
        app.close()
    data = template.read_bytes()
    paths = [folder / f"{number}.db" for number in range(DATABASES)]
    for path in paths:
        path.write_bytes(data)
    config = tmp_path / "lsync.yml"
    entries = [f"  - {{path: {path}, replica: {{path: {tmp_path}/replicas/{path.stem}}}}}\n" for path in paths]
    config.write_text("dbs:\n" + "".join(entries))
    daemon = daemons.start("--config", config)
    daemon.wait_event("uploaded", count=DATABASES, limit_s=90)

    written = _bytes_written(daemon.pid)
    before = _cpu_s(daemon.pid)
    time.sleep(4)  # the idle time that is measured
    cpu_s = _cpu_s(daemon.pid) - before
    assert _bytes_written(daemon.pid) == written
    assert cpu_s < 0.4, f"{cpu_s:.2f} s of CPU in 4 s"

    for path in paths:
        with App(path) as app:
            app.sql("insert into t values(1)")
    daemon.wait_event("uploaded", count=2 * DATABASES, limit_s=90)
    assert daemon.terminate(limit_s=90) == 0
    for path in paths:
        l0 = compare.replica_l0(tmp_path / "replicas" / path.stem)
        assert compare.newest(l0) == 2
    compare.assert_same_as_source(compare.check_every_txid(l0), paths[-1], tmp_path)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bytes_written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


# --- logs -------------------------------------------------------------------------------------------------------------


def test_logs_of_a_short_life(tmp_path: Path, daemons: Daemons) -> None:
    """At level info a quiet life is told in a handful of lines, each JSON with time, level and event."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    daemon = daemons.start(path, f"file://{tmp_path}/replica", level="info")
    daemon.wait_event("replica connected")
    assert daemon.terminate() == 0
    lines = [json.loads(line) for line in daemon.output.splitlines()]
    assert [line["event"] for line in lines if line["event"] != "replica connected"] == [
        "started", "compared", "attached", "replicated", "stopped",
    ]  # fmt: skip
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    assert daemon.errors == "lsync: SIGTERM: final sync\n"


def test_text_logs(tmp_path: Path) -> None:
    """The default is one logfmt line per event on standard output."""
    (tmp_path / "app.db").write_text("no database, whatever its name says")
    done = lsync("replicate", tmp_path / "app.db", f"file://{tmp_path}/replica")
    assert done.returncode == 9
    lines = done.stdout.splitlines()
    assert [line.split(" event=")[1].split()[0] for line in lines] == ["started", '"giving']
    assert all(line.startswith("time=") for line in lines)


@pytest.mark.s3
def test_no_secrets(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """Neither the log at its most talkative nor stderr nor the metrics hold the keys, right or refused."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    right = daemons.start(
        path, s3_bucket.url(), "--metrics-addr", "127.0.0.1:0", level="trace", env=s3_bucket.server.environment
    )
    right.wait_uploaded(1)
    told = str(right.metrics())
    assert right.terminate() == 0
    config = tmp_path / "lsync.yml"
    config.write_text(
        f"shutdown-sync-timeout: 0s\naccess-key-id: AKIAOFCONFIG\nsecret-access-key: secret-of-config\n"
        f"dbs:\n  - path: {path}\n    replica:\n      url: {s3_bucket.url('other')}\n"
    )
    wrong = daemons.start("--config", config, level="trace")
    wrong.wait_event("upload failed", kind="auth")
    assert wrong.terminate() == 5
    told += right.output + right.errors + wrong.output + wrong.errors
    for secret in (SECRET_ACCESS_KEY, ACCESS_KEY_ID, "secret-of-config", "AKIAOFCONFIG"):
        assert secret not in told, secret


def test_credentials_in_a_url(tmp_path: Path) -> None:
    """They are refused, and not repeated."""
    done = lsync("replicate", tmp_path / "app.db", "s3://AKIAINURL:secret-in-url@bucket/db")
    assert done.returncode == 2
    assert "secret-in-url" not in done.stdout + done.stderr
    assert "AKIAINURL" not in done.stdout + done.stderr
