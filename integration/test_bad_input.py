"""What `replicate` does with files that are not (yet) a database: wait for it, or end at once and touch nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import compare
from tests.support.app import App
from tests.support.daemon import Daemons
from tests.support.golden_replicas import ROOT as GOLDEN

# Without these capabilities (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) root is refused what the mode of a file forbids.
_OBEY_MODES = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
header, data = struct.pack("=Ii", 0x20080522, 0), bytearray(24)
assert libc.capget(header, (ctypes.c_char * 24).from_buffer(data)) == 0
words = list(struct.unpack("=6I", data))
words[0] &= ~0b110
assert libc.capset(header, struct.pack("=6I", *words)) == 0
"""


def _text(path: Path) -> None:
    path.write_text("This is no database.\n" * 100)


def _random(path: Path) -> None:
    path.write_bytes(bytes(range(1, 256)) * 40)


def _short(path: Path) -> None:
    path.write_bytes((GOLDEN / "simple-4096" / "last.db").read_bytes()[:60])


def _cut_in_page_1(path: Path) -> None:
    path.write_bytes((GOLDEN / "simple-4096" / "last.db").read_bytes()[:1000])


def _page_size(path: Path) -> None:
    data = bytearray((GOLDEN / "simple-4096" / "last.db").read_bytes())
    data[16:18] = (1000).to_bytes(2, "big")
    path.write_bytes(data)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_text, _random, _short, _cut_in_page_1, _page_size, Path.mkdir, _fifo])
def test_not_a_database(tmp_path: Path, daemons: Daemons, make: Callable[[Path], None]) -> None:
    """Exit 9 at once, one line and perhaps a hint on stderr; nothing is created, no byte changed."""
    path = tmp_path / "data" / "app.db"
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    daemon = daemons.start(path, f"file://{tmp_path}/replica")
    assert daemon.exit_code() == 9
    _one_line(daemon.errors, str(path))
    assert os.listdir(path.parent) == ["app.db"]
    assert not (tmp_path / "replica").exists()
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_missing_directory(tmp_path: Path, daemons: Daemons) -> None:
    """A database in a directory that does not exist is not waited for."""
    daemon = daemons.start(tmp_path / "nowhere" / "app.db", f"file://{tmp_path}/replica")
    assert daemon.exit_code() == 9
    _one_line(daemon.errors, "directory does not exist")
    assert not (tmp_path / "nowhere").exists()


def test_unreadable(tmp_path: Path, daemons: Daemons) -> None:
    """A file that may not be read ends it at once."""
    path = tmp_path / "open" / "app.db"
    path.parent.mkdir()
    compare.create(path, "create table t(x)")
    path.chmod(0)
    before = sorted(os.listdir(path.parent))
    daemon = daemons.start(path, f"file://{tmp_path}/replica", program=_OBEY_MODES)
    assert daemon.exit_code() == 9
    _one_line(daemon.errors, "Permission denied")
    assert sorted(os.listdir(path.parent)) == before


def _one_line(errors: str, says: str) -> None:
    lines = errors.splitlines()
    assert lines[0].startswith("lsync: error: ")
    assert says in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), errors


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_waits_for_the_database(tmp_path: Path, daemons: Daemons, state: str) -> None:
    """A missing or 0-byte file is waited for: said once, nothing created beside it; then replicated."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "app.db"
    if state == "empty":
        path.touch()
    daemon = daemons.start(path, f"file://{tmp_path}/replica", "--metrics-addr", "127.0.0.1:0")
    daemon.wait_event("waiting for database", reason=state)
    assert daemon.metric("lsync_waiting_for_database", db=str(path)) == 1
    time.sleep(1.2)  # the time in which it looks twice again, and must neither say nor create anything
    assert os.listdir(folder) == (["app.db"] if state == "empty" else [])
    assert not (tmp_path / "replica").exists()
    compare.create(path, "create table t(x)")
    daemon.wait_uploaded(1)
    assert len(daemon.events("waiting for database")) == 1
    assert daemon.metric("lsync_waiting_for_database", db=str(path)) == 0
    assert daemon.terminate() == 0


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_no_wait(tmp_path: Path, daemons: Daemons, state: str) -> None:
    """With --no-wait a missing or 0-byte file is an error."""
    path = tmp_path / "data" / "app.db"
    path.parent.mkdir()
    if state == "empty":
        path.touch()
    daemon = daemons.start(path, f"file://{tmp_path}/replica", "--no-wait")
    assert daemon.exit_code() == 9
    _one_line(daemon.errors, str(path))
    assert os.listdir(path.parent) == (["app.db"] if state == "empty" else [])


# --- rollback journal -------------------------------------------------------------------------------------------------


def _rollback_database(path: Path) -> None:
    with App(path) as app:
        app.sql("create table t(x)", "insert into t values(1)")
        app.close()


def test_rollback_mode_is_refused(tmp_path: Path, daemons: Daemons) -> None:
    """After some seconds a database in rollback-journal mode is refused with the hint, and not a byte of it changed."""
    path = tmp_path / "data" / "app.db"
    path.parent.mkdir()
    _rollback_database(path)
    before = path.read_bytes()
    daemon = daemons.start(path, f"file://{tmp_path}/replica")
    assert daemon.exit_code() == 9
    assert len(daemon.events("waiting for database", reason="journal-mode")) == 1
    _one_line(daemon.errors, "rollback-journal mode")
    assert "journal-mode: convert" in daemon.errors
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["app.db"]


def test_rollback_mode_is_converted(tmp_path: Path, daemons: Daemons) -> None:
    """With journal-mode: convert it is switched to WAL mode, and replicated."""
    path = tmp_path / "app.db"
    _rollback_database(path)
    config = tmp_path / "lsync.yml"
    config.write_text(f"dbs:\n  - path: {path}\n    journal-mode: convert\n    replica: {{path: {tmp_path}/replica}}\n")
    daemon = daemons.start("--config", config)
    daemon.wait_uploaded(1)
    with App(path) as app:
        assert app.sql("pragma journal_mode") == [["wal"]]
    assert daemon.terminate() == 0
    state = compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))
    compare.assert_same_as_source(state, path, tmp_path)


def test_switched_to_wal_within_moments(tmp_path: Path, daemons: Daemons) -> None:
    """An application that creates its database long after us and then switches it to WAL mode is picked up."""
    path = tmp_path / "app.db"
    daemon = daemons.start(path, f"file://{tmp_path}/replica")
    daemon.wait_event("waiting for database", reason="missing")
    # Longer than the patience with a rollback-journal database, which must begin when one is seen, not before.
    time.sleep(5.5)
    with App(path) as app:
        app.sql("create table t(x)", "insert into t values(1)")
        daemon.wait_event("waiting for database", reason="journal-mode")
        app.sql("pragma journal_mode=wal", "insert into t values(2)")
        daemon.wait_uploaded(1)
    assert daemon.terminate() == 0
    state = compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))
    compare.assert_same_as_source(state, path, tmp_path)


# --- several ----------------------------------------------------------------------------------------------------------


def _config(tmp_path: Path, *paths: Path) -> Path:
    entries = [
        f"  - {{path: {path}, replica: {{path: {tmp_path}/replica-{number}}}}}\n" for number, path in enumerate(paths)
    ]
    config = tmp_path / "lsync.yml"
    config.write_text("dbs:\n" + "".join(entries))
    return config


def test_a_bad_one_does_not_stop_the_others(tmp_path: Path, daemons: Daemons) -> None:
    """The good database is replicated, the bad one reported; the exit code says that one was not replicated."""
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    compare.create(good, "create table t(x)")
    _text(bad)
    daemon = daemons.start("--config", _config(tmp_path, bad, good), "--metrics-addr", "127.0.0.1:0")
    daemon.wait_event("giving up", db=str(bad))
    daemon.wait_uploaded(1)
    assert daemon.metric("lsync_rejected_total", db=str(bad), reason="not-a-database") == 1
    with App(good) as app:
        app.sql("insert into t values(1)")
        daemon.wait_uploaded(2)
    assert daemon.terminate() == 9
    state = compare.check_every_txid(compare.replica_l0(tmp_path / "replica-1"))
    compare.assert_same_as_source(state, good, tmp_path)


def test_none_left(tmp_path: Path, daemons: Daemons) -> None:
    """With every database refused, it exits 9."""
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    _text(one)
    _random(two)
    daemon = daemons.start("--config", _config(tmp_path, one, two))
    assert daemon.exit_code() == 9
    assert len(daemon.events("giving up")) == 2


def test_no_databases(tmp_path: Path, daemons: Daemons) -> None:
    """An empty list of databases is a configuration error."""
    config = tmp_path / "lsync.yml"
    config.write_text("dbs: []\n")
    daemon = daemons.start("--config", config)
    assert daemon.exit_code() == 2
    _one_line(daemon.errors, "dbs")


def test_the_same_database_by_a_symbolic_link(tmp_path: Path, daemons: Daemons) -> None:
    """A configuration that names a database twice is an error."""
    path, other = tmp_path / "app.db", tmp_path / "other.db"
    compare.create(path, "create table t(x)")
    other.symlink_to(path)
    daemon = daemons.start("--config", _config(tmp_path, path, other))
    assert daemon.exit_code() == 2
    _one_line(daemon.errors, "lsync.yml:3")


def test_the_same_database_by_a_hard_link(tmp_path: Path, daemons: Daemons) -> None:
    """A second name of a database is refused when that is seen; the first goes on."""
    path, other = tmp_path / "app.db", tmp_path / "other.db"
    compare.create(path, "create table t(x)")
    other.hardlink_to(path)
    daemon = daemons.start("--config", _config(tmp_path, path, other))
    said = daemon.wait_event("giving up")
    assert "replicated already" in str(said["error"])
    daemon.wait_uploaded(1)
    assert daemon.terminate() == 9


def test_symbolic_link(tmp_path: Path, daemons: Daemons) -> None:
    """A database named by a symbolic link is replicated: SQLite keeps the WAL beside the file it leads to."""
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "app.db", tmp_path / "link.db"
    compare.create(path, "create table t(x)")
    link.symlink_to(path)
    daemon = daemons.start(link, f"file://{tmp_path}/replica")
    daemon.wait_uploaded(1)
    with App(path) as app:
        app.sql("insert into t values(1)")
        daemon.wait_uploaded(2)
    assert daemon.terminate() == 0
    state = compare.check_every_txid(compare.replica_l0(tmp_path / "replica"))
    compare.assert_same_as_source(state, path, tmp_path)
