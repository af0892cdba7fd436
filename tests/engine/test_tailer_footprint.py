"""We leave no trace in the user's database, and open none of its files but once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litestream_py.core.checkpoint import Checkpoint
from litestream_py.local.dbfiles import shm_path
from litestream_py.local.slots import READ_SLOT_BYTE
from tests.support.lab import Lab

DMS_BYTE = 128
"""Lock byte that says "somebody has this wal-index open" (SQLite, `UNIX_SHM_DMS`)."""

_opened: list[tuple[str, str]] = []
_watched: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in _watched:
            frame = sys._getframe(1)
            _opened.append((path, Path(frame.f_code.co_filename).name))


sys.addaudithook(_watch)


@pytest.fixture
def opened(lab: Lab) -> Iterator[list[tuple[str, str]]]:
    """Every opening of the database or its `-shm` by Python code: path, and the file that the code is in."""
    _opened.clear()
    _watched[:] = [os.path.realpath(lab.path), os.path.realpath(shm_path(lab.path))]
    yield _opened
    _watched.clear()


def holders(lab: Lab, first: int, count: int) -> set[int]:
    """Return the processes that another process sees holding a lock on these bytes of `-shm`."""
    code = (
        "import fcntl,os,struct,sys\n"
        "fd=os.open(sys.argv[1],os.O_RDWR)\n"
        "s=struct.Struct('hhqqi4x')\n"
        "for at in range(int(sys.argv[2]),int(sys.argv[2])+int(sys.argv[3])):\n"
        "    r=s.unpack(fcntl.fcntl(fd,fcntl.F_GETLK,s.pack(fcntl.F_WRLCK,0,at,1,0)))\n"
        "    if r[0]!=fcntl.F_UNLCK: print(r[4])\n"
    )
    arguments = [sys.executable, "-S", "-c", code, str(shm_path(lab.path)), str(first), str(count)]
    return {int(line) for line in subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()}


PROGRAM = [
    ["insert into t(b) values(fill(30000, 1))", "create index i on t(b)"],
    ["update t set b = fill(9000, id)", "create table u(a primary key) without rowid"],
    ["insert into u values(1), (2)", "delete from t where id % 2 = 0", "vacuum"],
    ["pragma user_version=7", "insert into t(b) values(fill(80000, 3))", "drop table u"],
    ["begin", "insert into t(b) values(fill(200000, 3))", "rollback", "insert into t(b) values(fill(100, 4))"],
]


def run(folder: Path, *, tailed: bool, what: Checkpoint) -> bytes:
    """Run the program, with us checkpointing beside it or not; returns the file after the application's checkpoint.

    Without us, another application process does what TRUNCATE does: SQLite then drops the page caches of the others,
    which shows in the change counter, whoever asked for it.
    """
    folder.mkdir()
    lab = Lab(folder)
    try:
        app = lab.create()
        other = lab.other_app()
        for batch in PROGRAM:
            app.sql(*batch)
            if tailed:
                lab.sync()
                assert lab.checkpoint(what).complete
            elif what is Checkpoint.TRUNCATE:
                assert other.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]
            else:
                other.sql("pragma wal_checkpoint(passive)")
        app.sql("insert into t(b) values('while we watch')")
        if tailed:
            lab.sync()
            lab.tailer.resync("test", now_ms=lab.now_ms())
            lab.check()
            lab.stop()
        assert app.sql("pragma wal_checkpoint(truncate)") == [[0, 0, 0]]
        return lab.path.read_bytes()
    finally:
        lab.close()


@pytest.mark.parametrize("what", [Checkpoint.SEAL, Checkpoint.TRUNCATE])
def test_the_file_is_what_the_application_alone_makes(tmp_path: Path, what: Checkpoint) -> None:
    """After the same program and a final checkpoint the database files are byte for byte the same, header included."""
    assert run(tmp_path / "tailed", tailed=True, what=what) == run(tmp_path / "alone", tailed=False, what=what)


def test_sealing_is_not_even_seen(tmp_path: Path) -> None:
    """A seal leaves the file that the application makes with its own checkpoints only, autocheckpoint and all."""
    images = []
    for tailed in (True, False):
        lab = Lab(tmp_path / f"{tailed}")
        lab.folder.mkdir()
        app = lab.create(autocheckpoint=20)
        for batch in PROGRAM:
            app.sql(*batch)
            if tailed:
                lab.sync()
                lab.checkpoint()
        lab.stop()
        app.sql("pragma wal_checkpoint(truncate)")
        images.append(lab.path.read_bytes())
        lab.close()
    assert images[0] == images[1]


def test_nothing_is_created_in_the_database(lab: Lab) -> None:
    """Schema, and every setting that is kept in the file, are those of the application."""
    settings = ["user_version", "application_id", "schema_version", "auto_vacuum", "journal_mode", "page_count"]
    app = lab.create("insert into t(b) values(1)")
    before = [app.sql("select * from sqlite_schema"), *[app.sql(f"pragma {name}") for name in settings]]
    lab.sync()
    assert lab.truncate().truncated
    assert [app.sql("select * from sqlite_schema"), *[app.sql(f"pragma {name}") for name in settings]] == before
    assert {path.name for path in lab.folder.iterdir()} == {"app.db", "app.db-wal", "app.db-shm", ".app.db-lsync"}


def test_only_one_module_opens_the_files_and_once(lab: Lab, opened: list[tuple[str, str]]) -> None:
    """Through attach, sync, seal, truncate and resync nobody else opens database or `-shm`: closing drops locks."""
    app = lab.create("insert into t(b) values(fill(9000, 1))")
    lab.sync()
    for number in range(3):
        app.sql(f"insert into t(b) values(fill(9000, {number}))")
        lab.sync()
        lab.checkpoint()
    lab.truncate()
    lab.tailer.resync("test", now_ms=lab.now_ms())
    assert sorted(Path(path).name for path, _ in opened) == ["app.db", "app.db-shm"]
    assert {module for _, module in opened} == {"dbfiles.py"}


def test_our_locks_are_held_throughout(lab: Lab) -> None:
    """As another process sees it, a read slot is ours after every step, and gone after the end."""
    ours = os.getpid()
    app = lab.create("insert into t(b) values(fill(9000, 1))")
    steps: list[Callable[[], object]] = [
        lab.sync,
        lab.checkpoint,
        lab.sync,
        lab.truncate,
        lambda: lab.tailer.resync("test", now_ms=lab.now_ms()),
        lambda: lab.tailer.hand_over_read(lab.tailer.files.read_index()),
    ]
    for number, act in enumerate(steps):
        app.sql(f"insert into t(b) values(fill(9000, {number}))")
        act()
        assert ours in holders(lab, READ_SLOT_BYTE, 5)
        assert holders(lab, DMS_BYTE, 1)
    lab.sync()
    lab.stop()
    assert ours not in holders(lab, READ_SLOT_BYTE, 5)


def test_a_second_tailer_of_the_same_file_opens_nothing(lab: Lab, opened: list[tuple[str, str]]) -> None:
    """Another name of a database that is being tailed is refused before it is opened, so that no lock is dropped."""
    lab.create("insert into t(b) values(1)")
    lab.sync()
    link = lab.folder / "link.db"
    os.link(lab.path, link)
    other = Lab(lab.folder)
    other.path = link
    opened.clear()
    with pytest.raises(Exception, match="another name"):
        other.sync()
    other.close()
    assert opened == []
    assert os.getpid() in holders(lab, READ_SLOT_BYTE, 5)
