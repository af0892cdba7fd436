"""A replica in memory, with scripted faults: for tests of whatever works on a `ReplicaClient`.

The script is a list of ``operation:fault`` separated by blanks. Each call takes the next entry of its operation; when
there is none left, the call succeeds. ``put:ok put:503`` lets the second put fail; ``put:503*3`` the first three;
``list:auth*`` every list from there on.

operations: list put put_stream copy timestamp read stream delete read_side write_side

| fault | what happens |
|---|---|
| ok | nothing unusual |
| timeout, 503, 500, auth, notfound, diskfull, refused | the call fails before it has an effect |
| the same with ``-after`` | the call has its effect, then fails: a response that got lost |
| cut@N | a body breaks off with TransientNetworkError after N bytes (``cut``: at half) |
| flip@N | a body comes whole with the lowest bit of byte N wrong (``flip``: in the middle) |
| cut@N of put_stream | TransientNetworkError once N bytes have been taken from the stream (``cut``: the first chunk) |
| kept of delete | the call succeeds, and nothing is deleted: a store that lies |
| denied@N of delete | the first N names are deleted, the others refused (``denied``: all) |

503 is ThrottledError, timeout and 500 TransientNetworkError, refused ReplicaError (not to be repeated).
"""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from litestream_py.clients.chunks import SourceStream
from litestream_py.core.ports import FileInfo
from litestream_py.errors import (
    AccessDeniedError,
    CorruptError,
    DiskFullError,
    LocalIOError,
    LsyncError,
    NotFoundError,
    PreconditionError,
    ReplicaError,
    ThrottledError,
    TransientNetworkError,
)
from litestream_py.ltx.ids import FileName

OPERATIONS: Final = (
    "list", "put", "put_stream", "copy", "timestamp", "read", "stream", "delete", "read_side", "write_side",
)  # fmt: skip
_ERRORS: Final[dict[str, tuple[type[LsyncError], str]]] = {
    "timeout": (TransientNetworkError, "the answer timed out"),
    "500": (TransientNetworkError, "internal error [InternalError]"),
    "503": (ThrottledError, "reduce your request rate [SlowDown]"),
    "auth": (AccessDeniedError, "access denied [AccessDenied]"),
    "notfound": (NotFoundError, "the bucket does not exist [NoSuchBucket]"),
    "diskfull": (DiskFullError, "no space left on device"),
    "refused": (ReplicaError, "not implemented [NotImplemented]"),
}
_BODY_FAULT = re.compile(r"(cut|flip)(?:@([0-9]+))?", re.ASCII)
_SPECIAL: Final = {
    "read": _BODY_FAULT,
    "stream": _BODY_FAULT,
    "put_stream": re.compile(r"(cut)(?:@([0-9]+))?", re.ASCII),
    "delete": re.compile(r"(kept|denied(?:@([0-9]+))?)", re.ASCII),
}
"""Faults that only these operations know."""
_ENTRY = re.compile(r"([a-z_]+):([a-z0-9@-]+)(\*[0-9]*)?", re.ASCII)
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """One call, in the order of arrival. subject: file names, level or key; fault: "ok" or the script's word."""

    operation: str
    subject: str
    fault: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An LTX file as it is kept."""

    body: bytes
    timestamp_ms: int


class MemoryClient:
    """`ReplicaClient` in memory; safe to use from several threads.

    files, side: what is stored; a test may look at and change them. calls: every call so far. on_call: called before
    each one, outside the lock, so that it may block.
    """

    def __init__(
        self, script: str = "", *, url: str = "memory://replica", on_call: Callable[[Call], None] | None = None
    ) -> None:
        """Raises ValueError for a script with an unknown operation or fault."""
        self._url = url
        self._lock = threading.RLock()
        self._on_call = on_call
        self._script: dict[str, Iterator[str]] = {}
        self.files: dict[FileName, Stored] = {}
        self.side: dict[str, bytes] = {}
        self.calls: list[Call] = []
        self.rewrite(script)

    @property
    def url(self) -> str:
        """The name that was given."""
        return self._url

    @property
    def counts(self) -> Counter[str]:
        """How many calls there were of each operation."""
        with self._lock:
            return Counter(call.operation for call in self.calls)

    def rewrite(self, script: str) -> None:
        """Replace what is left of the script; raises ValueError as the constructor does."""
        with self._lock:
            self._script = _parse_script(script)

    def list_level(self, level: int) -> list[FileInfo]:
        """Return the files of a level; `created_ms` is their timestamp."""
        with self._call("list", str(level)):
            return [
                FileInfo(name, len(stored.body), stored.timestamp_ms)
                for name, stored in sorted(self.files.items())
                if name.level == level
            ]

    def put(self, name: FileName, source: Path | bytes, *, timestamp_ms: int) -> None:
        """Store a file if its name is free; see `ReplicaClient.put`. Raises CorruptError for an empty source."""
        with self._call("put", str(name)):
            try:
                body = source if isinstance(source, bytes) else source.read_bytes()
            except OSError as error:
                raise LocalIOError("read", source, error.strerror or error) from error
            if not body:
                raise CorruptError("put", name, "the file is empty")
            self._create(name, Stored(body, timestamp_ms))

    def put_stream(self, name: FileName, chunks: Iterator[bytes], *, timestamp_ms: int) -> int:
        """Store what `chunks` yields and return its size in bytes; see `ReplicaClient.put_stream`."""
        scripted = self._call("put_stream", str(name))
        scripted.raise_before()
        with self._lock:
            self._check_free(name)
        body = b"".join(_taken(SourceStream(chunks, name), scripted.fault, str(name)))
        with scripted:
            self._create(name, Stored(body, timestamp_ms))
        return len(body)

    def copy(self, source: FileName, target: FileName) -> None:
        """Give a file a second name; see `ReplicaClient.copy`."""
        with self._call("copy", f"{source} {target}"):
            self._create(target, self._stored(source))

    def timestamp_of(self, info: FileInfo) -> int:
        """Return the timestamp that the file was put with, in ms."""
        with self._call("timestamp", str(info.name)):
            return self._stored(info.name).timestamp_ms

    def read(self, name: FileName, *, offset: int = 0, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; empty behind the end."""
        with self._call("read", str(name)) as fault:
            return b"".join(_broken(self._stored(name).body[offset : offset + size], fault, str(name)))

    def stream(self, name: FileName, *, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield the file's bytes in chunks of at most 1 MiB; see `ReplicaClient.stream`."""
        with self._call("stream", str(name)) as fault:
            body = self._stored(name).body[offset : None if size is None else offset + size]
        yield from _broken(body, fault, str(name))

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files; see `ReplicaClient.delete`."""
        try:
            self._delete(names)
        except LsyncError as error:
            error.remaining = error.remaining or tuple(names)
            raise

    def read_side(self, key: str) -> bytes | None:
        """Return the content of ``lsync/<key>``, or None."""
        with self._call("read_side", key):
            return self.side.get(key)

    def write_side(self, key: str, body: bytes, *, expected: bytes | None) -> None:
        """Write ``lsync/<key>`` where its content is `expected`."""
        with self._call("write_side", key):
            if self.side.get(key) != expected:
                raise PreconditionError("write", f"lsync/{key}", "the object is not what was expected")
            self.side[key] = body

    def close(self) -> None:
        """Nothing to release; what is stored stays."""

    def _delete(self, names: Sequence[FileName]) -> None:
        with self._call("delete", " ".join(map(str, names))) as fault:
            match = _SPECIAL["delete"].fullmatch(fault)
            allowed = len(names) if match is None else int(match[2] or 0)
            for name in names[:allowed]:
                self.files.pop(name, None)
            if fault.startswith("denied") and allowed < len(names):
                refusal = AccessDeniedError("delete", names[allowed], "access denied [AccessDenied]")
                refusal.remaining = tuple(names[allowed:])
                raise refusal

    def _stored(self, name: FileName) -> Stored:
        if name not in self.files:
            raise NotFoundError("read", name, "no such file")
        return self.files[name]

    def _check_free(self, name: FileName) -> None:
        if name in self.files:
            raise PreconditionError("put", name, "the file exists already")

    def _create(self, name: FileName, stored: Stored) -> None:
        self._check_free(name)
        self.files[name] = stored

    def _call(self, operation: str, subject: str) -> _Scripted:
        with self._lock:
            fault = next(self._script.get(operation, iter(())), "ok")
            call = Call(operation, subject, fault)
            self.calls.append(call)
        if self._on_call is not None:
            self._on_call(call)
        return _Scripted(call, self._lock)


class _Scripted:
    """Runs the effect of a call under the lock, with the scripted error before or after it."""

    def __init__(self, call: Call, lock: threading.RLock) -> None:
        self._call = call
        self._lock = lock

    @property
    def fault(self) -> str:
        """The script's word."""
        return self._call.fault

    def raise_before(self) -> None:
        """Raise the error of a call that fails before it has an effect."""
        self._raise_if(self._call.fault)

    def __enter__(self) -> str:
        self.raise_before()
        self._lock.acquire()
        return self._call.fault

    def __exit__(self, error_type: object, *_: object) -> None:
        self._lock.release()
        if error_type is None:
            self._raise_if(self._call.fault.removesuffix("-after"))

    def _raise_if(self, fault: str) -> None:
        if fault in _ERRORS:
            error, cause = _ERRORS[fault]
            raise error(self._call.operation, self._call.subject, cause)


def _broken(body: bytes, fault: str, subject: str) -> Iterator[bytes]:
    match = _BODY_FAULT.fullmatch(fault)
    end = len(body)
    if match is not None and body:
        at = min(len(body) - 1, int(match[2]) if match[2] else len(body) // 2)
        if match[1] == "cut":
            end = at
        else:
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    for start in range(0, end, _CHUNK_BYTES):
        yield body[start : min(end, start + _CHUNK_BYTES)]
    if end < len(body):
        raise TransientNetworkError("read", subject, f"the body ended {len(body) - end} bytes early")


def _taken(chunks: Iterator[bytes], fault: str, subject: str) -> Iterator[bytes]:
    """Yield the chunks of a stream that is being stored, up to where the fault breaks it off."""
    match = _SPECIAL["put_stream"].fullmatch(fault)
    taken = 0
    for chunk in chunks:
        taken += len(chunk)
        if match is not None and taken >= int(match[2] or 0):
            raise TransientNetworkError("put_stream", subject, f"the connection broke after {taken} bytes")
        yield chunk


def _parse_script(text: str) -> dict[str, Iterator[str]]:
    queues: defaultdict[str, deque[Iterator[str]]] = defaultdict(deque)
    for entry in text.split():
        match = _ENTRY.fullmatch(entry)
        if match is None or match[1] not in OPERATIONS:
            raise ValueError(f"{entry!r} is not OPERATION:FAULT, with an operation of {', '.join(OPERATIONS)}")
        operation, fault, times = match[1], match[2], match[3]
        special = operation in _SPECIAL and _SPECIAL[operation].fullmatch(fault) is not None
        if fault != "ok" and fault.removesuffix("-after") not in _ERRORS and not special:
            raise ValueError(f"{entry!r}: {fault!r} is not a fault of {operation}")
        if times is None:
            queues[operation].append(repeat(fault, 1))
        else:
            queues[operation].append(repeat(fault) if times == "*" else repeat(fault, int(times[1:])))
    return {operation: chain.from_iterable(entries) for operation, entries in queues.items()}
