"""What the engine asks of the outside world: protocols and the plain values that cross them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from litestream_py.ltx.ids import FileName


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One LTX file of a replica, as a listing tells.

    size: bytes. created_ms: Unix milliseconds; for a file replica its mtime (= the header's timestamp), for S3 the
    object's LastModified (the exact time is in its metadata and its header). appeared_ms: when the file got its name or
    later, where the store knows that beside `created_ms`, else 0: one that was merged late has the time of its changes.
    """

    name: FileName
    size: int
    created_ms: int
    appeared_ms: int = field(default=0, compare=False)


class ReplicaClient(Protocol):
    """Storage of one replica: a flat set of write-once LTX files in levels 0 to 9.

    Every method raises only `LsyncError`s: `TransientNetworkError`, `ThrottledError`, `AccessDeniedError`,
    `NotFoundError`, `PreconditionError`, `DiskFullError`, `LocalIOError`, `ReplicaError`. Safe to call from several
    threads. No method retries for long: pacing is the caller's.
    """

    @property
    def url(self) -> str:
        """The replica's URL without secrets: for logs, metric labels and messages."""

    def list_level(self, level: int) -> list[FileInfo]:
        """Return the LTX files of a level, ascending by (min, max); foreign names are ignored; none is no error."""

    def put(self, name: FileName, source: Path | bytes, *, timestamp_ms: int) -> None:
        """Store a whole file durably, atomically, only if the name is free.

        The file appears whole or not at all, and is durable on return. `timestamp_ms` is the header's timestamp, kept
        as mtime or metadata. Raises PreconditionError if the name is taken.
        """

    def put_stream(self, name: FileName, chunks: Iterator[bytes], *, timestamp_ms: int) -> int:
        """Store what `chunks` yields, as `put` does, without a local copy; returns its size in bytes.

        The file appears only when the iterator has ended normally and the name is free. When the iterator raises, its
        exception comes out as it is (an OSError as LocalIOError), and nothing is stored or left behind. The iterator
        runs in the caller's thread, while earlier chunks are being sent; closing it after a failure is the caller's.
        Parts are repeated after a transient fault, for half a minute at most, so that the whole need not be.
        Raises PreconditionError if the name is taken, CorruptError for an empty stream.
        """

    def copy(self, source: FileName, target: FileName) -> None:
        """Give a stored file a second name within the store, timestamp included; no byte comes here.

        Raises NotFoundError if there is no source, PreconditionError if the target's name is taken.
        """

    def timestamp_of(self, info: FileInfo) -> int:
        """Return the timestamp in the file's header, in Unix milliseconds: at most two small requests.

        Raises NotFoundError, and CorruptError where the header has to be read and is none.
        """

    def read(self, name: FileName, *, offset: int = 0, size: int) -> bytes:
        """Return up to `size` bytes from `offset` (fewer at the end of the file)."""

    def stream(self, name: FileName, *, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield the file's bytes from `offset` to its end (or `size` bytes of it) in chunks of at most 1 MiB.

        A connection that breaks before the end raises TransientNetworkError; never a silent short end.
        """

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files; a name that is gone already is no error.

        A refused file does not stop the rest. The error of the first one is raised then, and its `remaining` says
        which files may still be there. That the store keeps what it confirms to have deleted shows in a listing only.
        """

    def read_side(self, key: str) -> bytes | None:
        """Return the small object ``lsync/<key>`` beside the levels, or None if there is none."""

    def write_side(self, key: str, body: bytes, *, expected: bytes | None) -> None:
        """Write ``lsync/<key>`` if its content still is `expected` (None: if there is none); else PreconditionError."""

    def close(self) -> None:
        """Release connections; idempotent."""
