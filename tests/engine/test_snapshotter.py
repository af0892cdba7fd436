"""Snapshots of the live database: exact at their TXID, whatever happens while they are streamed, and no trace after."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from litestream_py.clients.memory import MemoryClient
from litestream_py.core.checkpoint import Checkpoint
from litestream_py.core.state import SyncResult
from litestream_py.engine.events import Event
from litestream_py.engine.restorer import restore_txid
from litestream_py.engine.sick import heal
from litestream_py.engine.snapshotter import OpenSnapshot, close_snapshot, open_snapshot, upload_snapshot
from litestream_py.engine.walread import SickWal
from litestream_py.errors import CorruptError, DatabaseBusyError, PreconditionError, TransientNetworkError
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName
from tests.support import sickwal
from tests.support.app import App
from tests.support.lab import Lab
from tests.support.oracle import replay

ROWS = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 700)"
BALLAST = f"{ROWS} insert into t(b) select fill(4000, i) from n"
"""Some 3 MB that do not compress: a snapshot of several chunks."""
UNBOUNDED = 1 << 40


class Interrupted(MemoryClient):
    """Calls `between` with the number of chunks taken so far, after each chunk of a stream."""

    def __init__(self, between: Callable[[int], object]) -> None:
        super().__init__()
        self.between = between
        self.chunks = 0

    def put_stream(self, name: FileName, chunks: Iterator[bytes], *, timestamp_ms: int) -> int:
        """Store what `chunks` yields."""
        return super().put_stream(name, self._watched(chunks), timestamp_ms=timestamp_ms)

    def _watched(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            self.chunks += 1
            self.between(self.chunks)


def opened_on(lab: Lab) -> OpenSnapshot:
    """Open a snapshot at a TXID whose image is written down."""
    lab.note()
    return open_snapshot(lab.tailer, now_ms=lab.now_ms())


def opened_in_time(lab: Lab) -> OpenSnapshot:
    """Open a snapshot beside a writer that may be too fast at times; the daemon tries again too."""
    for _ in range(50):
        with contextlib.suppress(DatabaseBusyError):
            return open_snapshot(lab.tailer, now_ms=lab.now_ms())
    raise AssertionError("the writer is always too fast")


def restored(client: MemoryClient, folder: Path) -> tuple[TXID, str]:
    """Restore what the replica holds; return TXID and SHA-256. The chain's checksum was proven."""
    result = restore_txid(client, folder / "restored.db", None)
    assert result.checksum is not None
    return result.txid, hashlib.sha256(result.path.read_bytes()).hexdigest()


def image_at(lab: Lab, txid: TXID) -> str:
    """Return the SHA-256 of the database at a TXID, as the oracle restores it from the local log."""
    return next(state.sha256() for state in replay(lab.l0) if state.txid == txid)


def write(app: App) -> object:
    """Commit."""
    return app.sql("update t set b = fill(4000, id + 1) where id % 7 = 1", "insert into t(b) values(fill(9000, 1))")


INTERFERENCE: dict[str, Callable[[Lab, App], object]] = {
    "commits": lambda lab, app: write(app),
    "commits and syncs": lambda lab, app: (write(app), lab.sync()),
    "seals": lambda lab, app: (write(app), lab.checkpoint()),
    "truncates": lambda lab, app: (write(app), lab.checkpoint(Checkpoint.TRUNCATE)),
    "foreign passive": lambda lab, app: (write(app), app.sql("pragma wal_checkpoint(passive)")),
    "foreign full": lambda lab, app: (write(app), app.sql("pragma wal_checkpoint(full)")),
    "foreign restart": lambda lab, app: (write(app), app.sql("pragma wal_checkpoint(restart)")),
    "foreign truncate": lambda lab, app: (write(app), app.sql("pragma wal_checkpoint(truncate)")),
    "vacuum": lambda lab, app: (app.sql("delete from t where id % 3 = 0", "vacuum"), lab.sync(), lab.checkpoint()),
    "dropped table": lambda lab, app: (app.sql("delete from t", "vacuum"), lab.sync(), write(app)),
    "resync": lambda lab, app: (write(app), lab.tailer.resync("test", now_ms=lab.now_ms())),
}


@pytest.mark.parametrize("sealed", [False, True], ids=["frames in the WAL", "all backfilled"])
@pytest.mark.parametrize("what", INTERFERENCE)
def test_exact_at_its_txid(lab: Lab, what: str, sealed: bool) -> None:
    """Whatever is committed, checkpointed or vacuumed while it streams, a snapshot restores to its TXID's image."""
    lab.app_timeout_s = 0.05  # for its checkpoints, which our read marks block
    app = lab.create(BALLAST)
    lab.sync()
    if sealed:
        assert lab.checkpoint().complete
    opened = opened_on(lab)
    client = Interrupted(lambda _: INTERFERENCE[what](lab, app))
    size = upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
    close_snapshot(opened)
    assert client.chunks > 3
    assert {name: len(stored.body) for name, stored in client.files.items()} == {opened.name: size}
    assert opened.name == FileName(SNAPSHOT_LEVEL, TXID(1), opened.state.txid)
    assert restored(client, lab.folder) == (opened.state.txid, lab.expected[opened.state.txid])


def test_opened_while_a_writer_never_rests(lab: Lab) -> None:
    """Opened between the commits of a writer without pauses, it holds exactly the TXID that it names."""
    lab.create("insert into t(b) values(fill(100000, 1))")
    lab.sync()
    lab.app.hammer("update t set b = fill(100000, random())")
    for number in range(5):
        opened = opened_in_time(lab)
        client = MemoryClient()
        upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
        close_snapshot(opened)
        folder = lab.folder / f"{number}"
        folder.mkdir()
        assert restored(client, folder) == (opened.state.txid, image_at(lab, opened.state.txid))
        lab.checkpoint()
    lab.app.calm()


def test_a_commit_copied_under_the_lock_is_told(lab: Lab) -> None:
    """The TXID that is made under the write lock is published when the lock is released: it must be uploaded."""
    app = lab.create()
    lab.sync()
    app.sql("insert into t(b) values(1)")
    events, left = lab.events.append, [1]

    def publish(event: Event) -> None:
        events(event)
        if left:
            left.pop()
            app.sql("insert into t(b) values(2)")

    lab.tailer._publish = publish
    before = lab.tailer.state.txid
    opened = open_snapshot(lab.tailer, now_ms=lab.now_ms())
    assert opened.state.txid == before + 2
    assert [event.txid for event in lab.events if isinstance(event, SyncResult)][-1] == opened.state.txid
    close_snapshot(opened)


def test_the_application_is_not_blocked(lab: Lab) -> None:
    """While a snapshot streams, an application that never waits for a lock can write, and read its writes."""
    lab.create(BALLAST)
    hasty = lab.other_app(timeout_s=0.0)
    opened = opened_on(lab)

    def between(number: int) -> None:
        hasty.sql("begin immediate", f"insert into t(b) values('hasty {number}')", "commit")
        assert hasty.sql(f"select count(*) from t where b = 'hasty {number}'") == [[1]]

    client = Interrupted(between)
    upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
    close_snapshot(opened)
    assert client.chunks > 3


def refuse(lab: Lab, opened: OpenSnapshot, client: MemoryClient, wal_bytes_max: int = UNBOUNDED) -> DatabaseBusyError:
    """Upload a snapshot that is given up; nothing becomes visible, and the next one works."""
    with pytest.raises(DatabaseBusyError) as caught:
        upload_snapshot(client, opened, wal_bytes_max=wal_bytes_max)
    close_snapshot(opened)
    assert client.files == {}
    again = opened_on(lab)
    upload_snapshot(fresh := MemoryClient(), again, wal_bytes_max=UNBOUNDED)
    close_snapshot(again)
    assert restored(fresh, lab.folder) == (again.state.txid, lab.expected[again.state.txid])
    return caught.value


def test_the_wal_grows_beyond_its_bound(lab: Lab) -> None:
    """A snapshot under which the WAL grows too far is given up, and a seal can then complete."""
    app = lab.create(BALLAST)
    opened = opened_on(lab)
    wal_bytes = os.stat(f"{lab.path}-wal").st_size

    def between(_number: int) -> None:
        app.sql("update t set b = fill(4000, id + 2)")
        lab.sync()
        lab.checkpoint()

    error = refuse(lab, opened, Interrupted(between), wal_bytes_max=wal_bytes + 1)
    assert "the WAL grew" in error.cause
    assert lab.checkpoint().complete


def test_cancelled(lab: Lab) -> None:
    """A snapshot that is cancelled ends at its next look, says why, and leaves nothing."""
    lab.create(BALLAST)
    opened = opened_on(lab)

    def between(_number: int) -> None:
        opened.cancelled = "lsync is being stopped"

    assert refuse(lab, opened, Interrupted(between)).cause == "lsync is being stopped"


def test_closing_waits_for_the_reader(lab: Lab) -> None:
    """Closing a snapshot that another thread streams ends the stream first, then the read transaction."""
    lab.create(BALLAST)
    opened = opened_on(lab)
    streaming, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def between(_number: int) -> None:
        streaming.set()
        assert go_on.wait(10)

    def stream() -> None:
        try:
            upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
        except DatabaseBusyError as error:
            order.append(error.cause)

    client = Interrupted(between)
    reader = threading.Thread(target=stream)
    reader.start()
    assert streaming.wait(10)
    ender = threading.Timer(0.2, go_on.set)  # while the closing below waits
    ender.start()
    close_snapshot(opened)
    order.append("closed")
    reader.join()
    ender.join()
    assert order == ["closed", "closed"]
    assert client.files == {}


@pytest.mark.parametrize("what", ["another checksum", "older pages"])
def test_pages_that_do_not_add_up(lab: Lab, what: str) -> None:
    """If what was read is not the database of its TXID, by the chain's checksum, nothing becomes visible."""
    app = lab.create(BALLAST)
    lab.sync()
    lab.checkpoint()
    app.sql("update t set b = fill(4000, id + 3) where id < 100")
    opened = opened_on(lab)
    if what == "another checksum":
        opened.state = replace(opened.state, database_checksum=opened.state.database_checksum ^ 1)
    else:
        opened.snapshot = replace(opened.snapshot, overlay=None)
    client = MemoryClient()
    with pytest.raises(CorruptError, match="not the database"):
        upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
    close_snapshot(opened)
    assert client.files == {}


@pytest.mark.parametrize(
    ("script", "error"),
    [("put_stream:cut@600000", TransientNetworkError), ("put_stream:503", TransientNetworkError)],
)
def test_the_store_fails(lab: Lab, script: str, error: type[Exception]) -> None:
    """A fault of the store comes out, nothing is there; the same open snapshot can be streamed again."""
    lab.create(BALLAST)
    opened = opened_on(lab)
    client = MemoryClient(script)
    with pytest.raises(error):
        upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
    assert client.files == {}
    upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
    assert restored(client, lab.folder) == (opened.state.txid, lab.expected[opened.state.txid])
    with pytest.raises(PreconditionError):
        upload_snapshot(client, opened, wal_bytes_max=UNBOUNDED)
    close_snapshot(opened)


def test_the_write_lock_is_not_to_be_had(lab: Lab) -> None:
    """While the application holds the write lock, no snapshot begins, nothing is left open; afterwards it does."""
    lab.limits = replace(lab.limits, lock_wait_s=0.02)
    app = lab.create()
    lab.sync()
    app.sql("begin immediate", "insert into t(b) values(1)")
    for _ in range(3):
        with pytest.raises(DatabaseBusyError):
            open_snapshot(lab.tailer, now_ms=lab.now_ms())
    app.sql("commit")
    close_snapshot(opened_on(lab))


def test_too_much_is_left_to_copy(lab: Lab) -> None:
    """Where more was committed meanwhile than may be copied under the lock, no snapshot begins, none is left open."""
    app = lab.create()
    lab.limits = replace(lab.limits, lock_work_bytes=0)
    lab.sync()
    app.sql("insert into t(b) values(1)")
    told = lab.events.append

    def publish(event: Event) -> None:
        told(event)
        app.sql("insert into t(b) values(2)")

    lab.tailer._publish = publish
    with pytest.raises(DatabaseBusyError, match="left to copy"):
        open_snapshot(lab.tailer, now_ms=lab.now_ms())
    lab.tailer._publish = told
    close_snapshot(opened_on(lab))


def test_descriptors_and_read_marks_are_given_back(lab: Lab) -> None:
    """After a snapshot no more descriptors are open than after the one before, and the WAL can be emptied."""
    app = lab.create(BALLAST)
    counts = []
    for number in range(4):
        app.sql(f"insert into t(b) values({number})")
        opened = opened_on(lab)
        assert not lab.checkpoint(Checkpoint.TRUNCATE).truncated
        upload_snapshot(MemoryClient(), opened, wal_bytes_max=UNBOUNDED)
        close_snapshot(opened)
        assert lab.checkpoint(Checkpoint.TRUNCATE).truncated
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1:] == counts[:1] * 3


def test_a_sick_wal_is_not_healed_under_an_open_snapshot(lab: Lab) -> None:
    """Our own read mark would stop the TRUNCATE half-way; once the snapshot is closed, the WAL is healed."""
    app = sickwal.create(lab)
    opened = opened_on(lab)
    sickwal.make_sick(app)
    with pytest.raises(SickWal) as caught:
        lab.tailer.sync(now_ms=lab.now_ms())
    wal = Path(f"{lab.path}-wal").read_bytes()
    with pytest.raises(DatabaseBusyError, match="snapshot"):
        heal(lab.tailer, caught.value, now_ms=lab.now_ms())
    assert Path(f"{lab.path}-wal").read_bytes() == wal
    close_snapshot(opened)
    heal(lab.tailer, caught.value, now_ms=lab.now_ms())
    assert os.stat(f"{lab.path}-wal").st_size == 0
