"""Running a program with a terminal as its standard error, or its standard output."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
from collections.abc import Sequence


def run_on_terminal(command: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Return exit code, standard output (a pipe) and what was written to standard error (a terminal)."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as program:
        os.close(theirs)
        told = b""
        try:
            while piece := os.read(ours, 4096):
                told += piece
        except OSError:  # Linux answers EIO when the last writer has gone
            pass
        assert program.stdout is not None
        out = program.stdout.read()
    os.close(ours)
    return program.returncode, out, told


def run_with_terminal_output(command: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Return exit code, what was written to standard output (a terminal), and standard error (a pipe)."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False)
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 1 << 16)
        except BlockingIOError:
            shown = b""
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, shown, done.stderr
