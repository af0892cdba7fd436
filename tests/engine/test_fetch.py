"""Fetching: resume, bounded patience, order, bounded memory and parallelism."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from litestream_py.clients.memory import Call, MemoryClient
from litestream_py.core.backoff import RetryPolicy
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import DamagedFileError
from litestream_py.engine import fetch as module
from litestream_py.engine.fetch import Fetcher, Patience, fetch, list_replica
from litestream_py.errors import AccessDeniedError, NotFoundError, TransientNetworkError
from litestream_py.ltx.ids import TXID, FileName


class Waits:
    """Records the delays instead of sleeping."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    def __call__(self, delay_s: float) -> bool:
        self.delays.append(delay_s)
        return False


def stored(client: MemoryClient, txid: int, size: int) -> FileInfo:
    name = FileName(0, TXID(txid), TXID(txid))
    client.put(name, bytes(range(256)) * (size // 256) + bytes(size % 256), timestamp_ms=txid)
    return FileInfo(name, size, txid)


def body(client: MemoryClient, info: FileInfo) -> bytes:
    return client.files[info.name].body


def patience(waits: Waits, attempts_max: int = 3) -> Patience:
    return Patience(RetryPolicy(attempts_max, base_s=1.0, max_s=4.0), waits, rng=lambda: 1.0)


def test_a_broken_read_resumes_at_its_byte() -> None:
    """After each broken connection the read goes on where it stopped, and nothing is fetched twice."""
    client = MemoryClient()
    info = stored(client, 1, 5000)
    client.rewrite("stream:cut@1000 stream:timeout stream:503 stream:cut@77")
    waits = Waits()
    assert b"".join(fetch(client, info, patience=patience(waits, 4))) == body(client, info)
    assert client.counts["stream"] == 5
    assert waits.delays == [1.0, 2.0, 4.0, 1.0], "progress starts the count anew"


def test_attempts_without_progress_are_bounded() -> None:
    """Storage that stays away is an error after the policy's attempts, the storage's own."""
    client = MemoryClient()
    info = stored(client, 1, 5000)
    client.rewrite("stream:timeout*")
    waits = Waits()
    with pytest.raises(TransientNetworkError):
        list(fetch(client, info, patience=patience(waits)))
    assert (client.counts["stream"], waits.delays) == (3, [1.0, 2.0])


@pytest.mark.parametrize(("fault", "error"), [("auth", AccessDeniedError), ("notfound", NotFoundError)])
def test_what_does_not_pass_is_not_retried(fault: str, error: type[Exception]) -> None:
    """A refusal and a missing file reach the caller at once."""
    client = MemoryClient()
    info = stored(client, 1, 5000)
    client.rewrite(f"stream:{fault}")
    with pytest.raises(error):
        list(fetch(client, info, patience=patience(Waits())))
    assert client.counts["stream"] == 1


def test_a_file_shorter_than_its_listing_is_damaged() -> None:
    """A file that ends before its listed size is named as damaged, not taken as complete."""
    client = MemoryClient()
    info = stored(client, 1, 5000)
    with pytest.raises(DamagedFileError, match="ends at byte 5000, its listing said 5001"):
        list(fetch(client, FileInfo(info.name, 5001, 0)))


def test_listing_is_retried_and_then_fails() -> None:
    """A level that cannot be listed is asked again, a bounded number of times."""
    client = MemoryClient()
    infos = [stored(client, 1, 300), stored(client, 2, 300)]
    policy = RetryPolicy(attempts_max=2, base_s=0.001, max_s=0.001)
    client.rewrite("list:503")
    assert list_replica(client, [0], policy=policy) == infos
    client.rewrite("list:timeout*")
    with pytest.raises(TransientNetworkError):
        list_replica(client, policy=policy)


def test_files_come_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of every size around the part size arrive whole, in the order asked for, through several threads."""
    monkeypatch.setattr(module, "PART_BYTES", 1000)
    client = MemoryClient()
    infos = [stored(client, n + 1, size) for n, size in enumerate([1, 999, 1000, 1001, 2000, 4321, 1, 1, 12_345])]
    with Fetcher(client, infos, parallelism=3) as fetcher:
        got = [(info, b"".join(chunks)) for info, chunks in fetcher]
    assert got == [(info, body(client, info)) for info in infos]


def test_memory_is_bounded_by_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a consumer no more than the window is ever asked for, for many small files and for a large one."""
    monkeypatch.setattr(module, "PART_BYTES", 1000)
    monkeypatch.setattr(module, "WINDOW_BYTES_PER_THREAD", 3000)
    client = MemoryClient()
    window = 2 * 3000
    large = [stored(client, 1, 100_000)]
    small = [stored(client, n, 300) for n in range(2, 60)]
    for infos, count in ((large, window // 1000), (small, module._QUEUED_PER_THREAD * 2)):
        with Fetcher(client, infos, parallelism=2) as fetcher:
            _, chunks = next(iter(fetcher))
            next(chunks)
            assert len(fetcher._pending) + 1 == count
            assert fetcher._pending_bytes <= window


def test_reads_run_in_parallel() -> None:
    """As many reads are under way at a time as `parallelism` says: each waits here until all the others have come."""
    meeting = threading.Barrier(4, timeout=20)

    def meet(call: Call) -> None:
        if call.operation == "stream":
            meeting.wait()

    client = MemoryClient(on_call=meet)
    infos = [stored(client, n, 300) for n in range(1, 9)]
    with Fetcher(client, infos, parallelism=4) as fetcher:
        assert [b"".join(chunks) for _, chunks in fetcher] == [body(client, info) for info in infos]


def test_leaving_early_stops_the_reads() -> None:
    """A consumer that gives up leaves no thread asking the storage for more."""
    client = MemoryClient()
    infos = [stored(client, n, 300) for n in range(1, 100)]
    with Fetcher(client, infos, parallelism=1) as fetcher:
        _, chunks = next(iter(fetcher))
        next(chunks)
    for thread in threading.enumerate():
        if thread.name.startswith("fetch-"):
            thread.join(timeout=20)
            assert not thread.is_alive()
    assert client.counts["stream"] < 20


def test_an_error_reaches_the_consumer_of_its_file() -> None:
    """The files before the one that fails are delivered; the failure comes where its file is consumed."""
    client = MemoryClient()
    infos = [stored(client, n, 300) for n in range(1, 4)]
    del client.files[infos[1].name]

    def consume() -> Iterator[bytes]:
        with Fetcher(client, infos) as fetcher:
            for _, chunks in fetcher:
                yield b"".join(chunks)

    results = consume()
    assert next(results) == body(client, infos[0])
    with pytest.raises(NotFoundError):
        next(results)
