"""`make demo`: the main job, for real, told as it happens. Ends with exit code 1 if anything is not as it must be.

An application commits to a sample database in a process of its own, and `lsync replicate` copies it to a folder in
another; both are killed with SIGKILL in the middle of it. Three restores are proven:

1. what the replica holds right after the crash: commits 1 to n without a gap, balances that add up, SQLite's integrity
   check; how many acknowledged commits are not in it yet is told, not hidden;
2. the newest one after lsync was started again and stopped with SIGTERM: every acknowledged commit, and page by page
   the database itself;
3. an earlier transaction: page by page the copy that the application made of its database at that moment.

This process loads no SQLite but that of the `sqlite3` module, and opens the live database only when lsync has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parent.parent
APPLICATION = ROOT / "tools" / "demo_app.py"
LSYNC = [sys.executable, "-m", "litestream_py"]
BALANCE = 1000
COMMIT_PAUSE_S = 0.001
WAIT_S = 30.0

T = TypeVar("T")


class DemoError(Exception):
    """Something is not as it must be."""


class Scale(NamedTuple):
    """How much is done: accounts in the sample database, seconds of commits before and after the copy."""

    accounts: int
    before_s: float
    after_s: float


FULL = Scale(100_000, 3.0, 3.5)
QUICK = Scale(2_000, 0.4, 0.4)


def say(text: str) -> None:
    """Print a line of the story."""
    print(text, flush=True)


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """Return the first thing that `look` finds; raises DemoError after half a minute."""
    deadline_s = time.monotonic() + WAIT_S
    while (found := look()) is None:
        if time.monotonic() > deadline_s:
            raise DemoError(f"waited {WAIT_S:.0f} s for {what}")
        time.sleep(0.01)
    return found


def amount(size: int) -> str:
    """Return a number of bytes as people say it."""
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / 1024:.1f} KiB"


# --- the actors -------------------------------------------------------------------------------------------------------


class Application:
    """The process that owns the database; `acknowledged` is the newest commit that SQLite confirmed to it."""

    def __init__(self, path: Path, accounts: int) -> None:
        command = [sys.executable, str(APPLICATION), str(path), str(accounts), str(COMMIT_PAUSE_S)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.acknowledged = 0
        self.copied: int | None = None
        self.size: int | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match line.split():
                case ["ready", size]:
                    self.size = int(size)
                case ["copied", number]:
                    self.copied = int(number)
                case [number]:
                    self.acknowledged = int(number)

    def tell(self, command: str) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")

    def kill(self) -> int:
        """Kill it; returns the number of the last commit that it had acknowledged."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return self.acknowledged


def lsync(*words: str) -> dict[str, Any]:
    """Run an lsync command with --json to its end and return what it printed."""
    done = subprocess.run([*LSYNC, *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"lsync {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Daemon:
    """`lsync replicate`, its log in a file."""

    def __init__(self, database: Path, url: str, log: Path) -> None:
        self._log = log
        with log.open("w") as out:
            command = [*LSYNC, "replicate", str(database), url, "--log-format", "json"]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)

    def said(self, event: str) -> bool | None:
        """Tell whether the log has this event; raises DemoError if the process has ended."""
        if self.process.poll() is not None:
            raise DemoError(f"lsync replicate ended with {self.process.returncode}: {self._log.read_text()}")
        return f'"event": "{event}"' in self._log.read_text() or None

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; returns the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DemoError(f"lsync did not end within {WAIT_S:.0f} s of {number.name}") from None


# --- what is compared -------------------------------------------------------------------------------------------------


def check_restored(path: Path) -> int:
    """Return the number of transfers in a restored database.

    Raises DemoError unless they are all of 1 to that number, the balances add up, and SQLite finds no fault.
    """
    with closing(sqlite3.connect(path)) as db:
        rows, newest = db.execute("SELECT count(*), coalesce(max(id), 0) FROM transfer").fetchone()
        if rows != newest:
            raise DemoError(f"{path.name}: {rows} transfers, the newest being number {newest}: there is a gap")
        accounts, total = db.execute("SELECT count(*), sum(balance) FROM account").fetchone()
        if total != accounts * BALANCE:
            raise DemoError(f"{path.name}: the balances add up to {total}, not to {accounts * BALANCE}")
        (found,) = db.execute("PRAGMA integrity_check").fetchone()
        if found != "ok":
            raise DemoError(f"{path.name}: {found}")
    return int(rows)


def compare_pages(one: bytes, other: bytes) -> int:
    """Return the number of pages of two databases that are the same; raises DemoError naming those that differ."""
    page_size = int.from_bytes(one[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    if len(one) != len(other):
        raise DemoError(f"{len(one) // page_size} pages against {len(other) // page_size}")
    count = len(one) // page_size
    places = (slice(number * page_size, (number + 1) * page_size) for number in range(count))
    different = [number for number, place in enumerate(places, start=1) if one[place] != other[place]]
    if different:
        raise DemoError(f"{len(different)} of {count} pages differ: {different[:10]}")
    return count


# --- the story --------------------------------------------------------------------------------------------------------


class Story:
    """The demo in `folder`, step after step."""

    def __init__(self, folder: Path, scale: Scale, exits: ExitStack) -> None:
        self._folder = folder
        self._scale = scale
        self._exits = exits
        self._database = folder / "shop.db"
        self._replica = folder / "replica"
        self._url = f"file://{self._replica}"

    def tell(self) -> None:
        """Run it; raises DemoError."""
        app = self._start_application()
        daemon = self._first_snapshot()
        earlier = self._work_and_copy(app)
        acknowledged = self._crash(app, daemon)
        self._restore_at_once(acknowledged)
        self._catch_up()
        self._restore_newest(acknowledged)
        self._restore_earlier(*earlier)

    def _start_application(self) -> Application:
        app = Application(self._database, self._scale.accounts)
        self._exits.callback(app.kill)
        size = wait_for("the sample database", lambda: app.size)
        say(f"1. An application (process {app.process.pid}, SQLite {sqlite3.sqlite_version}) has a database of")
        say(f"   {self._scale.accounts:,} accounts, {amount(size)}, and moves money between them, a commit each.")
        return app

    def _start_lsync(self, log: str) -> Daemon:
        daemon = Daemon(self._database, self._url, self._folder / log)
        self._exits.callback(daemon.process.wait)
        self._exits.callback(daemon.process.kill)
        return daemon

    def _first_snapshot(self) -> Daemon:
        started_s = time.monotonic()
        daemon = self._start_lsync("lsync.log")
        files = self._files
        first = wait_for("the first snapshot", lambda: next(files(), None) if daemon.said("attached") else None)
        seconds = time.monotonic() - started_s
        say(f"2. `lsync replicate shop.db {self._url}` (process {daemon.process.pid}):")
        say(f"   after {seconds:.1f} s the first snapshot is in that folder, {amount(first.stat().st_size)}.")
        return daemon

    def _work_and_copy(self, app: Application) -> tuple[str, Path]:
        """Let the application commit, copy its database, and find the TXID that is this moment."""
        started_s, before = time.monotonic(), app.acknowledged
        time.sleep(self._scale.before_s)
        rate = (app.acknowledged - before) / (time.monotonic() - started_s)
        copy, trial = self._folder / "copy.db", self._folder / "trial.db"
        app.tell(f"copy {copy}")
        number = wait_for("the copy", lambda: app.copied)
        say(f"3. {rate:,.0f} commits a second. At commit {number:,} the application pauses and copies its database,")
        say("   for the comparison below.")

        def caught_up() -> str | None:
            answer = lsync("restore", "-o", str(trial), "--force", self._url)
            return str(answer["txid"]) if check_restored(trial) == number else None

        txid = wait_for(f"commit {number} on the replica", caught_up)
        say(f"   This moment is TXID {txid} on the replica. The application goes on.")
        app.tell("go")
        wait_for("more commits", lambda: app.acknowledged > number or None)
        return txid, copy

    def _crash(self, app: Application, daemon: Daemon) -> int:
        time.sleep(self._scale.after_s)
        daemon.process.kill()
        acknowledged = app.kill()
        daemon.process.wait()
        say("4. kill -9 of both, whatever they are doing.")
        say(f"   SQLite had acknowledged {acknowledged:,} commits to the application.")
        return acknowledged

    def _restore_at_once(self, acknowledged: int) -> None:
        target = self._folder / "after-crash.db"
        started_s = time.monotonic()
        answer = lsync("restore", "-o", str(target), self._url)
        seconds = time.monotonic() - started_s
        there = check_restored(target)
        if not 0 < there <= acknowledged + 1:
            raise DemoError(f"{there} commits restored, {acknowledged} acknowledged")
        say("5. Restored from the replica alone, as if this machine were gone:")
        say(f"   {amount(answer['size'])} from {answer['files']} files in {seconds:.2f} s, commits 1 to {there:,}.")
        say("   None is missing in between, the balances add up, integrity check ok.")
        late = acknowledged - there
        if late > 0:
            say(f"   The newest {late:,} came after the last upload and are only in the WAL of this machine.")

    def _catch_up(self) -> None:
        daemon = self._start_lsync("lsync-again.log")
        wait_for("lsync to go on", lambda: daemon.said("replica connected"))
        code = daemon.end(signal.SIGTERM)
        if code != 0:
            raise DemoError(f"lsync ended with {code} after SIGTERM")
        say("6. lsync starts again, goes on where it was, and is stopped with SIGTERM: exit code 0,")
        say("   which says that everything is on the replica.")

    def _restore_newest(self, acknowledged: int) -> None:
        target = self._folder / "newest.db"
        txid = lsync("restore", "-o", str(target), self._url)["txid"]
        there = check_restored(target)
        # The transaction under way when the application died may be committed and not acknowledged.
        if there not in {acknowledged, acknowledged + 1}:
            raise DemoError(f"{there} commits restored, {acknowledged} acknowledged")
        with closing(sqlite3.connect(self._database)) as db:
            pages = compare_pages(target.read_bytes(), db.serialize())
        say(f"7. Restored the newest, TXID {txid}: all {acknowledged:,} acknowledged commits")
        say(f"   are there, and all {pages:,} pages are identical to those of the database.")

    def _restore_earlier(self, txid: str, copy: Path) -> None:
        target = self._folder / "earlier.db"
        lsync("restore", "-o", str(target), "--txid", txid, self._url)
        there = check_restored(target)
        pages = compare_pages(target.read_bytes(), copy.read_bytes())
        say(f"8. Restored the earlier TXID {txid}: {there:,} commits,")
        say(f"   and all {pages:,} pages are identical to those of the copy from step 3.")
        files = list(self._files())
        total, size = sum(path.stat().st_size for path in files), target.stat().st_size
        say(f"   All this from {len(files)} files on the replica, {amount(total)}, for {amount(size)} of database.\n")

    def _files(self) -> Iterator[Path]:
        """Yield the LTX files of the replica, in the order of their TXIDs."""
        names = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.ltx")
        yield from sorted(path for path in self._replica.glob("ltx/0/*") if names.fullmatch(path.name))


def own_command() -> str:
    """Return how to run lsync from here."""
    program = Path(sys.prefix) / "bin" / "lsync"
    if program.exists():
        return os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)
    return f"{sys.executable} -m litestream_py"


def main() -> int:
    """Tell the story; returns the exit code."""
    parser = argparse.ArgumentParser(description="Replicate a live sample database, kill everything, restore, compare.")
    parser.add_argument("--quick", action="store_true", help="a smaller database and fewer commits")
    scale = QUICK if parser.parse_args().quick else FULL
    started_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="lsync-demo-") as folder, ExitStack() as exits:
            Story(Path(folder), scale, exits).tell()
    except DemoError as error:
        say(f"FAILED: {error}")
        return 1
    say(f"All as it must be, in {time.monotonic() - started_s:.0f} s. To replicate a database of your own:\n")
    say(f"    {own_command()} replicate YOUR.db file:///path/to/backup")
    return 0


if __name__ == "__main__":
    sys.exit(main())
