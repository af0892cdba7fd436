"""A bar of bytes on standard error, where that is a terminal; otherwise nothing."""

from __future__ import annotations

import sys
from typing import Any, Self


class ByteBar:
    """What is fetched of how much, with rate and time left; wiped at the end."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None
        self.shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def start(self, size: int) -> None:
        """Begin, or begin anew, with `size` bytes to come."""
        if self.shown:
            from tqdm import tqdm

            self.__exit__()
            self._bar = tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=self._label, leave=False)

    def advance(self, size: int) -> None:
        """Count `size` bytes more."""
        if self._bar is not None:
            self._bar.update(size)
