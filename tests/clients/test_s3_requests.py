"""The S3 replica against a server that answers as the test says: what is sent, what odd answers lead to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from litestream_py.clients import s3_session
from litestream_py.clients.s3 import S3Client
from litestream_py.clients.specs import MIB, PART_SIZE_MIN, S3Settings, s3_replica
from litestream_py.core.backoff import RetryPolicy
from litestream_py.errors import (
    AccessDeniedError,
    LsyncError,
    PreconditionError,
    ReplicaError,
    ThrottledError,
    TransientNetworkError,
)
from tests.support.replicas import TIMESTAMP_MS, name
from tests.support.stubhttp import STARTED, Answer, Stub, s3_error, stubbed

BODY = b"content" * 100
KEY = f"db/0000/{name(1).name}"


class CaughtRequestError(Exception):
    """A request was looked at in the place of being sent."""


def put(client: S3Client, body: bytes | Path = BODY) -> None:
    client.put(name(1), body, timestamp_ms=TIMESTAMP_MS)


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_put_is_in_the_portable_form(stub: Stub, tmp_path: Path) -> None:
    """Plain body with its length, signed by its own SHA-256, conditional; no chunked encoding, no SDK checksum."""
    source = tmp_path / "source"
    source.write_bytes(BODY)
    client = S3Client(stubbed(stub))
    put(client, source)
    client.close()
    (request,) = stub.requests
    assert (request.method, request.path, request.body) == ("PUT", f"/bkt/{KEY}", BODY)
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()
    assert request.headers["content-length"] == str(len(BODY))
    assert request.headers["if-none-match"] == "*"
    assert not [n for n in request.headers if n.startswith(("x-amz-checksum", "x-amz-sdk", "x-amz-trailer"))]
    assert "content-encoding" not in request.headers
    assert "hush" not in str(request)


def test_options_that_go_with_the_objects(stub: Stub) -> None:
    """Storage class and KMS key are sent with each LTX file, and not with side objects."""
    client = S3Client(stubbed(stub, storage_class="STANDARD_IA", sse_kms_key_id="key-1"))
    put(client)
    stub.answers.append(("GET", s3_error(404, "NoSuchKey")))
    client.write_side("owner.json", b"1", expected=None)
    client.close()
    file, _, side = stub.requests
    assert file.headers["x-amz-storage-class"] == "STANDARD_IA"
    assert file.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert file.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
    assert not [header for header in side.headers if "storage-class" in header or "encryption" in header]


def test_a_body_may_go_unsigned(stub: Stub) -> None:
    """Without sign-payload the body is not hashed into the signature."""
    client = S3Client(stubbed(stub, sign_payload=False))
    put(client)
    client.close()
    assert stub.requests[0].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize("md5", [True, False])
def test_how_a_batch_delete_is_checked(stub: Stub, md5: bool) -> None:
    """A batch delete carries Content-MD5 and no SDK checksum, or with require-content-md5 off the other way round."""
    client = S3Client(stubbed(stub, require_content_md5=md5))
    stub.answers.append(("POST", Answer(body=b"<DeleteResult></DeleteResult>")))
    client.delete([name(1), name(2)])
    client.close()
    (request,) = stub.requests
    assert ("content-md5" in request.headers) == md5
    assert any(header.startswith("x-amz-checksum") for header in request.headers) != md5
    assert KEY.encode() in request.body


def test_the_header_for_tigris() -> None:
    """Tigris is asked for consistent reads; nobody else is."""
    sent: list[dict[str, str]] = []

    def catch(request: object, **_: object) -> None:
        sent.append({key.lower(): str(value) for key, value in request.headers.items()})  # type: ignore[attr-defined]
        raise CaughtRequestError

    for endpoint in ("fly.storage.tigris.dev", "store.example.com"):
        said = S3Settings(access_key_id="AK", secret_access_key="hush", endpoint=endpoint)
        client = S3Client(s3_replica("bkt", "db", said))
        client._s3.meta.events.register("before-send.s3", catch)
        with pytest.raises(CaughtRequestError):
            client.list_level(0)
        client.close()
    assert ["true" in headers.get("x-tigris-consistent", "") for headers in sent] == [True, False]


def test_on_aws_the_sdk_default_carries_a_file(tmp_path: Path) -> None:
    """Without an endpoint the SDK's own form is used (trailing CRC over TLS), and a file slice passes whole."""
    source = tmp_path / "source"
    source.write_bytes(BODY)
    sent: list[tuple[str, dict[str, str], bytes]] = []

    def catch(request: object, **_: object) -> None:
        headers = {key.lower(): str(value) for key, value in request.headers.items()}  # type: ignore[attr-defined]
        sent.append((request.url, headers, request.body.read()))  # type: ignore[attr-defined]
        raise CaughtRequestError

    said = S3Settings(access_key_id="AK", secret_access_key="hush", region="eu-west-1")
    client = S3Client(s3_replica("bkt", "db", said))
    client._s3.meta.events.register("before-send.s3", catch)
    with pytest.raises(CaughtRequestError):
        put(client, source)
    client.close()
    url, headers, body = sent[0]
    assert url == f"https://bkt.s3.eu-west-1.amazonaws.com/{KEY}"
    assert "x-amz-trailer" in headers
    assert BODY in body


# --- odd answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal", [s3_error(501, "NotImplemented"), s3_error(400, "InvalidArgument")], ids=["501", "400"]
)
def test_a_store_without_conditional_writes(stub: Stub, refusal: Answer) -> None:
    """A store that refuses the header gets HEAD and PUT instead, from then on without trying again."""
    client = S3Client(stubbed(stub))
    stub.answers += [("PUT", refusal), ("HEAD", Answer(404)), ("HEAD", Answer(404)), ("HEAD", Answer(200))]
    put(client)
    put(client)
    with pytest.raises(PreconditionError):
        put(client)
    client.close()
    assert [request.method for request in stub.requests] == ["PUT", "HEAD", "PUT", "HEAD", "PUT", "HEAD"]
    assert ["if-none-match" in request.headers for request in stub.requests] == [True] + [False] * 5


def test_a_refusal_for_another_reason_is_not_taken_for_the_header(stub: Stub) -> None:
    """Where the plain PUT fails as well, its error is raised, and the next put is conditional again."""
    client = S3Client(stubbed(stub))
    for _ in range(2):
        stub.answers += [("PUT", s3_error(400, "InvalidArgument")), ("HEAD", Answer(404)),
                         ("PUT", s3_error(400, "InvalidArgument", "no such KMS key"))]  # fmt: skip
        with pytest.raises(ReplicaError, match="no such KMS key"):
            put(client)
    client.close()
    assert ["if-none-match" in r.headers for r in stub.requests if r.method == "PUT"] == [True, False, True, False]


def test_a_store_without_conditional_completion(stub: Stub) -> None:
    """Where only the completion refuses the header, it alone is repeated without, after a HEAD, and that is kept."""
    done = Answer(body=b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
    client = S3Client(stubbed(stub, part_size_bytes=PART_SIZE_MIN))
    stub.answers += [("HEAD", Answer(404))] * 4
    stub.answers += [("POST", STARTED), ("POST", s3_error(501, "NotImplemented"))]
    stub.answers += [("POST", done), ("POST", STARTED), ("POST", done)]
    put(client, bytes(PART_SIZE_MIN))
    put(client, bytes(PART_SIZE_MIN))
    client.close()
    assert stub.answers == []
    completions = [r for r in stub.requests if r.method == "POST" and "uploadId" in r.path]
    assert ["if-none-match" in r.headers for r in completions] == [True, False, False]
    assert [r.method for r in stub.requests].count("PUT") == 2  # no part was sent twice


def test_a_failed_part_aborts_the_upload(stub: Stub) -> None:
    """When a part is refused, the upload is aborted and the part's error raised."""
    client = S3Client(stubbed(stub, part_size_bytes=PART_SIZE_MIN, concurrency=1))
    stub.answers += [("HEAD", Answer(404)), ("POST", STARTED), ("PUT", s3_error(403, "AccessDenied"))]
    with pytest.raises(AccessDeniedError):
        put(client, bytes(3 * PART_SIZE_MIN))
    client.close()
    assert [r.method for r in stub.requests][-1] == "DELETE"
    assert "uploadId=u1" in stub.requests[-1].path


def test_an_abort_that_fails_is_not_hidden(stub: Stub) -> None:
    """Where the parts cannot be removed either, the first error carries a note about them."""
    client = S3Client(stubbed(stub, part_size_bytes=PART_SIZE_MIN, concurrency=1))
    stub.answers += [("HEAD", Answer(404)), ("POST", STARTED), ("PUT", s3_error(403, "AccessDenied")),
                     ("DELETE", s3_error(403, "AccessDenied"))]  # fmt: skip
    with pytest.raises(AccessDeniedError) as caught:
        put(client, bytes(PART_SIZE_MIN))
    client.close()
    notes = [note for error in (caught.value, caught.value.__cause__) for note in getattr(error, "__notes__", [])]
    assert "lifecycle rule" in "".join(notes)


@pytest.mark.parametrize(
    ("answer", "expected", "requests"),
    [
        (s3_error(503, "SlowDown"), ThrottledError, 2),
        (s3_error(408, "RequestCanceled"), TransientNetworkError, 1),
        (s3_error(409, "ConditionalRequestConflict"), TransientNetworkError, 1),
        (s3_error(400, "ExpiredToken"), AccessDeniedError, 1),
    ],
    ids=["503", "408", "409", "ExpiredToken"],
)
def test_few_attempts(stub: Stub, answer: Answer, expected: type[LsyncError], requests: int) -> None:
    """The client tries at most twice and leaves patience to its caller."""
    client = S3Client(stubbed(stub))
    stub.answers += [("PUT", answer)] * 5
    with pytest.raises(expected) as caught:
        put(client)
    assert caught.value.retryable
    client.close()
    assert len(stub.requests) == requests


def test_an_answer_that_is_not_of_a_store(stub: Stub) -> None:
    """A captive portal's page in the place of a listing is no empty replica, and its 200 to a PUT no stored file."""
    client = S3Client(stubbed(stub))
    page = Answer(200, b"<html><p>Please log in</html>")
    stub.answers += [("GET", page)] * 2
    with pytest.raises(TransientNetworkError):
        client.list_level(0)
    for answer in (page, page, Answer(200)):
        stub.answers.append(("PUT", answer))
    for _ in range(2):
        with pytest.raises(TransientNetworkError):
            put(client)
    assert stub.answers == []
    client.close()


def test_a_portal_that_takes_parts(stub: Stub) -> None:
    """Each step of a multipart upload must answer as a store does: a bare 200 stores nothing."""
    client = S3Client(stubbed(stub, part_size_bytes=PART_SIZE_MIN), patience=RetryPolicy(attempts_max=1))
    for steps in ([], [("POST", STARTED)], [("POST", STARTED), ("PUT", Answer(headers={"ETag": '"1"'}))]):
        stub.answers[:] = [("HEAD", Answer(404)), *steps, ("POST", Answer(200)), ("PUT", Answer(200))]
        with pytest.raises(TransientNetworkError):
            put(client, bytes(PART_SIZE_MIN))
    client.close()


@pytest.mark.parametrize("sent", [0, 1, 2 * MIB - 1])
def test_a_body_that_breaks_off(stub: Stub, sent: int) -> None:
    """A body shorter than its length raises TransientNetworkError, after the bytes that did come."""
    client = S3Client(stubbed(stub))
    stub.answers.append(("GET", Answer(200, bytes(sent), length=2 * MIB)))
    got = bytearray()

    def fetch() -> None:
        for chunk in client.stream(name(1)):
            got.extend(chunk)

    with pytest.raises(TransientNetworkError):
        fetch()
    client.close()
    assert sent - MIB < len(got) <= sent  # at most the chunk that broke is lost


def test_a_store_that_ignores_ranges(stub: Stub) -> None:
    """A whole object in the place of a range is refused, never taken for the range."""
    client = S3Client(stubbed(stub))
    stub.answers += [("GET", Answer(200, BODY))] * 3
    with pytest.raises(ReplicaError, match="ignores the range"):
        client.read(name(1), offset=5, size=10)
    with pytest.raises(ReplicaError, match="ignores the range"):
        client.read(name(1), size=10)
    assert client.read(name(1), size=len(BODY)) == BODY
    client.close()


def test_a_side_object_that_vanishes(stub: Stub) -> None:
    """A side object deleted between comparison and write is a failed precondition."""
    client = S3Client(stubbed(stub))
    stub.answers += [("GET", Answer(200, b"old", {"ETag": '"1"'})), ("PUT", s3_error(404, "NoSuchKey"))]
    with pytest.raises(PreconditionError):
        client.write_side("owner.json", b"new", expected=b"old")
    client.close()
    assert stub.requests[-1].headers["if-match"] == '"1"'


def test_clients_of_one_store_share_their_connections(stub: Stub) -> None:
    """Replicas that differ only in bucket, prefix or per-request options share one SDK client until the last closes."""
    before = len(s3_session._shared)
    one, two = S3Client(stubbed(stub)), S3Client(stubbed(stub, storage_class="STANDARD_IA"))
    other = S3Client(stubbed(stub, sign_payload=False))
    assert one._s3 is two._s3
    assert one._s3 is not other._s3
    one.close()
    put(two)
    two.close()
    other.close()
    assert len(s3_session._shared) == before
