"""`lsync replicate` as a user runs it: a real process, its log read as JSON lines, its metrics over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from litestream_py.ltx.ids import TXID
from tests.support.nursery import Nursery
from tests.support.supervise import wait_for

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 30.0
"""Patience for anything that should take moments; only a failure uses it up."""

_MAIN = "from litestream_py.cli.main import main; main()"

Event = dict[str, Any]


class Running(Protocol):
    """A process, whoever its parent is."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal), or None while it runs."""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a program under test: ours, without cloud credentials, and with the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LITESTREAM_", "LSYNC_"))}
    kept.pop("LOG_LEVEL", None)
    return kept | {"PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true"} | more


def lsync(
    *arguments: str | Path, env: dict[str, str] | None = None, limit_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command of lsync to its end."""
    return subprocess.run(
        [sys.executable, "-m", "litestream_py", *map(str, arguments)],
        env=environment() | (env or {}),
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


class Daemon:
    """A running daemon. out, err: the files that hold its standard output (the log) and standard error."""

    def __init__(self, process: Running, out: Path, err: Path) -> None:
        self._process = process
        self._out = out
        self._err = err
        self._read_to = 0
        self._events: list[Event] = []

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    # --- what it says ---

    @property
    def output(self) -> str:
        """Everything on standard output."""
        return self._out.read_text()

    @property
    def errors(self) -> str:
        """Everything on standard error."""
        return self._err.read_text()

    def events(self, event: str | None = None, **fields: object) -> list[Event]:
        """Return the log's events so far, all or those of a kind."""
        with self._out.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        self._events += [json.loads(line) for line in whole.splitlines()]
        wanted = fields if event is None else {"event": event, **fields}
        return [found for found in self._events if all(found.get(key) == value for key, value in wanted.items())]

    def wait_event(self, event: str, *, count: int = 1, limit_s: float = LIMIT_S, **fields: object) -> Event:
        """Wait until an event has been logged `count` times; returns the last of them."""
        found: list[Event] = []

        def there() -> bool:
            found[:] = self.events(event, **fields)
            self._must_run(len(found) >= count, f"event {event!r} {fields or ''}")
            return len(found) >= count

        wait_for(there, lambda: f"no event {event!r} {fields or ''}:\n{self._said()}", limit_s)
        return found[-1]

    def wait_until(self, condition: Callable[[], bool], what: str, *, limit_s: float = LIMIT_S) -> None:
        """Wait for a condition, as long as the daemon runs."""

        def holds() -> bool:
            held = condition()
            self._must_run(held, what)
            return held

        wait_for(holds, lambda: f"not {what}:\n{self._said()}", limit_s)

    def _must_run(self, satisfied: bool, what: str) -> None:
        if not satisfied and (code := self._process.poll()) is not None:
            raise AssertionError(f"the daemon ended with {code}, waiting for {what}:\n{self._said()}")

    def _said(self) -> str:
        return self.output[-3000:] + self.errors[-1000:]

    def uploaded(self) -> TXID:
        """Return the newest TXID that this daemon has logged as being on the replica (log level debug), 0 if none."""
        files = [str(event["file"]) for event in self.events("uploaded")]
        known = [int(str(event["txid"]), 16) for event in self.events("replica connected")]
        return TXID(max([int(re.split(r"[-.]", file)[1], 16) for file in files] + known, default=0))

    def wait_uploaded(self, txid: int, *, limit_s: float = LIMIT_S) -> None:
        """Wait until the replica holds a TXID (log level debug)."""
        self.wait_until(lambda: self.uploaded() >= txid, f"TXID {txid} on the replica", limit_s=limit_s)

    def metrics_url(self) -> str:
        """Return where the metrics are, as the log says."""
        return str(self.wait_event("serving metrics")["addr"])

    def metrics(self) -> dict[str, float]:
        """Return the samples of the metrics page, by name and labels as they stand there."""
        with urllib.request.urlopen(self.metrics_url(), timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def metric(self, name: str, **labels: str) -> float:
        """Return the one sample of a name that carries these labels; raises AssertionError unless there is one."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [
            value
            for sample, value in self.metrics().items()
            if sample.partition("{")[0] == name and all(label in sample for label in wanted)
        ]
        assert len(found) == 1, f"{name} {labels}: {found}"
        return found[0]

    # --- signals and the end ---

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9, and wait for the end."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self.exit_code()

    def terminate(self, *, limit_s: float = LIMIT_S) -> int:
        """Send SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.exit_code(limit_s=limit_s)

    def exit_code(self, *, limit_s: float = LIMIT_S) -> int:
        """Wait for the end; returns the exit code."""
        wait_for(lambda: self._process.poll() is not None, lambda: f"still running:\n{self._said()}", limit_s)
        code = self._process.poll()
        assert code is not None
        return code

    def running(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None


class Daemons:
    """Starts daemons for one test, and ends what still runs after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Daemon] = []

    def start(
        self,
        *arguments: str | Path,
        level: str = "debug",
        env: dict[str, str] | None = None,
        nursery: Nursery | None = None,
        program: str = "",
    ) -> Daemon:
        """Start `lsync replicate ARGUMENTS`, logging JSON. program: Python statements that go before lsync's own."""
        number = len(self.all)
        out, err = self._folder / f"daemon-{number}.out", self._folder / f"daemon-{number}.err"
        words = ["replicate", *map(str, arguments), "--log-format", "json", "--log-level", level]
        out.touch()
        err.touch()
        process: Running
        if nursery is not None:
            process = nursery.spawn(words, out, err)
        else:
            with out.open("wb") as stdout, err.open("wb") as stderr:
                process = subprocess.Popen(
                    [sys.executable, "-c", f"{program}\n{_MAIN}", *words],
                    env=environment() | (env or {}),
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                )
        self.all.append(Daemon(process, out, err))
        return self.all[-1]

    def final(self, *arguments: str | Path, env: dict[str, str] | None = None, nursery: Nursery | None = None) -> None:
        """Replicate what is there now, after every writer was killed, in one more orderly life.

        A writer killed between writing a commit and publishing it leaves a commit that nobody sees, until all have
        closed the database and the next one to open it recovers the WAL.
        """
        daemon = self.start(*arguments, env=env, nursery=nursery)
        daemon.wait_event("attached")
        assert daemon.terminate(limit_s=120) == 0

    def check(self) -> None:
        """No daemon has met a defect of ours, whatever else went wrong."""
        for daemon in self.all:
            assert not daemon.events("unexpected error")
            assert "Traceback" not in daemon.errors
            assert "unexpected" not in daemon.errors


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    """Starts daemons; after the test none runs, and none has logged an unexpected error."""
    folder = tmp_path / "daemons"
    folder.mkdir()
    started = Daemons(folder)
    try:
        yield started
    finally:
        for daemon in started.all:
            daemon.kill()
    started.check()
