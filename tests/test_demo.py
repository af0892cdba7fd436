"""The demo tells the truth, and says so when something is wrong."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).resolve().parent.parent / "tools" / "demo.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """The module, not run."""
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.fault
def test_the_demo_ends_well(tmp_path: Path) -> None:
    """Replicated, killed, restored: pages identical twice, and the last line replicates the user's own database."""
    done = subprocess.run(
        [sys.executable, str(DEMO), "--quick"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"all [\d,]+ pages are identical", done.stdout)) == 2
    assert done.stdout.splitlines()[-1].endswith("replicate YOUR.db file:///path/to/backup")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_page_is_noticed(demo: ModuleType) -> None:
    """One flipped bit of a database is named with its page; so is another size."""
    page = b"SQLite format 3\0" + (512).to_bytes(2, "big") + bytes(494)
    whole = page + bytes(512 * 3)
    assert demo.compare_pages(whole, whole) == 4
    with pytest.raises(demo.DemoError, match=r"1 of 4 pages differ: \[3\]"):
        demo.compare_pages(whole, whole[:1100] + b"\1" + whole[1101:])
    with pytest.raises(demo.DemoError, match="4 pages against 3"):
        demo.compare_pages(whole, whole[:-512])
