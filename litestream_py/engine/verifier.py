"""`verify`: is a replica what it claims to be, can all that it promises be restored, and if not, what is wrong.

quick looks at the listing, headers and ends of files; deep reads every byte and rebuilds the database's checksum from
file to file, at each TXID that can be restored; full restores the newest state besides and lets SQLite check it. What a
single file must be is checked where the format is decoded (`ltx`), what files must be to each other in
`core.pagestate`, what a listing must hold in `core.verdict`.

Files that vanish meanwhile (retention, compaction) are no problem as long as others hold the same TXIDs: where that is
not so, or a gap of one listing is none of the next, the verification begins again with a new listing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litestream_py.core.oserrors import os_errors
from litestream_py.core.pagestate import PageState
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.verdict import Depth, Problem, Verdict, assess, short_files
from litestream_py.engine.fetch import PARALLELISM_DEFAULT, list_replica
from litestream_py.engine.headers import HeaderChain, look_at_headers, read_size
from litestream_py.engine.livestate import compare_live
from litestream_py.engine.moment import RELIST_MAX
from litestream_py.engine.replay import replay, replay_order
from litestream_py.engine.restorer import Integrity, RestoreOptions, restore_txid
from litestream_py.errors import (
    CorruptError,
    LsyncError,
    LtxFormatError,
    NotFoundError,
    NothingToRestoreError,
    TargetError,
)
from litestream_py.ltx.ids import FileName


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a verification reports to: `start` with the bytes to come (again after a new listing), then `advance`."""

    start: Callable[[int], None] = lambda _: None
    advance: Callable[[int], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to verify.

    live: folder of the database's local state, for full to compare with. scratch: where full restores to ($TMPDIR).
    """

    depth: Depth = Depth.DEEP
    parallelism: int = PARALLELISM_DEFAULT
    live: Path | None = None
    scratch: Path | None = None


def verify(
    client: ReplicaClient, options: VerifyOptions | None = None, *, progress: Progress | None = None
) -> Verdict:
    """Verify a replica; every LsyncError on the way is part of the verdict, none is raised.

    Memory: some 30 bytes for each page of the database, and the fetch window.
    """
    options = options or VerifyOptions()
    run = _Run(client, options, progress or Progress())
    started = time.monotonic()
    try:
        run.verify()
    except LsyncError as error:
        run.found["prevented"] = error
    problems = tuple(sorted(run.problems, key=lambda problem: problem.txid or 0))
    return Verdict(
        url=client.url,
        depth=options.depth,
        problems=problems,
        duration_s=time.monotonic() - started,
        **run.found,
    )


class _Run:
    """One verification. found: fields of the verdict, as far as they are known."""

    def __init__(self, client: ReplicaClient, options: VerifyOptions, progress: Progress) -> None:
        self._client = client
        self._options = options
        self._progress = progress
        self.problems: list[Problem] = []
        self.found: dict[str, Any] = {}

    def verify(self) -> None:
        relisted = 0
        while True:
            vanished = self._pass()
            if vanished is None:
                return
            relisted += 1
            if relisted > RELIST_MAX:
                raise vanished

    def _pass(self) -> NotFoundError | None:
        """Verify one listing; returns an error if so much vanished meanwhile that another one is needed."""
        listing = list_replica(self._client)
        if not listing:
            raise NothingToRestoreError("verify", self._client.url, "the replica holds no backup")
        self.problems = short_files(listing)
        newest = max(info.name.max_txid for info in listing)
        self.found = {"newest": newest, "files": len(listing)}
        short = {problem.name for problem in self.problems}
        files = replay_order([info for info in listing if info.name not in short])
        state = PageState()
        if self._options.depth is Depth.QUICK:
            vanished = self._look(files)
        else:
            state, vanished = self._replay(files)
        if self._settle(listing, vanished):
            return NotFoundError("verify", self._client.url, "files come and go while they are read", hint="try again")
        if self._options.depth is Depth.FULL and state.txid:
            self._restore(state)
        if self._options.live is not None and self._options.depth is Depth.FULL and state.txid:
            self.found["live"], problem = compare_live(self._options.live, state)
            self.problems += [problem] if problem else []
        return None

    def _look(self, files: list[FileInfo]) -> set[FileName]:
        sizes = sum(map(read_size, files))
        self._progress.start(sizes)
        self.found["read_bytes"] = sizes
        chain, vanished = HeaderChain(), set()
        looks = look_at_headers(
            self._client, files, parallelism=self._options.parallelism, advance=self._progress.advance
        )
        for info, look in looks:
            if isinstance(look, NotFoundError):
                vanished.add(info.name)
            elif isinstance(look, LtxFormatError):
                self.problems.append(Problem(look.reason, look.detail, info.name, info.name.min_txid))
            elif (problem := chain.check(info.name, look)) is not None:
                self.problems.append(problem)
        return vanished

    def _replay(self, files: list[FileInfo]) -> tuple[PageState, set[FileName]]:
        sizes = sum(info.size for info in files)
        self._progress.start(sizes)
        done = replay(self._client, files, parallelism=self._options.parallelism, advance=self._progress.advance)
        self.problems += done.problems
        state = done.state
        self.found |= {"read_bytes": sizes, "states": len(state.checksums), "proven": len(done.proven)}
        if state.txid == self.found["newest"] and int(state.txid) in done.proven:
            self.found["checksum"] = state.checksum
        return state, done.vanished

    def _settle(self, listing: list[FileInfo], vanished: set[FileName]) -> bool:
        """Note what can be restored; returns whether that is open, because files come and go meanwhile."""
        held = {info.name for info in list_replica(self._client)} if vanished else set()
        self.problems += [
            Problem("missing", "the listing has it, and it cannot be read", name, name.min_txid)
            for name in sorted(vanished & held)
        ]
        damaged = {problem.name for problem in self.problems if problem.name is not None}
        found = assess([info for info in listing if info.name not in vanished - held], damaged)
        if found.gaps and assess(list_replica(self._client), damaged).gaps != found.gaps:
            return True  # what is missing has been merged, or is being deleted as superfluous
        self.problems += found.gaps
        self.found |= {"restorable": found.restorable, "lost": found.lost, "unused": found.unused}
        return False

    def _restore(self, state: PageState) -> None:
        """Restore the newest state that was rebuilt, and have SQLite check it."""
        options = RestoreOptions(self._options.parallelism, Integrity.FULL)
        place = self._options.scratch or Path(tempfile.gettempdir())
        with os_errors("create", place), tempfile.TemporaryDirectory(prefix="lsync-verify-", dir=place) as folder:
            try:
                restore_txid(self._client, Path(folder) / "verify.db", state.txid, options)
            except TargetError as error:
                raise NotFoundError("verify", self._client.url, error.cause) from error
            except CorruptError as error:
                self.found["integrity"] = "failed"
                self.problems.append(Problem("restore-failed", error.cause, None, state.txid))
            else:
                self.found["integrity"] = "ok"


