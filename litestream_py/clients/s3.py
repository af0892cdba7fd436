"""A replica in an S3 bucket. Keys and metadata: `s3_keys`; errors: `s3_errors`; the connection: `s3_session`.

Creation is conditional (``If-None-Match: *``). A store that refuses the header gets a HEAD before the PUT instead; that
leaves a gap between the two, which the owner object of the replica covers. A store that ignores the header silently
cannot be told apart here: the engine probes for it.

A response that got lost makes our own object look foreign: a repeated PUT then raises PreconditionError, and the caller
compares the content.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from litestream_py.clients import s3_session
from litestream_py.clients.s3_errors import (
    FOREIGN,
    error_code,
    field_of,
    from_code,
    is_past_the_end,
    refuses_header,
    translate,
)
from litestream_py.clients.s3_keys import (
    CONTENT_TYPE,
    TIMESTAMP_METADATA,
    file_key,
    format_timestamp,
    level_prefix,
    side_key,
)
from litestream_py.clients.s3_upload import MultipartUpload, Source, open_source
from litestream_py.clients.specs import S3Replica
from litestream_py.core.ports import FileInfo
from litestream_py.errors import (
    CorruptError,
    NotFoundError,
    PreconditionError,
    ReplicaError,
    TransientNetworkError,
)
from litestream_py.ltx.ids import FileName, parse_file_name

if TYPE_CHECKING:
    from botocore.response import StreamingBody

CHUNK_BYTES: Final = 1 << 20
DELETE_BATCH: Final = 1000
"""S3's limit on the keys of one DeleteObjects."""

_NO_BATCH_DELETE: Final = {"NotImplemented", "MethodNotAllowed", "MissingContentMD5", "501", "405"}


class S3Client:
    """`ReplicaClient` on an S3 bucket; safe to use from several threads.

    Memory: about 1 MiB for each parallel part of an upload and for each stream.
    """

    def __init__(self, replica: S3Replica) -> None:
        """Open a client; nothing is sent yet. Raises ConfigError for options that the SDK refuses."""
        self._replica = replica
        self._options = replica.options
        self._url = replica.display
        self._where = f"s3://{replica.bucket}"
        self._s3 = s3_session.acquire(self._options, self._url)
        self._lock = threading.Lock()
        self._closed = False
        self._conditional_put = True
        self._conditional_complete = True
        self._batch_delete = True

    @property
    def url(self) -> str:
        """The replica's URL without secrets."""
        return self._url

    # --- listing ------------------------------------------------------------------------------------------------------

    def list_level(self, level: int) -> list[FileInfo]:
        """Return the LTX files of a level in TXID order; `created_ms` is the store's LastModified."""
        prefix = level_prefix(self._replica.prefix, level)
        found: list[FileInfo] = []
        with _translated("list", f"{self._where}/{prefix}"):
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
        key = file_key(self._replica.prefix, name)
        display = f"{self._where}/{key}"
        headers: dict[str, Any] = {
            "ContentType": CONTENT_TYPE,
            "Metadata": {TIMESTAMP_METADATA: format_timestamp(timestamp_ms)},
        }
        if self._options.storage_class:
            headers["StorageClass"] = self._options.storage_class
        if self._options.sse_kms_key_id:
            headers |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._options.sse_kms_key_id}
        with open_source(source) as body, _translated("upload", display):
            if body.size == 0:
                raise CorruptError("upload", source if isinstance(source, Path) else display, "the file is empty")
            if body.size < self._options.part_size_bytes:
                self._put_whole(key, body, headers)
            else:
                self._put_parts(key, body, headers, display)

    def _put_whole(self, key: str, source: Source, headers: dict[str, Any]) -> None:
        def send(**condition: Any) -> None:
            answer = self._s3.put_object(
                **self._target(key),
                ContentLength=source.size,
                Body=source.slice(0, source.size),
                **headers,
                **condition,
            )
            field_of(answer, "ETag", "upload", f"{self._where}/{key}")

        if self._conditional_put:
            try:
                return send(IfNoneMatch="*")
            except FOREIGN as error:
                if not refuses_header(error):
                    raise
        self._check_free(key)
        send()
        self._conditional_put = False  # only now is it sure that the header was the reason
        return None

    def _put_parts(self, key: str, source: Source, headers: dict[str, Any], display: str) -> None:
        # Uploading it all to be told at the end that the name is taken would be a waste.
        self._check_free(key)
        upload = MultipartUpload(self._s3, self._options.concurrency, self._target(key), headers, display)
        if self._conditional_complete:
            try:
                return upload.run(source, self._options.part_size_bytes, {"IfNoneMatch": "*"})
            except FOREIGN as error:
                if not refuses_header(error):
                    raise
        self._check_free(key)
        upload.run(source, self._options.part_size_bytes, {})
        self._conditional_complete = False
        return None

    def _check_free(self, key: str) -> None:
        try:
            self._s3.head_object(**self._target(key))
        except FOREIGN as error:
            if isinstance(translate(error, "upload", key), NotFoundError):
                return
            raise
        raise PreconditionError("upload", f"{self._where}/{key}", "the object exists already")

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, name: FileName, *, offset: int = 0, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; empty behind the end."""
        return b"".join(self.stream(name, offset=offset, size=size))

    def stream(self, name: FileName, *, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield the file's bytes in chunks of at most 1 MiB; see `ReplicaClient.stream`."""
        if size == 0:
            return
        key = file_key(self._replica.prefix, name)
        display = f"{self._where}/{key}"
        ranged: dict[str, Any] = {}
        if offset or size is not None:
            ranged["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        with _translated("download", display):
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

    # --- deleting -----------------------------------------------------------------------------------------------------

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files in batches of 1000; a refusal of any one raises, after its batch has been worked through."""
        keys = [file_key(self._replica.prefix, name) for name in names]
        for start in range(0, len(keys), DELETE_BATCH):
            batch = keys[start : start + DELETE_BATCH]
            if len(batch) == 1 or not (self._batch_delete and self._delete_batch(batch)):
                for key in batch:
                    self._delete_one(key)

    def _delete_batch(self, keys: list[str]) -> bool:
        """Delete by one request; False where the store does not know it."""
        with _translated("delete", f"{self._where}/{keys[0]} and {len(keys) - 1} more"):
            try:
                answer = self._s3.delete_objects(
                    Bucket=self._replica.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
                )
            except FOREIGN as error:
                if error_code(error) not in _NO_BATCH_DELETE:
                    raise
                self._batch_delete = False
                return False
        for entry in answer.get("Errors", []):
            where = f"{self._where}/{entry.get('Key', '')}"
            refusal = from_code(entry.get("Code", ""), entry.get("Message", ""), "delete", where)
            if not isinstance(refusal, NotFoundError):
                raise refusal
        return True

    def _delete_one(self, key: str) -> None:
        with _translated("delete", f"{self._where}/{key}"):
            try:
                self._s3.delete_object(**self._target(key))
            except FOREIGN as error:
                if error_code(error) != "NoSuchKey":
                    raise

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

        with _translated("write", display):
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
        with _translated("read", display):
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


@contextmanager
def _translated(operation: str, display: str) -> Iterator[None]:
    """Turn whatever the SDK raises into an LsyncError."""
    try:
        yield
    except FOREIGN as error:
        raise translate(error, operation, display) from error
