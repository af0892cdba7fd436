"""Durable files on this machine: write, fsync, rename, fsync the directory; every OSError translated here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from litestream_py.core.oserrors import os_errors
from litestream_py.errors import StateUnknownError
from litestream_py.failpoints import declare, hit

BEFORE_WRITE = declare("l0.before_write")
BEFORE_FSYNC = declare("l0.before_fsync")
BEFORE_RENAME = declare("l0.before_rename")
AFTER_RENAME = declare("l0.after_rename")
AFTER_DIR_FSYNC = declare("l0.after_dir_fsync")

TEMP_SUFFIX = ".tmp"


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durable(path: Path, chunks: Iterable[bytes], *, mtime_ms: int, mode: int = 0o600) -> int:
    """Write a new file so that it is there whole and durable, or not at all; returns its size in bytes.

    mtime_ms: what its modification time is set to; a file replica that links the file keeps it without another fsync.
    mode: permission bits, whatever the umask.

    A crash before the rename leaves only a temporary file, which the next start removes. Raises an LsyncError when
    nothing was published, StateUnknownError when the rename may or may not have become durable.
    """
    temp = path.with_name(path.name + TEMP_SUFFIX)
    size = 0
    with os_errors("write", path):
        hit(BEFORE_WRITE)
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            try:
                os.fchmod(fd, mode)
                for chunk in chunks:
                    size += len(chunk)
                    _write_all(fd, chunk)
                os.utime(fd, ns=(mtime_ms * 1_000_000, mtime_ms * 1_000_000))
                hit(BEFORE_FSYNC)
                os.fsync(fd)
            finally:
                os.close(fd)
            if path.exists():
                # An LTX file is never changed; a name that is taken means that what we believe of the log is wrong.
                raise StateUnknownError("publish", path, "a file of that name exists already")
            hit(BEFORE_RENAME)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
    try:
        temp.rename(path)
        hit(AFTER_RENAME)
        fsync_dir(path.parent)
        hit(AFTER_DIR_FSYNC)
    except OSError as error:
        raise StateUnknownError("publish", path, error.strerror or error) from error
    return size


def replace_file(path: Path, data: bytes) -> None:
    """Replace a small file atomically, without fsync: a process crash leaves old or new, a power failure may damage it.

    For what can be derived again and carries its own checksum (`position.json`).
    """
    temp = path.with_name(path.name + TEMP_SUFFIX)
    with os_errors("write", path):
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)
        temp.replace(path)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
