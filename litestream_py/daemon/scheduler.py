"""Run many jobs on few threads: each one step at a time, woken by the file system, by another job, or by its own timer.

The thread that calls `run` waits in one poll for file-system events, wake-ups and timers; it runs no job itself. Idle
jobs cost nothing but their `probe`, a few microseconds each `probe_s`, which finds what the file system did not tell.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol


class Job(Protocol):
    """Something done in steps."""

    def step(self) -> float | None:
        """Do one bounded piece of work; return the seconds until the next, or None to sleep until woken."""

    def probe(self) -> bool:
        """Tell in microseconds whether there is something to do; called between steps only."""

    @property
    def slow(self) -> bool:
        """Whether the next step asks the network: it then runs among those that may hang."""

    def touched(self) -> None:
        """Take note that the file system reported a write; a step follows."""

    def crashed(self, error: BaseException) -> float | None:
        """Take note of an exception that `step` let through; returns as `step` does."""


class ReplicaWork:
    """What jobs on a replica have in common: each step asks it, and time or a wake-up alone makes one due."""

    @property
    def slow(self) -> bool:
        """Every step asks the replica."""
        return True

    def touched(self) -> None:
        """No file is watched for such a job."""

    def probe(self) -> bool:
        """There is nothing to look for."""
        return False


class EventSource(Protocol):
    """File-system events as a file descriptor."""

    @property
    def fd(self) -> int:
        """Readable when there are events; negative if there never are any."""

    def read(self) -> Iterable[Job]:
        """Return the jobs that something happened to."""


class _Entry:
    __slots__ = ("again", "due_s", "executor", "future", "job", "running", "slow_executor")

    def __init__(self, job: Job, executor: ThreadPoolExecutor, slow_executor: ThreadPoolExecutor) -> None:
        self.job = job
        self.executor = executor
        self.slow_executor = slow_executor
        self.running = False
        self.again = False
        self.due_s: float | None = None
        self.future: Future[None] | None = None


class Scheduler:
    """Runs jobs until `stop`; the other methods may be called from any thread and from signal handlers."""

    def __init__(self, *, events: EventSource | None = None, probe_s: float = 1.0) -> None:
        self._events = events
        self._probe_s = probe_s
        self._lock = threading.RLock()  # protects the entries and the heap; re-entered by signal handlers
        self._entries: dict[Job, _Entry] = {}
        self._timers: list[tuple[float, int, _Entry]] = []
        self._order = itertools.count()
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._poll = select.poll()  # select() knows no descriptor above 1023, and many databases have many
        self._poll.register(self._wake_r, select.POLLIN)
        if events is not None and events.fd >= 0:
            self._poll.register(events.fd, select.POLLIN)

    def add(self, job: Job, executor: ThreadPoolExecutor, slow_executor: ThreadPoolExecutor | None = None) -> None:
        """Add a job; its first step runs at once. slow_executor: runs the steps that ask the network."""
        with self._lock:
            entry = self._entries[job] = _Entry(job, executor, slow_executor or executor)
            self._schedule(entry, 0.0)
        self._interrupt()

    def wake(self, job: Job) -> None:
        """Have the job's next step run at once (after the one under way, if there is one)."""
        with self._lock:
            entry = self._entries.get(job)
            if entry is None:
                return
            if entry.running:
                entry.again = True
                return
            self._schedule(entry, 0.0)
        self._interrupt()

    def stop(self) -> None:
        """Make `run` return once the steps under way have ended."""
        self._stopping = True
        self._interrupt()

    def run(self) -> None:
        """Run jobs until `stop` is called."""
        next_probe_s = time.monotonic() + self._probe_s
        while not self._stopping:
            now_s = time.monotonic()
            if now_s >= next_probe_s:
                self._probe()
                next_probe_s = now_s + self._probe_s
            self._wait(self._start_due(next_probe_s) - time.monotonic())

    def wait_for_end_of_step(self, job: Job, deadline_s: float) -> bool:
        """Wait until no step of the job is under way; False if one still is at `deadline_s` (monotonic).

        Only after `run` has returned: then none begins any more.
        """
        future = self._entries[job].future
        if future is None or future.cancel():
            return True
        return bool(wait([future], max(0.0, deadline_s - time.monotonic())).done)

    def close(self) -> None:
        """Release the wake-up pipe."""
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _start_due(self, horizon_s: float) -> float:
        """Submit every job whose time has come; return when to look again, at most `horizon_s`."""
        with self._lock:
            now_s = time.monotonic()
            while self._timers:
                due_s, _, entry = self._timers[0]
                if entry.due_s != due_s:
                    heapq.heappop(self._timers)  # superseded by an earlier wake-up
                    continue
                if due_s > now_s:
                    return min(due_s, horizon_s)
                heapq.heappop(self._timers)
                entry.due_s = None
                entry.running = True
                executor = entry.slow_executor if entry.job.slow else entry.executor
                entry.future = executor.submit(self._step, entry)
            return horizon_s

    def _step(self, entry: _Entry) -> None:
        try:
            delay_s = entry.job.step()
        except Exception as error:  # noqa: BLE001 - a job decides itself what its failure means
            delay_s = entry.job.crashed(error)
        with self._lock:
            entry.running = False
            if entry.again:
                entry.again = False
                delay_s = 0.0
            if delay_s is not None:
                self._schedule(entry, delay_s)
        self._interrupt()

    def _schedule(self, entry: _Entry, delay_s: float) -> None:
        due_s = time.monotonic() + delay_s
        if entry.due_s is None or due_s < entry.due_s:
            entry.due_s = due_s
            heapq.heappush(self._timers, (due_s, next(self._order), entry))

    def _probe(self) -> None:
        with self._lock:
            idle = [entry for entry in self._entries.values() if not entry.running]
            for entry in idle:
                if self._probe_one(entry.job):
                    self._schedule(entry, 0.0)

    @staticmethod
    def _probe_one(job: Job) -> bool:
        try:
            return job.probe()
        except Exception:  # noqa: BLE001 - one job's trouble is told by its own step, and ends nobody else's
            return True

    def _wait(self, timeout_s: float) -> None:
        ready = {fd for fd, _ in self._poll.poll(max(0.0, timeout_s) * 1000)}
        if self._wake_r in ready:
            _drain(self._wake_r)
        if self._events is not None and self._events.fd in ready:
            for job in self._events.read():
                job.touched()
                self.wake(job)

    def _interrupt(self) -> None:
        try:
            os.write(self._wake_w, b"\0")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already
        except OSError:
            if not self._stopping:
                raise


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


