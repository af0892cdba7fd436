"""The database file that a restore writes: under a temporary name until it is whole, then under its own.

Names, beside the target NAME:

- ``.NAME.lsync-restore-XXXXXXXX``: the file being written, held by an advisory lock. Removed on any error; what a
  killed process left (nobody holds its lock) is removed by the next restore of NAME.
- ``.NAME-wal.lsync-old-XXXXXXXX`` (also -journal, -shm): sidecars of a database that is being replaced.

**Replacing a database that has sidecars** is several renames, and the machine may stop between any two. The state that
must never exist is the new database beside the old WAL or rollback journal: SQLite would play it into the new file. So:
move the sidecars aside, fsync the directory, then rename the new database into place, fsync, and only then delete what
was moved. A stop in between leaves the old database, whole, with its WAL under the other name in the same directory,
from where it can be renamed back by hand; deleting the sidecars first would lose the commits in it. An error (not a
stop) puts them back. They are put back only while the temporary file is still there: once it is not, the rename has
happened, whatever exception, a signal's for instance, says otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from litestream_py.core.oserrors import from_os_error, os_errors
from litestream_py.errors import StateUnknownError, TargetError
from litestream_py.failpoints import declare, hit
from litestream_py.local.files import fsync_dir

AFTER_CREATE = declare("restore.after_create")
BEFORE_RENAME = declare("restore.before_rename")
SIDECARS_ASIDE = declare("restore.sidecars_aside")
AFTER_RENAME = declare("restore.after_rename")
AFTER_DIR_FSYNC = declare("restore.after_dir_fsync")

SIDECARS: Final = ("-wal", "-journal", "-shm")
_BUFFERS_MAX: Final = 1024
"""IOV_MAX of Linux and macOS: buffers of one pwritev."""


def check_target(path: Path, *, force: bool) -> None:
    """Raise TargetError if `path` must not be written: a directory, or without `force` a database or a sidecar of one.

    An empty file without sidecars is no database yet and may be replaced: container set-ups create it beforehand.
    """
    path = Path(os.path.realpath(path))
    with os_errors("restore", path):
        info = _lstat(path)
        if info is not None and not stat.S_ISREG(info.st_mode):
            raise TargetError("restore", path, "the target exists and is not a regular file")
        if force:
            return
        hint = "--force replaces it, sidecars included; -o restores to another path"
        if info is not None and info.st_size > 0:
            raise TargetError("restore", path, "the target exists", hint=hint)
        for suffix in SIDECARS:
            if os.path.lexists(f"{path}{suffix}"):
                raise TargetError("restore", path, f"the target has a sidecar, {path.name}{suffix}", hint=hint)


class RestoreTarget:
    """A new database file at `path`; leaving the context without `publish` leaves `path` as it was.

    Missing parent directories are created. A symbolic link is followed: the file it names is what gets replaced,
    because that is where SQLite looks for sidecars. Every method raises LsyncErrors only.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = Path(os.path.realpath(path))
        self._force = force
        self._fd = -1
        self._temp = self.path

    @property
    def temp(self) -> Path:
        """The file being written."""
        return self._temp

    def __enter__(self) -> Self:
        check_target(self.path, force=self._force)
        try:
            with os_errors("create", self.path):
                self._make_parents()
                self._remove_stale()
                self._create()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._discard()

    def _discard(self) -> None:
        if self._temp != self.path:
            with contextlib.suppress(OSError):
                os.unlink(self._temp)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def resize(self, size: int) -> None:
        """Give the file its final size in bytes; what is not written later reads as zeros (the lock page)."""
        with os_errors("write", self._temp):
            os.ftruncate(self._fd, size)

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """Write the buffers one after the other, from byte `offset`."""
        try:
            for start in range(0, len(buffers), _BUFFERS_MAX):
                offset += self._write_some(offset, buffers[start : start + _BUFFERS_MAX])
        except OSError as error:
            raise from_os_error("write", self._temp, error) from error

    def _write_some(self, offset: int, buffers: Sequence[bytes]) -> int:
        size = sum(map(len, buffers))
        written = os.pwritev(self._fd, buffers, offset)
        if written < size:
            rest = memoryview(b"".join(buffers))
            while written < size:
                written += os.pwrite(self._fd, rest[written:], offset + written)
        return size

    def flush(self) -> None:
        """Make what was written so far durable; may run in another thread than `write`."""
        with os_errors("fsync", self._temp):
            os.fsync(self._fd)

    def publish(self) -> None:
        """Give the written, flushed file its name, durably.

        Raises TargetError if a target appeared meanwhile, StateUnknownError if the rename may not be durable.
        """
        check_target(self.path, force=self._force)
        with os_errors("publish", self.path):
            self._keep_mode()
            hit(BEFORE_RENAME)
            self._swap()
        try:
            hit(AFTER_RENAME)
            fsync_dir(self.path.parent)
            hit(AFTER_DIR_FSYNC)
        except OSError as error:
            raise StateUnknownError("publish", self.path, error.strerror or error) from error
        with os_errors("clean", self.path):
            for suffix in SIDECARS:
                for old in _siblings(self.path, f"{suffix}.lsync-old-"):
                    os.unlink(old)

    def _swap(self) -> None:
        moved: list[tuple[Path, Path]] = []
        try:
            for suffix in SIDECARS:
                sidecar = Path(f"{self.path}{suffix}")
                if os.path.lexists(sidecar):
                    aside = self.path.with_name(f".{sidecar.name}.lsync-old-{secrets.token_hex(4)}")
                    moved.append((sidecar, aside))
                    sidecar.rename(aside)
            if moved:
                fsync_dir(self.path.parent)
                hit(SIDECARS_ASIDE)
            self._temp.rename(self.path)
        except BaseException:
            if os.path.lexists(self._temp):
                for sidecar, aside in reversed(moved):
                    with contextlib.suppress(FileNotFoundError):
                        aside.rename(sidecar)
            raise

    def _keep_mode(self) -> None:
        """Pass on mode and owner of the file that is replaced; the owner only where we are allowed to."""
        old = _lstat(self.path)
        if old is None:
            return
        with contextlib.suppress(PermissionError):
            os.fchown(self._fd, old.st_uid, old.st_gid)
        os.fchmod(self._fd, stat.S_IMODE(old.st_mode))

    def _make_parents(self) -> None:
        missing = []
        parent = self.path.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for directory in reversed(missing):
            fsync_dir(directory.parent)

    def _create(self) -> None:
        while True:
            temp = self.path.with_name(f".{self.path.name}.lsync-restore-{secrets.token_hex(4)}")
            fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._fd, self._temp = fd, temp
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    hit(AFTER_CREATE)
                    return
            # Another restore of the same target took it for a dead one's between our open and our lock.
            self._fd = -1
            os.close(fd)

    def _remove_stale(self) -> None:
        for temp in _siblings(self.path, ".lsync-restore-"):
            with contextlib.suppress(OSError):
                fd = os.open(temp, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(temp)
                finally:
                    os.close(fd)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _siblings(path: Path, infix: str) -> list[Path]:
    return sorted(path.parent.glob(f".{glob.escape(path.name)}{infix}*"))
