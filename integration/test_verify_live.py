"""history, verify, prune and points in time against a replica that a running daemon writes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemons, lsync

pytestmark = [pytest.mark.slow]


def configured(tmp_path: Path) -> Path:
    path = tmp_path / "lsync.yml"
    path.write_text(
        f"logging: {{type: json}}\ndbs:\n  - path: {tmp_path}/app.db\n    replica: {{path: {tmp_path}/replica}}\n"
    )
    return path


def told(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    done = lsync(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_live_replica_is_proven_and_equal_to_the_database(tmp_path: Path, daemons: Daemons) -> None:
    """While the daemon runs and after it has ended, verify --full is ok and finds the database equal to the replica."""
    db, config = tmp_path / "app.db", configured(tmp_path)
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE t (n INTEGER, filler BLOB)")
        daemon = daemons.start("--config", config)
        daemon.wait_event("attached")
        for number in range(5):
            connection.execute("INSERT INTO t VALUES (?, randomblob(3000))", (number,))
            connection.commit()
            daemon.wait_event("synced", count=number + 1)
        daemon.wait_uploaded(5)
        while_running = ("verify", "--full", "--json", "--config", config, db)
        daemon.wait_until(lambda: told(*while_running)["live"] == "equal", "equal to the replica")
    assert daemon.terminate() == 0
    verdict = told("verify", "--full", "--json", "--config", config, db)
    assert (verdict["verdict"], verdict["live"], verdict["integrity_check"]) == ("ok", "equal", "ok")
    assert verdict["states"] == verdict["proven_states"] == verdict["restorable"]["count"]
    assert verdict["checksum"].startswith("verified (")
    history = told("history", "--json", "--config", config, db)
    assert history["restorable"][-1]["max_txid"] == verdict["newest_txid"]
    assert told("prune", "--dry-run", "--json", "--config", config, db)["deletes"]["files"] == 0
    newest = history["restorable"][-1]["to"]
    out = tmp_path / "out.db"
    result = told("restore", "--json", "--timestamp", "now", "-o", out, "--config", config, db)
    assert (result["txid"], result["timestamp"]) == (verdict["newest_txid"], newest)
    with closing(sqlite3.connect(out)) as restored:
        assert restored.execute("SELECT count(*) FROM t").fetchone() == (5,)
