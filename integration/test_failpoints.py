"""Kill -9 of the daemon at every named instant of its code, and a restart."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import litestream_py
from litestream_py import failpoints
from tests.support import compare, writers
from tests.support.daemon import Daemons

pytestmark = [pytest.mark.fault]

for _module in pkgutil.walk_packages(litestream_py.__path__, "litestream_py."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)

ORDINARY = ("l0.", "sync.", "checkpoint.", "upload.", "file.")
"""Instants of an ordinary life, passed again and again."""
ONCE = ("file.side.",)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in failpoints.NAMES if name.startswith(ORDINARY)))
def test_killed_there(tmp_path: Path, daemons: Daemons, name: str) -> None:
    """After a kill at the instant's third passage (or first) and a restart, every TXID restores."""
    path, root = tmp_path / "app.db", tmp_path / "replica"
    compare.create_ledger(path)
    config = tmp_path / "lsync.yml"
    config.write_text(
        f"dbs:\n  - path: {path}\n    min-checkpoint-page-count: 20\n"
        f"    replica: {{path: {root}, sync-interval: 50ms}}\n"
    )
    spec = name if name.startswith(ONCE) else f"{name}@3"
    with writers.ledger_writer(path, 1, pause_s=0.005):
        daemon = daemons.start("--config", config, env={"LSYNC_FAILPOINT": spec})
        assert daemon.exit_code() == -9
        daemon = daemons.start("--config", config)
        daemon.wait_event("attached")
        daemon.wait_uploaded(compare.newest(compare.replica_l0(root)) + 2)
    assert daemon.terminate() == 0
    daemons.final("--config", config)
    compare.assert_same_as_source(compare.check_every_txid(compare.replica_l0(root)), path, tmp_path)


@pytest.mark.parametrize("name", ["adopt.after_page_sums", "resync.after_l0", "resync.after_page_sums"])
def test_killed_while_the_chain_is_taken_over(tmp_path: Path, daemons: Daemons, name: str) -> None:
    """A kill while a chain is rebuilt from its replica, or the difference shipped, costs nothing but the time."""
    path, root = tmp_path / "app.db", tmp_path / "replica"
    compare.create_ledger(path)
    daemon = daemons.start(path, f"file://{root}")
    daemon.wait_uploaded(1)
    assert daemon.terminate() == 0
    for file in sorted((tmp_path / ".app.db-lsync").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    with writers.ledger_writer(path, 1, pause_s=0.005):
        writers.wait_acknowledged(path, 10)
        daemon = daemons.start(path, f"file://{root}", env={"LSYNC_FAILPOINT": name})
        assert daemon.exit_code() == -9
        daemon = daemons.start(path, f"file://{root}")
        daemon.wait_uploaded(2)
    assert daemon.terminate() == 0
    daemons.final(path, f"file://{root}")
    compare.assert_same_as_source(compare.check_every_txid(compare.replica_l0(root)), path, tmp_path)
