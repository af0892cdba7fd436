"""What every replica client promises of streams, copies, timestamps and deletes (core/ports.py)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from litestream_py.clients.specs import MIB, PART_SIZE_MIN
from litestream_py.core.ports import FileInfo
from litestream_py.errors import CorruptError, LocalIOError, NotFoundError, PreconditionError, ThrottledError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName
from litestream_py.ltx.records import Header
from tests.support.replicas import TIMESTAMP_MS, Replica, blob, name

pytestmark = pytest.mark.s3


def chunks_of(body: bytes, size: int) -> Iterator[bytes]:
    return (body[i : i + size] for i in range(0, len(body), size))


def put_stream(replica: Replica, file: FileName, chunks: Iterator[bytes]) -> int:
    return replica.client.put_stream(file, chunks, timestamp_ms=TIMESTAMP_MS)


def put(replica: Replica, file: FileName, body: bytes) -> None:
    replica.client.put(file, replica.source(body), timestamp_ms=TIMESTAMP_MS)


def digest(replica: Replica, file: FileName) -> bytes:
    digest = hashlib.sha256()
    for chunk in replica.client.stream(file):
        digest.update(chunk)
    return digest.digest()


def ltx(txid: int, timestamp_ms: int = TIMESTAMP_MS) -> bytes:
    """Return what begins as an LTX file."""
    header = Header(512, 1, TXID(txid), TXID(txid), timestamp_ms, wal_offset=32)
    return header.pack() + bytes(50)


def info(replica: Replica, file: FileName) -> FileInfo:
    (found,) = [info for info in replica.client.list_level(file.level) if info.name == file]
    return found


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "chunk"),
    [
        (1, 1),
        (100_000, 999),
        (PART_SIZE_MIN - 1, MIB),
        (PART_SIZE_MIN, MIB),
        (PART_SIZE_MIN + 1, MIB),
        (2 * PART_SIZE_MIN, 2 * PART_SIZE_MIN),
        (3 * PART_SIZE_MIN + 12_345, 3 * MIB + 1),
    ],
)
def test_a_stream_is_stored_as_a_file(replica: Replica, size: int, chunk: int) -> None:
    """Whatever its size and chunks, a stream comes back byte for byte, and its size is returned and listed."""
    body = blob(size)
    assert put_stream(replica, name(1), chunks_of(body, chunk)) == size
    assert info(replica, name(1)).size == size
    assert digest(replica, name(1)) == hashlib.sha256(body).digest()
    assert replica.residue() == []


def test_empty_chunks_do_not_end_a_stream(replica: Replica) -> None:
    """Chunks without a byte are passed over."""
    assert put_stream(replica, name(1), iter([b"", b"ab", b"", b"c", b""])) == 3
    assert b"".join(replica.client.stream(name(1))) == b"abc"


def test_an_empty_stream_is_refused(replica: Replica) -> None:
    """A stream without any byte raises CorruptError, and nothing is stored."""
    with pytest.raises(CorruptError):
        put_stream(replica, name(1), iter([b"", b""]))
    assert replica.client.list_level(0) == []
    assert replica.residue() == []


def test_a_stream_is_not_seen_before_its_end(replica: Replica) -> None:
    """While the iterator runs no listing shows the file, however much has been sent, and the client can be used."""
    listings = []

    def chunks() -> Iterator[bytes]:
        for n in range(3):
            yield bytes(PART_SIZE_MIN)
            listings.append(replica.client.list_level(0))
            put(replica, name(n + 1, level=1), b"x")

    put_stream(replica, name(1), chunks())
    assert listings == [[], [], []]
    assert info(replica, name(1)).size == 3 * PART_SIZE_MIN


class GivenUpError(Exception):
    """Something that goes wrong in an iterator."""


@pytest.mark.parametrize("sent", [0, 1000, 3 * PART_SIZE_MIN + 5])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GivenUpError(), GivenUpError),
        (ThrottledError("read", "source", "slow down"), ThrottledError),
        (PermissionError(13, "Permission denied"), LocalIOError),
    ],
    ids=["any", "ours", "OSError"],
)
def test_an_iterator_that_raises_leaves_nothing(
    replica: Replica, sent: int, error: Exception, expected: type[Exception]
) -> None:
    """The iterator's exception comes out (an OSError as ours), nothing is stored or left, and the name stays free."""

    def chunks() -> Iterator[bytes]:
        yield from chunks_of(bytes(sent), MIB)
        raise error

    with pytest.raises(expected):
        put_stream(replica, name(1), chunks())
    assert replica.client.list_level(0) == []
    assert replica.residue() == []
    put_stream(replica, name(1), iter([b"x"]))


@pytest.mark.parametrize("size", [1000, 2 * PART_SIZE_MIN])
def test_a_taken_name_is_not_overwritten_by_a_stream(replica: Replica, size: int) -> None:
    """A stream to a taken name raises PreconditionError, a large one before it has been read, and changes nothing."""
    put(replica, name(1), b"first")

    def chunks() -> Iterator[bytes]:
        yield bytes(size)
        if size > PART_SIZE_MIN:
            yield from [bytes(PART_SIZE_MIN)] * 10
            pytest.fail("read to the end")

    with pytest.raises(PreconditionError):
        put_stream(replica, name(1), chunks())
    assert b"".join(replica.client.stream(name(1))) == b"first"
    assert replica.residue() == []


def test_of_concurrent_streams_exactly_one_wins(replica: Replica) -> None:
    """When several clients stream to the same name at once, one succeeds, the others get PreconditionError."""
    if not replica.atomic:
        pytest.skip("this stand-in's conditional writes are not atomic")
    bodies = [blob(PART_SIZE_MIN + 1, seed) for seed in range(3)]
    clients = [replica.open() for _ in bodies]
    all_sent = threading.Barrier(len(bodies))

    def attempt(i: int) -> bool:
        def chunks() -> Iterator[bytes]:
            yield from chunks_of(bodies[i], MIB)
            all_sent.wait(30)  # all have found the name free by now

        try:
            clients[i].put_stream(name(1), chunks(), timestamp_ms=TIMESTAMP_MS)
        except PreconditionError:
            return False
        return True

    with ThreadPoolExecutor(len(bodies)) as pool:
        won = list(pool.map(attempt, range(len(bodies))))
    assert won.count(True) == 1
    assert digest(replica, name(1)) == hashlib.sha256(bodies[won.index(True)]).digest()
    assert replica.residue() == []


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, PART_SIZE_MIN + 1], ids=["one request", "multipart"])
def test_a_copy_is_a_file_of_its_own(replica: Replica, size: int) -> None:
    """A copy has the source's bytes and timestamp, and stays when the source goes."""
    body = ltx(1) + blob(size)
    put(replica, name(1), body)
    base = name(1, level=SNAPSHOT_LEVEL)
    replica.client.copy(name(1), base)
    assert [info(replica, file).size for file in (name(1), base)] == [len(body)] * 2
    replica.client.delete([name(1)])
    assert digest(replica, base) == hashlib.sha256(body).digest()
    assert replica.client.timestamp_of(info(replica, base)) == TIMESTAMP_MS
    assert replica.residue() == []


def test_a_copy_never_overwrites(replica: Replica) -> None:
    """Copying to a taken name, the source's own included, raises PreconditionError and changes nothing."""
    put(replica, name(1), b"first")
    put(replica, name(2), b"second")
    for target in (name(2), name(1)):
        with pytest.raises(PreconditionError):
            replica.client.copy(name(1), target)
    assert [b"".join(replica.client.stream(name(n))) for n in (1, 2)] == [b"first", b"second"]


def test_what_does_not_exist_cannot_be_copied(replica: Replica) -> None:
    """Copying a name that is not there raises NotFoundError, and nothing appears."""
    with pytest.raises(NotFoundError):
        replica.client.copy(name(1), name(1, level=SNAPSHOT_LEVEL))
    assert replica.client.list_level(SNAPSHOT_LEVEL) == []


# --- timestamps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timestamp_ms", [TIMESTAMP_MS, TIMESTAMP_MS + 3, 0, 1_700_000_000_000])
def test_the_timestamp_is_exact(replica: Replica, timestamp_ms: int) -> None:
    """`timestamp_of` is the header's timestamp to the millisecond, however the file was stored."""
    replica.client.put(name(1), replica.source(ltx(1, timestamp_ms)), timestamp_ms=timestamp_ms)
    replica.client.put_stream(name(2), iter([ltx(2, timestamp_ms)]), timestamp_ms=timestamp_ms)
    replica.client.copy(name(2), name(2, level=1))
    files = [*replica.client.list_level(0), *replica.client.list_level(1)]
    assert [replica.client.timestamp_of(file) for file in files] == [timestamp_ms] * 3


def test_no_timestamp_of_a_file_that_is_gone(replica: Replica) -> None:
    """A file deleted since it was listed raises NotFoundError."""
    put(replica, name(1), ltx(1))
    found = info(replica, name(1))
    replica.client.delete([name(1)])
    with pytest.raises(NotFoundError):
        replica.client.timestamp_of(found)
