"""System calls of the file replica, with their errors said in our words."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from litestream_py.errors import (
    AccessDeniedError,
    DiskFullError,
    LocalIOError,
    LsyncError,
    NotFoundError,
    PreconditionError,
)

_FULL_FSYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: fsync alone does not empty the drive's cache."""

LINK_REFUSED: Final = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Why a hard link may be impossible where the same file can be copied: another file system, one without links (FAT),
a file of another user (protected_hardlinks), too many links."""


@contextmanager
def translated(operation: str, path: Path) -> Iterator[None]:
    """Turn an OSError into the LsyncError that says what it means for a replica in a folder."""
    try:
        yield
    except OSError as error:
        raise translate_os_error(error, operation, path) from error


def translate_os_error(error: OSError, operation: str, path: Path) -> LsyncError:
    """Return the LsyncError for an OSError: full, denied, missing, taken, or any other failure of the file system."""
    where = error.filename if isinstance(error.filename, str) else path
    cause = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFullError(operation, where, cause, hint="free space, or raise the quota, where the replica lies")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return AccessDeniedError(
                operation, where, cause, hint=f"let user {os.geteuid()} read and write the replica's folder"
            )
        case errno.ENOENT:
            return NotFoundError(operation, where, cause)
        case errno.EEXIST:
            return PreconditionError(operation, where, "the file exists already")
        case _:
            return LocalIOError(operation, where, cause)


def fsync(fd: int) -> None:
    """Make a file or directory durable; raises OSError."""
    if _FULL_FSYNC is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, _FULL_FSYNC)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: Path) -> None:
    """Create a directory with its parents, each name durable before the next is made in it; raises OSError."""
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(exist_ok=True)
        except FileExistsError as error:  # a file: must not pass for a taken name
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from error
        fsync_directory(directory.parent)


@contextmanager
def locked_directory(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of a directory; every lsync that writes there without a link takes it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
