"""`lsync history` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from tests.support.chains import sample
from tests.support.golden_replicas import place


def test_tables_tell_ranges_sizes_and_snapshots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three tables: what can be restored, what is stored, the snapshots."""
    root = place("l0-retention", tmp_path)
    assert run(["history", f"file://{root}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"what file://{root} can restore:"
    assert lines[1].split() == ["from", "to", "min_txid", "max_txid", "points", "steps"]
    assert lines[2].split() == [
        "2026-11-20T13:35:19.123Z", "2026-11-20T13:35:21.958Z", "0000000000000003", "000000000000000a", "3",
        "steps", "of", "level", "1",
    ]  # fmt: skip
    assert lines[3].endswith("every transaction")
    assert lines[5] == "stored in 9 files, 22.0 KiB:"
    assert [line.split()[:2] for line in lines[7:10]] == [["0", "4"], ["1", "4"], ["9", "1"]]
    assert lines[11] == "snapshots:"
    assert lines[13].split()[:3] == ["0000000000000003", "2026-11-20T13:35:19.275Z", "9"]
    assert len(lines) == 14


def test_a_database_shows_its_intervals_and_json_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a configuration the steps have their interval, of its levels."""
    root = place("l0-retention", tmp_path)
    config = tmp_path / "lsync.yml"
    config.write_text(f"levels: [{{interval: 10s}}]\ndbs:\n  - path: /app.db\n    replica: {{path: {root}}}\n")
    assert run(["history", "--json", "--config", str(config), "/app.db"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["restorable"][0]["steps"] == "steps of level 1, made every 10 s"
    assert (told["files"], told["levels"][0]["min_txid"]) == (9, "000000000000000b")


def test_a_broken_end_is_shown_and_is_exit_code_6(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be restored is still told; the warning is on standard error. No backup is exit code 3."""
    url = sample().folder(tmp_path / "replica")
    (tmp_path / "replica/ltx/0/0000000000000006-0000000000000006.ltx").unlink()
    assert run(["history", url]) == 6
    out, err = capsys.readouterr()
    assert "0000000000000005  5       every transaction" in out
    assert "lsync: warning: the newest TXID cannot be restored: " in err
    assert "have up to 0000000000000005" in err
    assert run(["history", f"file://{tmp_path}/nothing"]) == 3
