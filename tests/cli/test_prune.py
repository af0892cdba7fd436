"""`lsync prune` as a user runs it: what would go and why the rest stays, then the same in earnest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from litestream_py.clients.factory import open_client
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.retention import AFTER_BATCH, BEFORE_BATCH
from tests.support.chains import sample
from tests.support.listings import shorts

TWO_DAYS_NS = 2 * 86_400 * 10**9
LATER = f"import time; real = time.time_ns; time.time_ns = lambda: real() + {TWO_DAYS_NS}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A replica of 1970 whose second snapshot begins the window, and whose L0 is merged in L1."""
    history = sample()
    url = history.folder(tmp_path / "replica")
    client = open_client(url)
    for level, low, high in ((1, 2, 3), (1, 4, 5), (1, 6, 7), (9, 1, 2), (9, 1, 5)):
        name, body = history.file(level, low, high)
        client.put(name, body, timestamp_ms=1_000 * high)
    return url


@pytest.fixture(autouse=True)
def two_days_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock go ahead, since nobody can give a file an older inode: what is here appeared two days ago."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + TWO_DAYS_NS)


def held(url: str) -> str:
    return shorts(list_replica(open_client(url)))


def configured(tmp_path: Path, url: str, more: str = "") -> list[str]:
    path = tmp_path / "lsync.yml"
    path.write_text(f"{more}\ndbs:\n  - path: {tmp_path}/app.db\n    replica:\n      url: {url}\n")
    return ["--config", str(path), f"{tmp_path}/app.db"]


def test_a_dry_run_shows_what_would_go_and_why_the_rest_stays(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each run of files with one fate, in words; JSON has every file. Nothing is deleted."""
    before = held(url)
    assert run(["prune", "--dry-run", "--retention", "24h", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("would delete 9 files, ")
    assert " of 12 files, " in lines[0]
    assert lines[0].endswith(f" from {url}")
    assert lines[1].split() == ["action", "level", "files", "size", "min_txid", "max_txid", "why"]
    rows = [line.split(maxsplit=8) for line in lines[2:]]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("delete", "0", "5"), ("delete", "0", "1"), ("keep", "0", "1"), ("delete", "1", "2"), ("keep", "1", "1"),
        ("delete", "9", "1"), ("keep", "9", "1"),
    ]  # fmt: skip
    assert lines[2].endswith("a later snapshot begins the window")
    assert lines[4].endswith("it is the newest of its level")
    assert run(["prune", "--dry-run", "--json", "--retention", "24h", url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dry_run"], told["deletes"]["files"], len(told["files"])) == (True, 9, 12)
    assert told["policy"] == {"retention_s": 86400.0, "l0_retention_s": 300.0, "minimum": 1}
    assert told["files"][0]["reason"] == "before-window"
    assert held(url) == before


def test_in_earnest_the_same_files_go(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was promised restores afterwards, and a second run finds nothing to do."""
    assert run(["prune", "--retention", "24h", url]) == 0
    assert capsys.readouterr().out.startswith("deleted 9 files, ")
    assert held(url) == "0:7 1:6-7 9:1-5"
    for txid in (5, 7):
        assert run(["restore", "--force", "-o", f"{tmp_path}/out.db", "--txid", f"{txid:016x}", url]) == 0
        assert (tmp_path / "out.db").read_bytes() == sample().image(txid)
    assert run(["verify", url]) == 0
    capsys.readouterr()
    assert run(["prune", "--retention", "24h", url]) == 0
    assert capsys.readouterr().out.startswith("deleted 0 files, 0 B of 3 files")


def test_a_database_is_pruned_as_configured(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The policy is that of the configuration; its flags have no place then, and a disabled retention is obeyed."""
    known = configured(tmp_path, url, "snapshot: {minimum: 2}\nl0-retention: 0")
    assert run(["prune", "--dry-run", "--json", *known]) == 0
    assert json.loads(capsys.readouterr().out)["policy"] == {
        "retention_s": 86400.0, "l0_retention_s": None, "minimum": 2,
    }  # fmt: skip
    assert run(["prune", "--retention", "24h", *known]) == 2
    assert "go with a URL" in capsys.readouterr().err
    before = held(url)
    known = configured(tmp_path, url, "retention: {enabled: false}")
    assert run(["prune", *known]) == 2
    assert "retention.enabled is false" in capsys.readouterr().err
    assert run(["prune", "--dry-run", *known]) == 0
    assert held(url) == before
    known = configured(tmp_path, url)
    assert run(["prune", *known]) == 0
    assert held(url) == "0:7 1:6-7 9:1-5"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "what is promised of this replica is not known here"),
        (["--retention", "24"], "the duration '24' has no unit"),
        (["--retention", "0"], "no window to restore within"),
        (["--retention", "24h", "--l0-retention", "soon"], "--l0-retention: 'soon' is not a duration"),
        (["--retention", "24h", "--minimum", "0"], "--minimum"),
    ],
)
def test_a_url_needs_to_be_told_what_is_promised(
    flags: list[str], told: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No default is guessed where deleting is at stake: exit code 2."""
    before = held(url)
    assert run(["prune", *flags, url]) == 2
    assert told in capsys.readouterr().err
    assert held(url) == before


def test_a_replica_that_cannot_be_restored_is_left_alone(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gap in front of the newest TXID is exit code 6 and nothing is deleted; no backup at all is 3."""
    (tmp_path / "replica/ltx/1/0000000000000006-0000000000000007.ltx").unlink()
    (tmp_path / "replica/ltx/0/0000000000000006-0000000000000006.ltx").unlink()
    before = held(url)
    for flags in ([], ["--dry-run"]):
        assert run(["prune", *flags, "--retention", "24h", url]) == 6
        assert "the chain has a gap" in capsys.readouterr().err
    assert held(url) == before
    assert run(["prune", "--retention", "24h", f"file://{tmp_path}/nothing"]) == 3


def test_what_appeared_within_the_hour_stays(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that has just been merged or copied there is not deleted, however old the states are that it holds."""
    monkeypatch.undo()
    before = held(url)
    assert run(["prune", "--retention", "24h", url]) == 0
    assert "it appeared within the last hour" in capsys.readouterr().out
    assert held(url) == before


def test_l0_can_be_kept_for_ever(url: str) -> None:
    """--l0-retention 0 leaves what lies in the window in level 0, as the configuration's 0 does."""
    assert run(["prune", "--retention", "24h", "--l0-retention", "0", url]) == 0
    assert held(url) == "0:1 0:2 0:3 0:4 0:5 0:6 0:7 1:6-7 9:1-5"


@pytest.mark.fault
@pytest.mark.parametrize("point", [BEFORE_BATCH, AFTER_BATCH])
@pytest.mark.parametrize("passage", [1, 2])
def test_a_kill_leaves_files_too_many_never_too_few(point: str, passage: int, url: str, tmp_path: Path) -> None:
    """Killed before or behind any batch, what was promised restores, and the next run deletes exactly the rest."""
    program = f"{LATER}; from litestream_py.cli.main import main; main()"
    command = [sys.executable, "-c", program, "prune", "--retention", "24h", url]
    env = os.environ | {"LSYNC_FAILPOINT": f"{point}@{passage}"}
    assert subprocess.run(command, env=env, timeout=60, check=False).returncode == -signal.SIGKILL
    for txid in (5, 7):
        assert run(["restore", "--force", "-o", f"{tmp_path}/out.db", "--txid", f"{txid:016x}", url]) == 0
        assert (tmp_path / "out.db").read_bytes() == sample().image(txid)
    assert run(["prune", "--retention", "24h", url]) == 0
    assert held(url) == "0:7 1:6-7 9:1-5"
