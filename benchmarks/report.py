"""Figures, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value beside what it is compared with.

    what: names the figure, stable between runs. goal: the value to reach, in `unit`; at_most: whether less is better.
    peer: Litestream's figure, as measured on the same kind of machine. limit: what the machine can do, from this run.
    samples: the single measurements that `value` is made of.
    """

    what: str
    value: float
    unit: str
    goal: float | None = None
    at_most: bool = True
    peer: str = ""
    limit: str = ""
    note: str = ""
    samples: Sequence[float] = field(default=())

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def as_json(self) -> dict[str, Any]:
        """Return what is kept of it."""
        return asdict(self) | {"reached": self.reached}


def median(samples: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def percentile(samples: Iterable[float], percent: float) -> float:
    """Return the smallest sample that at least `percent` of all samples do not exceed."""
    ordered = sorted(samples)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def spread(samples: Sequence[float], digits: int = 2) -> str:
    """Return smallest and largest sample: how noisy a figure is."""
    return f"{len(samples)} runs: {min(samples):.{digits}f} to {max(samples):.{digits}f}"


def number(value: float) -> str:
    """Return a value with three significant digits or more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def row(figure: Figure) -> tuple[str, str, str, str, str]:
    """Return the cells of one line: what, measured, goal, Litestream, beside."""
    goal = "" if figure.goal is None else f"{'<=' if figure.at_most else '>='} {number(figure.goal)}"
    mark = {None: "", True: " ok", False: " MISSED"}[figure.reached]
    beside = "; ".join(text for text in (figure.limit and f"limit {figure.limit}", figure.note) if text)
    return figure.what, f"{number(figure.value)} {figure.unit}", f"{goal}{mark}", figure.peer, beside


HEAD = ("what", "measured", "goal", "litestream", "beside")


def table(figures: Iterable[Figure]) -> str:
    """Return figures as aligned lines."""
    rows = [HEAD, *map(row, figures)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEAD) - 1)]
    lines = []
    for cells in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        lines.append("  ".join((*padded, cells[-1])).rstrip())
    return "\n".join(lines)
