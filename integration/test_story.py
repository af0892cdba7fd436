"""The stranger's story: replicate to a real MinIO, write from several processes, kill everything, restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from litestream_py.ltx.ids import TXID
from tests.support import compare, writers
from tests.support.daemon import Daemons
from tests.support.minio import S3Bucket

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.fault]

WRITERS = (1, 2, 3)


def test_kill_everything_and_restore(tmp_path: Path, s3_bucket: S3Bucket, daemons: Daemons) -> None:
    """What was acknowledged before the newest sync is restored after kill -9 of all; after SIGTERM, everything is."""
    path, env = tmp_path / "app.db", s3_bucket.server.environment
    compare.create_ledger(path)
    daemon = daemons.start(path, s3_bucket.url(), env=env)
    running = [writers.ledger_writer(path, number, pause_s=0.002) for number in WRITERS]
    try:
        writers.wait_acknowledged(path, 300)
        daemon.wait_event("synced", count=2)
        before = writers.acknowledged(path)
        # The sync after the one that may be under way began after `before` was written down.
        captured = max(TXID.parse(event["txid"]) for event in daemon.events("synced"))
        daemon.wait_uploaded(captured + 2)
    finally:
        for one in running:
            one.stop()
        daemon.kill()

    killed = compare.restore(s3_bucket.url(), tmp_path / "killed.db", env=env)
    assert compare.missing(before, compare.ledger_rows(killed)) == []

    daemon = daemons.start(path, s3_bucket.url(), env=env)
    daemon.wait_event("attached")
    assert daemon.terminate() == 0
    whole = compare.restore(s3_bucket.url(), tmp_path / "whole.db", env=env)
    assert compare.missing(writers.acknowledged(path), compare.ledger_rows(whole)) == []

    state = compare.check_every_txid(compare.download_l0(s3_bucket, "db", tmp_path / "l0"))
    compare.assert_same_as_source(state, path, tmp_path)
    assert whole.read_bytes() == state.image()
