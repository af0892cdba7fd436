"""A slice of the fuzz target, small enough for every run of the tests."""

from __future__ import annotations

from tests.fuzz.fuzz_ltx import run


def test_damaged_files_are_refused_within_the_bounds() -> None:
    """Twenty thousand damaged files break none of the laws of the fuzz target, and reach most of the rules."""
    outcomes = run(20_000, seed=7)
    assert outcomes["accepted"] > 500, "damage that does not matter must be among them"
    assert len(outcomes) > 35, "and damage of every kind"
    assert max(outcomes.values()) < 8_000
