"""`restore -o -`: the database on standard output, and not a byte of it before the whole is proven.

The database is restored to a file in a directory of its own below $TMPDIR, as to any other target, and copied from
there. It is not streamed, because a restore writes pages in the order of the files that hold them and knows the
checksum of the whole only at the end: whatever reads the pipe would have swallowed an unproven half by then. So $TMPDIR
needs room for the database. The file's name is gone before the first byte is copied: a kill then leaves nothing behind.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from litestream_py.core.oserrors import os_errors
from litestream_py.errors import ConfigError

T = TypeVar("T")

_COPY_BYTES = 1 << 20


def refuse_terminal() -> None:
    """Raise ConfigError if standard output is a terminal: a database is no text."""
    if sys.stdout.isatty():
        cause = "standard output is a terminal, and a database is no text"
        raise ConfigError("restore", "-o -", cause, hint="send it somewhere: lsync restore -o - ... > FILE")


def through_spool(restore: Callable[[Path], T]) -> T:
    """Call `restore` with a path that does not exist, and copy the file it leaves there to standard output.

    Raises BrokenPipeError when the reader has gone, LsyncError (DiskFullError among them) for what else goes wrong.
    """
    with os_errors("create", tempfile.gettempdir()), tempfile.TemporaryDirectory(prefix="lsync-restore-") as folder:
        path = Path(folder) / "restored.db"
        result = restore(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _copy_out(fd)
    finally:
        os.close(fd)
    return result


def _copy_out(fd: int) -> None:
    out = sys.stdout.buffer
    try:
        while chunk := os.read(fd, _COPY_BYTES):
            out.write(chunk)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with os_errors("write", "standard output"):
            raise error from None
