"""`lsync restore` as a user runs it: what it prints, its exit codes, and what a signal or a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from litestream_py.local import restore_target
from tests.support import golden_replicas as golden
from tests.support.chains import sample
from tests.support.terminal import run_on_terminal

SIDECARS = ("-wal", "-journal", "-shm")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A replica of seven TXIDs in a folder, with checksums."""
    return sample().folder(tmp_path / "replica")


def config(tmp_path: Path, url: str) -> Path:
    path = tmp_path / "lsync.yml"
    path.write_text(f"dbs:\n  - path: {tmp_path}/app.db\n    replica:\n      url: {url}\n")
    return path


def test_a_url_restores_to_the_output(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`restore -o PATH URL` writes the newest state and says what it is, from what, and that it was proven."""
    assert run(["restore", "-o", f"{tmp_path}/out.db", url]) == 0
    assert (tmp_path / "out.db").read_bytes() == sample().image(7)
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith(f"restored {tmp_path}/out.db at TXID 0000000000000007: 5.0 KiB from 7 files, ")
    assert second == f"checksum: verified ({sample().checksum(7):016x}); integrity check: none"
    assert err == ""


def test_flags_may_follow_and_have_one_dash(url: str, tmp_path: Path) -> None:
    """Litestream's spelling works, behind the argument as well."""
    assert run(["restore", url, "-o", f"{tmp_path}/out.db", "-txid", "0000000000000003"]) == 0
    assert (tmp_path / "out.db").read_bytes() == sample().image(3)


def test_a_database_is_looked_up_in_the_configuration(url: str, tmp_path: Path) -> None:
    """`restore DB` restores DB in its place, or elsewhere with -o."""
    path = config(tmp_path, url)
    assert run(["restore", "--config", str(path), f"{tmp_path}/app.db"]) == 0
    assert (tmp_path / "app.db").read_bytes() == sample().image(7)
    assert run(["restore", "--config", str(path), "-o", f"{tmp_path}/out.db", f"sqlite://{tmp_path}/app.db"]) == 0
    assert (tmp_path / "out.db").read_bytes() == sample().image(7)


def test_json_tells_the_result(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json standard output is one JSON object and nothing else."""
    assert run(["restore", "--json", "-o", f"{tmp_path}/out.db", url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("duration_ms") >= 0
    assert told.pop("fetched_bytes") > 0
    assert told == {
        "db_path": f"{tmp_path}/out.db",
        "replica": url,
        "txid": "0000000000000007",
        "timestamp": "1970-01-01T00:00:07.000Z",
        "integrity_check": "none",
        "checksum": f"verified ({sample().checksum(7):016x})",
        "size": 5120,
        "files": 7,
        "avoided": [],
    }


def test_litestreams_chain_is_checked_by_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A chain without checksums says so, and the full integrity check runs instead."""
    root = golden.place("simple-4096", tmp_path)
    assert run(["restore", "-o", f"{tmp_path}/out.db", f"file://{root}"]) == 0
    assert "checksum: not carried by this chain; integrity check: full" in capsys.readouterr().out


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--dry-run names the files in order, as a table or as JSON, and leaves the disk as it was."""
    before = sorted(tmp_path.rglob("*"))
    arguments = ["restore", "--dry-run", "--txid", "0000000000000002", "-o", f"{tmp_path}/out.db", url]
    assert run(arguments) == 0
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith(f"would restore {tmp_path}/out.db at TXID 0000000000000002 from {url}: 2 files, ")
    assert columns.split() == ["level", "min_txid", "max_txid", "size", "created"]
    assert [row.split()[1] for row in rows] == ["0000000000000001", "0000000000000002"]
    assert run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["target_path"], told["replica"]) == (url, f"{tmp_path}/out.db", url)
    assert (told["min_txid"], told["max_txid"]) == ("0000000000000001", "0000000000000002")
    first = told["files"][0]
    assert first.pop("size") > 0
    assert first == {
        "level": 0,
        "name": "0000000000000001-0000000000000001.ltx",
        "min_txid": "0000000000000001",
        "max_txid": "0000000000000001",
        "timestamp": "1970-01-01T00:00:01.000Z",
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bar_shows_progress_on_a_terminal_only(url: str, tmp_path: Path) -> None:
    """On a terminal a bar is drawn on standard error and removed; standard output is the result alone."""
    command = [sys.executable, "-m", "litestream_py", "restore", "--json", "-o", f"{tmp_path}/out.db", url]
    code, out, told = run_on_terminal(command)
    assert code == 0
    assert json.loads(out)["txid"] == "0000000000000007"
    assert b"restore:" in told
    assert told.endswith(b"\r"), "the bar is wiped at the end"


# --- exit codes -------------------------------------------------------------------------------------------------------


def stderr_of(code: int, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["restore", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_exit_codes_tell_why_there_is_no_result(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong usage is 2, an empty replica 3, an unreachable one 4, a gap 6, a TXID outside the window or a target 1."""
    out = f"{tmp_path}/out.db"
    monkeypatch.delenv("LSYNC_CONFIG", raising=False)
    monkeypatch.delenv("LITESTREAM_CONFIG", raising=False)
    assert "add -o PATH" in stderr_of(2, [url], capsys)
    assert "--txid" in stderr_of(2, ["--txid", "7", "-o", out, url], capsys)
    assert "--config goes with a database" in stderr_of(2, ["--config", "x.yml", "-o", out, url], capsys)
    known = config(tmp_path, url)
    err = stderr_of(2, ["--config", str(known), f"{tmp_path}/other.db"], capsys)
    assert f"it knows: {tmp_path}/app.db" in err
    assert "hint: name the replica by its URL" in err
    assert "beyond the newest" in stderr_of(1, ["--txid", "0000000000000008", "-o", out, url], capsys)
    assert "holds no backup" in stderr_of(3, ["-o", out, f"file://{tmp_path}/nothing"], capsys)
    (tmp_path / "replica/ltx/0/0000000000000003-0000000000000003.ltx").unlink()
    assert "have up to 0000000000000002" in stderr_of(6, ["-o", out, url], capsys)
    Path(out).write_bytes(b"something")
    assert "--force" in stderr_of(1, ["-o", out, url], capsys)


def test_an_unreachable_replica_is_never_taken_for_an_empty_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--if-replica-exists turns "no backup" into success, and leaves "cannot reach it" a failure (4)."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    out = f"{tmp_path}/out.db"
    assert run(["restore", "--if-replica-exists", "-o", out, f"file://{tmp_path}/nothing"]) == 0
    assert capsys.readouterr().out == "nothing restored: the replica holds no backup\n"
    closed = "s3://bucket/prefix?endpoint=http://127.0.0.1:1"
    err = stderr_of(4, ["--if-replica-exists", "-o", out, closed], capsys)
    assert "secret" not in err
    assert not Path(out).exists()


def test_an_existing_database_can_be_left_alone(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--if-db-not-exists succeeds without a word to the replica if there is a database; an empty file is none."""
    out = tmp_path / "out.db"
    out.write_bytes(b"something")
    closed = "s3://bucket/prefix?endpoint=http://127.0.0.1:1"
    assert run(["restore", "--if-db-not-exists", "--json", "-o", str(out), closed]) == 0
    assert json.loads(capsys.readouterr().out) == {"db_path": str(out), "skipped": "the database exists"}
    out.write_bytes(b"")
    assert run(["restore", "--if-db-not-exists", "-o", str(out), url]) == 0
    assert out.read_bytes() == sample().image(7)


def test_a_damaged_file_that_others_replace_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A restore around a damaged file succeeds and warns on standard error, so that the replica gets attention."""
    root = golden.place("multi-level", tmp_path)
    last = max((root / "ltx" / "9").iterdir())
    body = bytearray(last.read_bytes())
    body[len(body) // 2] ^= 1
    last.write_bytes(body)
    assert run(["restore", "-o", f"{tmp_path}/out.db", f"file://{root}"]) == 0
    assert f"lsync: warning: 9/{last.name} is damaged" in capsys.readouterr().err


# --- signals and kills ------------------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(
    "point",
    [
        restore_target.AFTER_CREATE,
        restore_target.BEFORE_RENAME,
        restore_target.SIDECARS_ASIDE,
        restore_target.AFTER_RENAME,
        restore_target.AFTER_DIR_FSYNC,
    ],
)
def test_a_kill_never_leaves_a_new_database_with_an_old_wal(point: str, url: str, tmp_path: Path) -> None:
    """Killed anywhere, the target is old or complete, never new beside an old WAL; the next restore cleans up."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "app.db"
    path.write_bytes(b"old")
    for suffix in SIDECARS:
        Path(f"{path}{suffix}").write_bytes(b"old" + suffix.encode())
    command = [sys.executable, "-m", "litestream_py", "restore", "--force", "-o", str(path), url]
    killed = subprocess.run(command, env=os.environ | {"LSYNC_FAILPOINT": point}, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    names = {entry.name for entry in folder.iterdir()}
    if path.read_bytes() == b"old":
        kept = [entry.read_bytes() for entry in folder.iterdir() if "-wal" in entry.name]
        assert kept == [b"old-wal"], "the commits in the old WAL are still there"
    else:
        assert path.read_bytes() == sample().image(7)
        assert not names & {"app.db-wal", "app.db-journal"}
    assert run(["restore", "--force", "-o", str(path), url]) == 0
    assert [entry.name for entry in folder.iterdir()] == ["app.db"]


STALLED = """
import os, sys, threading
from pathlib import Path
from litestream_py.cli.interrupts import unwinding
from litestream_py.clients.memory import MemoryClient
from litestream_py.engine.restorer import restore_txid
from tests.support.chains import sample
from tests.support.terminal import run_on_terminal

def stall(call):
    if call.operation == "stream":
        os.kill(os.getpid(), int(sys.argv[2]))
        threading.Event().wait()

client = MemoryClient(on_call=stall)
for txid in range(1, 8):
    sample().put(client, 0, txid, txid)
with unwinding():
    restore_txid(client, Path(sys.argv[1]) / "app.db", None)
"""


@pytest.mark.fault
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)], ids=["TERM", "INT"]
)
def test_a_signal_removes_the_temporary_file(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """SIGTERM and SIGINT in the middle of a stalled read end the restore at once and leave no file."""
    command = [sys.executable, "-c", STALLED, str(tmp_path), str(int(number))]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, check=False, timeout=60)
    assert ended.returncode == code, ended.stderr.decode()
    assert list(tmp_path.iterdir()) == []
