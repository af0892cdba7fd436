"""The scheduler: one step of a job at a time, woken by timers, jobs, probes and file-system events."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from litestream_py.daemon.scheduler import Job, Scheduler

LIMIT_S = 10.0
FAR_S = 3600.0


class Script:
    """A job whose steps come from a function; `ran` is released with each step."""

    def __init__(self, act: Callable[[int], float | None]) -> None:
        self._act = act
        self.ran = threading.Semaphore(0)
        self.steps = 0
        self.inside = threading.Semaphore(1)
        self.overlapped = False
        self.due = False
        self.slow = False
        self.touches = 0
        self.failures: list[BaseException] = []

    def step(self) -> float | None:
        """Run the next step."""
        self.overlapped |= not self.inside.acquire(blocking=False)
        self.steps += 1
        try:
            return self._act(self.steps)
        finally:
            self.inside.release()
            self.ran.release()

    def probe(self) -> bool:
        """Be due once when told to."""
        due, self.due = self.due, False
        return due

    def touched(self) -> None:
        """Count."""
        self.touches += 1

    def crashed(self, error: BaseException) -> float | None:
        """Go on at once."""
        self.failures.append(error)
        return 0.0

    def wait(self, steps: int = 1) -> None:
        """Wait for further steps to have run."""
        for _ in range(steps):
            assert self.ran.acquire(timeout=LIMIT_S), "no step"


class Pipe:
    """Events as bytes in a pipe, all for one job."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        self.job: Job | None = None

    @property
    def fd(self) -> int:
        """The descriptor to wait for."""
        return self._read_fd

    def read(self) -> Iterable[Job]:
        """Take what is there."""
        os.read(self._read_fd, 100)
        return [self.job] if self.job else []

    def write(self) -> None:
        """Report an event."""
        os.write(self._write_fd, b"x")

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read_fd)
        os.close(self._write_fd)


class Bench:
    """A scheduler that runs in a thread, with a pool of two."""

    def __init__(self, *, probe_s: float = FAR_S) -> None:
        self.events = Pipe()
        self.scheduler = Scheduler(events=self.events, probe_s=probe_s)
        self.pool = ThreadPoolExecutor(2)
        self._thread = threading.Thread(target=self.scheduler.run)
        self._thread.start()

    def add(self, act: Callable[[int], float | None]) -> Script:
        """Add a job."""
        job = Script(act)
        self.scheduler.add(job, self.pool)
        return job

    def stop(self) -> None:
        """Stop, and wait for the steps under way."""
        self.scheduler.stop()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        self.pool.shutdown()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A running scheduler that never probes."""
    made = Bench()
    yield made
    made.stop()
    made.scheduler.close()
    made.events.close()


def test_the_first_step_runs_at_once_and_none_follows(bench: Bench) -> None:
    """A job that returns None sleeps until it is woken."""
    job = bench.add(lambda _: None)
    job.wait()
    bench.stop()
    assert job.steps == 1


def test_a_delay_is_obeyed_and_a_wake_cuts_it_short(bench: Bench) -> None:
    """A short delay passes by itself; a long one ends with a wake-up."""
    job = bench.add(lambda step: 0.001 if step < 3 else FAR_S)
    job.wait(3)
    bench.scheduler.wake(job)
    job.wait()
    assert job.steps == 4


def test_a_wake_during_a_step_runs_another(bench: Bench) -> None:
    """What comes in while a step runs is not lost, and no two steps of a job overlap."""
    entered, go_on = threading.Event(), threading.Event()

    def act(step: int) -> float | None:
        if step == 1:
            entered.set()
            assert go_on.wait(LIMIT_S)
        return None

    job = bench.add(act)
    assert entered.wait(LIMIT_S)
    for _ in range(5):
        bench.scheduler.wake(job)
    go_on.set()
    job.wait(2)
    bench.stop()
    assert job.steps == 2
    assert not job.overlapped


def test_jobs_do_not_wait_for_each_other(bench: Bench) -> None:
    """While one job's step hangs, another's runs."""
    go_on = threading.Event()

    def hang(_: int) -> None:
        go_on.wait(LIMIT_S)

    hanging = bench.add(hang)
    bench.add(lambda _: None).wait()
    assert hanging.steps == 1
    go_on.set()
    hanging.wait()


def test_an_exception_goes_to_the_job(bench: Bench) -> None:
    """A step that raises does not end the scheduler; the job says when it goes on."""

    def act(step: int) -> float | None:
        if step == 1:
            raise ValueError("a defect")
        return None

    job = bench.add(act)
    job.wait(2)
    assert [str(error) for error in job.failures] == ["a defect"]


def test_an_event_touches_the_job_and_runs_it(bench: Bench) -> None:
    """A file-system event is reported before the step it causes."""
    job = bench.add(lambda _: None)
    job.wait()
    bench.events.job = job
    bench.events.write()
    job.wait()
    assert job.touches == 1


def test_a_slow_step_runs_among_its_like() -> None:
    """Steps that ask the network have a pool of their own: one that hangs there holds up no other."""
    bench = Bench()
    slow_pool = ThreadPoolExecutor(1)
    hung = threading.Event()
    try:
        slow = Script(lambda _: hung.wait(LIMIT_S) and None)
        slow.slow = True
        bench.scheduler.add(slow, bench.pool, slow_pool)
        quick = bench.add(lambda _: None)
        quick.wait()
        assert not bench.scheduler.wait_for_end_of_step(slow, 0.0)
        hung.set()
        slow.wait()
        assert bench.scheduler.wait_for_end_of_step(slow, time.monotonic() + LIMIT_S)
    finally:
        hung.set()
        bench.stop()
        bench.scheduler.close()
        bench.events.close()
        slow_pool.shutdown()


def test_a_probe_finds_what_nothing_told() -> None:
    """A job whose probe says so runs, without an event."""
    bench = Bench(probe_s=0.005)
    try:
        job = bench.add(lambda _: None)
        job.wait()
        job.due = True
        job.wait()
        assert job.steps == 2
    finally:
        bench.stop()
        bench.scheduler.close()
        bench.events.close()
