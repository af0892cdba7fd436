"""What a replica must be like so that Litestream 0.5 can restore it, thin it out, and take it over, as a checker.

The rules are those of design section 6, as tried with the real daemon, and its way to plan a restore:

1. A file's header says what its name says, flag 0x2 is set, both apply checksums are zero, one page size for all.
2. Every L0 header has a place in the WAL: offset 32 at least.
3. The newest L0 file holds exactly one TXID, and no level reaches beyond it.
4. Within a level no two files overlap, and behind the end of the level above there is no gap; snapshots begin at 1.
5. What a level takes next from the one below are whole files: none of them reaches across the end of the level, and
   the first begins right behind it.
6. Its restore plan reaches the newest TXID, with nothing left over behind a gap; also after its own L0 retention, which
   deletes every L0 file up to the end of L1 but the newest, without looking at what covers it.
7. The time that the store shows of a file is the header's, to the millisecond.
8. Where two files meet, the database checksums (ours) are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.engine.fetch import list_replica
from litestream_py.ltx.decoder import decode
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, FileName
from litestream_py.ltx.records import NO_CHECKSUM, Header

WAL_OFFSET_MIN = 32


def violations(client: ReplicaClient, *, exact_times: bool = True) -> list[str]:
    """Return in words what Litestream would stumble over. exact_times: the listing shows files' own times (no S3)."""
    listing = list_replica(client)
    headers = {info.name: _header(client, info) for info in listing}
    found = [*_headers(headers), *_levels(listing), *_plans(listing), *_checksums(headers)]
    for info in listing:
        shown_ms = info.created_ms if exact_times else client.timestamp_of(info)
        if shown_ms != headers[info.name].timestamp_ms:
            found.append(f"{info.name} shows time {shown_ms}, its header says {headers[info.name].timestamp_ms}")
    return found


def litestream_plan(listing: Sequence[FileInfo], target: int | None = None) -> list[FileName]:
    """Return the files that Litestream restores from; raises LookupError where it refuses."""
    top = max((info.name.max_txid for info in listing), default=0) if target is None else target
    names = [info.name for info in listing if info.name.max_txid <= top]
    snapshots = [name for name in names if name.level == SNAPSHOT_LEVEL]
    plan = [max(snapshots, key=lambda name: name.max_txid)] if snapshots else []
    at = int(plan[0].max_txid) if plan else 0
    while at < top:
        fitting = [n for n in names if n.level < SNAPSHOT_LEVEL and n.min_txid <= at + 1 and n.max_txid > at]
        if not fitting:
            raise LookupError(f"no file goes on behind TXID {at:016x}, asked for {top:016x}")
        plan.append(max(fitting, key=lambda name: (name.max_txid, -name.min_txid, name.level)))
        at = int(plan[-1].max_txid)
    if not plan:
        raise LookupError("nothing to restore")
    return plan


def _header(client: ReplicaClient, info: FileInfo) -> Header:
    body = client.read(info.name, size=info.size)
    file = decode(body, expect=info.name)
    assert file.trailer.post_apply_checksum == 0, f"{info.name} has a post-apply checksum"
    return file.header


def _headers(headers: dict[FileName, Header]) -> Iterator[str]:
    if len({header.page_size for header in headers.values()}) > 1:
        yield "page sizes differ"
    for name, header in headers.items():
        if header.flags != NO_CHECKSUM or header.pre_apply_checksum:
            yield f"{name} tracks checksums"
        if name.level == 0 and header.wal_offset < WAL_OFFSET_MIN:
            yield f"{name} has no place in the WAL (offset {header.wal_offset})"


def _levels(listing: Sequence[FileInfo]) -> Iterator[str]:
    levels = {n: sorted(i.name for i in listing if i.name.level == n) for n in range(SNAPSHOT_LEVEL + 1)}
    if not levels[0]:
        yield "level 0 is empty: the position is lost"
        return
    newest = max(levels[0], key=lambda name: name.max_txid)
    if newest.min_txid != newest.max_txid:
        yield f"{newest} is the newest of level 0 and holds several TXIDs"
    for info in listing:
        if info.name.max_txid > newest.max_txid:
            yield f"{info.name} reaches beyond level 0"
        if info.name.level == SNAPSHOT_LEVEL and info.name.min_txid != 1:
            yield f"{info.name} is no snapshot"
    for number in range(SNAPSHOT_LEVEL):
        taken = max((name.max_txid for name in levels[number + 1]), default=0) if number + 1 < SNAPSHOT_LEVEL else 0
        for before, after in pairwise(levels[number]):
            gap = after.min_txid > max(before.max_txid, taken) + 1
            if gap or after.min_txid <= before.max_txid:
                yield f"{after} does not follow {before}"
    for below, above in pairwise(range(SNAPSHOT_LEVEL)):
        if levels[above]:
            end = levels[above][-1].max_txid
            across = [name for name in levels[below] if name.min_txid <= end < name.max_txid]
            yield from (f"{name} reaches across the end of level {above}" for name in across)
            rest = [name for name in levels[below] if name.min_txid > end]
            if rest and rest[0].min_txid != end + 1:
                yield f"{rest[0]} does not go on where level {above} ends, at {end}"


def _plans(listing: Sequence[FileInfo]) -> Iterator[str]:
    l1_end = max((i.name.max_txid for i in listing if i.name.level == 1), default=0)
    l0_end = max((i.name.max_txid for i in listing if i.name.level == 0), default=0)
    thinned = [i for i in listing if i.name.level or i.name.max_txid > l1_end or i.name.max_txid == l0_end]
    for what, files in (("", listing), (" after its L0 retention", thinned)):
        try:
            litestream_plan(files)
        except LookupError as error:
            yield f"Litestream cannot restore the newest TXID{what}: {error}"


def _checksums(headers: dict[FileName, Header]) -> Iterator[str]:
    ends = {int(header.max_txid): (name, header.lsyn.after) for name, header in headers.items() if header.lsyn}
    for name, header in headers.items():
        if header.lsyn is None:
            continue
        for txid, checksum in ((header.min_txid - 1, header.lsyn.before), (header.max_txid, header.lsyn.after)):
            if txid in ends and ends[txid][1] != checksum:
                yield f"{name} and {ends[txid][0]} disagree about the database at {txid}"
