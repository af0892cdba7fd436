"""Levels across programs: chains that Litestream wrote are taken over, merged and thinned out, and it reads ours."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.core.ports import ReplicaClient
from litestream_py.core.restore import restorable_txids
from litestream_py.core.when import parse_when
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.moment import Moment
from litestream_py.engine.restorer import restore_txid
from litestream_py.ltx.ids import TXID
from tests.support import compare, writers
from tests.support import golden_replicas as golden
from tests.support import levels as quick
from tests.support.app import App
from tests.support.daemon import Daemon, Daemons
from tests.support.litestream_rules import violations
from tests.support.minio import S3Bucket

pytestmark = [pytest.mark.slow]

CASES = ["multi-level", "multi-level-thinned", "l0-retention", "wal-restart"]
LATER_MS = 1_900_000_000_000


def restored(client: ReplicaClient, target: TXID | Moment | None, folder: Path) -> tuple[TXID, str]:
    """Restore; returns TXID and SHA-256."""
    result = restore_txid(client, folder / "restored.db", target)
    digest = hashlib.sha256(result.path.read_bytes()).hexdigest()
    result.path.unlink()
    return result.txid, digest


def take_over(
    tmp_path: Path, daemons: Daemons, client: ReplicaClient, config: Path, *, deletions: int
) -> tuple[Daemon, str]:
    """Continue a chain from its newest state with a writer, until levels have been made; returns the source's hash."""
    path = tmp_path / "app.db"
    restore_txid(client, path, None)
    before = max(info.name.max_txid for info in list_replica(client))
    with App(path) as app:
        app.sql("pragma journal_mode=wal", "create table ledger(writer, n, b, primary key(writer, n))")
    daemon = daemons.start("--config", config, program=quick.HASTE if deletions else "")
    with writers.ledger_writer(path, 1, pause_s=0.01):
        daemon.wait_uploaded(before + 10)
        quick.wait_lived(daemon, compactions=4, snapshots=1, deletions=deletions)
    assert daemon.terminate() == 0
    daemons.final("--config", config)
    with App(path) as app:
        return daemon, app.image()


def check_listed(client: ReplicaClient, case: str, folder: Path, *, all_of_them: bool) -> int:
    """Every TXID that Litestream restored, and that can still be, restores to its bytes; returns how many did."""
    points, listed = set(restorable_txids(list_replica(client))), golden.expect(case)["restore_txid"]
    sound = {TXID.parse(txid): out["sha256"] for txid, out in listed.items() if "sha256" in out}
    if all_of_them:
        assert set(sound) <= points
    for txid in set(sound) & points:
        assert restored(client, txid, folder) == (txid, sound[txid])
    return len(set(sound) & points)


def check_times(client: ReplicaClient, case: str, folder: Path) -> None:
    """Every point in time that Litestream restored restores to the same bytes."""
    for item in golden.expect(case)["restore_timestamp"]:
        if "sha256" in item:
            at_ms = parse_when(item["timestamp"], LATER_MS)
            assert restored(client, Moment(at_ms), folder)[1] == item["sha256"], item["timestamp"]


@pytest.mark.parametrize("case", CASES)
def test_taken_over_and_merged(tmp_path: Path, daemons: Daemons, case: str) -> None:
    """Litestream's chain goes on with our levels and snapshots; every listed TXID and time restores as it did."""
    root = golden.place(case, tmp_path)
    client = open_client(f"file://{root}")
    config = quick.configuration(tmp_path / "app.db", f"{{path: {root}, sync-interval: 50ms}}", retention=False)
    _, image = take_over(tmp_path, daemons, client, config, deletions=0)
    assert restored(client, None, tmp_path)[1] == image
    assert check_listed(client, case, tmp_path, all_of_them=True) > 3
    check_times(client, case, tmp_path)
    if case != "multi-level-thinned":
        assert violations(client) == []


@pytest.mark.parametrize("case", CASES)
def test_taken_over_and_thinned_out(tmp_path: Path, daemons: Daemons, case: str) -> None:
    """With a window of seconds its old files go; what is left of the listed TXIDs restores as it did."""
    root = golden.place(case, tmp_path)
    client = open_client(f"file://{root}")
    before = {info.name for info in list_replica(client)}
    config = quick.configuration(tmp_path / "app.db", f"{{path: {root}, sync-interval: 50ms}}")
    _, image = take_over(tmp_path, daemons, client, config, deletions=2)
    after = {info.name for info in list_replica(client)}
    assert len(before - after) > len(before) / 2
    assert restored(client, None, tmp_path)[1] == image
    check_listed(client, case, tmp_path, all_of_them=False)


@pytest.mark.s3
def test_taken_over_on_s3(tmp_path: Path, daemons: Daemons, s3_bucket: S3Bucket) -> None:
    """The same on MinIO, with the objects, keys and metadata of Litestream."""
    for item in golden.expect("s3-layout")["objects"]:
        body = (golden.ROOT / "s3-layout" / "objects" / item["key"]).read_bytes()
        key = item["key"].replace("prod/app.db/", "db/")
        s3_bucket.raw.put_object(Bucket=s3_bucket.name, Key=key, Body=body, Metadata=item["metadata"])
    client = open_client(s3_bucket.replica())
    config = quick.configuration(tmp_path / "app.db", quick.on_s3(s3_bucket), retention=False)
    _, image = take_over(tmp_path, daemons, client, config, deletions=0)
    assert restored(client, None, tmp_path)[1] == image
    assert check_listed(client, "s3-layout", tmp_path, all_of_them=True) > 3
    check_times(client, "s3-layout", tmp_path)
    assert violations(client, exact_times=False) == []


@pytest.mark.skipif(shutil.which("litestream") is None, reason="there is no litestream program on PATH to restore with")
def test_litestream_restores_what_is_left(tmp_path: Path, daemons: Daemons) -> None:
    """After our levels, snapshots and deletions Litestream itself restores the newest state."""
    path, root = tmp_path / "app.db", tmp_path / "replica"
    compare.create_ledger(path)
    config = quick.configuration(path, quick.on_folder(root))
    daemon = daemons.start("--config", config, program=quick.HASTE)
    with writers.ledger_writer(path, 1, pause_s=0.01):
        quick.wait_lived(daemon)
    assert daemon.terminate() == 0
    daemons.final("--config", config)
    out = tmp_path / "theirs.db"
    subprocess.run(["litestream", "restore", "-o", str(out), f"file://{root}"], check=True, timeout=60)
    with closing(sqlite3.connect(out)) as theirs, App(path) as ours:
        rows = theirs.execute("select count(*), max(n) from ledger").fetchall()
        assert [list(row) for row in rows] == ours.sql("select count(*), max(n) from ledger")
        assert theirs.execute("pragma integrity_check").fetchall() == [("ok",)]
