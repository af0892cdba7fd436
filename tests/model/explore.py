"""Breadth-first search of every state that can be reached: the shortest way to a violation, or the proof of none."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True)
class Outcome(Generic[S]):
    """What an exploration found.

    states: how many were reached. depth: steps to the farthest. labels: of the steps taken. violation, trace: what was
    found, and the shortest way there as (step, state behind it); None if nothing was.
    """

    states: int
    depth: int
    labels: frozenset[str]
    violation: str | None
    trace: list[tuple[str, S]] | None


def explore(
    initial: S, steps: Callable[[S], Iterable[tuple[str, S]]], violation: Callable[[S], str | None]
) -> Outcome[S]:
    """Visit every state once; stop at the first that violates. Ends only if the states are finitely many."""
    came_from: dict[S, tuple[str, S] | None] = {initial: None}
    frontier: deque[tuple[S, int]] = deque([(initial, 0)])
    labels: set[str] = set()
    depth = 0
    while frontier:
        state, depth = frontier.popleft()
        for label, following in steps(state):
            labels.add(label)
            if following in came_from:
                continue
            came_from[following] = (label, state)
            said = violation(following)
            if said is not None:
                return Outcome(len(came_from), depth + 1, frozenset(labels), said, _trace(came_from, following))
            frontier.append((following, depth + 1))
    return Outcome(len(came_from), depth, frozenset(labels), None, None)


def _trace(came_from: dict[S, tuple[str, S] | None], state: S) -> list[tuple[str, S]]:
    trace = []
    while (origin := came_from[state]) is not None:
        label, before = origin
        trace.append((label, state))
        state = before
    trace.append(("start", state))
    return trace[::-1]


def format_trace(trace: list[tuple[str, S]], describe: Callable[[S], str]) -> str:
    """Return a trace as text: one step a line, and the state that it leads to."""
    width = max(len(label) for label, _ in trace)
    return "\n".join(f"{number:3d}  {label:{width}}  {describe(state)}" for number, (label, state) in enumerate(trace))
