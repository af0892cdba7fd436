"""Creating objects where their names are free: from a file, from bytes, from a stream, from another object.

One PUT below the part size, a multipart upload (`s3_multipart`) from there on. Creation is conditional
(``If-None-Match: *``). A store that refuses the header gets a HEAD before the request instead; that leaves a gap
between the two, which the owner object of the replica covers. So does a store that ignores the header (MinIO does for
copies), hence the HEAD before every copy and multipart upload.

A response that got lost makes our own object look foreign: 412 to the SDK's repetition. The ETag then tells whether
the object holds what was sent. Where it cannot (no MD5, as with encryption by a customer's key), PreconditionError is
raised, and the caller compares the content.

Memory: a file's part is read where it is sent, about 1 MiB each; a stream's parts are held, as `s3_multipart` bounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from litestream_py.clients.chunks import SourceStream
from litestream_py.clients.s3_errors import (
    FOREIGN,
    error_code,
    field_of,
    refuses_header,
    translate,
    translated,
    was_repeated,
)
from litestream_py.clients.s3_keys import CONTENT_TYPE, TIMESTAMP_METADATA, format_timestamp
from litestream_py.clients.s3_multipart import NO_SUCH_UPLOAD, PATIENCE, MultipartUpload, Part
from litestream_py.clients.s3_parts import Body, cut, open_source, part_ranges, stream_part_size
from litestream_py.clients.specs import S3Replica
from litestream_py.core.backoff import RetryPolicy
from litestream_py.errors import CorruptError, LsyncError, NotFoundError, PreconditionError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoS3

COPY_WHOLE_MAX: Final = 5 << 30
"""S3's limit on what one request copies, in bytes."""
COPY_PART_BYTES: Final = 256 << 20


class ObjectWriter:
    """Creates objects in the bucket of a replica; safe to use from several threads. Raises LsyncErrors only."""

    def __init__(self, client: BotoS3, replica: S3Replica, patience: RetryPolicy = PATIENCE) -> None:
        self._s3 = client
        self._bucket = replica.bucket
        self._options = replica.options
        self._patience = patience
        self._plain: set[str] = set()
        """Requests of which the store is known to refuse the header of a conditional write."""

    def put(self, key: str, source: Path | bytes, *, timestamp_ms: int) -> None:
        """Store a file; raises PreconditionError if the name is taken, CorruptError for an empty source."""
        display = self._display(key)
        part_size = self._options.part_size_bytes
        headers = self._file_headers(timestamp_ms)
        with open_source(source) as body, translated("upload", display):
            if body.size == 0:
                raise CorruptError("upload", source if isinstance(source, Path) else display, "the file is empty")
            if body.size < part_size:
                self._put_whole(key, body.size, partial(body.slice, 0, body.size), headers)
            else:
                ranges = part_ranges(body.size, part_size)
                parts = (self._part(size, partial(body.slice, offset, size)) for offset, size in ranges)
                self._put_parts(key, parts, headers)

    def put_stream(self, key: str, chunks: Iterator[bytes], *, timestamp_ms: int) -> int:
        """Store a stream and return its size in bytes; see `ReplicaClient.put_stream`."""
        display = self._display(key)
        part_size = self._options.part_size_bytes
        headers = self._file_headers(timestamp_ms)
        with translated("upload", display):
            stream = SourceStream(chunks, display)
            bodies = cut(stream, partial(stream_part_size, part_size))
            begun = [next(bodies)]
            if len(begun[0]) < stream_part_size(part_size, 1):
                self._put_whole(key, stream.size, lambda: begun[0], headers)
            else:
                self._put_parts(key, map(self._held_part, chain(_drain(begun), bodies)), headers)
            return stream.size

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket, metadata included; see `ReplicaClient.copy`."""
        display = self._display(target)
        with translated("copy", self._display(source)):
            found = self._s3.head_object(**self._target(source))
        with translated("copy", display):
            self.check_free(target)
            origin: Any = {"CopySource": self._target(source)}
            size: int = field_of(found, "ContentLength", "copy", display)
            if size > COPY_WHOLE_MAX:
                ranges = part_ranges(size, COPY_PART_BYTES)
                parts = (Part(0, partial(self._copy_part, origin, offset, length)) for offset, length in ranges)
                return self._put_parts(target, parts, self._headers(found.get("Metadata", {})))

            def send(**condition: Any) -> None:
                answer = self._s3.copy_object(**self._target(target), **origin, **self._storage(), **condition)
                field_of(answer.get("CopyObjectResult", {}), "ETag", "copy", display)

            # The ETag of an object that was made of parts changes with the copy.
            etag = found.get("ETag", "")
            return self._settled(
                target, lambda: self._if_free("copy", target, send), lambda: None if "-" in etag else etag
            )

    # --- one object -------------------------------------------------------------------------------------------------

    def _put_whole(self, key: str, size: int, body: Callable[[], Body], headers: dict[str, Any]) -> None:
        def send(**condition: Any) -> None:
            answer = self._s3.put_object(
                **self._target(key), ContentLength=size, Body=body(), **headers, **condition
            )
            field_of(answer, "ETag", "upload", self._display(key))

        self._settled(key, lambda: self._if_free("put", key, send), lambda: _md5_etag(body()))

    def _put_parts(self, key: str, parts: Iterator[Part], headers: dict[str, Any]) -> None:
        # Uploading it all to be told at the end that the name is taken would be a waste.
        self.check_free(key)
        display = self._display(key)
        upload = MultipartUpload(
            self._s3, self._options.concurrency, self._target(key), headers, display, self._patience
        )

        def complete(request: dict[str, Any], etag: str | None) -> None:
            in_doubt = False

            def send(**condition: Any) -> None:
                answer = self._s3.complete_multipart_upload(**request, **condition)
                field_of(answer, "ETag", "upload", display)

            def attempt() -> None:
                nonlocal in_doubt
                try:
                    self._settled(key, lambda: self._if_free("complete", key, send), lambda: etag, in_doubt=in_doubt)
                except (*FOREIGN, LsyncError):
                    in_doubt = True
                    raise

            upload.patiently(attempt)

        upload.run(parts, complete)

    def _held_part(self, body: bytes) -> Part:
        return self._part(len(body), lambda: body, held=True)

    def _part(self, size: int, body: Callable[[], Body], *, held: bool = False) -> Part:
        def send(request: dict[str, Any]) -> str:
            answer = self._s3.upload_part(**request, ContentLength=size, Body=body())
            return cast("str", field_of(answer, "ETag", "upload", self._display(request["Key"])))

        return Part(size if held else 0, send)

    def _copy_part(self, origin: dict[str, Any], offset: int, size: int, request: dict[str, Any]) -> str:
        span = f"bytes={offset}-{offset + size - 1}"
        answer = self._s3.upload_part_copy(**request, **origin, CopySourceRange=span)
        found = answer.get("CopyPartResult", {})
        return cast("str", field_of(found, "ETag", "copy", self._display(request["Key"])))

    # --- only where the name is free ----------------------------------------------------------------------------------

    def check_free(self, key: str) -> None:
        """Raise PreconditionError if the object exists."""
        if self._etag(key) is not None:
            raise PreconditionError("upload", self._display(key), "the object exists already")

    def _if_free(self, what: str, key: str, send: Callable[..., None]) -> None:
        """Send a request on the condition that the name is free; where the store refuses that, after a HEAD."""
        if what not in self._plain:
            try:
                return send(IfNoneMatch="*")
            except FOREIGN as error:
                if not refuses_header(error):
                    raise
        self.check_free(key)
        try:
            send()
        except FOREIGN as error:
            if error_code(error) == NO_SUCH_UPLOAD:  # ended by the refusal: it would be so each time
                self._plain.add(what)
            raise
        self._plain.add(what)  # only now is it sure that the header was the reason
        return None

    def _settled(
        self, key: str, create: Callable[[], None], etag: Callable[[], str | None], *, in_doubt: bool = False
    ) -> None:
        """Run `create`; where it is refused because an earlier attempt (`in_doubt`) has had its effect, that is fine.

        etag: of what was sent, None where it is not known.
        """
        try:
            create()
        except (*FOREIGN, LsyncError) as error:
            done = isinstance(translate(error, "upload", key), PreconditionError) or error_code(error) == NO_SUCH_UPLOAD
            if not done or not (in_doubt or was_repeated(error)):
                raise
            found = self._etag(key)
            if found is None:
                raise
            if found != etag():
                raise PreconditionError("upload", self._display(key), "the object exists already") from error

    def _etag(self, key: str) -> str | None:
        try:
            return self._s3.head_object(**self._target(key)).get("ETag", "")
        except FOREIGN as error:
            if isinstance(translate(error, "upload", key), NotFoundError):
                return None
            raise

    # --- what goes with it --------------------------------------------------------------------------------------------

    def _file_headers(self, timestamp_ms: int) -> dict[str, Any]:
        return self._headers({TIMESTAMP_METADATA: format_timestamp(timestamp_ms)})

    def _headers(self, metadata: dict[str, str]) -> dict[str, Any]:
        return {"ContentType": CONTENT_TYPE, "Metadata": metadata, **self._storage()}

    def _storage(self) -> dict[str, Any]:
        headers: dict[str, Any] = {}
        if self._options.storage_class:
            headers["StorageClass"] = self._options.storage_class
        if self._options.sse_kms_key_id:
            headers |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._options.sse_kms_key_id}
        return headers

    def _target(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": key}

    def _display(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def _drain(items: list[bytes]) -> Iterator[bytes]:
    """Yield the items without keeping them: a part that has been sent must leave the memory."""
    while items:
        yield items.pop()


def _md5_etag(body: Body) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes | bytearray):
        digest.update(body)
    else:
        while block := body.read(1 << 20):
            digest.update(block)
    return f'"{digest.hexdigest()}"'
