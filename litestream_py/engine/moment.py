"""From what a user asks for (the newest, a TXID, a point in time) to a TXID of one listing.

A point in time is looked up in the headers' timestamps, through `ReplicaClient.timestamp_of`: a listing of S3 shows
when a file was uploaded, not when its changes were made. A file whose header cannot be read counts as damaged, and
others are asked in its place; where none can stand in for it, its error comes out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, TypeVar

from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import DamagedFileError
from litestream_py.core.window import TimestampOf, choose_txid
from litestream_py.engine.fetch import LIST_POLICY, Patience, list_replica
from litestream_py.errors import CorruptError, NotFoundError, TransientNetworkError
from litestream_py.ltx.ids import TXID, FileName

RELIST_MAX: Final = 3
"""How often files may vanish under a command (retention, compaction) before it gives up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """The last state before a point in time, `at_ms` in Unix milliseconds."""

    at_ms: int


Target = TXID | Moment | None
"""What to restore: exactly this TXID, the last state before a time, or the newest."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """One listing of every level, and what a target means in it (None: the newest).

    damaged: files whose headers could not be read, each with its error.
    """

    listing: list[FileInfo]
    txid: TXID | None
    damaged: dict[FileName, DamagedFileError] = field(default_factory=dict)


def resolve(client: ReplicaClient, target: Target) -> Resolved:
    """List a replica and find the TXID that `target` means.

    Raises: what `choose_txid` raises, and what the client raises.
    """
    if not isinstance(target, Moment):
        return Resolved(list_replica(client), target)

    def choose(listing: list[FileInfo], lookup: TimestampOf, damaged: Collection[FileName]) -> TXID:
        return choose_txid(listing, target.at_ms, lookup, damaged=damaged, source=client.url)

    listing, damaged, txid = ask(client, choose)
    return Resolved(listing, txid, damaged)


def ask(
    client: ReplicaClient, question: Callable[[list[FileInfo], TimestampOf, Collection[FileName]], T]
) -> tuple[list[FileInfo], dict[FileName, DamagedFileError], T]:
    """List a replica and ask a question about the listing whose answer depends on timestamps.

    A file whose header turns out to be damaged is a reason to ask again without it; one that vanished, to list again.
    Returns the listing, the damaged files, and the answer.
    """
    relisted = 0
    while True:
        listing = list_replica(client)
        try:
            damaged, answer = _ask_listing(client, listing, question)
        except NotFoundError:
            relisted += 1
            if relisted > RELIST_MAX:
                raise
        else:
            return listing, damaged, answer


def _ask_listing(
    client: ReplicaClient,
    listing: list[FileInfo],
    question: Callable[[list[FileInfo], TimestampOf, Collection[FileName]], T],
) -> tuple[dict[FileName, DamagedFileError], T]:
    damaged: dict[FileName, DamagedFileError] = {}
    lookup = timestamps(client)
    while True:
        try:
            return damaged, question(listing, lookup, damaged)
        except DamagedFileError as error:
            if error.name in damaged:
                raise
            damaged[error.name] = error


def timestamps(client: ReplicaClient) -> TimestampOf:
    """Return a lookup of headers' timestamps that asks once for each file, and again after a transient fault.

    It raises DamagedFileError for a file without a header, NotFoundError for one that is gone.
    """
    known: dict[FileName, int] = {}
    patience = Patience(LIST_POLICY, threading.Event().wait)

    def lookup(info: FileInfo) -> int:
        if info.name not in known:
            known[info.name] = _timestamp(client, info, patience)
        return known[info.name]

    return lookup


def _timestamp(client: ReplicaClient, info: FileInfo, patience: Patience) -> int:
    failures = 0
    while True:
        try:
            return client.timestamp_of(info)
        except TransientNetworkError as error:
            failures += 1
            patience.pause(failures, error)
        except CorruptError as error:
            raise DamagedFileError(info.name, client.url, error.cause) from error
