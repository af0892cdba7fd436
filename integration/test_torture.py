"""Several writers, readers that hold snapshots and a foreign checkpointer against one daemon."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import compare, writers
from tests.support.daemon import Daemons

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600)]


def torture(path: Path, root: Path, daemons: Daemons, *, seconds: float, seed: int, page_size: int) -> None:
    """Let everything run for so long, end the daemon in order, and compare every TXID and the newest."""
    compare.create(
        path, "pragma auto_vacuum=incremental", "vacuum", "create table t(id integer primary key, b)",
        page_size=page_size,
    )  # fmt: skip
    config = path.with_name("lsync.yml")
    # Small thresholds: many checkpoints and restarts of the WAL, and syncs that are cut at a commit.
    config.write_text(
        f"dbs:\n  - path: {path}\n    min-checkpoint-page-count: 50\n    truncate-page-n: 3000\n"
        f"    max-sync-wal-bytes: 1MiB\n    replica:\n      url: file://{root}\n      sync-interval: 50ms\n"
    )
    daemon = daemons.start("--config", config, level="info")
    daemon.wait_event("attached")
    with ExitStack() as stack:
        running = [
            # One process checkpoints on an old library: with two, its WAL-reset bug would damage the source itself.
            *(writers.torture_writer(path, seed * 10 + i, checkpoints=i == 0) for i in range(3)),
            writers.reader(path, seed * 10 + 9),
        ]
        for one in running:
            stack.enter_context(one)
        time.sleep(seconds)
        for one in running:
            one.end()
    assert daemon.terminate(limit_s=120) == 0
    compare.skip_if_damaged(path)
    state = compare.check_every_txid(compare.replica_l0(root))
    compare.assert_same_as_source(state, path, path.parent)
    assert state.txid > 10


@pytest.mark.slow
@pytest.mark.parametrize("page_size", [1024, 4096])
def test_torture(tmp_path: Path, daemons: Daemons, page_size: int) -> None:
    """Six seconds of everything at once: every TXID restores, and the newest equals the source."""
    torture(tmp_path / "app.db", tmp_path / "replica", daemons, seconds=6, seed=page_size, page_size=page_size)


@pytest.mark.soak
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_torture_soak(tmp_path: Path, daemons: Daemons, page_size: int) -> None:
    """The same for minutes; LSYNC_SOAK_SECONDS says how many seconds in all."""
    seconds = float(os.environ.get("LSYNC_SOAK_SECONDS", "600")) / 3
    torture(tmp_path / "app.db", tmp_path / "replica", daemons, seconds=seconds, seed=page_size, page_size=page_size)
