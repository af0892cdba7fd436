"""Restart with a database that has not changed, to the first new commit on the replica; and `lsync --help`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from benchmarks.context import Context, stores
from benchmarks.processes import LSYNC, ROOT, Daemon
from benchmarks.report import Figure, median, spread


def run(context: Context) -> Iterator[Figure]:
    """Restart, and ask for help."""
    mib, runs = (32, 2) if context.quick else (256, 5)
    with context.scratch() as folder:
        for store in stores(context, folder):
            db = context.sample(mib, folder / f"{store.name}.db")
            with Daemon(str(db), store.url, env=store.env, log_level="debug") as daemon, context.app(db) as app:
                daemon.event("uploaded")
                app.commit(10)
            samples, uploaded, steps = [], [], []
            for _ in range(runs):
                with Daemon(str(db), store.url, env=store.env, log_level="debug") as daemon:
                    attached_s = daemon.event("attached")
                    with context.app(db) as app:
                        app.commit()
                        ended_s = daemon.event("uploaded")
                samples.append(ended_s - daemon.started_s)
                steps.append(attached_s - daemon.started_s)
                lines = [line for _, line in daemon.events if line["event"] == "uploaded"]
                uploaded.append(sum(int(line["bytes"]) for line in lines[:-1]))
            yield Figure(
                what=f"restart to first new commit, {mib} MiB, {store.name}", value=median(samples), unit="s", goal=0.5,
                peer="1 to 2 s", samples=samples,
                note=f"attached after {median(steps):.2f} s, then the application starts; {spread(samples)}",
            )  # fmt: skip
            yield Figure(
                what=f"restart, uploaded of what was there, {store.name}", value=max(uploaded), unit="bytes", goal=0
            )
    yield _help(3 if context.quick else 10)


def _help(runs: int) -> Figure:
    samples = []
    for _ in range(runs + 1):
        started_s = time.monotonic()
        subprocess.run([*LSYNC, "--help"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        samples.append((time.monotonic() - started_s) * 1e3)
    samples = samples[1:]  # the first one may have had to compile modules
    return Figure(
        what="lsync --help", value=median(samples), unit="ms", goal=150, note=spread(samples, 0), samples=samples
    )
