"""Uploads and copies on S3 against a server that answers as the test says: faults, lost answers, bounded memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from litestream_py.clients import s3_session
from litestream_py.clients.s3 import S3Client
from litestream_py.clients.s3_multipart import HELD_BYTES_MAX, MultipartUpload, Part, composite_etag
from litestream_py.clients.s3_parts import PARTS_MAX, STREAM_PART_BYTES, cut, stream_part_size
from litestream_py.clients.specs import PART_SIZE_DEFAULT, PART_SIZE_MAX, PART_SIZE_MIN
from litestream_py.core.backoff import RetryPolicy
from litestream_py.errors import (
    AccessDeniedError,
    LsyncError,
    NotFoundError,
    PreconditionError,
    TransientNetworkError,
)
from litestream_py.ltx.ids import SNAPSHOT_LEVEL
from tests.support.replicas import TIMESTAMP_MS, name
from tests.support.stubhttp import COMPLETED, STARTED, Answer, Stub, s3_error, stubbed

AT_ONCE = RetryPolicy(attempts_max=3, base_s=0, max_s=0)
FREE = ("HEAD", Answer(404))
BUSY = s3_error(408, "RequestCanceled")
"""A transient fault that the SDK itself does not retry."""
DENIED = s3_error(403, "AccessDenied")
TAKEN = s3_error(412, "PreconditionFailed")
UNKNOWN_UPLOAD = s3_error(404, "NoSuchUpload")
PARTS = [b"a" * PART_SIZE_MIN, b"b" * PART_SIZE_MIN, b"c" * 10]
MD5S = [hashlib.md5(part).hexdigest() for part in PARTS]
OURS = f'"{hashlib.md5(b"".join(map(bytes.fromhex, MD5S))).hexdigest()}-3"'


@pytest.fixture
def client(stub: Stub) -> Iterator[S3Client]:
    """A client of the stub that sends one part after the other and does not wait between attempts."""
    made = S3Client(stubbed(stub, part_size_bytes=PART_SIZE_MIN, concurrency=1), patience=AT_ONCE)
    yield made
    made.close()


@pytest.fixture(params=["stream", "file"])
def store(request: pytest.FixtureRequest, client: S3Client, tmp_path: Path) -> Any:
    """A call that stores PARTS, as a stream or as a file."""
    if request.param == "stream":
        return lambda: client.put_stream(name(1), iter(PARTS), timestamp_ms=TIMESTAMP_MS)
    path = tmp_path / "source"
    path.write_bytes(b"".join(PARTS))
    return lambda: client.put(name(1), path, timestamp_ms=TIMESTAMP_MS)


def part_etag(i: int) -> Answer:
    return Answer(headers={"ETag": f'"{MD5S[i]}"'})


def script(stub: Stub, *completions: Answer) -> None:
    """Let an upload of PARTS go well up to its completion."""
    stub.answers += [FREE, ("POST", STARTED), *(("PUT", part_etag(i)) for i in range(3))]
    stub.answers += [("POST", completion) for completion in completions]


def methods(stub: Stub) -> str:
    return " ".join(request.method for request in stub.requests)


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_part_is_sent_again_after_a_fault(stub: Stub, store: Any) -> None:
    """After transient faults (503, 408) only the part concerned is repeated, with the same bytes."""
    stub.answers += [FREE, ("POST", STARTED), ("PUT", part_etag(0))]
    stub.answers += [("PUT", s3_error(503, "ServiceUnavailable"))] * 2  # the SDK tries twice by itself
    stub.answers += [("PUT", BUSY), ("PUT", part_etag(1)), ("PUT", part_etag(2)), ("POST", COMPLETED)]
    store()
    sent = [request for request in stub.requests if request.method == "PUT"]
    assert [request.body for request in sent] == [PARTS[0], *[PARTS[1]] * 4, PARTS[2]]
    assert ["partNumber=2" in request.path for request in sent] == [False, True, True, True, True, False]
    assert methods(stub).endswith("POST")
    assert stub.requests[-1].headers["if-none-match"] == "*"


@pytest.mark.parametrize(
    ("fault", "expected", "attempts"),
    [(BUSY, TransientNetworkError, 3), (DENIED, AccessDeniedError, 1), (UNKNOWN_UPLOAD, TransientNetworkError, 1)],
    ids=["408", "403", "NoSuchUpload"],
)
def test_patience_has_an_end(
    stub: Stub, store: Any, fault: Answer, expected: type[LsyncError], attempts: int
) -> None:
    """A transient fault is tried again so many times, any other not at all; then the upload is aborted."""
    stub.answers += [FREE, ("POST", STARTED)] + [("PUT", fault)] * 9
    with pytest.raises(expected):
        store()
    assert methods(stub) == " ".join(["HEAD", "POST", *["PUT"] * attempts, "DELETE"])


def test_an_iterator_that_raises_aborts_the_upload(stub: Stub, client: S3Client) -> None:
    """When the stream breaks off, the upload is aborted as its last request, and not completed."""

    def chunks() -> Iterator[bytes]:
        yield from PARTS[:2]
        raise NotFoundError("read", "source", "gone")

    script(stub)
    with pytest.raises(NotFoundError, match="gone"):
        client.put_stream(name(1), chunks(), timestamp_ms=TIMESTAMP_MS)
    assert methods(stub).replace("PUT PUT", "PUT") == "HEAD POST PUT DELETE"
    assert "uploadId=u1" in stub.requests[-1].path


def test_a_failed_part_ends_the_stream_early(stub: Stub, client: S3Client) -> None:
    """A part that is refused is noticed while the stream goes on: not everything is read from it."""
    rest = iter([bytes(PART_SIZE_MIN)] * 100)

    stub.answers += [FREE, ("POST", STARTED), ("PUT", DENIED)]
    with pytest.raises(AccessDeniedError):
        client.put_stream(name(1), rest, timestamp_ms=TIMESTAMP_MS)
    assert len(list(rest)) > 90


# --- completion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [BUSY, s3_error(500, "InternalError")], ids=["our repetition", "the SDK's"])
@pytest.mark.parametrize("then", [TAKEN, UNKNOWN_UPLOAD], ids=["412", "NoSuchUpload"])
def test_a_completion_whose_answer_was_lost(stub: Stub, store: Any, lost: Answer, then: Answer) -> None:
    """Where the repeated completion is refused, and the object's ETag is that of our parts, it is stored."""
    script(stub, lost, then)
    stub.answers.append(("HEAD", Answer(headers={"ETag": OURS})))
    store()
    assert methods(stub) == "HEAD POST PUT PUT PUT POST POST HEAD"


@pytest.mark.parametrize("then", [TAKEN, UNKNOWN_UPLOAD], ids=["412", "NoSuchUpload"])
def test_a_completion_that_lost_against_another(stub: Stub, store: Any, then: Answer) -> None:
    """Where the object has another ETag, the name is taken, and our upload is aborted."""
    script(stub, BUSY, then)
    stub.answers.append(("HEAD", Answer(headers={"ETag": '"0123-3"'})))
    with pytest.raises(PreconditionError):
        store()
    assert methods(stub).endswith("POST POST HEAD DELETE")


def test_an_upload_that_vanished(stub: Stub, store: Any) -> None:
    """Where the upload is unknown and there is no object, nothing is stored, and trying anew may help."""
    script(stub, BUSY, UNKNOWN_UPLOAD)
    stub.answers.append(FREE)
    with pytest.raises(TransientNetworkError, match="NoSuchUpload"):
        store()


def test_a_refusal_without_doubt_is_not_looked_into(stub: Stub, store: Any) -> None:
    """412 to a request that was sent once means another's object, whatever it holds."""
    script(stub, TAKEN)
    stub.answers.append(("HEAD", Answer(headers={"ETag": OURS})))
    with pytest.raises(PreconditionError):
        store()
    assert methods(stub) == "HEAD POST PUT PUT PUT POST DELETE"


def test_part_etags_that_tell_nothing(stub: Stub, client: S3Client) -> None:
    """Where the parts' ETags are no MD5s, a completion in doubt counts as taken: the caller compares."""
    stub.answers += [FREE, ("POST", STARTED), ("POST", BUSY), ("POST", TAKEN)]
    stub.answers.append(("HEAD", Answer(headers={"ETag": OURS})))
    with pytest.raises(PreconditionError):
        client.put_stream(name(1), iter(PARTS), timestamp_ms=TIMESTAMP_MS)


def test_the_etag_of_an_object_made_of_parts() -> None:
    """It is the MD5 of the parts' MD5s with their number, in whichever quotes they came, or unknown."""
    assert composite_etag([f'"{MD5S[0]}"', MD5S[1], f'"{MD5S[2]}"']) == OURS
    assert composite_etag([MD5S[0], '"opaque"']) is None


def test_a_stream_to_a_store_without_conditional_completion(stub: Stub, client: S3Client) -> None:
    """A refused header costs a HEAD and a second completion, not a second reading of the stream."""
    script(stub, s3_error(501, "NotImplemented"), COMPLETED)
    stub.answers.append(FREE)
    assert client.put_stream(name(1), iter(PARTS), timestamp_ms=TIMESTAMP_MS) == sum(map(len, PARTS))
    assert methods(stub) == "HEAD POST PUT PUT PUT POST HEAD POST"
    assert ["if-none-match" in request.headers for request in stub.requests[-3:]] == [True, False, False]


def test_a_store_that_ends_the_upload_with_the_refusal(stub: Stub, client: S3Client) -> None:
    """Where the refused header has cost the upload, the next one is completed without it."""
    script(stub, s3_error(501, "NotImplemented"), UNKNOWN_UPLOAD)
    stub.answers.append(FREE)
    with pytest.raises(TransientNetworkError):
        client.put_stream(name(1), iter(PARTS), timestamp_ms=TIMESTAMP_MS)
    script(stub, COMPLETED)
    stub.answers.append(FREE)
    client.put_stream(name(1), iter(PARTS), timestamp_ms=TIMESTAMP_MS)
    assert stub.answers == []
    assert "if-none-match" not in stub.requests[-1].headers


@pytest.mark.parametrize("ours", [True, False])
def test_a_single_put_whose_answer_was_lost(stub: Stub, client: S3Client, ours: bool) -> None:
    """When the first PUT's answer is a 500 and its repetition a 412, the object's MD5 tells whether it is ours."""
    md5 = hashlib.md5(b"body" if ours else b"other").hexdigest()
    stub.answers += [("PUT", s3_error(500, "InternalError")), ("PUT", TAKEN)]
    stub.answers += [("HEAD", Answer(headers={"ETag": f'"{md5}"'}))]
    if ours:
        assert client.put_stream(name(1), iter([b"bo", b"dy"]), timestamp_ms=TIMESTAMP_MS) == 4
    else:
        with pytest.raises(PreconditionError):
            client.put(name(1), b"body", timestamp_ms=TIMESTAMP_MS)
    assert methods(stub) == "PUT PUT HEAD"


# --- memory and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "most"), [(PART_SIZE_MIN, 4), (STREAM_PART_BYTES, 3), (HELD_BYTES_MAX, 2)], ids=["5 MiB", "8 MiB", "huge"]
)
def test_parts_in_memory_are_bounded(stub: Stub, held: int, most: int) -> None:
    """However slow the store, parts made and not yet sent keep to the bound, and are two at least."""
    replica = stubbed(stub)
    boto = s3_session.acquire(replica.options, "")
    stub.answers += [("POST", STARTED), ("POST", COMPLETED)]
    lock = threading.Lock()
    made = sent = peak = 0

    full = threading.Event()

    def send(request: dict[str, Any]) -> str:
        nonlocal sent
        full.wait(30)
        with lock:
            sent += 1
        return '"x"'

    upload = MultipartUpload(boto, 4, {"Bucket": "bkt", "Key": "k"}, {}, "s3://bkt/k", AT_ONCE)

    def parts() -> Iterator[Part]:
        nonlocal made, peak
        for _ in range(200):
            with lock:
                made += 1
                peak = max(peak, made - sent)
            if peak == most:
                full.set()  # no part arrives before as many are made as ever may be
            yield Part(held, send)

    upload.run(parts(), lambda *_: None)
    assert peak == most
    s3_session.release(replica.options)


@pytest.mark.parametrize("part_size", [PART_SIZE_MIN, PART_SIZE_DEFAULT, PART_SIZE_MAX])
def test_the_parts_of_a_stream_grow(part_size: int) -> None:
    """The part size stays for 3,000 parts, grows to S3's limit at most, and 10,000 parts hold an object of 5 TiB."""
    sizes = [stream_part_size(part_size, number) for number in range(1, PARTS_MAX + 1)]
    assert set(sizes[:3000]) == {min(part_size, STREAM_PART_BYTES)}
    assert sizes == sorted(sizes)
    assert max(sizes) <= PART_SIZE_MAX
    assert sum(sizes) > 5 << 40


def test_cutting_a_stream() -> None:
    """Parts have the size asked for by their number, whatever the chunks; the last one holds the rest."""
    body = bytes(range(200))
    for size in (1, 7, 200):
        parts = list(cut((body[i : i + size] for i in range(0, 200, size)), lambda number: 10 * number))
        assert [len(part) for part in parts] == [10, 20, 30, 40, 50, 50]
        assert b"".join(parts) == body
    assert list(cut(iter([b"ab", b"cd"]), lambda _: 2)) == [b"ab", b"cd"]
    assert list(cut(iter([]), lambda _: 2)) == []


# --- copies -----------------------------------------------------------------------------------------------------------


COPIED = Answer(body=b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>')


def test_a_copy_is_conditional(stub: Stub) -> None:
    """A copy asks for the source and for the target, is conditional, and carries the storage class."""
    client = S3Client(stubbed(stub, storage_class="STANDARD_IA"))
    stub.answers += [("HEAD", Answer(body=b"12345")), FREE, ("PUT", COPIED)]
    client.copy(name(1), name(1, level=SNAPSHOT_LEVEL))
    client.close()
    assert methods(stub) == "HEAD HEAD PUT"
    copy = stub.requests[-1].headers
    assert copy["x-amz-copy-source"] == f"bkt/db/0000/{name(1).name}"
    assert (copy["if-none-match"], copy["x-amz-storage-class"]) == ("*", "STANDARD_IA")


def test_a_copy_to_a_store_without_conditional_copies(stub: Stub, client: S3Client) -> None:
    """A store that refuses the header gets the copy without it."""
    stub.answers += [("HEAD", Answer(body=b"12345")), FREE, ("PUT", s3_error(501, "NotImplemented")), FREE]
    stub.answers += [("PUT", COPIED)]
    client.copy(name(1), name(2))
    assert stub.answers == []
    assert "if-none-match" not in stub.requests[-1].headers


def test_a_copy_whose_answer_was_lost(stub: Stub, client: S3Client) -> None:
    """Where the repetition is refused, the ETag of the source tells whether the target is the copy."""
    for etag, ok in (('"e"', True), ('"other"', False), ('"e-2"', False)):
        source = Answer(body=b"12345", headers={"ETag": '"e-2"' if etag == '"e-2"' else '"e"'})
        stub.answers[:] = [("HEAD", source), FREE, ("PUT", s3_error(500, "InternalError")), ("PUT", TAKEN)]
        stub.answers.append(("HEAD", Answer(headers={"ETag": etag})))
        if ok:
            client.copy(name(1), name(2))
        else:
            with pytest.raises(PreconditionError):
                client.copy(name(1), name(2))


def test_a_source_that_vanishes_before_the_copy(stub: Stub, client: S3Client) -> None:
    """A source deleted between the HEAD and the copy raises NotFoundError."""
    stub.answers += [("HEAD", Answer(body=b"12345")), FREE, ("PUT", s3_error(404, "NoSuchKey"))]
    with pytest.raises(NotFoundError):
        client.copy(name(1), name(2))
