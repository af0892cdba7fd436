"""A slice of a file as the body of a request: read where it is sent, never held in memory."""

from __future__ import annotations

import io
import os
from pathlib import Path

from litestream_py.errors import LocalIOError


class FileSlice(io.RawIOBase):
    """Bytes ``[offset, offset + size)`` of an open file, through pread: slices of one descriptor do not disturb
    each other. The HTTP layer reads it in blocks (128 KiB to send, 1 MiB to hash), so that a request holds no more.

    Raises LocalIOError where the file cannot be read or is shorter: the length has been promised to the store.
    """

    def __init__(self, fd: int, offset: int, size: int, path: Path) -> None:
        super().__init__()
        self._fd = fd
        self._offset = offset
        self._size = size
        self._path = path
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes: the body is hashed first, then sent, and sent again when a connection turns out to be dead."""
        return True

    def tell(self) -> int:
        """Return the position in the slice, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move in the slice."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes; empty only at the end of the slice."""
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted == 0:
            return b""
        try:
            data = os.pread(self._fd, wanted, self._offset + self._position)
        except OSError as error:
            raise LocalIOError("read", self._path, error.strerror or error) from error
        if not data:
            raise LocalIOError("read", self._path, "the file is shorter than it was when the upload began")
        self._position += len(data)
        return data
