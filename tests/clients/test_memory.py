"""The in-memory replica's scripted faults: what fails, when, and what has happened all the same."""

from __future__ import annotations

import threading

import pytest

from litestream_py.clients.memory import Call, MemoryClient
from litestream_py.errors import (
    AccessDeniedError,
    DiskFullError,
    LsyncError,
    NotFoundError,
    ReplicaError,
    ThrottledError,
    TransientNetworkError,
)
from tests.support.replicas import name


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("timeout", TransientNetworkError),
        ("500", TransientNetworkError),
        ("503", ThrottledError),
        ("auth", AccessDeniedError),
        ("notfound", NotFoundError),
        ("diskfull", DiskFullError),
        ("refused", ReplicaError),
    ],
)
def test_a_fault_before_and_after_the_effect(fault: str, expected: type[LsyncError]) -> None:
    """A plain fault prevents the effect; with -after the effect stands and only the answer is lost."""
    client = MemoryClient(f"put:{fault} put:{fault}-after")
    with pytest.raises(expected) as before:
        client.put(name(1), b"x", timestamp_ms=1)
    assert type(before.value) is expected
    assert client.files == {}
    with pytest.raises(expected):
        client.put(name(1), b"x", timestamp_ms=1)
    assert client.files[name(1)].body == b"x"


def test_faults_come_in_order_and_by_operation() -> None:
    """Each operation works through its own entries; repeated ones count, and then all is well."""
    client = MemoryClient("put:ok put:503*2 list:auth*")
    client.put(name(1), b"x", timestamp_ms=1)
    for _ in range(2):
        with pytest.raises(ThrottledError):
            client.put(name(2), b"x", timestamp_ms=1)
    client.put(name(2), b"x", timestamp_ms=1)
    for _ in range(5):
        with pytest.raises(AccessDeniedError):
            client.list_level(0)
    client.rewrite("")
    assert len(client.list_level(0)) == 2


@pytest.mark.parametrize("operation", ["read", "stream"])
def test_broken_bodies(operation: str) -> None:
    """A body may break off after N bytes, or come whole with one bit wrong."""
    client = MemoryClient(f"{operation}:cut@3 {operation}:cut {operation}:flip@1 {operation}:flip")
    client.put(name(1), b"abcdefgh", timestamp_ms=1)
    got: list[bytes] = []

    def fetch() -> bytes:
        if operation == "read":
            return client.read(name(1), size=8)
        got.clear()
        got.extend(client.stream(name(1)))
        return b"".join(got)

    with pytest.raises(TransientNetworkError, match="5 bytes early"):
        fetch()
    with pytest.raises(TransientNetworkError, match="4 bytes early"):
        fetch()
    assert fetch() == b"accdefgh"
    assert fetch() == b"abcddfgh"
    assert fetch() == b"abcdefgh"


def test_the_bytes_before_a_break_arrive() -> None:
    """What comes before the break is delivered, so that a reader can resume behind it."""
    client = MemoryClient("stream:cut@3")
    client.put(name(1), b"abcdefgh", timestamp_ms=1)
    stream = client.stream(name(1))
    assert next(stream) == b"abc"
    with pytest.raises(TransientNetworkError):
        next(stream)
    assert b"".join(client.stream(name(1), offset=3)) == b"defgh"


def test_a_stream_that_breaks_off() -> None:
    """A put_stream may fail once so many bytes have been taken: nothing is stored, and the rest is not read."""
    client = MemoryClient("put_stream:cut@5 put_stream:503 put_stream:timeout-after")
    chunks = iter([b"abc", b"def", b"ghi"])
    with pytest.raises(TransientNetworkError, match="after 6 bytes"):
        client.put_stream(name(1), chunks, timestamp_ms=1)
    with pytest.raises(ThrottledError):
        client.put_stream(name(1), chunks, timestamp_ms=1)
    assert (client.files, list(chunks)) == ({}, [b"ghi"])
    with pytest.raises(TransientNetworkError):
        client.put_stream(name(1), iter([b"x"]), timestamp_ms=1)
    assert client.files[name(1)].body == b"x"


def test_deletes_that_fail_in_part_or_lie() -> None:
    """A delete may be refused from the Nth name on, fail as a whole, or succeed without deleting; the error says what
    remains.
    """
    names = [name(n) for n in range(1, 5)]
    client = MemoryClient("delete:kept delete:503 delete:denied delete:denied@3 delete:timeout-after")
    for file in names:
        client.put(file, b"x", timestamp_ms=1)
    client.delete(names)
    assert len(client.files) == 4
    for expected, remaining in (
        (ThrottledError, names),
        (AccessDeniedError, names),
        (AccessDeniedError, names[3:]),
        (TransientNetworkError, names),
    ):
        with pytest.raises(expected) as caught:
            client.delete(names)
        assert caught.value.remaining == tuple(remaining)
    assert client.files == {}


def test_calls_are_logged_and_counted() -> None:
    """Every call is remembered in order with what it was about and what befell it."""
    client = MemoryClient("put:503")
    with pytest.raises(ThrottledError):
        client.put(name(1), b"x", timestamp_ms=1)
    client.list_level(3)
    client.write_side("owner.json", b"1", expected=None)
    assert client.calls == [Call("put", str(name(1)), "503"), Call("list", "3", "ok"),
                            Call("write_side", "owner.json", "ok")]  # fmt: skip
    assert client.counts == {"put": 1, "list": 1, "write_side": 1}


def test_a_call_can_be_held() -> None:
    """`on_call` runs before the call and outside the lock, so that a test can hold one and go on with others."""
    held, go_on = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.operation == "put":
            held.set()
            assert go_on.wait(10)

    client = MemoryClient(on_call=hold)
    thread = threading.Thread(target=client.put, args=(name(1), b"x"), kwargs={"timestamp_ms": 1})
    thread.start()
    assert held.wait(10)
    assert client.list_level(0) == []
    go_on.set()
    thread.join()
    assert len(client.list_level(0)) == 1


@pytest.mark.parametrize(
    "script", ["put", "put:503*x", "fetch:503", "put:explode", "put:cut", "list:flip@1", "put:503-before", "put:kept"]
)
def test_a_misspelt_script_is_refused(script: str) -> None:
    """A script that would never fire is a mistake of the test, named at once."""
    with pytest.raises(ValueError, match=r"put|fetch|list"):
        MemoryClient(script)
