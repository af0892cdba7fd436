"""A snapshot of the live database at one TXID, streamed to the replica: no local copy, no lock held meanwhile.

Under the write lock everything committed is copied and a second read transaction begins: what it sees is the database
at the TXID of that moment, and the database checksum of that TXID is known. The pages are then read under that read
mark while tailing goes on. The mark keeps the WAL from being restarted, so it grows for as long as the snapshot takes:
one that lets it grow beyond `wal_bytes_max` is given up and tried again later.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from litestream_py.core.ports import ReplicaClient
from litestream_py.core.state import SyncState
from litestream_py.engine.resync import Snapshot, read_snapshot
from litestream_py.engine.tailer import Tailer
from litestream_py.errors import CorruptError, DatabaseBusyError
from litestream_py.failpoints import declare, hit
from litestream_py.ltx.checksum import CHECKSUM_FLAG, page_checksum
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName
from litestream_py.ltx.records import Header

BEFORE_PUT = declare("snapshot.before_put")
AFTER_PUT = declare("snapshot.after_put")

_ROUNDS_MAX: Final = 4


@dataclass(eq=False)
class OpenSnapshot:
    """A read transaction on the database at `state`, until `close`.

    The tailing thread opens and closes it, another one streams it; `in_use` is held while it is read, so that no
    descriptor is closed under the reader. cancelled: the stream ends with an error at its next page.
    """

    tailer: Tailer
    state: SyncState
    snapshot: Snapshot
    in_use: threading.Lock = field(default_factory=threading.Lock)
    cancelled: str | None = None

    @property
    def name(self) -> FileName:
        """Name of the file at level 9."""
        return FileName(SNAPSHOT_LEVEL, TXID(1), self.state.txid)

    def cancel(self, why: str) -> None:
        """Have the stream end with an error, and wait until it has."""
        self.cancelled = self.cancelled or why
        with self.in_use:
            pass


def open_snapshot(tailer: Tailer, *, now_ms: int) -> OpenSnapshot:
    """Begin a snapshot at the newest TXID; raises DatabaseBusyError if that cannot be had within the lock budgets.

    Raises as `Tailer.sync` too. No read transaction of the snapshot's is left then.
    """
    budget = tailer.limits.lock_work_bytes
    for _ in range(_ROUNDS_MAX):  # each leaves less to do than the one before, unless the writer is faster than we are
        while (result := tailer.sync(now_ms=now_ms)) is not None and result.limited:
            pass
        if tailer.pending_bytes(tailer.files.read_index()) <= budget:
            break
    try:
        with tailer.database.barrier(tailer.limits.lock_wait_s):
            left = tailer.pending_bytes(tailer.files.read_index())
            if left > budget:
                cause = f"{left} bytes of WAL left to copy under the write lock"
                raise DatabaseBusyError("snapshot", tailer.path, cause)
            while (result := tailer.sync(now_ms=now_ms)) is not None and result.limited:
                pass
            tailer.database.begin_snapshot_read()
            index = tailer.files.read_index()
            state = tailer.state
        snapshot = read_snapshot(tailer.files, index, state.page_size)
    except BaseException:
        tailer.database.end_snapshot_read()
        raise
    finally:
        tailer.publish_held()
    return OpenSnapshot(tailer, state, snapshot)


def close_snapshot(opened: OpenSnapshot) -> None:
    """End the read transaction, in the tailing thread, once nobody reads it any more."""
    opened.cancel("closed")
    opened.tailer.database.end_snapshot_read()


def upload_snapshot(client: ReplicaClient, opened: OpenSnapshot, *, wal_bytes_max: int) -> int:
    """Stream an open snapshot to level 9; returns its size in bytes.

    Raises DatabaseBusyError if it was cancelled or the WAL grew beyond the bound, CorruptError if what was read is not
    the database of its TXID (then nothing becomes visible), PreconditionError if it exists, LsyncError.
    """
    state = opened.state
    header = Header(
        page_size=state.page_size,
        commit=state.commit,
        min_txid=TXID(1),
        max_txid=state.txid,
        timestamp_ms=state.timestamp_ms,
    ).with_lsyn(0, state.database_checksum)
    with opened.in_use:
        hit(BEFORE_PUT)
        chunks = encode(header, _proven(opened, wal_bytes_max))
        size = client.put_stream(opened.name, chunks, timestamp_ms=state.timestamp_ms)
        hit(AFTER_PUT)
    return size


def _proven(opened: OpenSnapshot, wal_bytes_max: int) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield the pages; raises before the last chunk is given out if they do not add up to the state's checksum."""
    total, files = 0, opened.tailer.files
    for number, (pgno, page) in enumerate(opened.snapshot.pages(1, opened.state.commit)):
        if number % 1024 == 0:
            _check_going(opened, files.wal_size(), wal_bytes_max)
        total ^= page_checksum(pgno, page)
        yield pgno, page
    _check_going(opened, files.wal_size(), wal_bytes_max)
    if total | CHECKSUM_FLAG != opened.state.database_checksum:
        raise CorruptError("snapshot", opened.tailer.path, f"what was read is not the database at {opened.state.txid}")


def _check_going(opened: OpenSnapshot, wal_bytes: int, wal_bytes_max: int) -> None:
    if opened.cancelled is not None:
        raise DatabaseBusyError("snapshot", opened.tailer.path, opened.cancelled)
    if wal_bytes > wal_bytes_max:
        raise DatabaseBusyError("snapshot", opened.tailer.path, f"the WAL grew to {wal_bytes} bytes meanwhile")
