"""Small synthetic histories of a database: every state, and the LTX files between any two of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import xor
from pathlib import Path

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient
from litestream_py.ltx.checksum import CHECKSUM_FLAG, page_checksum
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID, FileName, lock_pgno
from litestream_py.ltx.records import Header


@dataclass
class History:
    """A database as it was after each TXID; `states[0]` is the empty one. Pages are numbered from 1."""

    page_size: int = 512
    states: list[dict[int, bytes]] = field(default_factory=lambda: [{}])
    commits: list[int] = field(default_factory=lambda: [0])
    touched: list[set[int]] = field(default_factory=lambda: [set()])

    @property
    def newest(self) -> int:
        """The newest TXID."""
        return len(self.states) - 1

    def page(self, pgno: int, mark: int) -> bytes:
        """Return a page's content, another one for every mark."""
        return (pgno.to_bytes(4, "big") + mark.to_bytes(4, "big") * 3).ljust(self.page_size, b"\x5a")

    def commit(self, changed: set[int], pages: int) -> None:
        """Make the next TXID: `changed` pages get new content, and the database has `pages` pages after it."""
        txid = self.newest + 1
        lock = lock_pgno(self.page_size)
        grown = set(range(self.commits[-1] + 1, pages + 1))
        touched = {pgno for pgno in changed | grown if pgno <= pages and pgno != lock}
        state = {pgno: data for pgno, data in self.states[-1].items() if pgno <= pages}
        state |= {pgno: self.page(pgno, txid) for pgno in touched}
        self.states.append(state)
        self.commits.append(pages)
        self.touched.append(touched)

    def image(self, txid: int) -> bytes:
        """Return the database file at a TXID; the lock page is zeros."""
        blank = bytes(self.page_size)
        return b"".join(self.states[txid].get(pgno, blank) for pgno in range(1, self.commits[txid] + 1))

    def checksum(self, txid: int) -> int:
        """Return the database checksum at a TXID."""
        return reduce(xor, (page_checksum(*item) for item in self.states[txid].items()), 0) | CHECKSUM_FLAG

    def file(
        self, level: int, low: int, high: int, *, lsyn: bool = True, drop: int = 0, at_ms: int | None = None
    ) -> tuple[FileName, bytes]:
        """Return the LTX file of TXIDs `low` to `high`.

        drop: a page to leave out, as a broken writer would. at_ms: its timestamp, by default a second for each TXID.
        """
        state = self.states[high]
        pgnos = set(state) if low == 1 else {p for n in range(low, high + 1) for p in self.touched[n]} & set(state)
        stamp_ms = 1_000 * high if at_ms is None else at_ms
        header = Header(self.page_size, self.commits[high], TXID(low), TXID(high), stamp_ms, wal_offset=32)
        if lsyn:
            header = header.with_lsyn(0 if low == 1 else self.checksum(low - 1), self.checksum(high))
        body = b"".join(encode(header, [(pgno, state[pgno]) for pgno in sorted(pgnos - {drop})]))
        return FileName(level, TXID(low), TXID(high)), body

    def put(
        self, client: MemoryClient, level: int, low: int, high: int, *, lsyn: bool = True, drop: int = 0
    ) -> FileName:
        """Store that file and return its name."""
        name, body = self.file(level, low, high, lsyn=lsyn, drop=drop)
        client.put(name, body, timestamp_ms=1_000 * high)
        return name

    def replica(self, script: str = "", *, lsyn: bool = True) -> MemoryClient:
        """Return a replica that holds every TXID in a file of its own on level 0."""
        client = MemoryClient()
        for txid in range(1, self.newest + 1):
            self.put(client, 0, txid, txid, lsyn=lsyn)
        client.rewrite(script)
        return client

    def folder(self, root: Path) -> str:
        """Write that replica as a folder and return its URL."""
        url = f"file://{root}"
        client = open_client(url)
        for txid in range(1, self.newest + 1):
            name, body = self.file(0, txid, txid)
            client.put(name, body, timestamp_ms=1_000 * txid)
        return url


def sample(page_size: int = 512) -> History:
    """Return a history that grows, changes, shrinks and grows again: seven TXIDs."""
    history = History(page_size)
    history.commit(set(), 8)
    history.commit({2, 3}, 8)
    history.commit({1, 5}, 12)
    history.commit({4}, 5)
    history.commit({1, 2}, 7)
    history.commit({6}, 10)
    history.commit({1, 9}, 10)
    return history
