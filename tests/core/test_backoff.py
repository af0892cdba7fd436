"""Delays between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from litestream_py.core.backoff import next_delay


def test_delay_doubles_up_to_the_ceiling() -> None:
    """Without chance the delay doubles with every attempt and then stays at the ceiling."""
    delays = [next_delay(n, base_s=0.25, max_s=3.0, rng=lambda: 1.0) for n in range(6)]
    assert delays == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_delay_is_never_below_half_of_its_ceiling() -> None:
    """The worst draw still waits half as long, so that retries do not burn their attempts at once."""
    assert next_delay(2, base_s=0.25, max_s=8.0, rng=lambda: 0.0) == 0.5


@given(attempt=st.integers(-1, 10**9), draw=st.floats(0, 1, exclude_max=True))
def test_delay_is_bounded_for_every_attempt(attempt: int, draw: float) -> None:
    """However often it failed, the delay is positive, at most max_s, and nothing overflows."""
    assert 0 < next_delay(attempt, base_s=0.1, max_s=60.0, rng=lambda: draw) <= 60.0
