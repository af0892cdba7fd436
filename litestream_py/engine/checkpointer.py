"""Checkpoint in two phases, so that writers hardly notice (design section 2).

*Bulk*, without the write lock: sync, move the read mark forward, PASSIVE. The heavy copying and the fsync of the
database happen here. *Seal*, under the write lock and within two budgets: sync the small rest, end the reader, PASSIVE,
restart the reader. After a complete one the next writer restarts the WAL by itself. *Truncate* follows a seal, without
the lock: with our reader on slot 0 it can only succeed while nothing was committed since the seal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from litestream_py.core.checkpoint import Checkpoint
from litestream_py.core.state import Unsealed
from litestream_py.engine.tailer import Tailer
from litestream_py.errors import DatabaseBusyError
from litestream_py.failpoints import declare, hit
from litestream_py.wal.records import FRAME_HEADER_SIZE
from litestream_py.wal.walindex import WalIndex

BEFORE_SEAL = declare("checkpoint.before_seal")
UNDER_LOCK = declare("checkpoint.under_lock")
READER_ENDED = declare("checkpoint.reader_ended")
AFTER_PASSIVE = declare("checkpoint.after_passive")
AFTER_SEAL = declare("checkpoint.after_seal")

_BULK_ROUNDS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class SealOutcome:
    """What a checkpoint came to. complete: the next writer can restart the WAL. why: else, what stood in the way."""

    complete: bool
    why: str = ""


def checkpoint(tailer: Tailer, what: Checkpoint, *, now_ms: Callable[[], int], work_factor: int = 1) -> SealOutcome:
    """Seal, and truncate if asked to; the outcome is also published, step by step.

    work_factor: multiplies the budget of work under the lock, after attempts that found too much of it: a writer that
    never rests must not make the WAL grow for ever. Raises SickWal, StateUnknownError, LsyncError as `Tailer.sync`.
    """
    budget = tailer.limits.lock_work_bytes * work_factor
    for _ in range(_BULK_ROUNDS_MAX):
        if _bulk(tailer, now_ms=now_ms) <= budget:
            break
    hit(BEFORE_SEAL)
    try:
        outcome = _seal(tailer, budget, now_ms=now_ms)
    except DatabaseBusyError as error:
        if not tailer.database.reading:
            raise
        return SealOutcome(False, error.cause)
    hit(AFTER_SEAL)
    if what is Checkpoint.TRUNCATE and outcome.complete:
        return _truncate(tailer)
    return outcome


def _bulk(tailer: Tailer, *, now_ms: Callable[[], int]) -> int:
    """Copy and backfill what is there; return how many bytes of WAL were left to do at the end."""
    while (result := tailer.sync(now_ms=now_ms())) is not None and result.limited:
        pass
    index = tailer.files.read_index()
    tailer.hand_over_read(index)
    _passive(tailer)
    return _work_left(tailer, tailer.files.read_index())


def _work_left(tailer: Tailer, index: WalIndex) -> int:
    frame_bytes = FRAME_HEADER_SIZE + tailer.state.page_size
    return max(tailer.pending_bytes(index), (index.mx_frame - index.n_backfill) * frame_bytes)


def _passive(tailer: Tailer) -> None:
    """Backfill what the read marks allow; skipped where there is nothing to do."""
    index = tailer.files.read_index()
    if index.n_backfill >= index.mx_frame:
        return
    result = tailer.database.checkpoint("PASSIVE")
    tailer.apply(result)
    tailer.publish(result)


def _seal(tailer: Tailer, budget: int, *, now_ms: Callable[[], int]) -> SealOutcome:
    with tailer.database.barrier(tailer.limits.lock_wait_s):
        hit(UNDER_LOCK)
        left = _work_left(tailer, tailer.files.read_index())
        if left > budget:
            return SealOutcome(False, f"{left} bytes of WAL left to do under the write lock, more than {budget}")
        while (result := tailer.sync(now_ms=now_ms())) is not None and result.limited:
            pass
        tailer.apply(Unsealed())
        tailer.database.end_read()
        try:
            hit(READER_ENDED)
            _passive(tailer)
            hit(AFTER_PASSIVE)
        finally:
            # Nobody could commit or restart the WAL meanwhile: we hold the write lock.
            index = tailer.restart_read()
        complete = index.n_backfill >= index.mx_frame
        tailer.sealed(file_complete=complete)
    return SealOutcome(complete, "" if complete else "a reader of another process pins older frames")


def _truncate(tailer: Tailer) -> SealOutcome:
    result = tailer.database.checkpoint("TRUNCATE")
    tailer.apply(result)
    tailer.publish(result)
    return SealOutcome(not result.busy, "commits came between the seal and the TRUNCATE" if result.busy else "")
