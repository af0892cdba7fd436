"""A tailer in a process of its own, told step by step what to do, so that it can be killed in the middle of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.lab import Lab

ROOT = Path(__file__).resolve().parents[2]


class TailProcess:
    """A running tail loop on the database of a folder; `failpoint` as LSYNC_FAILPOINT has it."""

    def __init__(self, folder: Path, failpoint: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.tailproc", str(folder)],
            cwd=ROOT,
            env={**os.environ, "LSYNC_FAILPOINT": failpoint},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def do(self, step: str) -> bool:
        """Do one step ("sync", "seal", "truncate", "resync"); False if the process died in it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(step + "\n")
        answer = self._process.stdout.readline().strip()
        assert answer in {"done", ""}
        return answer == "done"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def step(lab: Lab, name: str) -> None:
    """Do one step of the loop; a sync heals, and what was dropped is attached again."""
    match name:
        case "sync":
            lab.sync()
        case "seal":
            lab.checkpoint()
        case "truncate":
            lab.truncate()
        case "resync":
            lab.tailer.resync("test", now_ms=lab.now_ms())
        case _:
            raise ValueError(name)


def main() -> None:
    """Run the loop until the input ends."""
    lab = Lab(Path(sys.argv[1]))
    for line in sys.stdin:
        step(lab, line.strip())
        sys.stdout.write("done\n")
        sys.stdout.flush()
    lab.close()


if __name__ == "__main__":
    main()
