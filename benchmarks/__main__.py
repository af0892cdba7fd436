"""``python -m benchmarks [--quick] [--large] [--only NAME] [--list]``: measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.context import Context
from benchmarks.machine import describe, measure_limits
from benchmarks.report import Figure, table
from litestream_py.errors import LsyncError

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = {
    "codec": "LTX encode and decode, WAL checksum",
    "sync": "processor time for each 100 MiB of WAL",
    "latency": "from a commit to the replica, after a quiet time",
    "snapshot": "first snapshot of a database",
    "restore": "restore of a snapshot and 200 increments",
    "idle": "processor time and requests of an idle daemon",
    "impact": "what an application notices of being replicated",
    "memory": "peak memory against the size of the database",
    "startup": "restart with an unchanged database; `lsync --help`",
}
"""Name of each benchmark's module, and what it measures."""


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--quick", action="store_true", help="few runs and small databases: does it work at all?")
    parser.add_argument("--large", action="store_true", help="also the databases that take minutes (4 GiB)")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help="this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    arguments = parser.parse_args()
    if arguments.list:
        for name, text in BENCHMARKS.items():
            print(f"{name:10} {text}")
        return 0

    started = datetime.now(UTC)
    machine = describe()
    figures: list[Figure] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lsync-bench-") as name:
        folder = Path(name)
        limits = measure_limits(folder)
        print(", ".join(f"{key} {value}" for key, value in machine.items()))
        print(f"this machine now: {limits}")
        context = Context(folder, limits, quick=arguments.quick, large=arguments.large)
        try:
            for benchmark in arguments.only or BENCHMARKS:
                begun_s = time.monotonic()
                print(f"{benchmark}: {BENCHMARKS[benchmark]} ...", end="", flush=True, file=sys.stderr)
                try:
                    figures += importlib.import_module(f"benchmarks.{benchmark}").run(context)
                except (RuntimeError, OSError, LsyncError, subprocess.SubprocessError) as error:
                    failed.append(benchmark)
                    print(f" FAILED: {error}", file=sys.stderr)
                else:
                    print(f" {time.monotonic() - begun_s:.0f} s", file=sys.stderr)
        finally:
            context.close()
    print(table(figures))
    if arguments.quick:
        print("--quick: the sizes are small, and the goals are not meant for them")
    RESULTS.mkdir(exist_ok=True)
    result = RESULTS / f"{started:%Y%m%dT%H%M%SZ}.json"
    content = {"at": started.isoformat(), "machine": machine, "limits": asdict(limits), "quick": arguments.quick}
    result.write_text(json.dumps(content | {"figures": [figure.as_json() for figure in figures]}, indent=1) + "\n")
    print(f"written to {result}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
