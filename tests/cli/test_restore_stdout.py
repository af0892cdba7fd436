"""`lsync restore -o -`: the whole database on standard output, or not a byte."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chains import sample
from tests.support.terminal import run_with_terminal_output

LSYNC = [sys.executable, "-m", "litestream_py"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A replica of seven TXIDs in a folder, with checksums."""
    return sample().folder(tmp_path / "replica")


def restore(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `lsync restore -o -` with a $TMPDIR of its own, and see that nothing is left there."""
    spool = tmp_path / "tmp"
    spool.mkdir(exist_ok=True)
    command = [*LSYNC, "restore", "-o", "-", *arguments]
    env = os.environ | {"TMPDIR": str(spool)}
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert list(spool.iterdir()) == []
    return done


def test_standard_output_is_the_database_and_nothing_else(url: str, tmp_path: Path) -> None:
    """The bytes are exact, at any TXID; what there is to tell is on standard error."""
    done = restore(tmp_path, url)
    assert (done.returncode, done.stdout) == (0, sample().image(7))
    assert done.stderr.startswith(b"restored standard output at TXID 0000000000000007: 5.0 KiB from 7 files")
    assert b"checksum: verified" in done.stderr
    done = restore(tmp_path, "--json", "--timestamp", "1970-01-01T00:00:03.5Z", url)
    assert (done.returncode, done.stdout) == (0, sample().image(3))
    told = json.loads(done.stderr)
    assert (told["db_path"], told["txid"]) == ("-", "0000000000000003")


def test_it_goes_through_a_pipe(url: str, tmp_path: Path) -> None:
    """`lsync restore -o - URL | gzip` is a compressed copy."""
    with subprocess.Popen([*LSYNC, "restore", "-o", "-", url], stdout=subprocess.PIPE) as first:
        packed = subprocess.run(["gzip", "-c"], stdin=first.stdout, capture_output=True, timeout=60, check=True).stdout
    assert gzip.decompress(packed) == sample().image(7)


def test_not_a_byte_before_it_is_proven(url: str, tmp_path: Path) -> None:
    """A damaged newest file ends with its exit code and an empty output, whatever was good before it."""
    last = tmp_path / "replica/ltx/0/0000000000000007-0000000000000007.ltx"
    body = bytearray(last.read_bytes())
    body[-1] ^= 1
    last.write_bytes(body)
    done = restore(tmp_path, url)
    assert (done.returncode, done.stdout) == (6, b"")
    assert f"0/{last.name} is damaged".encode() in done.stderr


def test_a_terminal_is_refused(url: str) -> None:
    """A database is no text: without a redirection the exit code is 2, before anything is fetched."""
    code, shown, told = run_with_terminal_output([*LSYNC, "restore", "-o", "-", url])
    assert (code, shown) == (2, b"")
    assert b"standard output is a terminal" in told


def test_flags_about_a_file_have_no_place(url: str, tmp_path: Path) -> None:
    """--force and --if-db-not-exists are about a target that is there: 2; an empty replica may be fine: 0 bytes."""
    for flag in ("--force", "--if-db-not-exists"):
        assert restore(tmp_path, flag, url).returncode == 2
    done = restore(tmp_path, "--if-replica-exists", f"file://{tmp_path}/nothing")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"nothing restored: the replica holds no backup" in done.stderr
    assert restore(tmp_path, f"file://{tmp_path}/nothing").returncode == 3


def test_a_dry_run_shows_the_plan(url: str, tmp_path: Path) -> None:
    """--dry-run writes the plan where it always does, and no database."""
    done = restore(tmp_path, "--dry-run", "--json", url)
    assert (done.returncode, json.loads(done.stdout)["target_path"]) == (0, "-")


def test_a_full_disk_behind_the_redirection_is_told(url: str, tmp_path: Path) -> None:
    """No room where the output goes is exit code 7, a reader that went away 1."""
    command = [*LSYNC, "restore", "-o", "-", url]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, b"write standard output" in done.stderr) == (7, True), done.stderr
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")
