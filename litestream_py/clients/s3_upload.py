"""Creating an object from a file or from bytes: one PUT below the part size, a multipart upload from there on.

Memory: a part is read where it is sent (`FileSlice`), so that an upload holds about 1 MiB per parallel part, whatever
the part size. An upload that fails is aborted; where even that fails, the store keeps parts until a lifecycle rule
removes them, and the error carries a note that says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from litestream_py.clients.s3_body import FileSlice
from litestream_py.clients.s3_errors import FOREIGN, field_of, translate
from litestream_py.errors import LocalIOError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoS3
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PARTS_MAX: Final = 10_000
"""S3's limit on the parts of one upload."""

@dataclass(frozen=True, slots=True)
class Source:
    """The bytes to upload; `slice` gives a fresh body for a part of them, from any thread."""

    size: int
    slice: Callable[[int, int], bytes | IO[bytes]]


@contextmanager
def open_source(source: Path | bytes) -> Iterator[Source]:
    """Yield a source with its size in bytes; raises LocalIOError where the file cannot be opened."""
    if isinstance(source, bytes):
        view = source
        yield Source(len(view), lambda offset, size: view[offset : offset + size])
        return
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LocalIOError("read", source, error.strerror or error) from error
    try:
        yield Source(
            os.fstat(fd).st_size, lambda offset, size: cast("IO[bytes]", FileSlice(fd, offset, size, source))
        )
    finally:
        os.close(fd)


def part_ranges(size: int, part_size: int) -> list[tuple[int, int]]:
    """Return (offset, size) of each part, in bytes; the part size grows where S3's limit of 10,000 asks for it."""
    part_size = max(part_size, -(-size // PARTS_MAX))
    return [(offset, min(part_size, size - offset)) for offset in range(0, size, part_size)]


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """One multipart upload. concurrency: parts in parallel. target: Bucket and Key. headers: of the first request."""

    client: BotoS3
    concurrency: int
    target: dict[str, Any]
    headers: dict[str, Any]
    display: str

    def run(self, source: Source, part_size: int, complete_with: dict[str, Any]) -> None:
        """Upload the parts in parallel and put them together; `complete_with` are conditions of the last request.

        Raises the first failure, after every part that was under way has ended and the upload is aborted.
        """
        started = self.client.create_multipart_upload(**self.target, **self.headers)
        upload: str = field_of(started, "UploadId", "upload", self.display)
        try:
            parts = self._send_parts(source, part_size, upload)
            answer = self.client.complete_multipart_upload(
                **self.target, UploadId=upload, MultipartUpload={"Parts": parts}, **complete_with
            )
            field_of(answer, "ETag", "upload", self.display)
        except BaseException as error:
            self._abort(upload, error)
            raise

    def _send_parts(self, source: Source, part_size: int, upload: str) -> list[CompletedPartTypeDef]:
        def send(number: int, offset: int, size: int) -> CompletedPartTypeDef:
            answer = self.client.upload_part(
                **self.target,
                UploadId=upload,
                PartNumber=number,
                ContentLength=size,
                Body=source.slice(offset, size),
            )
            return {"PartNumber": number, "ETag": field_of(answer, "ETag", "upload", self.display)}

        ranges = part_ranges(source.size, part_size)
        futures: list[Future[CompletedPartTypeDef]] = []
        # Its threads end with it: a hundred replicas that once had a large file must not keep some hundred threads.
        # Leaving the block waits: no part may be under way when the upload is aborted, or the store could keep it.
        with ThreadPoolExecutor(min(self.concurrency, len(ranges)), thread_name_prefix="s3-part") as executor:
            try:
                futures += [executor.submit(send, i, *part) for i, part in enumerate(ranges, start=1)]
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                executor.shutdown(wait=False, cancel_futures=True)
        failed = [error for future in futures if not future.cancelled() and (error := future.exception())]
        if failed:
            raise failed[0]
        return [future.result() for future in futures]

    def _abort(self, upload: str, cause: BaseException) -> None:
        try:
            self.client.abort_multipart_upload(**self.target, UploadId=upload)
        except FOREIGN as error:  # the first failure is the one to report
            reason = translate(error, "abort upload", self.display)
            cause.add_note(f"the parts stay at the store until a lifecycle rule removes them: {reason}")
