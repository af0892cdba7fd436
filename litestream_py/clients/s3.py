"""A replica in an S3 bucket: listing, reading and side objects here; creating objects: `s3_upload`; deleting:
`s3_delete`. Keys and metadata: `s3_keys`; errors: `s3_errors`; the connection: `s3_session`.

A store that ignores the header of a conditional write silently cannot be told apart here: the engine probes for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from litestream_py.clients import s3_session
from litestream_py.clients.headers import header_timestamp_ms
from litestream_py.clients.s3_delete import ObjectDeleter
from litestream_py.clients.s3_errors import (
    FOREIGN,
    error_code,
    field_of,
    is_past_the_end,
    refuses_header,
    translate,
    translated,
)
from litestream_py.clients.s3_keys import TIMESTAMP_METADATA, file_key, level_prefix, parse_timestamp, side_key
from litestream_py.clients.s3_multipart import PATIENCE
from litestream_py.clients.s3_upload import ObjectWriter
from litestream_py.clients.specs import S3Replica
from litestream_py.core.backoff import RetryPolicy
from litestream_py.core.ports import FileInfo
from litestream_py.errors import NotFoundError, PreconditionError, ReplicaError, TransientNetworkError
from litestream_py.ltx.ids import FileName, parse_file_name

if TYPE_CHECKING:
    from botocore.response import StreamingBody

CHUNK_BYTES: Final = 1 << 20


class S3Client:
    """`ReplicaClient` on an S3 bucket; safe to use from several threads.

    Memory: about 1 MiB for each parallel part of a file and for each stream that is read; 24 MiB for each stream that
    is stored, up to 23 GiB of it, then two parts (`s3_parts.stream_part_size`).
    """

    def __init__(self, replica: S3Replica, *, patience: RetryPolicy = PATIENCE) -> None:
        """Open a client; nothing is sent yet. Raises ConfigError for options that the SDK refuses.

        patience: for the parts of a multipart upload.
        """
        self._replica = replica
        self._options = replica.options
        self._url = replica.display
        self._where = f"s3://{replica.bucket}"
        self._s3 = s3_session.acquire(self._options, self._url)
        self._lock = threading.Lock()
        self._closed = False
        self._writer = ObjectWriter(self._s3, replica, patience)
        self._deleter = ObjectDeleter(self._s3, replica)

    @property
    def url(self) -> str:
        """The replica's URL without secrets."""
        return self._url

    # --- listing ------------------------------------------------------------------------------------------------------

    def list_level(self, level: int) -> list[FileInfo]:
        """Return the LTX files of a level in TXID order; `created_ms` is the store's LastModified."""
        prefix = level_prefix(self._replica.prefix, level)
        found: list[FileInfo] = []
        with translated("list", f"{self._where}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._replica.bucket,
                Prefix=prefix,
                Delimiter="/",  # an object in a sub-folder is not ours, whatever its name
            )
            for page in pages:
                for item in page.get("Contents", []):
                    name = parse_file_name(level, item["Key"].removeprefix(prefix))
                    if name is not None:
                        found.append(FileInfo(name, item["Size"], int(item["LastModified"].timestamp() * 1000)))
        return sorted(found, key=lambda info: info.name)

    # --- writing ------------------------------------------------------------------------------------------------------

    def put(self, name: FileName, source: Path | bytes, *, timestamp_ms: int) -> None:
        """Store a file if its name is free; see `ReplicaClient.put`. Raises CorruptError for an empty source."""
        self._writer.put(self._key(name), source, timestamp_ms=timestamp_ms)

    def put_stream(self, name: FileName, chunks: Iterator[bytes], *, timestamp_ms: int) -> int:
        """Store what `chunks` yields and return its size in bytes; see `ReplicaClient.put_stream`."""
        return self._writer.put_stream(self._key(name), chunks, timestamp_ms=timestamp_ms)

    def copy(self, source: FileName, target: FileName) -> None:
        """Copy a file within the bucket; see `ReplicaClient.copy`."""
        self._writer.copy(self._key(source), self._key(target))

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files, up to 1000 by one request; see `ReplicaClient.delete`."""
        self._deleter.delete(names)

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, name: FileName, *, offset: int = 0, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; empty behind the end."""
        return b"".join(self.stream(name, offset=offset, size=size))

    def stream(self, name: FileName, *, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield the file's bytes in chunks of at most 1 MiB; see `ReplicaClient.stream`."""
        if size == 0:
            return
        key = self._key(name)
        display = f"{self._where}/{key}"
        ranged: dict[str, Any] = {}
        if offset or size is not None:
            ranged["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        with translated("download", display):
            try:
                answer = self._s3.get_object(**self._target(key), **ranged)
            except FOREIGN as error:
                if is_past_the_end(error):
                    return
                raise
            with closing(answer["Body"]) as body:
                whole = "ContentRange" not in answer
                length = field_of(answer, "ContentLength", "download", display)
                if whole and (offset or (size is not None and length > size)):
                    raise ReplicaError("download", display, "the store ignores the range that was asked for")
                yield from _chunks(body, length, display)

    def timestamp_of(self, info: FileInfo) -> int:
        """Return the header's timestamp in ms from the metadata; failing that (a copy by hand) from the header."""
        key = self._key(info.name)
        with translated("read the timestamp of", f"{self._where}/{key}"):
            found = self._s3.head_object(**self._target(key))
        for name, text in found.get("Metadata", {}).items():
            if name.lower() == TIMESTAMP_METADATA and (timestamp_ms := parse_timestamp(text)) is not None:
                return timestamp_ms
        return header_timestamp_ms(self, info.name)

    # --- side objects -------------------------------------------------------------------------------------------------

    def read_side(self, key: str) -> bytes | None:
        """Return the content of ``lsync/<key>``, or None."""
        found = self._read_side(key)
        return None if found is None else found[0]

    def write_side(self, key: str, body: bytes, *, expected: bytes | None) -> None:
        """Write ``lsync/<key>`` where its content is `expected`; see `ReplicaClient.write_side`.

        The ETag of what was compared goes with the PUT, so that no other writer comes in between, where the store
        knows conditional writes; else the gap of a request remains.
        """
        path = side_key(self._replica.prefix, key)
        display = f"{self._where}/{path}"
        found = self._read_side(key)
        if (None if found is None else found[0]) != expected:
            raise PreconditionError("write", display, "the object is not what was expected")
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if found is None else {"IfMatch": found[1]}

        def send(**condition: Any) -> None:
            answer = self._s3.put_object(**self._target(path), Body=body, ContentType="application/json", **condition)
            field_of(answer, "ETag", "write", display)

        with translated("write", display):
            try:
                send(**condition)
            except FOREIGN as error:
                if refuses_header(error):
                    send()
                elif isinstance(translate(error, "write", display), NotFoundError) and error_code(error) == "NoSuchKey":
                    raise PreconditionError("write", display, "the object is gone") from error
                else:
                    raise

    def _read_side(self, key: str) -> tuple[bytes, str] | None:
        """Return content and ETag of a side object."""
        path = side_key(self._replica.prefix, key)
        display = f"{self._where}/{path}"
        with translated("read", display):
            try:
                answer = self._s3.get_object(**self._target(path))
            except FOREIGN as error:
                if error_code(error) == "NoSuchKey":
                    return None
                raise
            with closing(answer["Body"]) as body:
                length = field_of(answer, "ContentLength", "read", display)
                return b"".join(_chunks(body, length, display)), field_of(answer, "ETag", "read", display)

    # --- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the connections back; idempotent."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            s3_session.release(self._options)

    def _key(self, name: FileName) -> str:
        return file_key(self._replica.prefix, name)

    def _target(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._replica.bucket, "Key": key}


def _chunks(body: StreamingBody, size: int, display: str) -> Iterator[bytes]:
    left = size
    while left:
        chunk = body.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise TransientNetworkError("download", display, f"the body ended {left} bytes early")
        left -= len(chunk)
        yield chunk
