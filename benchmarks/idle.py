"""What a daemon costs while no database changes: processor time, and requests to the store."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from benchmarks.context import Context, MinIO
from benchmarks.processes import Daemon, peak_mib, scheduled_s
from benchmarks.report import Figure

_SETTLE_S = 3.0


def run(context: Context) -> Iterator[Figure]:
    """Leave 1 and 100 databases alone."""
    window_s = 5.0 if context.quick else 15.0
    minio = context.minio()
    for count in (1, 100):
        with context.scratch() as folder:
            config = _config(context, folder, count, minio)
            env = {} if minio is None else minio.env
            with Daemon("--config", str(config), env=env, log_level="debug") as daemon:
                daemon.event("uploaded", count=count)
                time.sleep(_SETTLE_S)
                requests, used_s = 0 if minio is None else minio.requests(), scheduled_s(daemon.pid)
                started_s = time.monotonic()
                time.sleep(window_s)
                used_s = scheduled_s(daemon.pid) - used_s
                share = used_s / (time.monotonic() - started_s) * 100
                # MinIO gathers its figures every few seconds, so that later ones hold everything of the window.
                time.sleep(_SETTLE_S)
                made = 0 if minio is None else minio.requests() - requests
                peak = peak_mib(daemon.pid)
        name = f"idle, {count} database{'s' if count > 1 else ''}"
        note = f"of one core, over {window_s:.0f} s; peak memory {peak:.0f} MiB"
        if count == 1:
            yield Figure(what=f"{name}, CPU", value=share, unit="%", note=note)
        else:
            yield Figure(what=f"{name}, CPU", value=share, unit="%", goal=0.2, peer="1.4 to 2.8 %", note=note)
        if minio is not None:
            yield Figure(
                what=f"{name}, requests", value=made, unit="", goal=0, peer="74,700 LIST an hour" if count > 1 else ""
            )


def _config(context: Context, folder: Path, count: int, minio: MinIO | None) -> Path:
    lines = ["dbs:"]
    prefix = uuid.uuid4().hex[:8]
    for number in range(count):
        db = context.sample(1, folder / f"{number}.db")
        url = f"file://{folder}/replica-{number}" if minio is None else minio.url(f"{prefix}/{number}")
        lines += [f"  - path: {db}", "    replica:", f"      url: {url}"]
    config = folder / "lsync.yml"
    config.write_text("\n".join(lines) + "\n")
    return config
