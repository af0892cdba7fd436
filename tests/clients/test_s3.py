"""The S3 replica on a real server: what lies there, what is left after a failure, and what a client costs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from litestream_py.clients.s3 import S3Client
from litestream_py.clients.s3_body import FileSlice
from litestream_py.clients.s3_multipart import composite_etag
from litestream_py.clients.s3_parts import PARTS_MAX, part_ranges
from litestream_py.clients.specs import PART_SIZE_MIN, S3Settings, s3_replica
from litestream_py.errors import (
    AccessDeniedError,
    CorruptError,
    LocalIOError,
    NotFoundError,
    PreconditionError,
    TransientNetworkError,
)
from litestream_py.ltx.ids import TXID
from litestream_py.ltx.records import Header
from tests.support.minio import S3Bucket, S3Server
from tests.support.replicas import TIMESTAMP_MS, name
from tests.support.supervise import free_port

BODY = b"content" * 100
KEY = f"db/0000/{name(1).name}"


@pytest.fixture
def client(s3_bucket: S3Bucket) -> Iterator[S3Client]:
    """A client on the real server."""
    made = S3Client(s3_bucket.replica(part_size_bytes=PART_SIZE_MIN))
    yield made
    made.close()


def put(client: S3Client, body: bytes | Path = BODY) -> None:
    client.put(name(1), body, timestamp_ms=TIMESTAMP_MS)


# --- on a real server -------------------------------------------------------------------------------------------------


@pytest.mark.s3
@pytest.mark.parametrize("size", [100, PART_SIZE_MIN], ids=["one request", "multipart"])
def test_objects_are_as_the_peer_writes_them(client: S3Client, s3_bucket: S3Bucket, size: int) -> None:
    """Key, content type and timestamp metadata are the peer's, for a single PUT and for a multipart upload."""
    put(client, bytes(size))
    assert s3_bucket.keys() == [KEY]
    head = s3_bucket.raw.head_object(Bucket=s3_bucket.name, Key=KEY)
    assert head["ContentType"] == "application/octet-stream"
    assert head["Metadata"] == {"litestream-timestamp": "2026-11-20T13:37:09.87Z"}
    assert head["ContentLength"] == size


@pytest.mark.s3
def test_only_files_from_the_part_size_on_come_in_parts(client: S3Client, s3_bucket: S3Bucket) -> None:
    """One byte below the part size is a single PUT; from the part size on there are ceil(size / part) parts."""
    sizes = [PART_SIZE_MIN - 1, PART_SIZE_MIN, PART_SIZE_MIN + 1, 2 * PART_SIZE_MIN]
    for i, size in enumerate(sizes, start=1):
        client.put(name(i), bytes(size), timestamp_ms=TIMESTAMP_MS)
    tags = [item["ETag"].strip('"') for item in s3_bucket.raw.list_objects_v2(Bucket=s3_bucket.name)["Contents"]]
    assert [tag.partition("-")[2] for tag in tags] == ["", "1", "2", "2"]


@pytest.mark.s3
def test_a_taken_name_is_noticed_before_the_parts_are_sent(client: S3Client, s3_bucket: S3Bucket) -> None:
    """A multipart put of a taken name raises at once and leaves no upload behind."""
    put(client, bytes(PART_SIZE_MIN))
    with pytest.raises(PreconditionError):
        put(client, bytes(PART_SIZE_MIN))
    assert s3_bucket.open_uploads() == 0


@pytest.mark.s3
def test_a_name_taken_meanwhile_is_noticed_at_the_end(
    client: S3Client, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that appears while the parts are sent wins; our upload is aborted."""

    def take(key: str) -> None:
        s3_bucket.raw.put_object(Bucket=s3_bucket.name, Key=key, Body=b"first")

    monkeypatch.setattr(client._writer, "check_free", take)
    with pytest.raises(PreconditionError):
        put(client, bytes(PART_SIZE_MIN))
    assert client.read(name(1), size=10) == b"first"
    assert s3_bucket.open_uploads() == 0


@pytest.mark.s3
def test_a_source_that_shrinks_aborts_the_upload(client: S3Client, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """When the source becomes shorter under the upload, that is a local failure, and no part stays at the store."""
    source = tmp_path / "source"
    source.write_bytes(bytes(3 * PART_SIZE_MIN))
    real = client._writer.check_free

    def cut(key: str) -> None:
        real(key)
        os.truncate(source, PART_SIZE_MIN + 5)

    client._writer.check_free = cut  # type: ignore[method-assign]
    with pytest.raises(LocalIOError, match="shorter"):
        put(client, source)
    assert s3_bucket.keys() == []
    assert s3_bucket.open_uploads() == 0


@pytest.mark.s3
def test_streams_and_copies_are_as_the_peer_writes_them(
    client: S3Client, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams, and copies in one request or in parts, carry content type and timestamp metadata as a put does."""
    body = [bytes(PART_SIZE_MIN)] * 2
    client.put_stream(name(1), iter(body), timestamp_ms=TIMESTAMP_MS)
    client.put_stream(name(2), iter([b"small"]), timestamp_ms=TIMESTAMP_MS)
    client.copy(name(1), name(1, level=1))
    monkeypatch.setattr("litestream_py.clients.s3_upload.COPY_WHOLE_MAX", PART_SIZE_MIN)
    monkeypatch.setattr("litestream_py.clients.s3_upload.COPY_PART_BYTES", PART_SIZE_MIN)
    client.copy(name(1), name(1, level=2))
    keys = s3_bucket.keys()
    found = {key: s3_bucket.raw.head_object(Bucket=s3_bucket.name, Key=key) for key in keys}
    assert {head["ContentType"] for head in found.values()} == {"application/octet-stream"}
    assert [head["Metadata"] for head in found.values()] == [{"litestream-timestamp": "2026-11-20T13:37:09.87Z"}] * 4
    assert [head["ContentLength"] for head in found.values()] == [2 * PART_SIZE_MIN, 5] + [2 * PART_SIZE_MIN] * 2
    assert found[f"db/0002/{name(1).name}"]["ETag"].endswith('-2"')
    assert s3_bucket.open_uploads() == 0


@pytest.mark.s3
def test_the_etag_in_doubt_is_the_stores(client: S3Client, s3_bucket: S3Bucket) -> None:
    """The ETag that settles a lost answer is the one that a real store gives an object made of parts."""
    client.put_stream(name(1), iter([b"a" * PART_SIZE_MIN, b"b"]), timestamp_ms=TIMESTAMP_MS)
    parts = [hashlib.md5(part).hexdigest() for part in (b"a" * PART_SIZE_MIN, b"b")]
    head = s3_bucket.raw.head_object(Bucket=s3_bucket.name, Key=KEY)
    assert head["ETag"] == composite_etag(parts)


@pytest.mark.s3
@pytest.mark.parametrize("metadata", [{}, {"litestream-timestamp": "yesterday"}], ids=["absent", "no time"])
def test_a_timestamp_that_the_store_has_lost(client: S3Client, s3_bucket: S3Bucket, metadata: dict[str, str]) -> None:
    """Where a copy by other tools has lost the metadata, the timestamp comes from the file's header."""
    header = Header(512, 1, TXID(1), TXID(1), TIMESTAMP_MS, wal_offset=32).pack()
    s3_bucket.raw.put_object(Bucket=s3_bucket.name, Key=KEY, Body=header + bytes(1000), Metadata=metadata)
    (info,) = client.list_level(0)
    assert client.timestamp_of(info) == TIMESTAMP_MS
    s3_bucket.raw.put_object(Bucket=s3_bucket.name, Key=KEY, Body=b"no header", Metadata=metadata)
    with pytest.raises(CorruptError, match=name(1).name):
        client.timestamp_of(info)


@pytest.mark.s3
def test_listing_goes_over_pages(client: S3Client, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A level of more files than one page holds is listed whole, and deleted whole by batches."""
    names = [name(n) for n in range(1, 13)]
    for file in names:
        client.put(file, b"x", timestamp_ms=TIMESTAMP_MS)
    paginate = client._s3.get_paginator("list_objects_v2")
    monkeypatch.setattr(client._s3, "get_paginator", lambda _: _Small(paginate))
    monkeypatch.setattr("litestream_py.clients.s3_delete.DELETE_BATCH", 5)
    assert [info.name for info in client.list_level(0)] == names
    client.delete(names)
    assert s3_bucket.keys() == []


class _Small:
    """The real paginator, asked for small pages."""

    def __init__(self, real: object) -> None:
        self._real = real

    def paginate(self, **arguments: object) -> object:
        return self._real.paginate(**arguments, PaginationConfig={"PageSize": 5})  # type: ignore[attr-defined]


@pytest.mark.s3
def test_a_missing_bucket(s3_server: S3Server) -> None:
    """Every operation on a bucket that does not exist says so."""
    client = S3Client(s3_replica("no-such-bucket", "db", s3_server.settings))
    calls = [
        lambda: client.list_level(0),
        lambda: put(client),
        lambda: put(client, bytes(PART_SIZE_MIN)),
        lambda: list(client.stream(name(1))),
        lambda: client.read_side("owner.json"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            call()  # type: ignore[no-untyped-call]
        assert "bucket" in f"{caught.value} {caught.value.hint}"
    client.close()


@pytest.mark.s3
def test_wrong_keys(s3_bucket: S3Bucket) -> None:
    """A wrong secret and an unknown key are told as such."""
    for settings in ({"secret_access_key": "wrong"}, {"access_key_id": "nobody"}):
        if not s3_bucket.server.is_minio:
            pytest.skip("moto does not check signatures")
        client = S3Client(s3_bucket.replica(**settings))
        with pytest.raises(AccessDeniedError) as caught:
            client.list_level(0)
        assert "access-key" in (caught.value.hint or "")
        client.close()


def test_a_server_that_is_not_there() -> None:
    """A refused connection is a network failure, soon, and nothing is said of credentials."""
    said = S3Settings(access_key_id="AK", secret_access_key="hush", endpoint=f"http://127.0.0.1:{free_port()}")
    client = S3Client(s3_replica("bkt", "db", said))
    with pytest.raises(TransientNetworkError, match="connection refused") as caught:
        client.list_level(0)
    assert caught.value.hint is None
    client.close()


def test_a_name_that_does_not_resolve() -> None:
    """A host name that DNS does not know is said to be that."""
    said = S3Settings(access_key_id="AK", secret_access_key="hush", endpoint="http://store.invalid")
    client = S3Client(s3_replica("bkt", "db", said))
    with pytest.raises(TransientNetworkError, match="host name cannot be resolved"):
        client.list_level(0)
    client.close()


# --- economy ----------------------------------------------------------------------------------------------------------


def test_parts() -> None:
    """Parts cover the file without gap, all of one size but the last, and never more than S3 allows."""
    for size in (1, 5, 6, 10, 11):
        ranges = part_ranges(size, 5)
        assert [offset for offset, _ in ranges] == list(range(0, size, 5))
        assert sum(length for _, length in ranges) == size
    huge = part_ranges(5 << 40, PART_SIZE_MIN)
    assert len(huge) <= PARTS_MAX
    assert sum(length for _, length in huge) == 5 << 40


def test_a_file_slice_reads_like_a_file(tmp_path: Path) -> None:
    """Seek, tell and read of a slice behave as a file that holds just that part."""
    path = tmp_path / "f"
    path.write_bytes(bytes(range(100)))
    fd = os.open(path, os.O_RDONLY)
    body = FileSlice(fd, 10, 20, path)
    assert (len(body), body.read(5), body.tell()) == (20, bytes(range(10, 15)), 5)
    assert body.read() == bytes(range(15, 30))
    assert body.read(1) == b""
    assert (body.seek(-3, os.SEEK_END), body.read()) == (17, bytes(range(27, 30)))
    assert (body.seek(2), body.seek(1, os.SEEK_CUR)) == (2, 3)
    os.close(fd)
    with pytest.raises(LocalIOError):
        body.read()


def test_the_sdk_is_loaded_only_for_s3(tmp_path: Path) -> None:
    """Opening a folder replica imports neither boto3 nor botocore."""
    program = (
        "import json, sys; from litestream_py.clients.factory import open_client; "
        f"open_client({str(tmp_path)!r}).list_level(0); print(json.dumps(sorted(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"boto3", "botocore", "urllib3"} & set(json.loads(out))
