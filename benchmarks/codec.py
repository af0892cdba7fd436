"""The codecs alone, in this process, on one core: MB/s of pages and of WAL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from benchmarks.context import Context
from benchmarks.report import Figure, median, spread
from litestream_py.ltx.decoder import decode_stream
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID
from litestream_py.ltx.records import Header
from litestream_py.wal.records import WAL_HEADER_SIZE, WalHeader
from litestream_py.wal.scan import scan_frames

_PAGE = 4096
_CHUNK = 1 << 20


def run(context: Context) -> Iterator[Figure]:
    """Encode and decode a snapshot; verify a WAL."""
    mib, runs = (16, 3) if context.quick else (64, 7)
    limit = f"memcpy {context.limits.copy_mb_s / 1000:.1f} GB/s"
    with context.scratch() as folder:
        data = context.sample(mib, folder / "db").read_bytes()
        pages = [(at // _PAGE + 1, memoryview(data)[at : at + _PAGE]) for at in range(0, len(data), _PAGE)]
        header = Header(_PAGE, len(pages), TXID(1), TXID(1), 0, wal_offset=32).with_lsyn(0, 1 << 63)

        samples = [len(data) / 1e6 / seconds(lambda: _drain(encode(header, pages))) for _ in range(runs)]
        chunks = list(encode(header, pages))
        ratio = f"{len(data) / sum(map(len, chunks)):.1f} times compressed"
        yield Figure(
            what="LTX encode", value=median(samples), unit="MB/s", goal=500, at_most=False, limit=limit,
            note=f"{ratio}; {spread(samples, 0)}", samples=samples,
        )  # fmt: skip
        samples = [len(data) / 1e6 / seconds(lambda: _drain(decode_stream(chunks))) for _ in range(runs)]
        yield Figure(
            what="LTX decode", value=median(samples), unit="MB/s", goal=1500, at_most=False, limit=limit,
            note=spread(samples, 0), samples=samples,
        )  # fmt: skip

        wal = _wal(context, mib)
        samples = [len(wal) / 1e9 / seconds(lambda: _verify(wal)) for _ in range(runs)]
        yield Figure(
            what="WAL checksum", value=median(samples), unit="GB/s", goal=3, at_most=False, limit=limit,
            note=spread(samples), samples=samples,
        )  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of a call: others on the machine slow it down, but are not counted."""
    started_s = time.thread_time()
    work()
    return time.thread_time() - started_s


def _drain(items: Iterable[object]) -> None:
    for _ in items:
        pass


def _wal(context: Context, mib: int) -> bytes:
    """Return a WAL that SQLite wrote."""
    with context.scratch() as folder:
        db = context.sample(16, folder / "db")
        with context.app(db) as app:
            for _ in range(mib):
                app.commit(200)
        return (folder / "db-wal").read_bytes()


def _verify(wal: bytes) -> None:
    header = WalHeader.parse(wal[:WAL_HEADER_SIZE])
    view = memoryview(wal)[WAL_HEADER_SIZE:]
    frame = _PAGE + 24
    step = _CHUNK // frame * frame
    checksum = header.checksum
    for at in range(0, len(view), step):
        batch = scan_frames(
            view[at : at + step], page_size=_PAGE, salts=header.salts, big_endian=header.big_endian, seed=checksum
        )
        if batch.valid * frame != len(view[at : at + step]):
            raise RuntimeError(f"frame {at // frame + batch.valid + 1} does not verify")
        checksum = (int(batch.checksums[-1][0]), int(batch.checksums[-1][1]))
