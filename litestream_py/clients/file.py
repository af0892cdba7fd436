"""A replica in a folder: ``<path>/ltx/<level>/<min>-<max>.ltx``, side objects in ``<path>/lsync/``.

The level is decimal. A file's mtime is the timestamp of its LTX header, in milliseconds; a restore by time looks at it,
so it is set before the file becomes visible. Files are write-once and appear whole:

1. Where the source is a file of the same file system, it gets the final name as a second one: link(2), which fails
   where the name is taken (never an overwrite).
2. Else it is copied to a temporary name in the directory of the level, fsynced, and that is linked to the final name.
3. The directory is fsynced.

A stream goes the way of a copy: fsynced under its temporary name when it has ended, removed when it breaks off. A copy
within the replica is a second name too.

A crash leaves at most a temporary name, which the next process to write to the level removes: its maker holds a lock
on it. With a link, replica and source are one inode: a source must be write-once and fsynced by the caller (its mtime
too, else it is set and fsynced here), and damage to one is damage to both.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from litestream_py import failpoints
from litestream_py.clients.chunks import SourceStream
from litestream_py.clients.file_io import (
    LINK_REFUSED,
    fsync,
    fsync_directory,
    locked_directory,
    make_directories,
    translate_os_error,
    translated,
)
from litestream_py.clients.headers import header_timestamp_ms
from litestream_py.clients.specs import FileReplica
from litestream_py.core.ports import FileInfo
from litestream_py.errors import (
    CorruptError,
    LocalIOError,
    LsyncError,
    NotFoundError,
    PreconditionError,
    TransientNetworkError,
)
from litestream_py.ltx.ids import FileName, parse_file_name

CHUNK_BYTES: Final = 1 << 20
_TEMP_PREFIX: Final = ".lsync-"
_NS_PER_MS: Final = 1_000_000

BEFORE_LINK: Final = failpoints.declare("file.put.before_link")
AFTER_LINK: Final = failpoints.declare("file.put.after_link")
BEFORE_SIDE_RENAME: Final = failpoints.declare("file.side.before_rename")
AFTER_SIDE_RENAME: Final = failpoints.declare("file.side.after_rename")


class FileClient:
    """`ReplicaClient` on a folder; safe to use from several threads and processes."""

    def __init__(self, replica: FileReplica) -> None:
        """Open a client; nothing is read or created yet."""
        self._root = replica.path
        self._url = replica.display
        self._lock = threading.Lock()
        self._ready: set[Path] = set()
        self._seen: tuple[int, int] | None = None  # device and inode of the root, once something was written to it

    @property
    def url(self) -> str:
        """The replica's URL."""
        return self._url

    def list_level(self, level: int) -> list[FileInfo]:
        """Return the LTX files of a level in TXID order; `created_ms` is the mtime, `appeared_ms` the ctime."""
        directory = self._level(level)
        found: list[FileInfo] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = parse_file_name(level, entry.name)
                    if name is None:
                        continue
                    with suppress(FileNotFoundError):  # deleted since the directory was read
                        if entry.is_file():
                            facts = entry.stat()
                            created_ms = facts.st_mtime_ns // _NS_PER_MS
                            found.append(FileInfo(name, facts.st_size, created_ms, facts.st_ctime_ns // _NS_PER_MS))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise translate_os_error(error, "list", directory) from error
        return sorted(found, key=lambda info: info.name)

    # --- writing ------------------------------------------------------------------------------------------------------

    def put(self, name: FileName, source: Path | bytes, *, timestamp_ms: int) -> None:
        """Store a file if its name is free; see `ReplicaClient.put`. Raises CorruptError for an empty source."""
        target = self._path(name)
        if isinstance(source, Path):
            with _reading(source):
                size = source.stat().st_size
        else:
            size = len(source)
        if size == 0:
            raise CorruptError("write", source if isinstance(source, Path) else target, "the file is empty")
        with translated("write", target):
            self._create(target, source, timestamp_ms * _NS_PER_MS)

    def put_stream(self, name: FileName, chunks: Iterator[bytes], *, timestamp_ms: int) -> int:
        """Store what `chunks` yields and return its size in bytes; see `ReplicaClient.put_stream`."""
        target = self._path(name)
        with translated("write", target):
            if target.exists():  # writing it all to be told at the end would be a waste
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            stream = SourceStream(chunks, target)
            self._create(target, stream, timestamp_ms * _NS_PER_MS)
            return stream.size

    def copy(self, source: FileName, target: FileName) -> None:
        """Give a file a second name (a hard link, else a copy), mtime included; see `ReplicaClient.copy`."""
        path = self._path(source)
        with translated("copy", path):
            mtime_ns = path.stat().st_mtime_ns
            self._create(self._path(target), path, mtime_ns)

    def _create(self, target: Path, source: Path | bytes | Iterator[bytes], mtime_ns: int) -> None:
        """Make a durable file of a source; raises OSError, EEXIST if there is one."""
        directory = target.parent
        self._prepare(directory)
        if not isinstance(source, Path) or not _try_link(source, target, mtime_ns):
            with _staged(source, directory, mtime_ns) as staged:
                _publish(staged, target)
        try:
            failpoints.hit(AFTER_LINK)
            fsync_directory(directory)
        except OSError:
            # Visible but perhaps not durable: take it back, so that a repetition does the whole again.
            target.unlink()
            raise

    def _check_root(self) -> None:
        """Notice that the folder we have written to is no longer there: files behind a gap would be of no use.

        Raises TransientNetworkError where its volume is gone (below a mount point nothing may be written), else
        NotFoundError, once: what follows begins a new chain in a new folder.
        """
        with self._lock:
            seen = self._seen
            if seen is None:
                return
            try:
                facts = self._root.stat()
                found = (facts.st_dev, facts.st_ino)
            except FileNotFoundError:
                existing = next(parent for parent in self._root.parents if parent.exists())
                found = (existing.stat().st_dev, 0)
            if found == seen:
                return
            if found[0] != seen[0]:
                hint = "mount it again; or restart lsync, to begin a new chain there"
                raise TransientNetworkError("write", self._url, "the volume of the replica is not mounted", hint=hint)
            self._seen = None
            self._ready.clear()
        raise NotFoundError("write", self._url, "the folder of the replica was removed")

    def _prepare(self, directory: Path) -> None:
        """Create a level's directory and remove what a crash has left there, once."""
        self._check_root()
        with self._lock:
            if directory in self._ready and directory.is_dir():
                return
            make_directories(directory)
            _remove_stale(directory)
            self._ready.add(directory)
            facts = self._root.stat()
            self._seen = (facts.st_dev, facts.st_ino)

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, name: FileName, *, offset: int = 0, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; empty behind the end."""
        return b"".join(self.stream(name, offset=offset, size=size))

    def stream(self, name: FileName, *, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield the file's bytes in chunks of at most 1 MiB; see `ReplicaClient.stream`."""
        path = self._path(name)
        with translated("read", path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                end = os.fstat(fd).st_size if size is None else min(os.fstat(fd).st_size, offset + size)
                while offset < end:
                    chunk = os.pread(fd, min(CHUNK_BYTES, end - offset), offset)
                    if not chunk:
                        raise TransientNetworkError("read", path, f"the file ended {end - offset} bytes early")
                    offset += len(chunk)
                    yield chunk
            finally:
                os.close(fd)

    def timestamp_of(self, info: FileInfo) -> int:
        """Return the header's timestamp in ms: read from there, because few tools that copy a folder keep the mtime."""
        return header_timestamp_ms(self, info.name)

    # --- deleting -----------------------------------------------------------------------------------------------------

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files, durable on return; see `ReplicaClient.delete`."""
        refused: dict[FileName, LsyncError] = {}
        gone: defaultdict[Path, list[FileName]] = defaultdict(list)
        for name in names:
            path = self._path(name)
            try:
                with translated("delete", path), suppress(FileNotFoundError):
                    path.unlink()
                    gone[path.parent].append(name)
            except LsyncError as error:
                refused[name] = error
        for directory, removed in gone.items():
            try:
                with translated("delete in", directory):
                    fsync_directory(directory)
            except LsyncError as error:
                refused |= dict.fromkeys(removed, error)
        if refused:
            first = next(iter(refused.values()))
            first.remaining = tuple(refused)
            raise first

    # --- side objects -------------------------------------------------------------------------------------------------

    def read_side(self, key: str) -> bytes | None:
        """Return the content of ``lsync/<key>``, or None."""
        path = self._root / "lsync" / key
        with translated("read", path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def write_side(self, key: str, body: bytes, *, expected: bytes | None) -> None:
        """Write ``lsync/<key>`` where its content is `expected`; see `ReplicaClient.write_side`."""
        directory = self._root / "lsync"
        path = directory / key
        with translated("write", path):
            self._prepare(directory)
            with _staged(body, directory, None) as staged, locked_directory(directory):
                if self.read_side(key) != expected:
                    raise PreconditionError("write", path, "the object is not what was expected")
                failpoints.hit(BEFORE_SIDE_RENAME)
                staged.replace(path)
                failpoints.hit(AFTER_SIDE_RENAME)
                fsync_directory(directory)

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _path(self, name: FileName) -> Path:
        return self._level(name.level) / name.name

    def _level(self, level: int) -> Path:
        return self._root / "ltx" / str(level)


# --- from a source to a durable file under its final name -------------------------------------------------------------


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Blame a failure on the source, which is on our side and not the replica's."""
    try:
        yield
    except OSError as error:
        raise LocalIOError("read", source, error.strerror or error) from error


def _try_link(source: Path, target: Path, mtime_ns: int) -> bool:
    """Give the source its second, final name; False where links are refused. Raises OSError, EEXIST if it is taken."""
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_mtime_ns != mtime_ns:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
                fsync(fd)
        finally:
            os.close(fd)
        failpoints.hit(BEFORE_LINK)
        _link(source, target)
    except OSError as error:
        if error.errno in LINK_REFUSED:
            return False
        raise
    return True


@contextmanager
def _staged(source: Path | bytes | Iterator[bytes], directory: Path, mtime_ns: int | None) -> Iterator[Path]:
    """Yield a durable copy with that mtime under a temporary name, which is removed and unlocked at the end."""
    temp = directory / f"{_TEMP_PREFIX}{os.getpid()}-{secrets.token_hex(4)}.tmp"
    with ExitStack() as stack:
        with locked_directory(directory):  # or it could pass for stale before it is locked
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            out = stack.enter_context(open(fd, "wb", buffering=0))
            stack.callback(temp.unlink, missing_ok=True)
            fcntl.flock(fd, fcntl.LOCK_EX)
        if isinstance(source, Path):
            with _reading(source):
                file = stack.enter_context(source.open("rb", buffering=0))
            shutil.copyfileobj(file, out, CHUNK_BYTES)
        else:
            for chunk in [source] if isinstance(source, bytes) else source:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(fd, view) :]
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        fsync(fd)
        yield temp


def _publish(staged: Path, target: Path) -> None:
    """Give a staged file its final name; raises OSError, EEXIST if that is taken."""
    failpoints.hit(BEFORE_LINK)
    try:
        _link(staged, target)
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
        with locked_directory(target.parent):
            if target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            staged.replace(target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        # The caller may find the content to be its own and count it as stored: then the name must not get lost.
        fsync_directory(target.parent)
        raise


def _remove_stale(directory: Path) -> None:
    """Remove the temporary names whose makers are gone: nobody holds their locks."""
    with locked_directory(directory):
        for path in directory.glob(f"{_TEMP_PREFIX}*.tmp"):
            with suppress(FileNotFoundError, BlockingIOError):  # its maker is done with it, or still at work
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(fd)
