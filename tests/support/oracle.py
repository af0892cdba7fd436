"""The oracle: a restore of its own, that shares no code with ours but the LTX decoder.

It applies L0 files one after the other and checks, at each TXID, what a chain must satisfy: no gap, one TXID a file, a
complete first file, every growth page, the database checksums before and after, a place in the WAL that Litestream
accepts. Images are compared with what another process saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from litestream_py.ltx.checksum import CHECKSUM_FLAG, page_checksum
from litestream_py.ltx.decoder import decode
from litestream_py.ltx.ids import TXID, FileName, lock_pgno, parse_file_name


class Replay:
    """The database at one TXID after the other."""

    def __init__(self) -> None:
        self.txid = TXID(0)
        self.page_size = 0
        self.commit = 0
        self.pages: dict[int, bytes] = {}
        self._sums: dict[int, int] = {}
        self._checksum = 0

    def apply(self, name: FileName, data: bytes) -> None:
        """Apply the next file; asserts everything that the chain promises."""
        file = decode(data, expect=name)
        header = file.header
        assert header.min_txid == header.max_txid == self.txid.next(), f"gap in the chain before {name}"
        assert header.wal_offset >= 32, f"{name} has no place in the WAL"
        assert self.page_size in {0, header.page_size}
        numbers = {pgno for pgno, _ in file.pages}
        lock = lock_pgno(header.page_size)
        missing = set(range(self.commit + 1, header.commit + 1)) - numbers - {lock}
        assert not missing, f"{name} grows over pages {sorted(missing)[:5]} without holding them"
        assert header.lsyn is not None, f"{name} carries no database checksum"
        assert header.lsyn.before == (self._checksum | CHECKSUM_FLAG if self.txid else 0), f"{name}: checksum before"
        for pgno in [number for number in self.pages if number > header.commit]:
            del self.pages[pgno]
            self._checksum ^= self._sums.pop(pgno)
        for pgno, page in file.pages:
            new = page_checksum(pgno, page)
            self._checksum ^= self._sums.get(pgno, 0) ^ new
            self.pages[pgno], self._sums[pgno] = page, new
        self.txid, self.page_size, self.commit = header.max_txid, header.page_size, header.commit
        assert header.lsyn.after == self._checksum | CHECKSUM_FLAG, f"{name}: checksum after"

    def image(self) -> bytes:
        """Return the restored database."""
        blank = bytes(self.page_size)
        return b"".join(self.pages.get(pgno, blank) for pgno in range(1, self.commit + 1))

    def sha256(self) -> str:
        """Return the SHA-256 of the restored database."""
        return hashlib.sha256(self.image()).hexdigest()


def l0_files(l0: Path) -> list[FileName]:
    """Return the names of the L0 files in a folder, in TXID order."""
    names = (parse_file_name(0, path.name) for path in l0.iterdir())
    return sorted(name for name in names if name is not None)


def replay(l0: Path) -> Iterator[Replay]:
    """Yield the database at every TXID of an L0 log that begins with TXID 1."""
    state = Replay()
    for name in l0_files(l0):
        state.apply(name, (l0 / name.name).read_bytes())
        yield state


def difference(restored: bytes, expected: bytes, page_size: int) -> str:
    """Say which pages differ; empty if none does."""
    if restored == expected:
        return ""
    pages = [
        number // page_size + 1
        for number in range(0, max(len(restored), len(expected)), page_size)
        if restored[number : number + page_size] != expected[number : number + page_size]
    ]
    sizes = f"{len(restored) // page_size} and {len(expected) // page_size} pages"
    return f"{len(pages)} pages differ of {sizes}: {pages[:12]}"
