"""An application on the `sqlite3` module, in a process of its own, that does to a database what a test tells it.

Never `sqlite3` in the test's process on a database that we tail: two SQLite libraries in one process drop each other's
locks. Requests and answers are JSON, one line each; a batch of statements is one round trip.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# `fill(n, seed)`: n bytes that depend on the seed only. `image`: the database page by page as a new reader sees it,
# free pages included. A worker thread ("hammer") has its own connection and commits until it is told to stop.
_PROGRAM = """
import hashlib, json, os, sqlite3, sys, threading
path, conns, hammers = sys.argv[1], {}, {}

def connect():
    c = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=float(sys.argv[2]))
    c.create_function("fill", 2, lambda n, seed: hashlib.shake_128(str(seed).encode()).digest(n), deterministic=True)
    return c

def conn(name):
    if name not in conns:
        conns[name] = connect()
    return conns[name]

def do_sql(name, statements):
    rows = []
    for s in statements:
        rows = conn(name).execute(s).fetchall()
    return [[v.hex() if isinstance(v, bytes) else v for v in row] for row in rows]

def do_image(target):
    c = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        data = c.serialize()
    finally:
        c.close()
    if target:
        with open(target, "wb") as f:
            f.write(data)
    return hashlib.sha256(data).hexdigest()

def do_close(name):
    conns.pop(name).close()

def hammer(statements, stop, count, first):
    c = connect()
    c.execute("pragma wal_autocheckpoint=0")
    while not stop.is_set():
        for s in statements:
            c.execute(s)
        count[0] += 1
        first.set()
    c.close()

def do_hammer(statements):
    stop, first, count = threading.Event(), threading.Event(), [0]
    thread = threading.Thread(target=hammer, args=(statements, stop, count, first))
    hammers["it"] = (stop, thread, count)
    thread.start()
    first.wait()

def do_calm():
    stop, thread, count = hammers.pop("it")
    stop.set()
    thread.join()
    return count[0]

def do_version():
    return sqlite3.sqlite_version

for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = {"ok": globals()["do_" + name](*arguments)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(answer) + "\\n")
    sys.stdout.flush()
os._exit(0)  # without closing: what a closing connection does to the WAL is asked for with `close`
"""


class AppError(Exception):
    """What the application's SQLite raised: its class and message."""


class App:
    """A running application. Leaving the block ends it as a crash does: no connection is closed."""

    def __init__(self, path: Path, *, timeout_s: float = 5.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _PROGRAM, str(path), str(timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def _ask(self, *request: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise AppError(answer["error"])
        return answer["ok"]

    def sql(self, *statements: str, conn: str = "main") -> list[list[Any]]:
        """Run statements on the named connection; returns the rows of the last one (bytes as hex)."""
        rows: list[list[Any]] = self._ask("sql", conn, statements)
        return rows

    def image(self, target: Path | None = None) -> str:
        """Return the SHA-256 of the database image that a new reader sees; write it to `target` if given."""
        return str(self._ask("image", None if target is None else str(target)))

    def close(self, conn: str = "main") -> None:
        """Close a connection."""
        self._ask("close", conn)

    def hammer(self, *statements: str) -> None:
        """Run these statements over and over in a thread, without a pause; returns after the first round."""
        self._ask("hammer", statements)

    def calm(self) -> int:
        """Stop that thread; returns its rounds."""
        return int(self._ask("calm"))

    def version(self) -> str:
        """Return the version of the application's SQLite."""
        return str(self._ask("version"))

    def crash(self) -> None:
        """Kill the process; idempotent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.crash()
