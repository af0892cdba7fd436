"""What the engine tells the outside after each step, and the budgets it works within."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from litestream_py.core.state import CheckpointResult, SyncResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLimits:
    """Budgets of one database.

    lock_wait_s: how long the write lock is waited for. lock_work_bytes: how much WAL may be left to copy or backfill
    under it. sync_wal_bytes_max: WAL per L0 file (None: no bound). attach_wait_s: patience for the write lock at
    attach.
    """

    lock_wait_s: float = 0.25
    lock_work_bytes: int = 1 << 20
    sync_wal_bytes_max: int | None = 64 << 20
    attach_wait_s: float = 5.0
    busy_timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class SickWalNotice:
    """The application's SQLite left frames without salts and checksum in the WAL (savepoint bug, up to 3.50.1).

    offset: bytes into the WAL. healed: the WAL was emptied; else `detail` says what is waited for.
    """

    offset: int
    healed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class WalResetBugNotice:
    """More frames count as backfilled than exist: the WAL-reset bug of the application's SQLite has lost commits."""

    mx_frame: int
    n_backfill: int


Event = SyncResult | CheckpointResult | SickWalNotice | WalResetBugNotice
Publish = Callable[[Event], None]
