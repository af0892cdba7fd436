"""`lsync ltx`: what a replica holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from litestream_py.cli.tables import rfc3339, size_text, table
from tests.support import golden_replicas as golden


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A replica with files on levels 0, 1 and 9."""
    return golden.place("wal-restart", tmp_path)


def rows_of(level: int | None) -> list[list[str]]:
    """Return the rows that expect.json calls for."""
    files = [file for file in golden.expect("wal-restart")["files"] if level is None or file["level"] == level]
    found = [
        [str(f["level"]), f["min_txid"], f["max_txid"], str(f["size"]), rfc3339(f["timestamp_ms"])] for f in files
    ]
    return sorted(found)


@pytest.mark.parametrize("level", [None, 0, 1, 2, 9])
def test_the_table_lists_a_level_or_all(level: int | None, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file of the level asked for, or of all, is a row with level, TXIDs, size and time; a level may be empty."""
    assert run(["ltx", "--level", "all" if level is None else str(level), f"file://{root}"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["level", "min_txid", "max_txid", "size", "created"]
    assert [row.split() for row in rows] == rows_of(level)


def test_level_0_is_the_default_and_one_dash_will_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --level it is level 0, and `-level` is understood."""
    assert run(["ltx", f"file://{root}"]) == 0
    default = capsys.readouterr().out
    assert run(["ltx", "-level", "0", f"file://{root}"]) == 0
    assert capsys.readouterr().out == default


def test_json_has_the_same_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json it is a list of objects; of nothing, an empty one."""
    assert run(["ltx", "--json", "--level", "all", f"file://{root}"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told[0]) == ["level", "min_txid", "max_txid", "size", "timestamp"]
    assert [[str(value) for value in item.values()] for item in told] == rows_of(None)
    assert run(["ltx", "--json", f"file://{root}/nothing"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_database_is_looked_up_in_the_configuration(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ltx DB` lists the replica of DB; a configuration beside a URL is refused (2)."""
    config = tmp_path / "lsync.yml"
    config.write_text(f"dbs:\n  - path: {tmp_path}/app.db\n    replica:\n      url: file://{root}\n")
    assert run(["ltx", "--level", "9", "--config", str(config), f"{tmp_path}/app.db"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows_of(9))
    assert run(["ltx", "--config", str(config), f"file://{root}"]) == 2


def test_tables_times_and_sizes() -> None:
    """Columns align, milliseconds are kept, sizes are in the largest unit that leaves them at one or more."""
    assert table(("a", "bb"), [(100, 2), (3, "x")]) == "a    bb\n100  2\n3    x"
    assert rfc3339(1_795_181_829_870) == "2026-11-20T13:37:09.870Z"
    assert [size_text(n) for n in (0, 1023, 1024, 1536 << 20)] == ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]
