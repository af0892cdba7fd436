"""What a restore takes of memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID, FileName
from litestream_py.ltx.records import Header

PAGE_SIZE = 4096
PEAK_MAX = 90 << 20
ROOT = Path(__file__).parents[2]


def replica(folder: Path, pages: int) -> str:
    """Write a replica of one snapshot, which compresses badly, and return its URL."""
    random = Random(1)
    blocks = [random.randbytes(PAGE_SIZE) for _ in range(64)]
    url = f"file://{folder}"
    header = Header(PAGE_SIZE, pages, TXID(1), TXID(1), 1000, wal_offset=32)

    def content() -> Iterator[tuple[int, bytes]]:
        return ((pgno, blocks[pgno % 64]) for pgno in range(1, pages + 1))

    path = folder.with_suffix(".ltx")
    with path.open("wb") as file:
        file.writelines(encode(header, content()))
    open_client(url).put(FileName(9, TXID(1), TXID(1)), path, timestamp_ms=1000)
    return url


# Not ru_maxrss: that of a child begins with what the process had that it was forked from.
RESTORE = """
import sys
from litestream_py.cli.main import run
assert run(["restore", "--integrity-check", "none", "-o", sys.argv[2], sys.argv[1]]) == 0
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


def peak_bytes(url: str, out: Path) -> int:
    """Restore in a process of its own and return the most memory it held, in bytes."""
    command = [sys.executable, "-c", RESTORE, url, str(out)]
    ended = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT, timeout=60)
    return int(ended.stdout.splitlines()[-1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.slow
def test_peak_memory_does_not_follow_the_size_of_the_database(tmp_path: Path) -> None:
    """A database four times as large takes no more memory but for its page numbers, and both stay below 90 MiB."""
    small = peak_bytes(replica(tmp_path / "small", 8 << 10), tmp_path / "small.db")
    large = peak_bytes(replica(tmp_path / "large", 32 << 10), tmp_path / "large.db")
    assert max(small, large) < PEAK_MAX
    assert large - small < 8 << 20
