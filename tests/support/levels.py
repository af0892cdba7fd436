"""A daemon with levels, snapshots and retention of fractions of a second, and what its replica must hold then."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from litestream_py.clients.factory import open_client
from litestream_py.core.ports import ReplicaClient
from litestream_py.core.restore import restorable_txids
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.restorer import restore_txid
from litestream_py.ltx.ids import TXID
from tests.support.app import App
from tests.support.daemon import Daemon
from tests.support.litestream_rules import violations
from tests.support.minio import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Bucket

GRACE_S = 1.0
HASTE = (
    "import litestream_py.core.retention as r, litestream_py.daemon.maintenance_job as m\n"
    f"r.RESTORE_GRACE_MS = {round(1000 * GRACE_S)}\n"
    "m._BACKOFF_BASE_S, m._BACKOFF_MAX_S, m._SNAPSHOT_RETRY_S = 0.1, 0.5, 0.5"
)
"""What goes before the daemon's own program: an hour for restores is a second, and it tries again soon."""


def on_folder(root: Path) -> str:
    """Return the `replica` of a configuration: a folder."""
    return f"{{path: {root}, sync-interval: 50ms}}"


def on_s3(bucket: S3Bucket, endpoint: str | None = None) -> str:
    """Return the `replica` of a configuration: a prefix of a bucket, perhaps behind a proxy."""
    return (
        f"{{bucket: {bucket.name}, path: db, endpoint: '{endpoint or bucket.server.endpoint}', sync-interval: 50ms, "
        f"access-key-id: {ACCESS_KEY_ID}, secret-access-key: {SECRET_ACCESS_KEY}}}"
    )


def configuration(
    path: Path, replica: str, *, retention: bool = True, levels: str = "300ms 1s", more: str = ""
) -> Path:
    """Write a configuration with quick levels for one database; returns its path.

    Every TXID of the last second is promised, and the steps of L1 of the last three.
    """
    config = path.with_name("lsync.yml")
    steps = ", ".join(f"{{interval: {step}}}" for step in levels.split())
    config.write_text(
        f"addr: 127.0.0.1:0\nlevels: [{steps}]\nsnapshot: {{interval: 2s, retention: 3s}}\nl0-retention: 1s\n"
        f"l0-retention-check-interval: 200ms\nretention: {{enabled: {str(retention).lower()}}}\n{more}"
        f"dbs:\n  - path: {path}\n    min-checkpoint-page-count: 50\n    replica: {replica}\n"
    )
    return config


def wait_lived(daemon: Daemon, *, compactions: int = 4, snapshots: int = 2, deletions: int = 2) -> None:
    """Wait until a daemon has merged into levels 1 and 2, taken snapshots and deleted files so many times."""

    def done() -> bool:
        files = [str(event["file"]) for event in daemon.events("compacted")]
        return (
            sum(file.startswith("1/") for file in files) >= compactions
            and sum(file.startswith("2/") for file in files) >= compactions // 2
            and len(daemon.events("snapshot")) >= snapshots
            and len(daemon.events("deleted by retention")) >= deletions
        )

    daemon.wait_until(done, "merged, snapshotted and thinned out", limit_s=60)


def check(client: ReplicaClient, source: Path, *, s3: bool = False) -> list[TXID]:
    """Hold a replica of a ledger against everything that is promised; returns what can be restored.

    Every restorable TXID restores, is proven by its chain's checksum, and holds the first so many commits of the
    writer, never fewer than the one before. The newest is the source, byte for byte. Litestream could go on from here.
    """
    broken = violations(client, exact_times=not s3)
    assert not broken, "\n".join(broken)
    points = restorable_txids(list_replica(client))
    before = 0
    for txid in points:
        path = source.with_name(f"restored-{txid}.db")
        result = restore_txid(client, path, txid)
        assert result.checksum is not None
        before = _check_prefix(path, before)
        if txid == points[-1]:
            image = source.with_name("image")
            with App(source) as app:
                app.image(image)
            assert path.read_bytes() == image.read_bytes()
        path.unlink()
    return points


def _check_prefix(path: Path, at_least: int) -> int:
    """Check that a ledger holds commits 1 to n of its writer; returns n."""
    with closing(sqlite3.connect(path)) as connection:
        rows: Collection[tuple[int]] = connection.execute("select n from ledger order by n").fetchall()
    assert [n for (n,) in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= at_least
    return len(rows)


def folder_client(root: Path) -> ReplicaClient:
    """Return a client of a file replica."""
    return open_client(f"file://{root}")
