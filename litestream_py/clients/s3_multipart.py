"""One multipart upload: parts sent in parallel while the next ones are made, and put together at the end.

A part is sent again after a transient fault, with growing pauses, so that a large upload outlives a bad half minute.
Where the answer to the completion got lost, its repetition is refused (412, or the upload is unknown): the ETag of the
object then tells whether it is ours.

An upload that fails is aborted; where even that fails, the store keeps parts until a lifecycle rule removes them, and
the error carries a note that says so.

Memory: parts that are held in memory (`Part.held_bytes`) are never more than `HELD_BYTES_MAX`, the one that is being
made included; but two at least, and `concurrency` in flight at most.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from litestream_py.clients.s3_errors import FOREIGN, error_code, field_of, translate
from litestream_py.core.backoff import RetryPolicy, next_delay
from litestream_py.errors import TransientNetworkError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoS3
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

T = TypeVar("T")
_Flights: TypeAlias = "dict[Future[CompletedPartTypeDef], int]"
"""Parts under way, with the bytes of memory that each holds."""

HELD_BYTES_MAX: Final = 24 << 20
NO_SUCH_UPLOAD: Final = "NoSuchUpload"
PATIENCE: Final = RetryPolicy()
"""For each request of an upload: 8 attempts within half a minute, the time that they take themselves not counted."""

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?', re.ASCII)


class Part(NamedTuple):
    """A part to send. held_bytes: memory it occupies until it has arrived. send: from the arguments of a part's
    request (Bucket, Key, UploadId, PartNumber) to the part's ETag; may be called again.
    """

    held_bytes: int
    send: Callable[[dict[str, Any]], str]


def composite_etag(etags: Iterable[str]) -> str | None:
    """Return the ETag that S3 gives an object made of these parts, in quotes: the MD5 of their MD5s, and their number.

    None where the parts' ETags are no MD5 (encrypted with a key of the customer's, some stores).
    """
    matches = [_MD5_ETAG.fullmatch(etag) for etag in etags]
    digests = [bytes.fromhex(match[1]) for match in matches if match is not None]
    if len(digests) < len(matches):
        return None
    return f'"{hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"'


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """One multipart upload. concurrency: parts in parallel. target: Bucket and Key. headers: of the first request."""

    client: BotoS3
    concurrency: int
    target: dict[str, Any]
    headers: dict[str, Any]
    display: str
    patience: RetryPolicy = PATIENCE
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, parts: Iterable[Part], complete: Callable[[dict[str, Any], str | None], None]) -> None:
        """Send the parts, then call `complete` with the arguments of the last request and the ETag to expect.

        Raises the first failure, of `parts` too, after every part that was under way has ended and the upload is
        aborted.
        """
        started = self.client.create_multipart_upload(**self.target, **self.headers)
        upload = {**self.target, "UploadId": field_of(started, "UploadId", "upload", self.display)}
        try:
            sent = self._send_parts(parts, upload)
            etag = composite_etag(part["ETag"] for part in sent)
            complete({**upload, "MultipartUpload": {"Parts": sent}}, etag)
        except BaseException as error:
            self._abort(upload, error)
            raise

    def patiently(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, repeated after transient failures as `patience` allows."""
        attempt = 0
        while True:
            try:
                return call()
            except (*FOREIGN, TransientNetworkError) as error:
                transient = isinstance(translate(error, "upload", self.display), TransientNetworkError)
                # An upload that the store no longer knows does not come back.
                if not transient or error_code(error) == NO_SUCH_UPLOAD or attempt + 1 >= self.patience.attempts_max:
                    raise
                policy = self.patience
                delay_s = next_delay(attempt, base_s=policy.base_s, max_s=policy.max_s, rng=random.random)
                if self._stopping.wait(delay_s):
                    raise
                attempt += 1

    def _send_parts(self, parts: Iterable[Part], upload: dict[str, Any]) -> list[CompletedPartTypeDef]:
        flights: _Flights = {}
        sent: list[CompletedPartTypeDef] = []
        # Its threads end with it: a hundred replicas that once had a large file must not keep some hundred threads.
        # Leaving the block waits: no part may be under way when the upload is aborted, or the store could keep it.
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="s3-part") as executor:
            try:
                for number, part in enumerate(parts, start=1):
                    sent += _landed(flights, timeout_s=0)
                    while flights and not self._has_room(flights, part.held_bytes):
                        sent += _landed(flights)
                    task = executor.submit(self._send, part, {**upload, "PartNumber": number})
                    flights[task] = part.held_bytes
                    del part, task  # or their bytes would stay in memory while the next part is made
                while flights:
                    sent += _landed(flights)
            except BaseException:
                self._stopping.set()
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        return sorted(sent, key=lambda part: part["PartNumber"])

    def _has_room(self, flights: _Flights, held_bytes: int) -> bool:
        # Twice: for this part, and for the next one, which is made while this one is sent.
        return len(flights) < self.concurrency and sum(flights.values()) + 2 * held_bytes <= HELD_BYTES_MAX

    def _send(self, part: Part, request: dict[str, Any]) -> CompletedPartTypeDef:
        return {"PartNumber": request["PartNumber"], "ETag": self.patiently(lambda: part.send(request))}

    def _abort(self, upload: dict[str, Any], cause: BaseException) -> None:
        try:
            self.client.abort_multipart_upload(**upload)
        except FOREIGN as error:  # the first failure is the one to report
            if error_code(error) != NO_SUCH_UPLOAD:
                reason = translate(error, "abort upload", self.display)
                cause.add_note(f"the parts stay at the store until a lifecycle rule removes them: {reason}")


def _landed(flights: _Flights, *, timeout_s: float | None = None) -> list[CompletedPartTypeDef]:
    """Take out the parts that have arrived, after waiting for one; raises what made a part fail."""
    done = wait(flights, timeout_s, return_when=FIRST_COMPLETED).done
    for flight in done:
        del flights[flight]
    return [flight.result() for flight in done]
