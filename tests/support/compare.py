"""What a replica restores to, compared with its source, page by page and TXID by TXID."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from litestream_py.core.sqlite_version import has_wal_reset_bug
from litestream_py.ltx.ids import TXID, parse_file_name
from tests.support.app import App
from tests.support.daemon import lsync
from tests.support.minio import S3Bucket
from tests.support.oracle import Replay, difference, l0_files, replay


def replica_l0(root: Path) -> Path:
    """Return the L0 folder of a file replica."""
    return root / "ltx" / "0"


def download_l0(bucket: S3Bucket, prefix: str, to: Path) -> Path:
    """Copy the L0 objects of a replica into a folder; returns it."""
    to.mkdir()
    keys = bucket.keys()
    for key in keys:
        folder, _, name = key.rpartition("/")
        if folder == f"{prefix}/0000" and parse_file_name(0, name) is not None:
            bucket.raw.download_file(bucket.name, key, str(to / name))
    return to


def newest(l0: Path) -> TXID:
    """Return the newest TXID of an L0 folder, 0 if it is empty or not there."""
    files = l0_files(l0) if l0.is_dir() else []
    return files[-1].max_txid if files else TXID(0)


def check_every_txid(l0: Path) -> Replay:
    """Restore every TXID of a whole L0 log with the oracle, which asserts what a chain promises; returns the newest."""
    states = deque(replay(l0), maxlen=1)
    assert states, f"{l0} holds nothing"
    return states[0]


def assert_same_as_source(state: Replay, source: Path, scratch: Path) -> None:
    """The restored database is what a new reader of the source sees, byte for byte."""
    image = scratch / "source.image"
    with App(source) as app:
        app.image(image)
    found = difference(state.image(), image.read_bytes(), state.page_size)
    assert not found, f"TXID {state.txid}: {found}"


def skip_if_damaged(source: Path) -> None:
    """Skip the test, with the evidence, if the application's own SQLite has damaged the source.

    Up to 3.51.2 a checkpoint of its own that races a writer can lose commits (the WAL-reset bug).
    """
    with App(source) as app:
        found, version = app.sql("pragma integrity_check"), app.version()
    if found != [["ok"]]:
        assert has_wal_reset_bug(version), f"SQLite {version} is sound, and the source is not: {found[:3]}"
        pytest.skip(f"source damaged, by the WAL-reset bug of SQLite {version}: {found[:3]}")


def restore(url: str, to: Path, *, env: dict[str, str] | None = None, txid: TXID | None = None) -> Path:
    """Restore with the command line, as a user does."""
    wanted = [] if txid is None else ["--txid", str(txid)]
    done = lsync("restore", url, "-o", to, *wanted, env=env)
    assert done.returncode == 0, done.stderr
    return to


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ledger_rows(restored: Path) -> set[tuple[int, int]]:
    """Return the commits of the ledger writers that a restored database holds; it must be sound."""
    with closing(sqlite3.connect(restored)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return set(connection.execute("select writer, n from ledger"))


def create(path: Path, *statements: str, page_size: int = 4096) -> None:
    """Make a database in WAL mode, in another process, which leaves its WAL as it is."""
    with App(path) as app:
        app.sql(f"pragma page_size={page_size}", "pragma journal_mode=wal", "pragma wal_autocheckpoint=0", *statements)


def create_ledger(path: Path, *more: str) -> None:
    """Make a database with the table of the ledger writers."""
    create(path, "create table ledger(writer, n, b, primary key(writer, n))", *more)


def missing(acknowledged: Iterable[tuple[int, int]], restored: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what was acknowledged and is not in the restored database, in order."""
    return sorted(set(acknowledged) - restored)
