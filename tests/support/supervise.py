"""Servers that must not outlive the test run, however it ends."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# The shell waits for the end of its standard input, which only our process holds open: whether we close it or are
# killed, the server goes and its folder with it. (A death signal would follow the thread, not the process.)
_GUARD = (
    'dir=$1; shift; "$@" >"$dir.log" 2>&1 </dev/null & server=$!; '
    'cat >/dev/null; kill "$server" 2>/dev/null; wait "$server"; rm -rf "$dir" "$dir.log"'
)


@contextmanager
def server(command: Callable[[Path], list[str]], env: dict[str, str], is_up: Callable[[], bool]) -> Iterator[None]:
    """Run `command(folder)` with an empty folder, wait for `is_up()`, run the block, end the server.

    `env` is the whole environment of the server. Raises RuntimeError if it does not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="lsync-server-"))
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "sh", str(folder), *command(folder)],
        stdin=subprocess.PIPE,
        env=env,
        start_new_session=True,  # ^C ends the tests, which end the server
    )
    try:
        wait_for(is_up, lambda: _log_of(folder))
        yield
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        try:
            guard.wait(timeout=20)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
            shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], why_not: Callable[[], str], limit_s: float = 60) -> None:
    """Return once a condition holds; raises RuntimeError with `why_not()` if it does not within the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {limit_s:.0f} s: {why_not()}")
        time.sleep(0.02)


def _log_of(folder: Path) -> str:
    log = Path(f"{folder}.log")
    said = log.read_text(errors="replace")[-1000:] if log.exists() else "nothing"
    return f"the server did not come up; it said: {said}"
