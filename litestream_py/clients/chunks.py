"""What every client does with a stream that is to be stored: whose fault a failure is, no empty file, its size."""

from __future__ import annotations

from collections.abc import Iterator

from litestream_py.errors import CorruptError, LocalIOError


class SourceStream:
    """The chunks of a stream, but for empty ones; `size` is the number of bytes that it has yielded so far.

    An OSError of the stream is raised as LocalIOError: it is on our side and must not pass for the replica's. Raises
    CorruptError at the end of a stream without any byte. where: what the stream is for.
    """

    def __init__(self, chunks: Iterator[bytes], where: object) -> None:
        self.size = 0
        self._chunks = chunks
        self._where = where

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while True:
            try:
                chunk = next(self._chunks, None)
            except OSError as error:
                raise LocalIOError("read", f"the stream for {self._where}", error.strerror or error) from error
            if chunk:
                self.size += len(chunk)
                return chunk
            if chunk is None:
                if self.size == 0:
                    raise CorruptError("write", self._where, "the stream is empty")
                raise StopIteration
