"""Restore of a snapshot and 200 increments, by `lsync restore` as users run it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.context import Context, stores
from benchmarks.processes import run_lsync
from benchmarks.report import Figure, median, spread
from litestream_py.clients.factory import open_client
from litestream_py.clients.specs import FileReplica, S3Replica
from litestream_py.engine.events import TailLimits
from litestream_py.engine.tailer import Tailer
from litestream_py.local.meta import MetaDir, default_meta_path
from litestream_py.ltx.ids import parse_file_name
from litestream_py.ltx.records import HEADER_SIZE, Header

_INCREMENTS = 200
_ROWS = 50


def run(context: Context) -> Iterator[Figure]:
    """Restore from a folder and from MinIO."""
    mib, runs = (32, 1) if context.quick else (256, 3)
    goals, peers = {"file": 300, "MinIO": 200}, {"file": "71 MB/s", "MinIO": "65 MB/s"}
    with context.scratch() as folder:
        chain = make_chain(context, folder, mib, _INCREMENTS)
        for store in stores(context, folder):
            upload(chain, store.replica)
            rates, inner, used = [], [], []
            for number in range(runs):
                output = folder / f"restored-{number}.db"
                answer, wall_s, cpu_s, _ = run_lsync("restore", "-o", str(output), store.url, env=store.env)
                rates.append(answer["size"] / 1e6 / wall_s)
                inner.append(answer["size"] / 1e3 / answer["duration_ms"])
                used.append(cpu_s)
                output.unlink()
            yield Figure(
                what=f"restore, {mib} MiB + {_INCREMENTS} increments, {store.name}", value=median(rates), unit="MB/s",
                goal=goals[store.name], at_most=False, peer=peers[store.name],
                limit=f"write and fsync {context.limits.write_mb_s:,.0f} MB/s",
                note=f"whole process; {median(inner):.0f} MB/s without its start; CPU {median(used):.2f} s; "
                f"{spread(rates, 0)}",
                samples=rates,
            )  # fmt: skip


def make_chain(context: Context, folder: Path, mib: int, increments: int) -> list[Path]:
    """Return the L0 files of a snapshot and increments, each of one commit that changes 50 rows."""
    db = context.sample(mib, folder / "chain.db")
    meta = MetaDir(default_meta_path(db))
    tailer = Tailer(db, meta, TailLimits(), lambda _: None)
    tailer.open()
    try:
        tailer.attach(None, now_ms=time.time_ns() // 1_000_000)
        with context.app(db) as app:
            for _ in range(increments):
                app.commit(_ROWS)
                tailer.sync(now_ms=time.time_ns() // 1_000_000)
        return [meta.l0_path(name) for name, _ in meta.list_l0()]
    finally:
        tailer.close()


def upload(chain: list[Path], replica: FileReplica | S3Replica) -> None:
    """Put the files on a replica as lsync does."""
    client = open_client(replica)
    try:
        for path in chain:
            name = parse_file_name(0, path.name)
            assert name is not None
            with path.open("rb") as file:
                header = Header.unpack(file.read(HEADER_SIZE))
            client.put(name, path, timestamp_ms=header.timestamp_ms)
    finally:
        client.close()
