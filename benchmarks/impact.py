"""What the application notices: its top commit rate, and the time of its commits at a steady rate, with and without us.

The runs alternate, each on a fresh copy of the database, so that a change of the machine's mood meets both alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.context import Context
from benchmarks.processes import Daemon
from benchmarks.report import Figure, median, percentile, spread

_RATE = 300


def run(context: Context) -> Iterator[Figure]:
    """Compare."""
    runs, seconds = (1, 2.0) if context.quick else (5, 4.0)
    alone: list[float] = []
    along: list[float] = []
    slowest = {False: 0.0, True: 0.0}
    for _ in range(runs):
        for replicated, rates in ((False, alone), (True, along)):
            answer = _run(context, replicated, "top", seconds, "NORMAL")
            rates.append(float(answer["rate"]))
            slowest[replicated] = max(slowest[replicated], answer["slowest_ms"])
    samples = [with_us / without for with_us, without in zip(along, alone, strict=True)]
    yield Figure(
        what="application at its top rate, of the rate alone", value=median(along) / median(alone), unit="",
        goal=0.8, at_most=False, peer="0.17",
        note=f"{median(along):,.0f} of {median(alone):,.0f} commits/s, synchronous=NORMAL; slowest commit "
        f"{slowest[True]:.0f} ms, alone {slowest[False]:.0f} ms; {spread(samples)}",
        samples=samples,
    )  # fmt: skip
    for synchronous in ("FULL", "NORMAL"):
        yield from _steady(context, synchronous)


def _steady(context: Context, synchronous: str) -> Iterator[Figure]:
    runs, seconds = (1, 3.0) if context.quick else (4, 8.0)
    times: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(runs):
        for replicated in (False, True):
            times[replicated].append(_run(context, replicated, "paced", seconds, _RATE, synchronous)["times_ms"])
    for percent, goal, peer in ((99, 1.05, "1.1"), (99.9, None, "1.9")):
        along, alone = (median([percentile(run, percent) for run in times[which]]) for which in (True, False))
        samples = [
            percentile(one, percent) / percentile(other, percent)
            for one, other in zip(times[True], times[False], strict=True)
        ]
        yield Figure(
            what=f"application at {_RATE}/s, p{percent}, of that alone, {synchronous}", value=along / alone, unit="",
            goal=goal if synchronous == "FULL" else None, peer=peer,
            note=f"{along:.2f} ms, alone {alone:.2f} ms; {spread(samples)}", samples=samples,
        )  # fmt: skip


def _run(context: Context, replicated: bool, what: str, *words: object) -> dict[str, Any]:  # noqa: FBT001
    with context.scratch() as folder:
        db = context.sample(16, folder / "db")
        if not replicated:
            return context.measured_app(what, db, *words)
        with Daemon(str(db), f"file://{folder / 'replica'}", log_level="debug") as daemon:
            daemon.event("uploaded")
            return context.measured_app(what, db, *words)
