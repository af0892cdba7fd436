"""`lsync verify` as a user runs it: the verdict, its exit code, and what it names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from tests.support.chains import sample
from tests.support.golden_replicas import place
from tests.support.terminal import run_on_terminal


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A replica of seven TXIDs in a folder, with checksums."""
    return sample().folder(tmp_path / "replica")


def test_a_sound_replica_is_ok(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, the verdict first, and what it rests on."""
    assert run(["verify", url]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == f"ok: {url}"
    assert lines[1].startswith("newest TXID 0000000000000007; read 7 files, ")
    assert lines[2] == "can be restored: 7 TXIDs from 0000000000000001 to 0000000000000007"
    proof = f"verified ({sample().checksum(7):016x})"
    assert lines[3] == f"checksum: {proof}; states rebuilt: 7, with a checksum to match: 7"
    assert (len(lines), err) == (4, "")
    assert run(["verify", "--quick", "--json", url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["depth"], told["checksum"]) == ("ok", "quick", "not rebuilt")


def test_litestreams_chain_says_that_it_carries_no_checksum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--full restores it, and SQLite has the last word."""
    root = place("multi-level", tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert run(["verify", "--full", "--scratch", str(scratch), f"file://{root}"]) == 0
    out = capsys.readouterr().out
    assert "checksum: not carried by this chain; states rebuilt: 27, with a checksum to match: 0" in out
    assert "integrity check of the restored database: ok" in out
    assert list(scratch.iterdir()) == []


def test_damage_is_exit_code_6_and_named(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bad file, the TXID, what can still be restored and what is lost."""
    bad = tmp_path / "replica/ltx/0/0000000000000005-0000000000000005.ltx"
    body = bytearray(bad.read_bytes())
    body[150] ^= 1
    bad.write_bytes(body)
    assert run(["verify", url]) == 6
    out = capsys.readouterr().out
    assert out.startswith(f"failed: {url}\n")
    assert f"bad: 0/{bad.name}: " in out
    assert f"first bad file: 0/{bad.name}, from TXID 0000000000000005\n" in out
    assert "can be restored: 4 TXIDs from 0000000000000001 to 0000000000000004\n" in out
    assert "lost: 3 TXIDs from 0000000000000005 to 0000000000000007\n" in out
    assert run(["verify", "--json", url]) == 6
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["problems"][0]["file"], told["lost"]["count"]) == ("failed", f"0/{bad.name}", 3)


def test_many_problems_are_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty are shown, and where the rest is."""
    history = sample()
    for _ in range(30):
        history.commit({1}, 10)
    url = history.folder(tmp_path / "replica")
    for path in (tmp_path / "replica/ltx/0").iterdir():
        path.write_bytes(b"")
    assert run(["verify", url]) == 6
    out = capsys.readouterr().out
    assert out.count("bad: ") == 20
    assert "... and 17 more: --json lists them\n" in out
    assert "can be restored: no TXID\n" in out


def test_what_prevents_it_has_its_own_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty replica is 3, an unreachable one 4; the verdict is inconclusive, the reason on standard error."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for url, code, why in (
        (f"file://{tmp_path}/nothing", 3, "holds no backup"),
        ("s3://bucket/prefix?endpoint=http://127.0.0.1:1", 4, "list"),
    ):
        assert run(["verify", "--json", url]) == code
        out, err = capsys.readouterr()
        assert json.loads(out)["verdict"] == "inconclusive"
        assert why in err
        assert "secret" not in out + err


def test_a_database_is_compared_with_its_local_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify --full DB` looks for lsync's own state; where there is none it says so."""
    url = f"file://{place('simple-4096', tmp_path)}"
    config = tmp_path / "lsync.yml"
    config.write_text(f"dbs:\n  - path: {tmp_path}/app.db\n    replica:\n      url: {url}\n")
    assert run(["verify", "--full", "--config", str(config), f"{tmp_path}/app.db"]) == 0
    assert f"live database: not compared: no local state in {tmp_path}/.app.db-lsync\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [(["--quick", "--full"], "say two things"), (["--scratch", "/tmp"], "--scratch goes with --full")],
)
def test_flags_that_contradict_each_other(
    flags: list[str], told: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 before anything is read."""
    assert run(["verify", *flags, url]) == 2
    assert told in capsys.readouterr().err


def test_a_bar_shows_progress_on_a_terminal_only(url: str) -> None:
    """On a terminal a bar is drawn on standard error and removed."""
    code, out, told = run_on_terminal([sys.executable, "-m", "litestream_py", "verify", "--json", url])
    assert (code, json.loads(out)["verdict"]) == (0, "ok")
    assert b"verify:" in told
    assert told.endswith(b"\r")
