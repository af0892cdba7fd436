"""Ship the local L0 log to one replica, in TXID order; its position advances only over confirmed files.

A PUT whose answer was lost is simply tried again: L0 objects are created only where the name is free, and a taken name
whose content is ours is a confirmation. A crash between a PUT and the removal of the local file repeats that comparison
at the next start.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from litestream_py.core.join import JoinFacts, Rebase, decide_join
from litestream_py.core.oserrors import os_errors
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import plan_restore
from litestream_py.engine.adopt import NO_CHAIN
from litestream_py.engine.chain import read_file
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.owner import Owner
from litestream_py.errors import ChainGapError, NotFoundError, OwnedElsewhereError, PreconditionError
from litestream_py.failpoints import declare, hit
from litestream_py.local.meta import MetaDir
from litestream_py.ltx.ids import LEVEL_MAX, TXID, FileName
from litestream_py.ltx.records import HEADER_SIZE, Header

BEFORE_PUT = declare("upload.before_put")
AFTER_PUT = declare("upload.after_put")
AFTER_REMOVE = declare("upload.after_remove")

KEPT_BYTES_MAX: Final = 64 << 20
"""Local files that the replica has, kept for compaction, are this many bytes at most."""


class RebaseNeeded(Exception):  # noqa: N818 - not an error: the tailer starts over from the replica's chain
    """The replica's chain is not the beginning of the local log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """One confirmed file. timestamp_ms: of its header; seconds: how long the PUT took."""

    name: FileName
    size: int
    timestamp_ms: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The replica's position is known. confirmed: newest TXID that both have. pending: files it lacks, with sizes."""

    confirmed: TXID
    pending: tuple[tuple[FileName, int], ...]


UploadEvent = Uploaded | Connected


class Uploader:
    """One replica of one database; `connect` and `step` are called by one thread at a time, the rest by any."""

    def __init__(
        self, client: ReplicaClient, meta: MetaDir, owner: Owner, publish: Callable[[UploadEvent], None]
    ) -> None:
        self.client = client
        self._meta = meta
        self._owner = owner
        self._publish = publish
        self._last_upload_ms = 0
        self._lock = threading.Lock()  # protects what follows; never held while the replica is asked
        self._confirmed: TXID | None = None
        self._adopted: tuple[TXID, int] | None = None
        self._generation = 0  # counts `forget`: a PUT under way then confirms nothing
        self._waiting: deque[tuple[FileName, int]] = deque()  # local files that the replica lacks, with sizes
        self._kept: deque[tuple[FileName, int]] = deque()  # local files that it has, with sizes
        self._compacted = TXID(0)

    @property
    def confirmed(self) -> TXID | None:
        """Newest TXID that the replica is known to hold with all before it; None while that is not known."""
        return self._confirmed

    def forget(self) -> None:
        """Forget the replica's position: it is asked again before the next upload."""
        with self._lock:
            self._confirmed = None
            self._generation += 1

    def captured(self, txid: TXID, size: int) -> None:
        """Take note of a new local L0 file of `size` bytes; called by the tailing thread."""
        with self._lock:
            newest = self._waiting[-1][0].max_txid if self._waiting else self._confirmed
            if newest is not None and txid > newest:  # else `connect` found it, or will find it, in the folder
                self._waiting.append((FileName(0, txid, txid), size))

    def adopted(self, txid: TXID, database_checksum: int) -> None:
        """Take note that the local log was begun from the replica's state at `txid`, whose checksum was computed.

        Files that Litestream wrote carry no database checksum; this one stands in for it.
        """
        self.forget()
        self._adopted = (txid, database_checksum)

    def compacted(self, txid: TXID) -> None:
        """Take note that level 1 holds everything up to `txid`: local files up to there are needed no longer."""
        with self._lock:
            self._compacted = txid
        self._trim()

    def ensure_owner(self, *, now_ms: int) -> bool:
        """Make sure that we own the replica before something is changed there; see `Owner.ensure`."""
        return self._owner.ensure(last_upload_ms=self._last_upload_ms, now_ms=now_ms)

    def connect(self) -> None:
        """Ask the replica where it stands. Raises RebaseNeeded, LsyncError."""
        local = [name for name, _ in self._meta.list_l0()]
        if not local:
            return  # nothing captured yet, or a replica taken over without difference: nothing to upload
        generation = self._generation
        newest = self._newest()
        facts = JoinFacts(
            replica_max=newest.name.max_txid if newest else TXID(0),
            replica_after=self._remote_after(newest) if newest else None,
            local_first=local[0].min_txid,
            local_max=local[-1].max_txid,
            local_at=self._local_at(newest.name.max_txid, local) if newest else None,
        )
        decision = decide_join(facts)
        if isinstance(decision, Rebase):
            raise RebaseNeeded(decision.reason)
        self._last_upload_ms = newest.created_ms if newest else 0
        with self._lock:
            if generation != self._generation:
                return
            # Listed again under the lock: what was captured meanwhile is in the folder, what comes now is told to us.
            files = self._meta.list_l0()
            self._waiting = deque(item for item in files if item[0].max_txid > decision.confirmed)
            self._kept = deque(item for item in files if item[0].max_txid <= decision.confirmed)
            self._confirmed = decision.confirmed
            pending = tuple(self._waiting)
        self._publish(Connected(confirmed=decision.confirmed, pending=pending))
        self._trim()

    def _newest(self) -> FileInfo | None:
        """Return the newest file of the replica, at whatever level; None if it holds none.

        Raises ChainGapError if what is there could not be restored: it is no chain that could be continued.
        """
        found = self.client.list_level(0)
        if not _is_whole(found):
            found += list_replica(self.client, range(1, LEVEL_MAX + 1))
            if found:
                _check_restorable(found)
        return max(found, key=lambda info: (info.name.max_txid, -info.name.level), default=None)

    def _remote_after(self, info: FileInfo) -> int | None:
        if self._adopted is not None and self._adopted[0] == info.name.max_txid:
            return self._adopted[1]
        head = self.client.read(info.name, size=HEADER_SIZE)
        lsyn = Header.unpack(head).lsyn
        return lsyn.after if lsyn else None

    def _local_at(self, txid: TXID, local: list[FileName]) -> int | None:
        """Return our database checksum at `txid`: after the file that ends there, or before the one behind it."""
        for name in local:
            if name.max_txid == txid or name.min_txid == txid + 1:
                lsyn = self._local_header(name).lsyn
                if lsyn is not None:
                    return lsyn.after if name.max_txid == txid else lsyn.before
        return None

    def _local_header(self, name: FileName) -> Header:
        path = self._meta.l0_path(name)
        with os_errors("read", path), path.open("rb") as file:
            return Header.unpack(file.read(HEADER_SIZE))

    def pending(self) -> list[tuple[FileName, int]]:
        """Return the local files that the replica does not have yet, with their sizes, oldest first."""
        with self._lock:
            return list(self._waiting)

    def step(self, *, now_ms: int) -> bool:
        """Upload the next file; False where there was none. Raises RebaseNeeded, LsyncError with nothing advanced."""
        if self._confirmed is None:
            self.connect()
        with self._lock:
            generation, confirmed = self._generation, self._confirmed
            if not self._waiting or confirmed is None:
                return False
            name, size = self._waiting[0]
        if name.min_txid != confirmed + 1:
            raise RebaseNeeded("local-log-gap")
        if not self._owner.ensure(last_upload_ms=self._last_upload_ms, now_ms=now_ms):
            raise RebaseNeeded("replica-emptied")
        timestamp_ms = self._local_header(name).timestamp_ms
        started_s = time.monotonic()
        hit(BEFORE_PUT)
        self._put(name, timestamp_ms)
        hit(AFTER_PUT)
        with self._lock:
            if generation != self._generation:
                return True  # the log was begun anew meanwhile: ask the replica again
            self._confirmed = name.max_txid
            self._kept.append(self._waiting.popleft())
        self._last_upload_ms = now_ms
        seconds = time.monotonic() - started_s
        self._publish(Uploaded(name=name, size=size, timestamp_ms=timestamp_ms, seconds=seconds))
        self._trim()
        hit(AFTER_REMOVE)
        return True

    def _put(self, name: FileName, timestamp_ms: int) -> None:
        path = self._meta.l0_path(name)
        try:
            self.client.put(name, path, timestamp_ms=timestamp_ms)
        except PreconditionError as error:
            if not self._same_content(name):
                self.forget()
                raise OwnedElsewhereError(
                    "upload to",
                    self.client.url,
                    f"{name} is there already with other content: another writer uses this replica",
                    hint="give every database its own URL, and run one daemon for it",
                ) from error

    def _same_content(self, name: FileName) -> bool:
        """Compare our local file with the replica's, without holding either."""
        try:
            return _digest(read_file(self._meta.l0_path(name))) == _digest(self.client.stream(name))
        except NotFoundError:
            return False

    def _trim(self) -> None:
        """Remove local files that the replica has; the newest stays, it is the base of the local state."""
        gone = []
        with self._lock:
            kept_bytes = sum(size for _, size in self._kept)
            while len(self._kept) > (0 if self._waiting else 1):
                name, size = self._kept[0]
                # What level 1 does not hold yet is read from here when it is made, and not fetched.
                if name.min_txid > 1 and name.max_txid > self._compacted and kept_bytes <= KEPT_BYTES_MAX:
                    break
                self._kept.popleft()
                kept_bytes -= size
                gone.append(name)
        self._meta.remove_l0(gone)


def _is_whole(l0: list[FileInfo]) -> bool:
    """Tell whether an L0 listing begins with TXID 1 and has no gap."""
    reached = 0
    for name in sorted(info.name for info in l0):
        if name.min_txid > reached + 1:
            return False
        reached = max(reached, name.max_txid)
    return reached > 0


def _check_restorable(listing: list[FileInfo]) -> None:
    try:
        plan_restore(listing, None)
    except ChainGapError as error:
        error.hint = NO_CHAIN
        raise


def _digest(chunks: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


__all__ = ["Connected", "RebaseNeeded", "Uploaded", "Uploader"]
