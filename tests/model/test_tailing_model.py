"""The tailing protocol loses no commit in any order of events, and each of its rules is needed for that."""

from __future__ import annotations

import pytest

from tests.model import application, tailer
from tests.model.explore import Outcome, explore, format_trace
from tests.model.model import Bounds, Handover, Rules, State, Step, describe, loss

SMALL = Bounds(frames=3, restarts=2, tailer_crashes=0, tailer_errors=0)
"""Enough for every loss that a missing rule causes, and short to read."""
EVERYTHING = Bounds(frames=3, transaction_frames=2, restarts=2, tailer_crashes=1, tailer_errors=1, writer_crashes=1)
DEEPER = Bounds(frames=4, transaction_frames=2, restarts=3, tailer_crashes=1, tailer_errors=1, writer_crashes=1)


def run(rules: Rules, bounds: Bounds, *, comfort: bool = True) -> Outcome[State]:
    """Explore; with `comfort`, "nothing to copy" from a tailer that has not copied everything is a violation too."""

    def steps(state: State) -> list[Step]:
        return [*application.steps(state, bounds), *tailer.steps(state, rules, bounds)]

    def violation(state: State) -> str | None:
        return loss(state) or (tailer.false_comfort(state, rules) if comfort else None)

    outcome = explore(State(), steps, violation)
    print(f"{rules}\n{bounds}\n{outcome.states} states, {outcome.depth} steps deep: {outcome.violation or 'no loss'}")
    if outcome.trace:
        print(format_trace(outcome.trace, describe))
    return outcome


@pytest.mark.parametrize(
    "bounds", [EVERYTHING, pytest.param(DEEPER, marks=pytest.mark.slow)], ids=["everything", "deeper"]
)
def test_no_order_of_events_loses_a_commit(bounds: Bounds) -> None:
    """With all rules no reachable state has a replica that differs from the database at its position."""
    outcome = run(Rules(), bounds)
    assert outcome.trace is None, format_trace(outcome.trace, describe)
    assert outcome.states > 100_000


@pytest.mark.parametrize(
    ("rules", "telling"),
    [
        (Rules(barrier_at_seal=False), ["writer publishes", "seal: the reader ends", "seal: the reader starts"]),
        (Rules(handover=Handover.ANY), ["checkpoint PASSIVE", "hand-over: the new reader begins", "restarts the WAL"]),
        (Rules(salts_rechecked=False), ["sync scans them: valid", "writer writes", "sync reads", "sync publishes"]),
    ],
    ids=["no-barrier", "handover-to-slot-0", "no-recheck"],
)
def test_without_a_rule_commits_are_lost(rules: Rules, telling: list[str]) -> None:
    """Without the barrier, the slot-0 rule of the hand-over, or the second look at the salts, a commit is skipped."""
    outcome = run(rules, SMALL, comfort=False)
    assert outcome.violation is not None
    assert "lacks" in outcome.violation
    assert outcome.trace is not None
    labels = iter(label for label, _ in outcome.trace)
    for wanted in telling:  # in this order, others between them
        assert any(wanted in label for label in labels), wanted


def test_asking_before_the_handover_is_not_enough() -> None:
    """Where the mark that is held covers mxFrame, a checkpoint between question and hand-over leads to slot 0."""
    outcome = run(Rules(handover=Handover.NOT_BACKFILLED), SMALL, comfort=False)
    assert outcome.trace is not None
    labels = [label for label, _ in outcome.trace]
    allowed = [i for i, label in enumerate(labels) if label == "hand-over is allowed"][-1]
    assert labels[allowed + 1].startswith("checkpoint")
    assert labels[allowed + 2] == "hand-over: the new reader begins"


def test_an_empty_wal_of_another_generation_is_judged() -> None:
    """An unsealed tailer that shrugs at an emptied WAL reports success while it lacks a commit, then seals the loss."""
    rules = Rules(empty_generation_judged=False)
    comfort, skipped = run(rules, SMALL), run(rules, SMALL, comfort=False)
    assert comfort.violation is not None
    assert "nothing to copy" in comfort.violation
    assert skipped.violation is not None
    assert "lacks" in skipped.violation
    assert skipped.depth > comfort.depth


def test_frames_that_are_not_published_are_not_read() -> None:
    """A tailer that trusts the file alone replicates a transaction that its writer never committed."""
    bounds = Bounds(frames=3, restarts=1, tailer_crashes=0, tailer_errors=0, writer_crashes=1)
    outcome = run(Rules(published_frames_only=False), bounds, comfort=False)
    assert outcome.violation is not None
    assert "holds {1}" in outcome.violation


def test_the_model_reaches_what_it_is_about() -> None:
    """Every kind of event does happen in the model: no step is switched off by mistake."""
    labels = run(Rules(), EVERYTHING).labels
    for wanted in (
        "writer takes the write lock and restarts the WAL",
        "writer writes 2 frame(s)",
        "writer crashes",
        "everybody had gone",
        "checkpoint PASSIVE",
        "checkpoint FULL",
        "checkpoint RESTART",
        "checkpoint TRUNCATE",
        "tailer crashes",
        "tailer attaches: same generation",
        "tailer attaches: no WAL",
        "tailer attaches: no proof",
        "reader begins again, unsealed",
        "sync plans frames 1 to 1 of generation 2",
        "sync plans frames 2 to 3 of generation 1",
        "sync scans them: not valid",
        "sync reads the pages: the file is shorter",
        "sync finds other salts",
        "sync finds continuity lost",
        "sync publishes",
        "hand-over: the old reader ends",
        "seal: the barrier takes the write lock",
        "seal: the reader starts",
        "seal fails",
        "resync reads the WAL",
    ):
        assert any(label.startswith(wanted) for label in labels), wanted


def test_exploration_visits_everything_and_finds_the_shortest_trace() -> None:
    """On a graph that can be counted by hand, all states are visited and the shortest way is returned."""

    def steps(state: int) -> list[tuple[str, int]]:
        return [(f"+{n}", state + n) for n in (1, 3) if state + n <= 10]

    outcome = explore(0, steps, lambda state: None)
    assert (outcome.states, outcome.depth, outcome.trace) == (11, 4, None)
    assert outcome.labels == {"+1", "+3"}
    found = explore(0, steps, lambda state: "seven" if state == 7 else None)
    assert found.violation == "seven"
    assert found.trace is not None
    assert found.trace[0] == ("start", 0)
    assert len(found.trace) == 4
    assert "start" in format_trace(found.trace, str)
