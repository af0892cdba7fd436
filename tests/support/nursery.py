"""Starts lsync processes in milliseconds: a parent that has imported everything forks one for each request.

For tests that start it hundreds of times. The children are processes like any other: kill -9, signals and files are
real; only the imports (some 0.4 s) were done before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = """
import json, os, sys
import litestream_py.clients.factory, litestream_py.config, litestream_py.daemon.metrics_server
import litestream_py.daemon.service, litestream_py.logs, structlog, xml.sax
from litestream_py.cli.main import main
ended = {}
while line := sys.stdin.readline():
    request = json.loads(line)
    if "spawn" in request:
        pid = os.fork()
        if pid == 0:
            for number, path in ((1, request["out"]), (2, request["err"])):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            main(request["spawn"])
        answer = pid
    else:
        pid = request["poll"]
        if pid not in ended:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                ended[pid] = os.waitstatus_to_exitcode(status)
        answer = ended.get(pid)
    sys.stdout.write(json.dumps(answer) + "\\n")
    sys.stdout.flush()
"""


class Child:
    """A process that the nursery has started."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal), or None while it runs."""
        code: int | None = self._nursery.ask(poll=self.pid)
        return code


class Nursery:
    """The parent process; used by one thread."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def spawn(self, words: list[str], out: Path, err: Path) -> Child:
        """Run `lsync WORDS`, its output in two files."""
        return Child(self, self.ask(spawn=words, out=str(out), err=str(err)))

    def ask(self, **request: object) -> Any:
        """Send a request and return the answer."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(request) + "\n")
        return json.loads(self._parent.stdout.readline())

    def close(self) -> None:
        """End the parent; its children are ended by those who asked for them."""
        for pipe in (self._parent.stdin, self._parent.stdout):
            if pipe is not None:
                pipe.close()
        self._parent.wait(timeout=10)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One nursery for each worker."""
    started = Nursery()
    yield started
    started.close()
