"""A WAL with committed frames that carry neither salts nor checksum, made by SQLite's savepoint bug (up to 3.50.1).

The cache spills inside a transaction, a savepoint is taken, pages are spilled and spilled again over the same frames,
the savepoint is rolled back: the commit then leaves frames in the file whose headers were never filled in. SQLite goes
by the wal-index and notices nothing.
"""

from __future__ import annotations

import pytest

from litestream_py.core.sqlite_version import SAVEPOINT_BUG_FIXED_IN, parse_version
from tests.support.app import App
from tests.support.lab import Lab


def create(lab: Lab) -> App:
    """Make a database of small pages, with enough rows to spill a small cache; skips where the library is fixed."""
    app = lab.create(page_size=512)
    if parse_version(app.version()) >= parse_version(SAVEPOINT_BUG_FIXED_IN):
        pytest.skip(f"SQLite {app.version()} has no savepoint bug")
    app.sql("begin", *[f"insert into t(b) values(fill(200,{n}))" for n in range(300)], "commit")
    return app


def make_sick(app: App) -> None:
    """Commit a transaction that triggers the bug, and one behind it."""
    app.sql(
        "pragma cache_size=10",
        "begin",
        "update t set b = fill(200, id + 1000) where id <= 100",
        "savepoint s",
        "update t set b = fill(200, id + 2000) where id > 100",
        "update t set b = fill(200, id + 3000) where id > 200",
        "rollback to s",
        "select sum(length(b)) from t",  # spills what the rollback has restored
        "commit",
        "insert into t(b) values(fill(100, 2))",
    )
