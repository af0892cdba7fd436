"""Heal a sick WAL: committed frames without salts and checksum, left by the application's SQLite (design section 2).

A reader of the file sees its end at such a frame, and so does recovery: a crash loses every commit behind it. Healing
must end with an empty WAL; a PASSIVE alone would leave the old prefix in the file, and a crash would replay it over
newer pages. TRUNCATE goes by the wal-index and takes the write lock itself. A reader of another process below mxFrame
would stop it half-way: then wait. So would a writer: a TRUNCATE that cannot have the write lock acts as a PASSIVE.
"""

from __future__ import annotations

from litestream_py.core.sqlite_version import SAVEPOINT_BUG_FIXED_IN
from litestream_py.core.state import SyncResult, Unsealed
from litestream_py.engine.events import SickWalNotice
from litestream_py.engine.tailer import SickWal, Tailer
from litestream_py.errors import DatabaseBusyError
from litestream_py.failpoints import declare, hit
from litestream_py.local.slots import reader_pinned_below

READER_ENDED = declare("sick.reader_ended")
AFTER_TRUNCATE = declare("sick.after_truncate")

ADVICE = (
    f"the application's SQLite has the savepoint bug (fixed in {SAVEPOINT_BUG_FIXED_IN}): upgrade it, "
    "or set PRAGMA cache_spill=off around savepoints"
)


def heal(tailer: Tailer, sick: SickWal, *, now_ms: int) -> SyncResult | None:
    """Empty the WAL and ship what differs; raises DatabaseBusyError (try again later) while others are in the way.

    A snapshot of ours must be closed first: its read mark would stop the TRUNCATE half-way.
    Where attach itself met the sick WAL, there is no state yet: then the WAL is emptied, and the caller attaches again.
    """
    if tailer.database.reading_snapshot:  # POSIX never shows a process its own locks, so `reader_pinned_below` does not
        raise DatabaseBusyError("heal", tailer.path, "a snapshot of ours pins older frames", hint=ADVICE)
    try:
        with tailer.database.barrier(tailer.limits.attach_wait_s):
            index = tailer.files.read_index()
            pinned = reader_pinned_below(tailer.files.shm_fd, index.read_marks, index.mx_frame)
    except DatabaseBusyError as error:
        tailer.publish(SickWalNotice(sick.offset, False, "another connection holds the write lock"))
        raise DatabaseBusyError("heal", tailer.path, error.cause, hint=ADVICE) from error
    if pinned:
        tailer.publish(SickWalNotice(sick.offset, False, "a reader of another process pins older frames"))
        raise DatabaseBusyError("heal", tailer.path, "a reader of another process pins older frames", hint=ADVICE)
    if tailer.attached:
        tailer.apply(Unsealed())
    tailer.database.end_read()
    try:
        hit(READER_ENDED)
        result = tailer.database.checkpoint("TRUNCATE", wait_s=tailer.limits.lock_wait_s)
        hit(AFTER_TRUNCATE)
    except BaseException:
        tailer.database.begin_read()
        raise
    if result.busy:
        tailer.database.begin_read()
        tailer.publish(SickWalNotice(sick.offset, False, "TRUNCATE was blocked by another connection"))
        raise DatabaseBusyError("heal", tailer.path, "TRUNCATE was blocked by another connection", hint=ADVICE)
    tailer.publish(result)
    tailer.publish(SickWalNotice(sick.offset, True, "the WAL was emptied; shipping what differs"))
    if not tailer.attached:
        return None
    return tailer.resync("sick-wal", now_ms=now_ms)
