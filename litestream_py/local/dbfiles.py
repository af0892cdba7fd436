"""The descriptors of a live database: the one place that opens the database file, its `-shm` and its `-wal`.

POSIX locks belong to (process, inode): closing *any* descriptor of the database or `-shm` file drops every lock that
SQLite holds on it in this process. So each is opened once, kept, and closed after the last connection has closed;
nobody else in the process may open, map, copy or hash these files (a test watches the audit events). The `-wal` file
carries no locks. `-shm` may be truncated by a first opener, so it is read with pread and never mapped.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from litestream_py.core.oserrors import from_os_error, os_errors
from litestream_py.core.position import FileFacts
from litestream_py.errors import DatabaseBusyError, LocalIOError, SourceRejectedError
from litestream_py.wal.dbheader import DB_HEADER_SIZE, DbHeader, DbHeaderError
from litestream_py.wal.walindex import WAL_INDEX_HEADER_SIZE, WalIndex

_owned: set[tuple[int, int]] = set()
_owned_lock = threading.Lock()  # protects _owned
_INDEX_TRIES: Final = 200


def wal_path(database: Path) -> Path:
    """Return the path of the WAL of a database that is named by no symbolic link."""
    return database.with_name(database.name + "-wal")


def shm_path(database: Path) -> Path:
    """Return the path of the wal-index of a database that is named by no symbolic link."""
    return database.with_name(database.name + "-shm")


class DatabaseFiles:
    """Long-lived read-only descriptors of one database; `close` only after every SQLite connection is closed.

    wal, shm: paths of the sidecars, as of `open_database`: SQLite keeps them beside the file that a symbolic link leads
    to.
    recover: lets SQLite mend a wal-index whose header a dying writer left half-written (any connection that begins a
    transaction does).
    """

    def __init__(self, path: Path, *, recover: Callable[[], None] | None = None) -> None:
        self.path = path
        self.wal = wal_path(path)
        self.shm = shm_path(path)
        self._recover = recover
        self._db = -1
        self._shm = -1
        self._wal = -1
        self._identity: tuple[int, int] | None = None

    def open_database(self) -> DbHeader:
        """Open the database file and check its header, before any connection exists.

        Raises SourceRejectedError with a named reason for anything that is not a database; FileNotFoundError and a
        zero-byte file are told apart by reason "missing" and "empty", which the caller may wait out.
        """
        try:
            str(self.path).encode("utf-8")
        except UnicodeEncodeError as error:
            cause = "its path is not UTF-8, which SQLite asks for"
            raise SourceRejectedError(self.path, "path-not-utf8", cause) from error
        info = self._stat()
        real = self.path.resolve()
        self.wal, self.shm = wal_path(real), shm_path(real)
        identity = (info.st_dev, info.st_ino)
        with _owned_lock:
            if identity in _owned:
                cause = "is replicated already under another name (hard or symbolic link)"
                raise SourceRejectedError(self.path, "same-file", cause)
            _owned.add(identity)
        self._identity = identity
        try:
            return self._open_and_check()
        except BaseException:
            self.close()
            raise

    def _open_and_check(self) -> DbHeader:
        try:
            self._db = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError as error:
            raise SourceRejectedError(self.path, "missing", "there is no such file") from error
        except PermissionError as error:
            hint = f"check owner and mode: ls -l {self.path}"
            raise SourceRejectedError(self.path, "unreadable", error.strerror or error, hint=hint) from error
        except OSError as error:
            raise from_os_error("open", self.path, error) from error
        try:
            return self.header()
        except DbHeaderError as error:
            raise SourceRejectedError(self.path, error.reason, error.detail) from error

    def _stat(self) -> os.stat_result:
        try:
            info = self.path.stat()
        except FileNotFoundError as error:
            if not self.path.parent.is_dir():
                raise SourceRejectedError(self.path, "missing-directory", "its directory does not exist") from error
            raise SourceRejectedError(self.path, "missing", "there is no such file") from error
        except OSError as error:
            raise SourceRejectedError(self.path, "unreadable", error.strerror or error) from error
        if not stat.S_ISREG(info.st_mode):
            kind = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
            raise SourceRejectedError(self.path, "not-a-file", f"is {kind}")
        if info.st_size == 0:
            raise SourceRejectedError(self.path, "empty", "the file has no bytes yet")
        return info

    def open_sidecars(self) -> None:
        """Open `-shm` and `-wal`, after the first connection has made them."""
        with os_errors("open", self.path):
            self._shm = os.open(self.shm, os.O_RDONLY | os.O_CLOEXEC)
            self._wal = os.open(self.wal, os.O_RDONLY | os.O_CLOEXEC)
        if not self.unchanged():
            raise LocalIOError("open", self.path, "the database file was replaced while it was being opened")

    def close(self) -> None:
        """Close every descriptor; idempotent. Only after the last connection, or SQLite's locks are lost."""
        for fd in (self._wal, self._shm, self._db):
            if fd >= 0:
                os.close(fd)
        self._wal = self._shm = self._db = -1
        if self._identity is not None:
            with _owned_lock:
                _owned.discard(self._identity)
            self._identity = None

    @property
    def shm_fd(self) -> int:
        """The `-shm` descriptor, for F_GETLK."""
        return self._shm

    def header(self) -> DbHeader:
        """Parse the database header; raises DbHeaderError."""
        with os_errors("read", self.path):
            head = os.pread(self._db, DB_HEADER_SIZE, 0)
            return DbHeader.parse(head, os.fstat(self._db).st_size)

    def mode(self) -> int:
        """Return the permission bits of the database file, without execution."""
        with os_errors("stat", self.path):
            return os.fstat(self._db).st_mode & 0o666

    def facts(self) -> FileFacts:
        """Return what identifies the database file and shows writes to it."""
        with os_errors("stat", self.path):
            info = os.fstat(self._db)
            counter = int.from_bytes(os.pread(self._db, 4, 24), "big")
        return FileFacts(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, counter)

    def unchanged(self) -> bool:
        """Tell whether the three paths still name the files that are open."""
        pairs = ((self.path, self._db), (self.shm, self._shm), (self.wal, self._wal))
        try:
            return all(os.path.samestat(path.stat(), os.fstat(fd)) for path, fd in pairs)
        except OSError:
            return False

    def read_database(self, offset: int, size: int) -> bytes:
        """Return bytes of the database file; beyond its end they are zeros, as SQLite reads them."""
        with os_errors("read", self.path):
            data = os.pread(self._db, size, offset)
        return data if len(data) == size else data.ljust(size, b"\0")

    def read_wal(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of the WAL."""
        with os_errors("read", self.wal):
            return os.pread(self._wal, size, offset)

    def wal_size(self) -> int:
        """Return the size of the WAL file in bytes; it says nothing about how much of it is valid."""
        with os_errors("stat", self.wal):
            return os.fstat(self._wal).st_size

    def index_bytes(self) -> bytes:
        """Return the first copy of the wal-index header as it is: different bytes mean that something was committed."""
        with os_errors("read", self.shm):
            return os.pread(self._shm, 48, 0)

    def read_index_once(self) -> WalIndex | None:
        """Return the wal-index header, or None while a writer is in the middle of changing it."""
        with os_errors("read", self.shm):
            return WalIndex.parse(os.pread(self._shm, WAL_INDEX_HEADER_SIZE, 0))

    def read_index(self) -> WalIndex:
        """Return a stable wal-index header; raises DatabaseBusyError if it does not settle, recovery included."""
        index = self._settled_index()
        if index is None and self._recover is not None:
            self._recover()
            index = self._settled_index()
        if index is None:
            raise DatabaseBusyError("read", self.shm, "the wal-index does not settle")
        return index

    def _settled_index(self) -> WalIndex | None:
        for attempt in range(_INDEX_TRIES):
            index = self.read_index_once()
            if index is not None:
                return index
            time.sleep(0.0001 * (attempt > 10))
        return None
