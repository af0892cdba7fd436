"""Operating-system errors to our own, decided in one place for local files and the file replica alike."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from litestream_py.errors import AccessDeniedError, DiskFullError, LocalIOError, LsyncError, NotFoundError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


def from_os_error(operation: str, obj: object, error: OSError) -> LsyncError:
    """Return the LsyncError that says what `error` means for `operation` on `obj`."""
    cause = error.strerror or str(error)
    if error.errno in _FULL:
        return DiskFullError(operation, obj, cause, hint="free space on the volume, replication then resumes by itself")
    if error.errno in _DENIED:
        return AccessDeniedError(operation, obj, cause, hint=f"check owner and mode: ls -ld {obj}")
    if error.errno in _ABSENT:
        return NotFoundError(operation, obj, cause)
    return LocalIOError(operation, obj, cause)


@contextmanager
def os_errors(operation: str, obj: object) -> Iterator[None]:
    """Translate every OSError raised inside the block."""
    try:
        yield
    except OSError as error:
        raise from_os_error(operation, obj, error) from error
