"""Peak memory (VmHWM) against the size of the database: replicate and restore."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

from benchmarks.context import Context, stores
from benchmarks.processes import Daemon, peak_mib, run_lsync
from benchmarks.report import Figure
from litestream_py.local.meta import default_meta_path

_COMMITS = 20


def run(context: Context) -> Iterator[Figure]:
    """Take a first snapshot, go on with commits of 500 rows, restore."""
    sizes = (16,) if context.quick else (64, 1024, 4096) if context.large else (64, 1024)
    for mib in sizes:
        with context.scratch() as folder:
            db = context.sample(mib, folder / "db")
            for store in stores(context, folder):
                with Daemon(str(db), store.url, env=store.env, log_level="debug") as daemon, context.app(db) as app:
                    daemon.event("uploaded")
                    first = peak_mib(daemon.pid)
                    for _ in range(_COMMITS):
                        app.commit(500)
                        time.sleep(0.2)
                    whole = peak_mib(daemon.pid)
                yield Figure(
                    what=f"peak memory, replicate {mib} MiB to {store.name}", value=whole, unit="MiB", goal=90,
                    peer="40 to 100 MiB", note=f"{first:.0f} MiB after the first snapshot",
                )  # fmt: skip
                output = folder / "restored.db"
                _, _, _, peak = run_lsync("restore", "-o", str(output), store.url, env=store.env)
                output.unlink()
                yield Figure(
                    what=f"peak memory, restore {mib} MiB from {store.name}", value=peak, unit="MiB", goal=90,
                    peer="40 to 100 MiB",
                )  # fmt: skip
                # Nothing is known of what was replicated, so that the next replica begins with a snapshot too.
                shutil.rmtree(default_meta_path(db))
