"""history, verify, prune and points in time on a real S3 server, with objects as Litestream lays them out."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from litestream_py.clients.factory import open_client
from litestream_py.core.retention import RetentionPlan
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.retention import execute_retention
from tests.support import golden_replicas as golden
from tests.support.minio import S3Bucket

pytestmark = pytest.mark.s3
CASE = golden.expect("s3-layout")


@pytest.fixture
def url(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """The replica of the golden case: every object with its key, metadata and type."""
    for name, value in s3_bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    for item in CASE["objects"]:
        s3_bucket.raw.put_object(
            Bucket=s3_bucket.name,
            Key=item["key"],
            Body=(golden.ROOT / "s3-layout" / "objects" / item["key"]).read_bytes(),
            Metadata=item["metadata"],
            ContentType=item["content_type"],
        )
    return s3_bucket.url(CASE["prefix"])


def test_points_in_time_are_those_of_the_metadata(url: str, tmp_path: Path) -> None:
    """Uploaded only now, the objects keep their times: each listed time restores what Litestream restored."""
    out = tmp_path / "out.db"
    for item in CASE["restore_timestamp"]:
        code = run(["restore", "--force", "-o", str(out), "-timestamp", item["timestamp"], url])
        if "error" in item:
            assert code == 1, item
        else:
            assert code == 0
            wanted = CASE["restore_txid"][item["txid"]]["sha256"]
            assert hashlib.sha256(out.read_bytes()).hexdigest() == wanted, item


def test_the_newest_state_goes_to_standard_output(url: str) -> None:
    """`restore -o -` through a pipe gives the listed SHA-256."""
    command = [sys.executable, "-m", "litestream_py", "restore", "-o", "-", url]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, timeout=60, check=True)
    assert hashlib.sha256(done.stdout).hexdigest() == CASE["restore_latest"]["sha256"]


def test_history_tells_the_times_of_the_changes(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From the first header's time to the last one's, not the time of the upload."""
    assert run(["history", "--json", url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == len(CASE["objects"])
    assert told["restorable"][0]["from"] == "2026-11-20T13:37:09.870Z"
    assert told["restorable"][-1]["max_txid"] == CASE["restore_latest"]["txid"]


@pytest.mark.parametrize("flags", [["--quick"], [], ["--full"]])
def test_verify_reads_all_of_it(flags: list[str], url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every depth says ok; one object replaced behind our back is named."""
    assert run(["verify", "--json", *flags, url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["problems"], told["lost"]["count"]) == ("ok", [], 0)


def test_a_replaced_object_is_named(url: str, s3_bucket: S3Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros under the key of the newest file: exit code 6, and the object's name."""
    key = max(item["key"] for item in CASE["objects"] if "/0000/" in item["key"])
    s3_bucket.raw.put_object(Bucket=s3_bucket.name, Key=key, Body=bytes(300))
    assert run(["verify", "--quick", url]) == 6
    assert f"0/{key.rsplit('/', 1)[1]}" in capsys.readouterr().out


def test_prune_leaves_what_has_just_appeared(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every object is younger than an hour, so a restore may be reading it: nothing goes."""
    assert run(["prune", "--json", "--retention", "1s", "--l0-retention", "1s", url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["deletes"]["files"], len(told["files"])) == (0, len(CASE["objects"]))


def test_retention_deletes_objects_and_sees_that_they_are_gone(url: str, s3_bucket: S3Bucket) -> None:
    """A plan is carried out in batches and checked; the other objects stay."""
    client = open_client(url)
    first, *rest = list_replica(client)
    plan = RetentionPlan((), tuple(rest[:4]))
    assert execute_retention(client, plan, batch_files=3, relist=True).files == plan.deletes
    assert len(s3_bucket.keys()) == len(CASE["objects"]) - 4
    assert first in list_replica(client)
    client.close()
