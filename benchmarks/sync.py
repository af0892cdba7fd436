"""Processor time for each 100 MiB of WAL: of the running daemon, and of the engine alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.context import APPLICATION, Context
from benchmarks.processes import Daemon, cpu_s, wait_for
from benchmarks.report import Figure, median, spread
from litestream_py.engine.events import TailLimits
from litestream_py.engine.tailer import Tailer
from litestream_py.local.meta import MetaDir, default_meta_path
from litestream_py.ltx.records import HEADER_SIZE, Header

_MIB = 1 << 20
_PACE_MIB_S = 20


def run(context: Context) -> Iterator[Figure]:
    """Replicate a writer of some 20 MiB of WAL a second to a folder; then copy the same amount with the engine."""
    mib, runs = (40, 1) if context.quick else (120, 3)
    for what, how in (("append", "commits of one row, busy pages"), ("bulk", "commits of 16 pages, all different")):
        samples = [_live(context, mib, what) for _ in range(runs)]
        yield Figure(
            what=f"CPU of 100 MiB WAL, live sync, {what}", value=median(samples), unit="s", goal=0.25, peer="0.38 s",
            note=f"the daemon's; {_PACE_MIB_S} MiB/s in {how}; {spread(samples)}", samples=samples,
        )  # fmt: skip
    samples = [_engine(context, mib) for _ in range(runs)]
    yield Figure(
        what="CPU of 100 MiB WAL, engine alone, bulk", value=median(samples), unit="s",
        note=f"syncs of 16 MiB, no checkpoint; {spread(samples)}", samples=samples,
    )  # fmt: skip


def wal_bytes(replica: Path) -> int:
    """Return how many bytes of WAL the L0 files of a file replica say they hold."""
    total = 0
    for path in (replica / "ltx" / "0").glob("*.ltx"):
        with path.open("rb") as file:
            total += Header.unpack(file.read(HEADER_SIZE)).wal_size
    return total


def _live(context: Context, mib: int, what: str) -> float:
    with context.scratch() as folder:
        db = context.sample(64, folder / "db")
        replica = folder / "replica"
        with Daemon(str(db), f"file://{replica}", log_level="debug") as daemon:
            daemon.event("uploaded")
            # What start-up and the first snapshot leave to be done (timers, the end of threads) is not the sync's.
            time.sleep(1.2)
            before_s = cpu_s(daemon.pid)
            context.measured_app(what, db, mib, _PACE_MIB_S)
            wait_for("the replica to catch up", lambda: wal_bytes(replica) >= mib * _MIB * 0.99, pause_s=0.05)
            used_s = cpu_s(daemon.pid) - before_s
        return used_s / wal_bytes(replica) * 100 * _MIB


def _engine(context: Context, mib: int) -> float:
    """Sync after every 16 MiB; the application ends each time without a checkpoint, because we hold connections."""
    with context.scratch() as folder:
        db = context.sample(64, folder / "db")
        used_s, copied = 0.0, 0
        tailer = Tailer(db, MetaDir(default_meta_path(db)), TailLimits(), lambda _: None)
        tailer.open()
        try:
            tailer.attach(None, now_ms=time.time_ns() // 1_000_000)
            while copied < mib * _MIB:
                subprocess.run(
                    [sys.executable, str(APPLICATION), "bulk", str(db), "16", "0"], check=True, capture_output=True
                )
                started_s = time.process_time()
                while (result := tailer.sync(now_ms=time.time_ns() // 1_000_000)) is not None:
                    copied += result.wal_bytes
                used_s += time.process_time() - started_s
        finally:
            tailer.close()
        return used_s / copied * 100 * _MIB
