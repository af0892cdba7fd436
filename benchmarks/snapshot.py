"""The first snapshot of a database: from the start of replication to the confirmed file."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.context import Context, stores
from benchmarks.processes import Daemon, cpu_s
from benchmarks.report import Figure, median, spread


def run(context: Context) -> Iterator[Figure]:
    """Start lsync on a database that nothing is known of."""
    mib, runs = (32, 1) if context.quick else (256, 3)
    goals, peers = {"file": 250, "MinIO": 200}, {"file": "81 MB/s", "MinIO": "65 MB/s"}
    with context.scratch() as outer:
        for name in [store.name for store in stores(context, outer)]:
            rates, whole, used = [], [], []
            for _ in range(runs):
                with context.scratch() as folder:
                    store = next(store for store in stores(context, folder) if store.name == name)
                    db = context.sample(mib, folder / "db")
                    size = db.stat().st_size
                    with Daemon(str(db), store.url, env=store.env, log_level="debug") as daemon:
                        begun_s = daemon.event("started")
                        ended_s = daemon.event("uploaded")
                        used.append(cpu_s(daemon.pid))
                    rates.append(size / 1e6 / (ended_s - begun_s))
                    whole.append(size / 1e6 / (ended_s - daemon.started_s))
            yield Figure(
                what=f"first snapshot, {mib} MiB, {name}", value=median(rates), unit="MB/s", goal=goals[name],
                at_most=False, peer=peers[name], limit=f"write and fsync {context.limits.write_mb_s:,.0f} MB/s",
                note=f"{median(whole):.0f} MB/s with the start of the process; {spread(rates, 0)}", samples=rates,
            )  # fmt: skip
            yield Figure(
                what=f"first snapshot, {mib} MiB, {name}, CPU", value=median(used), unit="s",
                goal=1.5 if mib == 256 else None, peer="2.2 s", note=f"with the start; {spread(used)}", samples=used,
            )  # fmt: skip
