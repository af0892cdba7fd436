"""Which SQLite libraries may checkpoint."""

from __future__ import annotations

import pytest

from litestream_py.core.sqlite_version import has_wal_reset_bug


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ("3.7.0", True),
        ("3.40.1", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.44.7", False),
        ("3.45.0", True),
        ("3.50.6", True),
        ("3.50.7", False),
        ("3.51.0", True),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.52", False),
        ("4.0.0", False),
    ],
)
def test_wal_reset_bug(version: str, has_it: bool) -> None:
    """Fixed in 3.51.3, and in the two backports only."""
    assert has_wal_reset_bug(version) is has_it


@pytest.mark.parametrize("version", ["", "x", "3.x.1"])
def test_a_version_that_is_none(version: str) -> None:
    """What is no version is not taken for a good one."""
    with pytest.raises(ValueError, match="invalid literal"):
        has_wal_reset_bug(version)
