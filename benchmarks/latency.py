"""From the moment a COMMIT returns to the moment its file is on the replica, the database having been quiet before."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.context import Context, stores
from benchmarks.processes import Daemon
from benchmarks.report import Figure, percentile, spread

_QUIET_S = 1.25
"""Longer than the default sync-interval of 1 s, so that the next commit is not paced."""


def run(context: Context) -> Iterator[Figure]:
    """Commit now and then; when a file is on the replica is when lsync logs that storage has confirmed it."""
    count = 6 if context.quick else 30
    goals, peers = {"file": 15, "MinIO": 25}, {"file": "531 ms", "MinIO": "482 ms"}
    with context.scratch() as folder:
        for store in stores(context, folder):
            db = context.sample(64, folder / f"{store.name}.db")
            with Daemon(str(db), store.url, env=store.env, log_level="debug") as daemon, context.app(db) as app:
                daemon.event("uploaded")
                app.commit()  # the application's first commit opens its connection's files
                samples = []
                for _ in range(count):
                    time.sleep(_QUIET_S)
                    mark = daemon.seen
                    committed_s = app.commit()
                    samples.append((daemon.event("uploaded", after=mark) - committed_s) * 1e3)
            name = f"commit to {store.name}"
            limit = f"fsync {context.limits.fsync_ms:.1f} ms"
            yield Figure(
                what=f"{name}, p50", value=percentile(samples, 50), unit="ms", goal=goals[store.name],
                peer=peers[store.name], limit=limit, note=spread(samples, 1), samples=samples,
            )  # fmt: skip
            yield Figure(what=f"{name}, p99", value=percentile(samples, 99), unit="ms", limit=limit)
