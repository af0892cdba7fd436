"""Checkpoint in two phases, so that writers hardly notice (design section 2).

*Bulk*, without the write lock: move the read mark forward, PASSIVE, sync. The heavy copying and the fsync of the
database happen here. *Seal*, under the write lock and within two budgets: sync the small rest, end the reader, PASSIVE,
restart the reader. After a complete one the next writer restarts the WAL by itself. *Truncate* follows a seal, without
the lock: with our reader on slot 0 it can only succeed while nothing was committed since the seal.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from litestream_py.core.backoff import next_delay
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
_WORK_SHARE: Final = 16
"""This part of the WAL may always be worked off under the lock, or a writer that never rests would make it grow on."""
_BUSY_TRIES: Final = 8
_BUSY_TRIES_LOCKED: Final = 3
_BUSY_PAUSE_S: Final = 0.002


class Outcome(StrEnum):
    """What a checkpoint came to.

    complete: the next writer can restart the WAL. too_much: more work was left than may be done under the write lock.
    pinned: a reader of another process holds older frames. busy: somebody else held a lock until our patience ended.
    """

    COMPLETE = "complete"
    TOO_MUCH = "too_much"
    PINNED = "pinned"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class CheckpointOutcome:
    """The outcome of the seal, and whether a TRUNCATE that was asked for happened; why: what stood in the way."""

    seal: Outcome
    truncated: bool = False
    why: str = ""

    @property
    def complete(self) -> bool:
        """Whether the next writer can restart the WAL."""
        return self.seal is Outcome.COMPLETE


def checkpoint(tailer: Tailer, what: Checkpoint, *, now_ms: Callable[[], int]) -> CheckpointOutcome:
    """Seal, and truncate if asked to; each step is also published.

    Raises SickWal, StateUnknownError, LsyncError as `Tailer.sync`.
    """
    _bulk(tailer, now_ms=now_ms)
    hit(BEFORE_SEAL)
    try:
        try:
            outcome = _seal(tailer, now_ms=now_ms)
        finally:
            tailer.publish_held()
    except DatabaseBusyError as error:
        if not tailer.database.reading:
            raise
        return CheckpointOutcome(Outcome.BUSY, why=error.cause)
    hit(AFTER_SEAL)
    if what is Checkpoint.TRUNCATE and outcome.complete:
        return replace(outcome, truncated=_truncate(tailer))
    return outcome


def _bulk(tailer: Tailer, *, now_ms: Callable[[], int]) -> None:
    """Backfill and copy without the write lock until little is left to do under it, or a writer is too fast for that.

    Backfill does not wait for the copying: as long as the read mark is held, no frame is overwritten. Copying first
    would only make more and smaller L0 files.
    """
    budget = tailer.limits.lock_work_bytes
    for _ in range(_BULK_ROUNDS_MAX):
        # Nothing is backfilled that was not seen to verify: a sick WAL must not be checkpointed half-way.
        if tailer.pending_bytes(tailer.files.read_index()) > budget:
            while (result := tailer.sync(now_ms=now_ms())) is not None and result.limited:
                pass
        index = tailer.files.read_index()
        tailer.verify_pending()
        tailer.hand_over_read(index)
        _passive(tailer, _BUSY_TRIES)
        if _work_left(tailer, tailer.files.read_index()) <= budget:
            return


def _frames_bytes(tailer: Tailer, frames: int) -> int:
    return frames * (FRAME_HEADER_SIZE + tailer.state.page_size)


def _work_left(tailer: Tailer, index: WalIndex) -> int:
    return max(tailer.pending_bytes(index), _frames_bytes(tailer, index.mx_frame - index.n_backfill))


def _passive(tailer: Tailer, tries: int) -> None:
    """Backfill what the read marks allow; skipped where there is nothing to do, tried again while another one runs."""
    for attempt in range(tries):
        index = tailer.files.read_index()
        if index.n_backfill >= index.mx_frame:
            return
        result = tailer.database.checkpoint("PASSIVE")
        if not result.busy or attempt == tries - 1:
            tailer.apply(result)
            tailer.publish(result)
            return
        time.sleep(next_delay(attempt, base_s=_BUSY_PAUSE_S, max_s=16 * _BUSY_PAUSE_S, rng=random.random))


def _seal(tailer: Tailer, *, now_ms: Callable[[], int]) -> CheckpointOutcome:
    with tailer.database.barrier(tailer.limits.lock_wait_s):
        hit(UNDER_LOCK)
        index = tailer.files.read_index()
        left = _work_left(tailer, index)
        budget = max(tailer.limits.lock_work_bytes, _frames_bytes(tailer, index.mx_frame) // _WORK_SHARE)
        if left > budget:
            return CheckpointOutcome(Outcome.TOO_MUCH, why=f"{left} bytes of WAL left to do, more than {budget}")
        while (result := tailer.sync(now_ms=now_ms())) is not None and result.limited:
            pass
        tailer.apply(Unsealed())
        tailer.database.end_read()
        try:
            hit(READER_ENDED)
            _passive(tailer, _BUSY_TRIES_LOCKED)
            hit(AFTER_PASSIVE)
        finally:
            # Nobody could commit or restart the WAL meanwhile: we hold the write lock.
            index = tailer.restart_read()
        complete = index.n_backfill >= index.mx_frame
        tailer.sealed(file_complete=complete)
    if complete:
        return CheckpointOutcome(Outcome.COMPLETE)
    return CheckpointOutcome(Outcome.PINNED, why="a reader of another process pins older frames")


def _truncate(tailer: Tailer) -> bool:
    """Cut the WAL file to nothing; False if commits came since the seal."""
    result = tailer.database.checkpoint("TRUNCATE")  # without waiting: it would wait for readers under the write lock
    tailer.apply(result)
    tailer.publish(result)
    return not result.busy
