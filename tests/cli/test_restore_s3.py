"""`lsync restore` and `lsync ltx` on a real S3 server, with objects laid out as Litestream does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from tests.support import golden_replicas as golden
from tests.support.minio import S3Bucket

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


@pytest.mark.s3
def test_litestreams_objects_restore_to_its_bytes(url: str, tmp_path: Path) -> None:
    """Every listed TXID, and the newest, restores from the server to the listed SHA-256."""
    out = tmp_path / "out.db"
    for txid, expected in [*CASE["restore_txid"].items(), (None, CASE["restore_latest"])]:
        target = [] if txid is None else ["--txid", txid]
        code = run(["restore", "--force", "-o", str(out), *target, url])
        if "error" in expected:
            assert code == 1
            continue
        assert code == 0
        assert hashlib.sha256(out.read_bytes()).hexdigest() == expected["sha256"], f"TXID {txid}"


@pytest.mark.s3
def test_ltx_lists_the_objects(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`ltx --level all` has a row for each object under the prefix."""
    assert run(["ltx", "--json", "--level", "all", url]) == 0
    told = json.loads(capsys.readouterr().out)
    listed = [f"{CASE['prefix']}/{f['level']:04x}/{f['min_txid']}-{f['max_txid']}.ltx" for f in told]
    assert listed == sorted(item["key"] for item in CASE["objects"])


@pytest.mark.s3
def test_empty_missing_and_forbidden_are_three_things(
    url: str, s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No object under the prefix is exit 3, a bucket that does not exist 1, wrong credentials 5."""
    out = str(tmp_path / "out.db")
    endpoint = s3_bucket.server.endpoint
    assert run(["restore", "-o", out, s3_bucket.url("elsewhere")]) == 3
    assert run(["restore", "--if-replica-exists", "-o", out, f"s3://no-such-bucket/p?endpoint={endpoint}"]) == 1
    if not s3_bucket.server.is_minio:
        return  # moto checks no credentials
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-one")
    assert run(["restore", "--if-replica-exists", "-o", out, url]) == 5
    assert not Path(out).exists()
