"""A replica that lives on a simulated clock, in memory, with real bytes: what the daemon does, done by the engine.

Syncs are made from a synthetic history; merging and thinning out go through the engine's functions, planned as the
daemon plans them. Every state is known, so every restore can be compared.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from litestream_py.clients.memory import MemoryClient
from litestream_py.core.compact import compaction_due_ms, plan_compaction, snapshot_due_ms
from litestream_py.core.levels import LevelConfig
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import plan_restore
from litestream_py.core.retention import RetentionPolicy, plan_retention
from litestream_py.engine.compactor import compact
from litestream_py.engine.retention import execute_retention
from litestream_py.local.meta import MetaDir
from litestream_py.ltx.decoder import LtxFile, decode
from litestream_py.ltx.ids import LEVEL_MAX, SNAPSHOT_LEVEL, TXID, FileName
from tests.support.chains import History

PAGES_MAX = 20


class LivingReplica:
    """One tiny database and its replica. committed_ms: by TXID - 1. l1_ends: every TXID where L1 ever ended."""

    def __init__(
        self, meta: MetaDir, levels: Sequence[LevelConfig], snapshot_interval_s: float, policy: RetentionPolicy
    ) -> None:
        self.client = MemoryClient()
        self.history = History()
        self.levels = levels
        self.snapshot_interval_s = snapshot_interval_s
        self.policy = policy
        self.now_ms = 0
        self.committed_ms: list[int] = []
        self.l1_ends: list[TXID] = []
        self.deleted = 0
        self._meta = meta
        self._decoded: dict[tuple[FileName, bytes], LtxFile] = {}
        self._appeared: dict[FileName, int] = {}
        self._last_ms: dict[int, int] = {}

    @property
    def newest(self) -> TXID:
        """The newest TXID."""
        return TXID(self.history.newest)

    def listing(self) -> list[FileInfo]:
        """Return every file of every level."""
        return [info for level in range(LEVEL_MAX + 1) for info in self.client.list_level(level)]

    def commit(self, at_ms: int, dice: random.Random) -> None:
        """Let time pass, then upload a sync that changes a few pages, and sometimes the size."""
        self.advance(at_ms)
        pages = self.history.commits[-1] or 8
        if dice.random() < 0.2:
            pages = dice.randint(1, PAGES_MAX)
        self.history.commit({dice.randint(1, pages) for _ in range(dice.randint(1, 4))}, pages)
        self.committed_ms.append(at_ms)
        self._put(0, self.newest, self.newest)

    def advance(self, to_ms: int) -> None:
        """Do what is due until then, in order of time."""
        while (due := self._next_due()) is not None and due[0] <= to_ms:
            self.now_ms = max(self.now_ms, due[0])
            self._last_ms[due[1]] = self.now_ms
            if due[1] == SNAPSHOT_LEVEL:
                self._put(SNAPSHOT_LEVEL, TXID(1), self.newest)
            else:
                self.merge(due[1])
        self.now_ms = to_ms

    def merge(self, level: int) -> None:
        """Compact into a level until nothing is left to."""
        while (plan := plan_compaction(self.listing(), level)) is not None:
            if plan.needs_base is not None and plan.base_copy is not None:
                self.client.copy(plan.needs_base.name, plan.base_copy)
                self._appeared[plan.base_copy] = self.now_ms
            done = compact(self.client, self._meta, plan.inputs, plan.output)
            self._appeared[done.name] = self.now_ms
            if level == 1:
                self.l1_ends.append(done.name.max_txid)
            if not plan.more:
                return

    def thin_out(self) -> None:
        """Let retention run."""
        plan = plan_retention(self.listing(), self.policy, self.now_ms, appeared_ms=self._appeared)
        self.deleted += len(execute_retention(self.client, plan).files)

    def promised(self) -> list[TXID]:
        """Return what must be restorable: the newest, the ends of L1 within the window, every TXID of `l0_s`."""
        begin_ms = self.now_ms - 1000 * self.policy.window_s
        l0_ms = self.now_ms - 1000 * (self.policy.l0_s or 0)
        found = {self.newest}
        for txid in reversed(self.l1_ends):
            found.add(txid)
            if self.committed_ms[txid - 1] < begin_ms:
                break  # the state at the window's beginning
        found.update(TXID(n) for n, at_ms in enumerate(self.committed_ms, 1) if at_ms >= l0_ms)
        return sorted(found)

    def image_of(self, txid: TXID) -> bytes:
        """Return the database at a TXID as the replica's files make it; raises LsyncError."""
        plan = plan_restore(self.listing(), txid)
        pages: dict[int, bytes] = {}
        commit, page_size = 0, 0
        for info in plan.files:
            body = self.client.files[info.name].body
            file = self._decoded.get((info.name, body)) or decode(body, expect=info.name)
            self._decoded[info.name, body] = file
            commit, page_size = file.header.commit, file.header.page_size
            pages = {pgno: page for pgno, page in pages.items() if pgno <= commit} | dict(file.pages)
        return b"".join(pages.get(pgno, bytes(page_size)) for pgno in range(1, commit + 1))

    def _put(self, level: int, low: TXID, high: TXID) -> None:
        at_ms = self.committed_ms[high - 1]
        name, body = self.history.file(level, low, high, at_ms=at_ms)
        self.client.put(name, body, timestamp_ms=at_ms)
        self._appeared[name] = self.now_ms

    def _next_due(self) -> tuple[int, int] | None:
        listing = self.listing()
        if not listing:
            return None
        found = [
            (
                compaction_due_ms(listing, level, last_ms=self._last_ms.get(level.number, 0), now_ms=self.now_ms),
                level.number,
            )
            for level in self.levels
        ]
        last_ms = self._last_ms.get(SNAPSHOT_LEVEL, 0)
        snapshot_ms = snapshot_due_ms(listing, self.snapshot_interval_s, last_ms=last_ms, now_ms=self.now_ms)
        found.append((snapshot_ms, SNAPSHOT_LEVEL))
        return min(((due_ms, number) for due_ms, number in found if due_ms is not None), default=None)
