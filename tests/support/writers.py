"""Application processes that write to a database until they are stopped, on the standard library's `sqlite3`.

*Ledger*: commits one row after the other and notes each commit, once it has returned, in a file of its own. *Torture*:
does at random what applications do: big and small transactions, deletes, rollbacks, savepoints, VACUUM, incremental
vacuum, and checkpoints of every mode. *Reader*: holds snapshots.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.supervise import wait_for

# cache_spill=off: a savepoint rolled back after a spill makes the WAL sick on old libraries, which has its own tests.
_COMMON = """
import os, random, signal, sqlite3, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # between two calls of SQLite, never within one
path, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)

def connect(timeout_s=5.0, autocheckpoint=0):
    c = sqlite3.connect(path, isolation_level=None, timeout=timeout_s)
    c.execute(f"pragma wal_autocheckpoint={autocheckpoint}")
    c.execute("pragma cache_spill=off")
    return c

def started():
    sys.stdout.write("started\\n")
    sys.stdout.flush()
"""

_LEDGER = (
    _COMMON
    + """
ledger = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
pause_s, autocheckpoint, checkpoints = float(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "yes"
c = connect(autocheckpoint=autocheckpoint)
first = c.execute("select coalesce(max(n), 0) from ledger where writer = ?", (seed,)).fetchone()[0] + 1
started()
n = first
while True:
    try:
        c.execute("begin immediate")
        c.execute("insert into ledger values(?, ?, ?)", (seed, n, rng.randbytes(rng.choice((20, 200, 3000)))))
        c.execute("commit")
    except sqlite3.OperationalError:
        if c.in_transaction:
            c.execute("rollback")
        continue
    os.write(ledger, b"%d %d\\n" % (seed, n))
    n += 1
    if checkpoints and rng.random() < 0.05:
        c.execute(f"pragma busy_timeout={rng.choice((0, 5, 20))}")
        c.execute("pragma wal_checkpoint(%s)" % rng.choice(("passive", "full", "restart", "truncate"))).fetchall()
        c.execute("pragma busy_timeout=5000")
    if pause_s:
        time.sleep(pause_s)
"""
)

_TORTURE = (
    _COMMON
    + """
modes = ("passive", "full", "restart", "truncate")
checkpoints = sys.argv[3] == "yes"
c = connect()
started()

def rows(most):
    return [(rng.randrange(1 << 40), rng.randbytes(rng.choice((10, 300, 5000)))) for _ in range(rng.randrange(1, most))]

def insert(most):
    c.executemany("insert or replace into t values(?, ?)", rows(most))

def delete():
    c.execute("delete from t where id % ? = ?", (k := rng.randrange(2, 9), rng.randrange(k)))

def savepoints():
    insert(20)
    c.execute("savepoint s")
    insert(40)
    if rng.random() < 0.7:
        c.execute("rollback to s")
    c.execute("release s")
    insert(3)

def transaction():
    c.execute("begin immediate")
    rng.choices((lambda: insert(10), lambda: insert(200), delete, savepoints), (8, 1, 2, 2))[0]()
    c.execute("rollback" if rng.random() < 0.15 else "commit")

def checkpoint():
    c.execute(f"pragma busy_timeout={rng.choice((0, 5, 20))}")
    c.execute(f"pragma wal_checkpoint({rng.choice(modes)})").fetchall()
    c.execute("pragma busy_timeout=5000")

while True:
    try:
        what = rng.random()
        if what < 0.006:
            c.execute("vacuum")
        elif what < 0.05:
            c.execute(f"pragma incremental_vacuum({rng.randrange(1, 60)})").fetchall()
        elif what < 0.15 and checkpoints:
            checkpoint()
        else:
            transaction()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) and "busy" not in str(error):
            raise
        if c.in_transaction:
            c.execute("rollback")
"""
)

_READER = (
    _COMMON
    + """
readers = [connect() for _ in range(3)]
started()
while True:
    for c in readers:
        if c.in_transaction:
            if rng.random() < 0.5:
                c.execute("rollback")
        else:
            c.execute("begin")
            c.execute("select count(*), sum(length(b)) from t").fetchall()
    time.sleep(rng.choice((0.001, 0.02, 0.3)))
"""
)


class Writer:
    """One application process; leaving the block kills it."""

    def __init__(self, program: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was not stopped."""
        return self._process.returncode is None

    def stop(self) -> None:
        """Kill -9; raises AssertionError if it had ended by itself before."""
        if self._process.returncode is not None:
            return
        self._process.kill()
        _, errors = self._process.communicate()
        assert self._process.returncode == -signal.SIGKILL, f"a writer failed: {errors.decode()[-1500:]}"

    def end(self) -> None:
        """End it in order: what it was committing is committed and published, or rolled back."""
        self._process.terminate()
        _, errors = self._process.communicate()
        assert self._process.returncode == 0, f"a writer failed: {errors.decode()[-1500:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self._process.kill()
            self._process.communicate()


def ledger_writer(
    path: Path, number: int, *, pause_s: float = 0.0, autocheckpoint: int = 1000, checkpoints: bool = False
) -> Writer:
    """Start a ledger writer. pause_s: after each commit. checkpoints: now and then one of any mode, of its own."""
    words = (path, number, ledger_of(path), pause_s, autocheckpoint, "yes" if checkpoints else "no")
    return Writer(_LEDGER, *words)


def torture_writer(path: Path, seed: int, *, checkpoints: bool) -> Writer:
    """Start a torture writer on a database with a table t(id, b)."""
    return Writer(_TORTURE, path, seed, "yes" if checkpoints else "no")


def reader(path: Path, seed: int) -> Writer:
    """Start a process that holds snapshots, three at a time, for up to a second or so."""
    return Writer(_READER, path, seed)


def ledger_of(path: Path) -> Path:
    """Return the file in which the ledger writers of a database note their commits."""
    return path.with_name(path.name + ".ledger")


def acknowledged(path: Path) -> set[tuple[int, int]]:
    """Return the commits noted so far: (writer, number)."""
    ledger = ledger_of(path)
    lines = ledger.read_text().split("\n")[:-1] if ledger.exists() else []
    return {(int(writer), int(number)) for writer, number in (line.split() for line in lines)}


def wait_acknowledged(path: Path, count: int) -> set[tuple[int, int]]:
    """Wait until so many commits are noted; returns them."""
    wait_for(lambda: len(acknowledged(path)) >= count, lambda: f"{len(acknowledged(path))} commits, not {count}")
    return acknowledged(path)
