"""The helpers of the tests keep their own promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.supervise import wait_for

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys
from tests.support.supervise import server
program = "echo $$ >$0/pid; exec sleep 1000"
with server(lambda folder: ["sh", "-c", program, str(folder)], dict(os.environ), lambda: True):
    print(os.environ["TMPDIR"], flush=True)
    sys.stdin.read()
"""


def test_a_server_goes_with_the_process_that_started_it(tmp_path: Path) -> None:
    """After kill -9 of the test run, the server and its folder are gone too."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == str(tmp_path)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "", lambda: "no server", 20)
    pid = int((folder / "pid").read_text())
    holder.kill()
    holder.communicate()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() and not folder.exists(), lambda: f"{pid}, {folder} stay", 20)
