"""The programs that are measured: `lsync` in its own process, and what /proc says of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
LSYNC = [sys.executable, "-m", "litestream_py"]
WAIT_S = 120.0


def cpu_s(pid: int) -> float:
    """Return the processor seconds (user and system) that a process has used, all its threads, living and ended.

    In ticks of 10 ms: good for seconds of work, not for an idle process (see `scheduled_s`).
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scheduled_s(pid: int) -> float:
    """Return the seconds that the living threads of a process were on a processor, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def peak_mib(pid: int) -> float:
    """Return the greatest resident size so far (VmHWM), in MiB; shared libraries are counted."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no VmHWM")


def wait_for(what: str, done: Callable[[], object], *, pause_s: float = 0.002) -> None:
    """Wait until `done()` is true; raises RuntimeError after two minutes."""
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"waited {WAIT_S:.0f} s for {what}")
        time.sleep(pause_s)


class Daemon:
    """`lsync replicate`; its log lines are stamped with the monotonic clock as they arrive.

    events: (seconds, line as a dict). started_s: when the process was started. log_level: debug tells every upload.
    """

    def __init__(self, *words: str, env: Mapping[str, str] | None = None, log_level: str = "info") -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(
            [*LSYNC, "replicate", *words, "--log-format", "json", "--log-level", log_level],
            cwd=ROOT,
            env=os.environ | (env or {}),
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.pid = self._process.pid
        self.events: list[tuple[float, dict[str, Any]]] = []
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now_s = time.monotonic()
            with self._arrived:
                self.events.append((now_s, json.loads(line)))
                self._arrived.notify_all()
        with self._arrived:
            self._arrived.notify_all()

    def event(self, name: str, *, after: int = 0, count: int = 1) -> float:
        """Wait for the event's `count`-th line at or behind index `after`; returns when it came, in seconds."""
        deadline_s = time.monotonic() + WAIT_S
        with self._arrived:
            while True:
                found = [at for at, line in self.events[after:] if line["event"] == name]
                if len(found) >= count:
                    return found[count - 1]
                if self._process.poll() is not None or not self._arrived.wait(deadline_s - time.monotonic()):
                    raise RuntimeError(f"no {name!r} of lsync; it said {self._last_words()}")

    def _last_words(self) -> str:
        self._errors.seek(0)
        return "\n".join([*(str(line) for _, line in self.events[-5:]), self._errors.read()[-2000:]])

    @property
    def seen(self) -> int:
        """The number of log lines so far: a mark for `event(after=...)`."""
        with self._arrived:
            return len(self.events)

    def stop(self) -> int:
        """Send SIGTERM, wait; returns the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run_lsync(*words: str, env: Mapping[str, str] | None = None) -> tuple[dict[str, Any], float, float, float]:
    """Run a command with --json; returns its answer, wall seconds, processor seconds and peak MiB."""
    before = os.times()
    started_s = time.monotonic()
    process = subprocess.Popen(
        [*LSYNC, *words, "--json"], cwd=ROOT, env=os.environ | (env or {}), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    peak = 0.0
    while process.poll() is None:
        try:
            peak = max(peak, peak_mib(process.pid))
        except (OSError, RuntimeError):
            break  # it has just ended
        time.sleep(0.004)
    output = process.stdout.read()
    process.stdout.close()
    code = process.wait()
    wall_s = time.monotonic() - started_s
    after = os.times()
    if code != 0:
        raise RuntimeError(f"lsync {' '.join(words)} ended with {code}")
    used_s = after.children_user + after.children_system - before.children_user - before.children_system
    return json.loads(output), wall_s, used_s, peak
