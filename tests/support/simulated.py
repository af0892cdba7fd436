"""A replica's life on a simulated clock: uploads, compactions, snapshots and retention as the planners say.

Only names, sizes and times are kept; a merged file is as large as its inputs together, so sizes are upper bounds. Time
moves from one event to the next, and where no event is due nothing is asked: what a daemon would do, and cost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from litestream_py.core.compact import compaction_due_ms, plan_compaction, snapshot_due_ms
from litestream_py.core.levels import LevelConfig, next_tick_ms
from litestream_py.core.ports import FileInfo
from litestream_py.core.retention import RetentionPolicy, plan_retention
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, TXID, FileName

HOUR_MS = 3_600_000
DELETE_BATCH = 1000


class SimulatedReplica:
    """One database and its replica. The first commit is the base, of `database_size` bytes.

    commits: (time in ms, size in bytes) of TXID n at n - 1. l1_ends: every TXID at which a file of L1 ever ended.
    requests: by kind, counted since the start. plans: how often a planner was asked.
    """

    def __init__(
        self, levels: Sequence[LevelConfig], snapshot_interval_s: float, policy: RetentionPolicy, database_size: int
    ) -> None:
        self.levels = levels
        self.snapshot_interval_s = snapshot_interval_s
        self.policy = policy
        self.database_size = database_size
        self.now_ms = 0
        self.files: dict[FileName, FileInfo] = {}
        self.commits: list[tuple[int, int]] = []
        self.l1_ends: list[TXID] = []
        self.requests: Counter[str] = Counter()
        self.plans = 0
        self._appeared: dict[FileName, int] = {}
        self._due: dict[int, int | None] = {}
        self._last_ms: dict[int, int] = {}
        self._retire_ms: int | None = None
        self._changed = False

    @property
    def newest(self) -> TXID:
        """The newest TXID."""
        return TXID(len(self.commits))

    @property
    def listing(self) -> list[FileInfo]:
        """Every file of the replica."""
        return list(self.files.values())

    def commit(self, at_ms: int, size: int) -> None:
        """Let time pass, then upload one transaction; the first holds the whole database."""
        self.advance(at_ms)
        self.commits.append((at_ms, size if self.commits else self.database_size))
        self._put(FileName(0, self.newest, self.newest), self.commits[-1][1], at_ms)

    def advance(self, to_ms: int) -> None:
        """Do what is due until then, in order of time; level by level where the time is the same."""
        while True:
            due = [(at_ms, level) for level, at_ms in self._due.items() if at_ms is not None and at_ms <= to_ms]
            if not due:
                break
            at_ms, level = min(due)
            self.now_ms = max(self.now_ms, at_ms)
            self._last_ms[level] = self.now_ms
            if level == SNAPSHOT_LEVEL:
                self._put(FileName(level, TXID(1), self.newest), self.database_size, self.commits[-1][0])
            else:
                self._compact(level)
            self._due[level] = self._ask_due(level)
        self.now_ms = to_ms

    def retire(self) -> None:
        """Let retention run, if anything changed or may have expired since it ran last."""
        if not self._changed and (self._retire_ms is None or self.now_ms < self._retire_ms):
            return
        self.plans += 1
        plan = plan_retention(self.listing, self.policy, self.now_ms, appeared_ms=self._appeared)
        for info in plan.deletes:
            del self.files[info.name]
            del self._appeared[info.name]
        self.requests["delete"] += -(-len(plan.deletes) // DELETE_BATCH)
        self._retire_ms = plan.next_ms
        self._changed = False

    def is_settled(self) -> bool:
        """Return whether a daemon that starts now finds nothing to do, and where to continue."""
        return FileName(0, self.newest, self.newest) in self.files and not any(
            self._ask_due(level) for level in (SNAPSHOT_LEVEL, *(item.number for item in self.levels))
        )

    def last_before(self, at_ms: float) -> int:
        """Return the TXID of the last commit before a time, 0 if there is none."""
        return bisect_left(self.commits, at_ms, key=lambda commit: commit[0])

    def _compact(self, level: int) -> None:
        more = True
        while more:
            self.plans += 1
            plan = plan_compaction(self.listing, level)
            if plan is None:
                return
            if plan.needs_base is not None and plan.base_copy is not None:
                self._put(plan.base_copy, plan.needs_base.size, plan.needs_base.created_ms)
            self._put(plan.output, plan.bytes, plan.inputs[-1].created_ms)
            if level == 1:
                self.l1_ends.append(plan.output.max_txid)
            more = plan.more

    def _put(self, name: FileName, size: int, created_ms: int) -> None:
        assert name not in self.files, f"{name} is there already"
        self.files[name] = FileInfo(name, size, created_ms)
        self._appeared[name] = self.now_ms
        self.requests["put"] += 1
        self._changed = True
        for level in {name.level + 1, SNAPSHOT_LEVEL} & {SNAPSHOT_LEVEL, *(item.number for item in self.levels)}:
            if self._due.get(level) is None:
                self._due[level] = self._ask_due(level)

    def _ask_due(self, level: int) -> int | None:
        self.plans += 1
        last_ms = self._last_ms.get(level, 0)
        if level == SNAPSHOT_LEVEL:
            return snapshot_due_ms(self.listing, self.snapshot_interval_s, last_ms=last_ms, now_ms=self.now_ms)
        config = next(item for item in self.levels if item.number == level)
        return compaction_due_ms(self.listing, config, last_ms=last_ms, now_ms=self.now_ms)


def budget(replica: SimulatedReplica) -> tuple[float, float]:
    """Return how many files and bytes the replica may hold at most now.

    A level holds what came in since the snapshot that begins the window: the window, the hour for restores, the hour
    between two runs of retention, and the time between two snapshots; a file per step with a change in it, and one more
    per snapshot. L0 holds l0-retention, both hours, and two steps of L1. The newest file of each level and the minimum
    of snapshots stay anyway.
    """
    policy, step_s = replica.policy, replica.snapshot_interval_s
    span_s = policy.window_s + 7200 + 2 * step_s
    l0_s = (policy.l0_s or 0) + 7200 + 2 * replica.levels[0].interval_s

    def since(seconds: float) -> list[tuple[int, int]]:
        return replica.commits[replica.last_before(replica.now_ms - seconds * 1000) :]

    recent, snapshots = since(span_s), 1 + span_s / step_s + policy.snapshots_min
    count = snapshots + len(since(l0_s)) + 1 + len(replica.levels)
    for item in replica.levels:
        count += snapshots + len({next_tick_ms(item.interval_s, at_ms) for at_ms, _ in recent})
    newest = replica.commits[-1][1] * (1 + len(replica.levels))
    changed = sum(size for _, size in recent) * len(replica.levels) + sum(size for _, size in since(l0_s))
    return count, snapshots * replica.database_size + changed + newest
