"""How long to wait before trying again: one rule for every loop that retries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_EXPONENT_MAX: Final = 62
"""Beyond this the doubled delay is above any sensible `max_s`, and a float would overflow in the end."""


def next_delay(attempt: int, *, base_s: float, max_s: float, rng: Callable[[], float]) -> float:
    """Return the seconds to wait after failure number `attempt` (0 is the first).

    Doubles from `base_s` up to `max_s`; the upper half is random, so that many clients which failed together do not
    come back together, and the lower half is not, so that no retry follows at once. `rng` returns a float in [0, 1).
    """
    ceiling = min(max_s, base_s * 2.0 ** min(max(attempt, 0), _EXPONENT_MAX))
    return ceiling * (0.5 + 0.5 * rng())


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of a retry loop: at most `attempts_max` tries in a row that bring nothing, `next_delay` between them."""

    attempts_max: int = 8
    base_s: float = 0.25
    max_s: float = 8.0
