"""Carry out a retention plan: delete in its order, and see that what was deleted is gone.

The order keeps what is promised restorable at every step (`core.retention`), so a crash or an error in the middle
leaves files too many, never too few; the next plan names the rest. A refused delete ends it at once, with an error that
names what remains. A store that confirms a delete and keeps the file is noticed by asking for one byte of the last file
of each batch, or with `relist` by listing once more at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from litestream_py.core.listing import is_base
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.retention import RetentionPlan
from litestream_py.engine.fetch import LIST_POLICY, Patience, list_replica
from litestream_py.errors import LsyncError, NotFoundError, ReplicaError, TransientNetworkError
from litestream_py.failpoints import declare, hit
from litestream_py.ltx.ids import TXID, FileName

BEFORE_BATCH = declare("retention.before_batch")
AFTER_BATCH = declare("retention.after_batch")

BATCH_FILES: Final = 1000
_NAMED: Final = 3


class StoreKeepsError(ReplicaError):
    """The store confirmed a delete and still has the file; `remaining` names what is known to be there."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What is gone: files in the order of deletion."""

    files: tuple[FileInfo, ...]

    @property
    def bytes(self) -> int:
        """Bytes that were freed."""
        return sum(info.size for info in self.files)


def execute_retention(
    client: ReplicaClient,
    plan: RetentionPlan,
    *,
    relist: bool = False,
    batch_files: int = BATCH_FILES,
    done: Callable[[Sequence[FileInfo]], None] = lambda _: None,
) -> Deleted:
    """Delete what a plan names, in its order, in batches of at most `batch_files`.

    done: told each batch once it is known to be gone. relist: make sure of every file with one listing at the end.

    Raises AccessDeniedError and what else the client raises, after repeated attempts where that may help, and
    StoreKeepsError: `remaining` and the hint say which of the planned files may still be there; the others are gone.
    """
    patience = Patience(LIST_POLICY, threading.Event().wait)
    gone: list[FileInfo] = []
    for batch in _batches(plan.deletes, batch_files):
        hit(BEFORE_BATCH)
        try:
            _delete(client, [info.name for info in batch], patience)
            _check_gone(client, batch[-1], patience)
        except LsyncError as error:
            left = set(error.remaining or [info.name for info in batch])
            refused = [info for info in batch if info.name in left]
            done([info for info in batch if info.name not in left])
            _name_remaining(error, [*refused, *plan.deletes[len(gone) + len(batch) :]])
            raise
        hit(AFTER_BATCH)
        gone += batch
        done(batch)
    if relist and gone:
        _check_all_gone(client, gone)
    return Deleted(tuple(gone))


def _batches(files: Sequence[FileInfo], batch_files: int) -> Iterator[list[FileInfo]]:
    """Cut the deletions into batches; bases are never in one with increments, since a batch has no order within."""
    bases = [info for info in files if is_base(info)]
    for part in (bases, files[len(bases) :]):
        for at in range(0, len(part), batch_files):
            yield list(part[at : at + batch_files])


def _delete(client: ReplicaClient, names: Sequence[FileName], patience: Patience) -> None:
    failures = 0
    while True:
        try:
            client.delete(names)
        except TransientNetworkError as error:
            failures += 1
            names = [FileName(n[0], TXID(n[1]), TXID(n[2])) for n in error.remaining or names]
            patience.pause(failures, error)
        else:
            return


def _check_gone(client: ReplicaClient, info: FileInfo, patience: Patience) -> None:
    failures = 0
    while True:
        try:
            client.read(info.name, size=1)
        except NotFoundError:
            return
        except TransientNetworkError as error:
            failures += 1
            patience.pause(failures, error)
        else:
            raise _kept(client, info.name)


def _check_all_gone(client: ReplicaClient, gone: Sequence[FileInfo]) -> None:
    levels = sorted({info.name.level for info in gone})
    held = {info.name for info in list_replica(client, levels)}
    kept = [info for info in gone if info.name in held]
    if kept:
        error = _kept(client, kept[0].name)
        _name_remaining(error, kept)
        raise error


def _kept(client: ReplicaClient, name: FileName) -> StoreKeepsError:
    hint = "look for a hold, an object lock or a rule of the store; retention.enabled: false leaves deleting to it"
    return StoreKeepsError("delete", f"{client.url}: {name}", "the store confirmed it and keeps the file", hint=hint)


def _name_remaining(error: LsyncError, left: Sequence[FileInfo]) -> None:
    error.remaining = tuple(info.name for info in left)
    named = ", ".join(str(info.name) for info in left[:_NAMED])
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    error.hint = "; ".join(filter(None, (error.hint, f"not deleted: {named}{more}")))
