"""One writer per replica, one process per database."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support import compare
from tests.support.app import App
from tests.support.daemon import Daemons
from tests.support.minio import S3Bucket


def _owner(since_ms: int) -> bytes:
    return json.dumps({"writer_id": "f" * 32, "epoch": 7, "host": "elsewhere", "since": since_ms}).encode() + b"\n"


def _ago(seconds: float) -> int:
    return int((time.time() - seconds) * 1000)


def test_another_writer(tmp_path: Path, daemons: Daemons) -> None:
    """A replica that another writer has claimed a moment ago is not written to: exit 8, who it is, what to do."""
    path, root = tmp_path / "app.db", tmp_path / "replica"
    compare.create(path, "create table t(x)")
    (root / "lsync").mkdir(parents=True)
    claimed = _owner(_ago(5))
    (root / "lsync" / "owner.json").write_bytes(claimed)
    daemon = daemons.start(path, f"file://{root}")
    assert daemon.exit_code() == 8
    assert "elsewhere" in daemon.errors
    assert "hint: " in daemon.errors
    assert (root / "lsync" / "owner.json").read_bytes() == claimed
    assert not compare.replica_l0(root).exists()


@pytest.mark.s3
def test_a_silent_writer_is_taken_over(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """After two minutes without a sign of life a replica is taken over, its epoch one higher."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    s3_bucket.raw.put_object(Bucket=s3_bucket.name, Key="db/lsync/owner.json", Body=_owner(_ago(130)))
    daemon = daemons.start(path, s3_bucket.url(), env=s3_bucket.server.environment)
    daemon.wait_uploaded(1)
    owner = json.loads(s3_bucket.raw.get_object(Bucket=s3_bucket.name, Key="db/lsync/owner.json")["Body"].read())
    assert owner["epoch"] == 8
    assert owner["writer_id"] != "f" * 32
    assert daemon.terminate() == 0


@pytest.mark.s3
def test_an_owner_that_was_taken_over_stops(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """A TXID that somebody else has written is never written over: exit 8, and the other's file stays."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    daemon = daemons.start(path, s3_bucket.url(), env=s3_bucket.server.environment)
    daemon.wait_uploaded(1)
    foreign = "db/0000/0000000000000002-0000000000000002.ltx"
    s3_bucket.raw.put_object(Bucket=s3_bucket.name, Key=foreign, Body=b"another writer's")
    with App(path) as app:
        app.sql("insert into t values(1)")
        assert daemon.exit_code() == 8
    assert s3_bucket.raw.get_object(Bucket=s3_bucket.name, Key=foreign)["Body"].read() == b"another writer's"


def test_two_processes_for_one_database(tmp_path: Path, daemons: Daemons) -> None:
    """The second process exits 8 and leaves the first alone, wherever it would replicate to."""
    path = tmp_path / "app.db"
    compare.create(path, "create table t(x)")
    first = daemons.start(path, f"file://{tmp_path}/replica")
    first.wait_uploaded(1)
    second = daemons.start(path, f"file://{tmp_path}/elsewhere")
    assert second.exit_code() == 8
    assert "another lsync process" in second.errors
    with App(path) as app:
        app.sql("insert into t values(1)")
        first.wait_uploaded(2)
    assert first.terminate() == 0
    compare.assert_same_as_source(compare.check_every_txid(compare.replica_l0(tmp_path / "replica")), path, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_one_replica_for_two_databases(tmp_path: Path, daemons: Daemons) -> None:
    """Two databases of one machine sent to one URL: the second exits 8, the first goes on."""
    one, two, url = tmp_path / "one.db", tmp_path / "two.db", f"file://{tmp_path}/replica"
    compare.create(one, "create table t(x)")
    compare.create(two, "create table other(x)")
    first = daemons.start(one, url)
    first.wait_uploaded(1)
    second = daemons.start(two, url)
    assert second.exit_code() == 8
    with App(one) as app:
        app.sql("insert into t values(1)")
        first.wait_uploaded(2)
    assert first.terminate() == 0
    compare.assert_same_as_source(compare.check_every_txid(compare.replica_l0(tmp_path / "replica")), one, tmp_path)
