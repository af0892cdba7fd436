"""Restoring a database: plan, fetch, put together, prove, publish.

The target is either as it was or the whole, proven, durable database; never something in between. The order that gives
this: everything is written to a temporary file, proven and checked there, made durable, and only then renamed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import DamagedFileError, RestorePlan, plan_restore
from litestream_py.engine.assembly import Assembly
from litestream_py.engine.fetch import PARALLELISM_DEFAULT, Fetcher
from litestream_py.engine.moment import RELIST_MAX, Target, resolve
from litestream_py.engine.pool import Pool
from litestream_py.errors import CorruptError, NotFoundError
from litestream_py.local.database import integrity_check
from litestream_py.local.restore_target import RestoreTarget, check_target
from litestream_py.ltx.ids import TXID, FileName

_FINDINGS_SHOWN: Final = 3


class Integrity(StrEnum):
    """Which check of SQLite's runs on the restored file before it is published.

    auto: none where the chain's own checksum proves every byte, else full.
    """

    AUTO = "auto"
    NONE = "none"
    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How to restore; `force` replaces an existing target and its sidecars."""

    parallelism: int = PARALLELISM_DEFAULT
    integrity: Integrity = Integrity.AUTO
    force: bool = False


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored.

    timestamp_ms: of the newest change in it, by the newest file's header.
    checksum: the database checksum that the chain carried and the restored pages matched; None if it carried none.
    integrity: the check that ran. avoided: damaged files that others stood in for.
    """

    path: Path
    txid: TXID
    timestamp_ms: int
    size_bytes: int
    page_size: int
    checksum: int | None
    integrity: Integrity
    files: int
    fetched_bytes: int
    duration_s: float
    avoided: tuple[FileInfo, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a restore reports to.

    planned: called with every plan before it is carried out (more than once if one fails on a damaged file).
    fetched: called with the number of bytes fetched since the last call.
    """

    planned: Callable[[RestorePlan], None]
    fetched: Callable[[int], None]


def restore_txid(
    client: ReplicaClient,
    path: Path,
    target: Target,
    options: RestoreOptions | None = None,
    *,
    progress: Progress | None = None,
) -> RestoreResult:
    """Restore `client`'s database at `target` (None: the newest) to `path`, around damaged files where that can be.

    A file that turns out to be damaged is left out and another plan made; where there is none, its error is raised.
    Files that vanish meanwhile (another process compacts the replica) are a reason to list again, RELIST_MAX times.

    Raises: what `resolve`, `plan_restore` and `restore` raise, and what the client raises.
    """
    options = options or RestoreOptions()
    check_target(path, force=options.force)
    found = resolve(client, target)
    damaged = dict(found.damaged)
    relisted = 0
    while True:
        plan = _plan(client, found.listing, found.txid, damaged)
        try:
            return restore(client, plan, path, options, progress=progress)
        except DamagedFileError as error:
            damaged[error.name] = error
        except NotFoundError:
            relisted += 1
            if relisted > RELIST_MAX:
                raise
            found = resolve(client, target)
            damaged |= found.damaged


def _plan(
    client: ReplicaClient, listing: list[FileInfo], target: TXID | None, damaged: dict[FileName, DamagedFileError]
) -> RestorePlan:
    try:
        return plan_restore(listing, target, damaged=damaged, source=client.url)
    except DamagedFileError as error:
        found = damaged.get(error.name)
        if found is None:
            raise
        found.hint = error.hint
        raise found from None


def restore(
    client: ReplicaClient,
    plan: RestorePlan,
    path: Path,
    options: RestoreOptions | None = None,
    *,
    progress: Progress | None = None,
) -> RestoreResult:
    """Carry out a plan: write the database at `plan.max_txid` to `path`, durably, or leave `path` as it was.

    The bytes are exactly those of the source at that TXID, WAL mode in its header included. Missing directories are
    made. Memory: the fetch window, one byte per page, and the decoder's bound; not the size of the database.

    Raises:
        TargetError: the target exists (and no `force`), or is no regular file.
        DamagedFileError: a file is damaged; its name tells which.
        CorruptError: the files contradict each other, or the result fails its checksum or its integrity check.
        NotFoundError: a file vanished. DiskFullError, LocalIOError, AccessDeniedError, TransientNetworkError.
    """
    options = options or RestoreOptions()
    started = time.monotonic()
    if progress:
        progress.planned(plan)
    with RestoreTarget(path, force=options.force) as target:
        image = Assembly(target, source=client.url, chain_bytes=plan.bytes)
        with Fetcher(client, plan.files[::-1], parallelism=options.parallelism) as fetcher:
            for info, chunks in fetcher:
                image.add(info, _counted(chunks, progress))
        image.finish()
        size = image.commit * image.page_size
        target.resize(size)
        integrity = _check_integrity(target.temp, options.integrity, image.checksum, client.url)
        target.flush()
        target.publish()
        restored = target.path
    return RestoreResult(
        path=restored,
        txid=plan.max_txid,
        timestamp_ms=image.timestamp_ms,
        size_bytes=size,
        page_size=image.page_size,
        checksum=image.checksum,
        integrity=integrity,
        files=len(plan.files),
        fetched_bytes=plan.bytes,
        duration_s=time.monotonic() - started,
        avoided=plan.avoided,
    )


def _counted(chunks: Iterator[bytes], progress: Progress | None) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        if progress:
            progress.fetched(len(chunk))


def _check_integrity(temp: Path, wanted: Integrity, checksum: int | None, source: str) -> Integrity:
    """Run the check that is wanted and return which it was; raise CorruptError with what it found."""
    if wanted is Integrity.AUTO:
        wanted = Integrity.FULL if checksum is None else Integrity.NONE
    if wanted is Integrity.NONE:
        return wanted
    # In a thread: SQLite may check for minutes, and a signal could not interrupt that in this one.
    with Pool(1, "integrity") as pool:
        found = pool.submit(partial(integrity_check, temp, quick=wanted is Integrity.QUICK)).result()
    if found:
        more = f" (and {len(found) - _FINDINGS_SHOWN} more)" if len(found) > _FINDINGS_SHOWN else ""
        cause = f"the restored database fails its integrity check: {'; '.join(found[:_FINDINGS_SHOWN])}{more}"
        hint = "restore an earlier --txid, or --integrity-check none to get it as it is and repair it"
        raise CorruptError("restore", source, cause, hint=hint)
    return wanted


