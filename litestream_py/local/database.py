"""The only importer of apsw: our connections to one database, each in one role only.

- two *readers*, of which one always holds a read transaction (two, so that the mark moves without a moment in between);
- the *barrier*, which takes the write lock with BEGIN IMMEDIATE and gives it back with ROLLBACK: it writes nothing;
- the *checkpointer*.

None of them checkpoints by itself (`wal_autocheckpoint=0`, NO_CKPT_ON_CLOSE) nor deletes the WAL (PERSIST_WAL): nothing
is ever written to the user's database but what `PRAGMA wal_checkpoint` copies there from the application's own WAL.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw

from litestream_py.core.sqlite_version import WAL_RESET_BUG_FIXED_IN, has_wal_reset_bug
from litestream_py.core.state import CheckpointResult
from litestream_py.errors import ConfigError, DatabaseBusyError, DatabaseError, LsyncError

_SPIN_S: Final = 0.001


def require_safe_sqlite() -> None:
    """Raise ConfigError if our own SQLite library loses commits as a checkpointer (the WAL-reset bug)."""
    version = apsw.sqlite_lib_version()
    if has_wal_reset_bug(version):
        raise ConfigError(
            "start",
            f"SQLite {version}",
            "this library has the WAL-reset bug, which loses commits when a checkpoint races a writer",
            hint=f"install an apsw with SQLite {WAL_RESET_BUG_FIXED_IN} or newer: pip install -U apsw",
        )


def _translate(operation: str, path: Path, error: apsw.Error) -> LsyncError:
    cause = f"{type(error).__name__.removesuffix('Error')}: {error}"
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return DatabaseBusyError(operation, path, cause)
    return DatabaseError(operation, path, cause, hint=f"check the database: sqlite3 {path} 'PRAGMA integrity_check'")


class Database:
    """Our connections to one live database.

    busy_timeout_s: patience of every statement but the barrier's, whose caller says how long it may wait.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 1.0) -> None:
        self.path = path
        self._busy_timeout_ms = int(busy_timeout_s * 1000)
        self._readers: list[apsw.Connection] = []
        self._reading: apsw.Connection | None = None
        self._barrier: apsw.Connection | None = None
        self._checkpointer: apsw.Connection | None = None
        self._snapshot: apsw.Connection | None = None

    def open(self, *, convert: bool = False) -> None:
        """Open every connection; with `convert`, first switch a rollback-journal database to WAL mode.

        Makes `-wal` and `-shm` if they are not there, as any reader does. Raises DatabaseError, DatabaseBusyError.
        """
        try:
            with self._errors("open"):
                self._barrier = self._connect()
                if convert:
                    mode = _rows(self._barrier, "PRAGMA journal_mode=WAL")[0][0]
                    if mode != "wal":
                        raise DatabaseError("convert", self.path, f"journal mode stays {mode}")
                self._checkpointer = self._connect()
                self._readers = [self._connect(), self._connect()]
                _rows(self._barrier, "PRAGMA schema_version")
        except BaseException:
            self.close()
            raise

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(self._busy_timeout_ms)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        persist = ctypes.c_int(1)
        connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(persist))
        for pragma in ("wal_autocheckpoint=0", "synchronous=FULL", "fullfsync=1", "cache_size=16"):
            _rows(connection, f"PRAGMA {pragma}")
        return connection

    @contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise _translate(operation, self.path, error) from error

    # --- the read transaction ---

    @property
    def reading(self) -> bool:
        """Whether a read transaction is held."""
        return self._reading is not None

    def begin_read(self) -> None:
        """Begin the long read transaction."""
        if self._reading is not None:
            raise ValueError("a read transaction is held already")
        with self._errors("read"):
            self._reading = self._begin_on(self._readers[0])

    def end_read(self) -> None:
        """End the read transaction, if there is one."""
        with self._errors("read"):
            if self._reading is not None:
                _rows(self._reading, "ROLLBACK")
            self._reading = None

    def hand_over_read(self) -> None:
        """Begin a new read transaction, then end the old one: there is no moment without one.

        The caller has made sure that the WAL is not fully backfilled (design section 2): on such a WAL the new reader
        would take slot 0, and the next commit could restart the WAL under frames that nobody has copied.
        """
        with self._errors("read"):
            old = self._reading
            self._reading = self._begin_on(self._readers[1] if old is self._readers[0] else self._readers[0])
            if old is not None:
                _rows(old, "ROLLBACK")

    @staticmethod
    def _begin_on(connection: apsw.Connection) -> apsw.Connection:
        _rows(connection, "BEGIN")
        try:
            _rows(connection, "PRAGMA schema_version")  # reads page 1, so takes the read lock; parses no schema
        except BaseException:
            _rows(connection, "ROLLBACK")
            raise
        return connection

    def begin_snapshot_read(self) -> None:
        """Begin a second read transaction, on a connection of its own, for as long as a snapshot takes."""
        if self._snapshot is not None:
            raise ValueError("a snapshot is being read already")
        with self._errors("read"):
            self._snapshot = self._connect()
            try:
                self._begin_on(self._snapshot)
            except BaseException:
                self.end_snapshot_read()
                raise

    @property
    def reading_snapshot(self) -> bool:
        """Whether a snapshot's read transaction is held."""
        return self._snapshot is not None

    def end_snapshot_read(self) -> None:
        """End the snapshot's read transaction, if there is one."""
        if self._snapshot is not None:
            self._snapshot.close(True)
            self._snapshot = None

    # --- the write lock ---

    @property
    def locked(self) -> bool:
        """Whether the barrier holds the write lock."""
        return self._barrier is not None and self._barrier.in_transaction

    def recover(self) -> None:
        """Begin and end a transaction: SQLite rebuilds a wal-index header that a dying writer left half-written."""
        if not self.locked:
            with self.barrier(self._busy_timeout_ms / 1000):
                pass

    @contextmanager
    def barrier(self, wait_s: float) -> Iterator[None]:
        """Hold the write lock, having waited at most `wait_s` for it; nothing is written.

        Raises DatabaseBusyError if it cannot be had in time. SQLite's own busy handler sleeps up to 100 ms between
        tries, which a busy writer's short gaps escape; asking every millisecond gets the lock sooner.
        """
        connection = self._connection(self._barrier)
        assert not self.locked, "the write lock is held already"
        deadline = time.monotonic() + wait_s
        connection.set_busy_timeout(0)
        with self._errors("lock"):
            while True:
                try:
                    _rows(connection, "BEGIN IMMEDIATE")
                    break
                except apsw.BusyError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(_SPIN_S)
        try:
            yield
        finally:
            with self._errors("unlock"):
                _rows(connection, "ROLLBACK")

    # --- checkpoints ---

    def checkpoint(self, mode: str, *, wait_s: float = 0.0) -> CheckpointResult:
        """Run `PRAGMA wal_checkpoint(mode)` ("PASSIVE" or "TRUNCATE") and return its row.

        wait_s: how long a TRUNCATE waits for the write lock and then, *holding it*, for readers; a PASSIVE never waits.
        A TRUNCATE that cannot have the write lock acts as a PASSIVE, and its row says busy. A blocked checkpoint is a
        row with busy set, not an error; apsw's own wal_checkpoint() would raise and lose it.
        """
        started_s = time.monotonic()
        connection = self._connection(self._checkpointer)
        connection.set_busy_timeout(int(wait_s * 1000))
        with self._errors("checkpoint"):
            busy, log, done = _rows(connection, f"PRAGMA wal_checkpoint({mode})")[0]
        seconds = time.monotonic() - started_s
        return CheckpointResult(mode=mode, busy=bool(busy), log=log, checkpointed=done, seconds=seconds)

    def close(self) -> None:
        """End the read transaction and close every connection; idempotent. The WAL stays as it is."""
        self._reading = None
        for connection in (*self._readers, self._snapshot, self._checkpointer, self._barrier):
            if connection is not None:
                connection.close(True)
        self._readers = []
        self._snapshot = self._checkpointer = self._barrier = None

    def _connection(self, connection: apsw.Connection | None) -> apsw.Connection:
        if connection is None:
            raise DatabaseError("use", self.path, "the connection is closed")
        return connection


def _rows(connection: apsw.Connection, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement to its end; a statement left in the middle would keep its lock."""
    return list(connection.execute(sql))


def integrity_check(path: Path, *, quick: bool = False) -> list[str]:
    """Return what `PRAGMA integrity_check` (or `quick_check`) finds wrong in a database file at rest; empty if nothing.

    The file is opened immutable: no `-wal` or `-shm` appears beside it. Raises DatabaseError if it cannot be opened at
    all.
    """
    uri = f"file:{quote(str(path))}?immutable=1"
    try:
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            rows = _rows(connection, "PRAGMA quick_check" if quick else "PRAGMA integrity_check")
        finally:
            connection.close(True)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        return [str(error)]
    except apsw.Error as error:
        raise _translate("check", path, error) from error
    found = [str(row[0]) for row in rows]
    return [] if found == ["ok"] else found
