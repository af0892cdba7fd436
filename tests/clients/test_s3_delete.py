"""Deleting on S3: refusals key by key, what remains is named, stores without batches."""

from __future__ import annotations

import pytest

from litestream_py.clients import s3_delete
from litestream_py.clients.s3 import S3Client
from litestream_py.errors import AccessDeniedError, LsyncError, NotFoundError, ThrottledError, TransientNetworkError
from tests.support.minio import S3Bucket
from tests.support.replicas import TIMESTAMP_MS, name
from tests.support.stubhttp import Answer, Stub, s3_error, stubbed

NAMES = [name(n) for n in range(1, 6)]


def reply(**codes: str) -> Answer:
    """Return the answer to a batch delete that refuses files: n1="Code" for the first of NAMES."""
    entries = "".join(
        f"<Error><Key>db/0000/{NAMES[int(n[1:]) - 1].name}</Key><Code>{code}</Code><Message>WORM</Message></Error>"
        for n, code in codes.items()
    )
    return Answer(body=f"<DeleteResult>{entries}</DeleteResult>".encode())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDenied", AccessDeniedError),
        ("ObjectLocked", AccessDeniedError),
        ("InvalidRequest", AccessDeniedError),
        ("InternalError", TransientNetworkError),
        ("SlowDown", ThrottledError),
    ],
)
def test_a_refused_key_is_raised_and_named(stub: Stub, code: str, expected: type[LsyncError]) -> None:
    """An error for single keys in a reply of 200 is raised by its class; `remaining` has just those."""
    client = S3Client(stubbed(stub))
    stub.answers.append(("POST", reply(n2=code, n4=code, n5="NoSuchKey")))
    with pytest.raises(expected) as caught:
        client.delete(NAMES)
    client.close()
    assert type(caught.value) is expected
    assert NAMES[1].name in caught.value.obj
    assert caught.value.remaining == (NAMES[1], NAMES[3])


def test_a_key_that_is_gone_is_no_refusal(stub: Stub) -> None:
    """NoSuchKey for some keys of a batch is no error."""
    client = S3Client(stubbed(stub))
    stub.answers.append(("POST", reply(n1="NoSuchKey", n3="NoSuchKey")))
    client.delete(NAMES)
    client.close()


def test_a_refusal_that_names_no_file_of_ours(stub: Stub) -> None:
    """An error for a key that was not asked for may mean any: all of the batch may remain."""
    client = S3Client(stubbed(stub))
    stub.answers.append(("POST", Answer(body=b"<DeleteResult><Error><Code>AccessDenied</Code></Error></DeleteResult>")))
    with pytest.raises(AccessDeniedError) as caught:
        client.delete(NAMES)
    client.close()
    assert caught.value.remaining == tuple(NAMES)


def test_refusals_do_not_stop_the_batches_that_follow(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """All batches are tried; the first refusal is raised, and `remaining` has those of all batches."""
    monkeypatch.setattr(s3_delete, "DELETE_BATCH", 2)
    client = S3Client(stubbed(stub))
    stub.answers += [("POST", reply(n1="AccessDenied")), ("POST", reply(n4="InternalError"))]
    with pytest.raises(AccessDeniedError) as caught:
        client.delete(NAMES)
    client.close()
    assert caught.value.remaining == (NAMES[0], NAMES[3])
    assert [request.method for request in stub.requests] == ["POST", "POST", "DELETE"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (s3_error(408, "RequestCanceled"), TransientNetworkError),
        (s3_error(403, "AccessDenied"), AccessDeniedError),
        (s3_error(404, "NoSuchBucket"), NotFoundError),
    ],
    ids=["408", "403", "NoSuchBucket"],
)
def test_a_request_that_fails_stops(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, answer: Answer, expected: type[LsyncError]
) -> None:
    """When a whole request fails, later batches are not tried, and everything that is not known to be gone remains."""
    monkeypatch.setattr(s3_delete, "DELETE_BATCH", 2)
    client = S3Client(stubbed(stub))
    stub.answers += [("POST", reply(n2="AccessDenied")), ("POST", answer)]
    with pytest.raises(expected) as caught:
        client.delete(NAMES)
    client.close()
    assert caught.value.remaining == tuple(NAMES[1:])
    assert len(stub.requests) == 2


def test_a_store_without_batch_delete(stub: Stub) -> None:
    """A store that does not know DeleteObjects gets single deletes, and is not asked again."""
    client = S3Client(stubbed(stub))
    stub.answers.append(("POST", s3_error(501, "NotImplemented")))
    client.delete(NAMES[:2])
    client.delete(NAMES[2:4])
    client.close()
    assert [request.method for request in stub.requests] == ["POST"] + ["DELETE"] * 4


def test_single_deletes_that_are_refused(stub: Stub) -> None:
    """One by one, too, a refusal does not stop the rest, a key that is gone is no error, a fault of the store stops."""
    client = S3Client(stubbed(stub))
    stub.answers += [("POST", s3_error(501, "NotImplemented")), ("DELETE", s3_error(403, "AccessDenied"))]
    stub.answers += [("DELETE", s3_error(404, "NoSuchKey"))]
    with pytest.raises(AccessDeniedError) as caught:
        client.delete(NAMES)
    assert caught.value.remaining == (NAMES[0],)
    assert len(stub.requests) == 1 + len(NAMES)
    stub.answers += [("DELETE", s3_error(408, "RequestCanceled"))]
    with pytest.raises(TransientNetworkError) as stopped:
        client.delete(NAMES)
    client.close()
    assert stopped.value.remaining == tuple(NAMES)
    assert len(stub.requests) == 2 + len(NAMES)


@pytest.mark.s3
def test_a_bucket_with_object_lock(s3_bucket: S3Bucket) -> None:
    """In a bucket with object lock a delete hides the file behind a marker: it is gone from the listing, without error.

    That the store keeps the version is what the lock is for.
    """
    if not s3_bucket.server.is_minio:
        pytest.skip("moto's object lock is another")
    locked = f"{s3_bucket.name}-locked"
    s3_bucket.raw.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    s3_bucket.raw.put_object_lock_configuration(
        Bucket=locked,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
        },
    )
    client = S3Client(type(s3_bucket)(s3_bucket.server, locked, s3_bucket.raw).replica())
    for file in NAMES[:2]:
        client.put(file, b"x", timestamp_ms=TIMESTAMP_MS)
    client.delete(NAMES[:2])
    assert client.list_level(0) == []
    client.close()
