"""What every replica client promises (core/ports.py), held against each of them."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from litestream_py.clients.specs import PART_SIZE_MIN
from litestream_py.errors import CorruptError, LocalIOError, NotFoundError, PreconditionError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, FileName
from tests.support.replicas import FOREIGN, TIMESTAMP_MS, Replica, blob, name

pytestmark = pytest.mark.s3


def put(replica: Replica, file: FileName, body: bytes) -> None:
    replica.client.put(file, replica.source(body), timestamp_ms=TIMESTAMP_MS)


def whole(replica: Replica, file: FileName) -> bytes:
    return b"".join(replica.client.stream(file))


def test_an_empty_replica_lists_nothing(replica: Replica) -> None:
    """A replica that nothing was ever written to has no files and no side objects, and that is no error."""
    assert [replica.client.list_level(level) for level in (0, SNAPSHOT_LEVEL)] == [[], []]
    assert replica.client.read_side("owner.json") is None


@pytest.mark.parametrize("as_path", [True, False], ids=["path", "bytes"])
def test_what_was_put_comes_back(replica: Replica, as_path: bool) -> None:
    """A file put from a path or from bytes is listed with its size and reads back whole."""
    body = blob(70_000)
    source = replica.source(body) if as_path else body
    replica.client.put(name(1), source, timestamp_ms=TIMESTAMP_MS)
    (info,) = replica.client.list_level(0)
    assert (info.name, info.size) == (name(1), len(body))
    assert whole(replica, name(1)) == body
    assert whole(replica, name(1)) == b"".join(replica.open().stream(name(1)))


def test_a_listing_is_in_txid_order_and_of_one_level(replica: Replica) -> None:
    """Files come ascending by (min, max) whatever the order of their making, and each level on its own."""
    files = [name(n) for n in (17, 2, 1, 256)] + [name(3, 16), name(1, 4)]
    for file in (*files, name(1, 300, level=SNAPSHOT_LEVEL)):
        put(replica, file, b"x")
    assert [info.name for info in replica.client.list_level(0)] == sorted(files)
    assert [info.name for info in replica.client.list_level(SNAPSHOT_LEVEL)] == [name(1, 300, level=SNAPSHOT_LEVEL)]


def test_foreign_names_are_not_listed(replica: Replica) -> None:
    """Whatever else lies at a level (temporary, misspelt, below a folder) is ignored."""
    put(replica, name(7), b"x")
    for key in FOREIGN:
        replica.plant(0, key, b"foreign")
    assert [info.name for info in replica.client.list_level(0)] == [name(7)]


def test_a_taken_name_is_never_overwritten(replica: Replica) -> None:
    """A second put of a name raises PreconditionError, whatever its content, and changes nothing."""
    put(replica, name(1), b"first")
    for body in (b"second", b"first"):
        with pytest.raises(PreconditionError):
            put(replica, name(1), body)
    assert whole(replica, name(1)) == b"first"


@pytest.mark.parametrize("size", [2_000, PART_SIZE_MIN], ids=["one request", "multipart"])
def test_of_concurrent_puts_exactly_one_wins(replica: Replica, size: int) -> None:
    """When several clients put the same name at once, one succeeds, the others get PreconditionError."""
    if not replica.atomic:
        pytest.skip("this stand-in's conditional writes are not atomic")
    bodies = [blob(size, seed) for seed in range(4)]
    clients = [replica.open() for _ in bodies]
    start = threading.Barrier(len(bodies))

    def attempt(i: int) -> bool:
        source = replica.source(bodies[i])
        start.wait()
        try:
            clients[i].put(name(1), source, timestamp_ms=TIMESTAMP_MS)
        except PreconditionError:
            return False
        return True

    with ThreadPoolExecutor(len(bodies)) as pool:
        won = list(pool.map(attempt, range(len(bodies))))
    assert won.count(True) == 1
    assert whole(replica, name(1)) == bodies[won.index(True)]


def test_reading_at_any_place(replica: Replica) -> None:
    """`read` and `stream` give exactly the bytes of the range, fewer at the end, none behind it."""
    body = blob(3_000_000)
    put(replica, name(1), body)
    for offset, size in [(0, 1), (0, 100), (999, 1_500_000), (2_999_999, 1), (2_999_000, 5_000), (0, 9_000_000)]:
        assert replica.client.read(name(1), offset=offset, size=size) == body[offset : offset + size]
        assert b"".join(replica.client.stream(name(1), offset=offset, size=size)) == body[offset : offset + size]
    assert b"".join(replica.client.stream(name(1), offset=1_234_567)) == body[1_234_567:]
    assert replica.client.read(name(1), offset=3_000_000, size=10) == b""
    assert list(replica.client.stream(name(1), offset=3_000_000)) == []
    assert replica.client.read(name(1), offset=5, size=0) == b""


def test_chunks_are_bounded(replica: Replica) -> None:
    """No chunk of a stream is empty or larger than 1 MiB."""
    put(replica, name(1), blob(2_500_000))
    assert {0 < len(chunk) <= 1 << 20 for chunk in replica.client.stream(name(1))} == {True}


def test_a_stream_can_be_left_early(replica: Replica) -> None:
    """Dropping a stream half-way does no harm to the client's next calls."""
    body = blob(3_000_000)
    put(replica, name(1), body)
    for _ in range(40):
        stream = replica.client.stream(name(1))
        assert body.startswith(next(stream))
        stream.close()  # type: ignore[attr-defined]  # a generator
    assert whole(replica, name(1)) == body


def test_what_does_not_exist_cannot_be_read(replica: Replica) -> None:
    """Reading a name that is not there raises NotFoundError."""
    put(replica, name(1), b"x")
    with pytest.raises(NotFoundError):
        replica.client.read(name(2), size=1)
    with pytest.raises(NotFoundError):
        list(replica.client.stream(name(2)))


def test_deleting(replica: Replica) -> None:
    """Deleted files are gone, names that are gone already do not matter, and the rest stays."""
    for n in range(1, 6):
        put(replica, name(n), b"x")
    put(replica, name(1, level=1), b"x")
    replica.client.delete([name(1), name(3), name(99), name(1, level=1)])
    assert [info.name for info in replica.client.list_level(0)] == [name(2), name(4), name(5)]
    assert replica.client.list_level(1) == []
    replica.client.delete([name(3)])
    replica.client.delete([])
    put(replica, name(3), b"again")
    assert whole(replica, name(3)) == b"again"


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_sizes_around_the_part_size(replica: Replica, parts: int, more: int) -> None:
    """A file of n parts, one byte less or one more comes back byte for byte."""
    body = blob(parts * PART_SIZE_MIN + more)
    put(replica, name(1), body)
    (info,) = replica.client.list_level(0)
    assert info.size == len(body)
    assert hashlib.sha256(whole(replica, name(1))).digest() == hashlib.sha256(body).digest()


def test_a_large_file_from_bytes(replica: Replica) -> None:
    """Bytes beyond the part size are stored as a file would be."""
    body = blob(2 * PART_SIZE_MIN + 12_345)
    replica.client.put(name(1), body, timestamp_ms=TIMESTAMP_MS)
    assert hashlib.sha256(whole(replica, name(1))).digest() == hashlib.sha256(body).digest()


def test_an_empty_source_is_refused(replica: Replica) -> None:
    """No valid LTX file is empty: such a source raises CorruptError, and nothing is stored."""
    for source in (replica.source(b""), b""):
        with pytest.raises(CorruptError):
            replica.client.put(name(1), source, timestamp_ms=TIMESTAMP_MS)
    assert replica.client.list_level(0) == []


def test_a_missing_source_is_our_own_failure(replica: Replica) -> None:
    """A source that is not there raises LocalIOError, not an error of the replica, and nothing is stored."""
    source = replica.source(b"x")
    source.unlink()
    with pytest.raises(LocalIOError):
        replica.client.put(name(1), source, timestamp_ms=TIMESTAMP_MS)
    assert replica.client.list_level(0) == []


def test_the_source_may_go_after_the_put(replica: Replica) -> None:
    """Removing the source file leaves the replica's file as it was."""
    source = replica.source(b"content")
    replica.client.put(name(1), source, timestamp_ms=TIMESTAMP_MS)
    os.unlink(source)
    assert whole(replica, name(1)) == b"content"


def test_side_objects_change_only_as_expected(replica: Replica) -> None:
    """A side object is written only where its content is the expected one; else PreconditionError and no change."""
    client = replica.client
    with pytest.raises(PreconditionError):
        client.write_side("owner.json", b"1", expected=b"0")
    assert client.read_side("owner.json") is None
    client.write_side("owner.json", b"1", expected=None)
    with pytest.raises(PreconditionError):
        client.write_side("owner.json", b"2", expected=None)
    with pytest.raises(PreconditionError):
        client.write_side("owner.json", b"2", expected=b"other")
    assert client.read_side("owner.json") == b"1"
    client.write_side("owner.json", b"2", expected=b"1")
    client.write_side("other.json", b"", expected=None)
    assert [replica.open().read_side(key) for key in ("owner.json", "other.json")] == [b"2", b""]


def test_of_concurrent_claims_exactly_one_wins(replica: Replica) -> None:
    """When several clients replace the same content at once, one succeeds: that is what makes one owner."""
    if not replica.atomic:
        pytest.skip("this stand-in's conditional writes are not atomic")
    replica.client.write_side("owner.json", b"old", expected=None)
    clients = [replica.open() for _ in range(4)]
    start = threading.Barrier(len(clients))

    def claim(i: int) -> bool:
        start.wait()
        try:
            clients[i].write_side("owner.json", b"new %d" % i, expected=b"old")
        except PreconditionError:
            return False
        return True

    with ThreadPoolExecutor(len(clients)) as pool:
        won = list(pool.map(claim, range(len(clients))))
    assert won.count(True) == 1
    assert replica.client.read_side("owner.json") == b"new %d" % won.index(True)


def test_side_objects_are_no_files(replica: Replica) -> None:
    """Side objects do not show in any listing."""
    replica.client.write_side("owner.json", b"1", expected=None)
    assert [replica.client.list_level(level) for level in range(10)] == [[]] * 10


def test_many_threads_may_share_a_client(replica: Replica) -> None:
    """Puts and reads of different names from several threads at once all land whole."""

    def work(n: int) -> bool:
        body = blob(5_000, n)
        put(replica, name(n), body)
        return whole(replica, name(n)) == body

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(1, 33))) == [True] * 32
    assert len(replica.client.list_level(0)) == 32


def test_the_url_leads_back(replica: Replica) -> None:
    """The client's URL holds no secret."""
    assert "://" in replica.client.url
    assert "secret" not in replica.client.url


def test_closing_twice_is_fine(replica: Replica) -> None:
    """`close` may be called again."""
    client = replica.open()
    client.close()
    client.close()
