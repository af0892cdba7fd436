"""Does the replica's chain continue into our local L0 log? Decided by the database checksums both carry; pure."""

from __future__ import annotations

from dataclasses import dataclass

from litestream_py.ltx.ids import TXID


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFacts:
    """What both ends say.

    replica_max: the newest TXID of the replica's L0, 0 if it holds no file at any level. replica_after: `LSYN` after of
    that file, None if it carries none (Litestream wrote it). local_first, local_max: oldest and newest TXID of the
    local log. local_at: our database checksum at replica_max, None if the local log does not reach there.
    """

    replica_max: TXID
    replica_after: int | None
    local_first: TXID
    local_max: TXID
    local_at: int | None


@dataclass(frozen=True, slots=True)
class Joined:
    """The chain is ours up to `confirmed`; everything newer is still to be uploaded."""

    confirmed: TXID


@dataclass(frozen=True, slots=True)
class Rebase:
    """The replica's chain is not the beginning of ours: derive ours from it again, and ship the difference."""

    reason: str


def decide_join(facts: JoinFacts) -> Joined | Rebase:
    """Decide; a chain that cannot be proven to be ours is never written to at our TXIDs."""
    if facts.replica_max == 0:
        return Joined(TXID(0)) if facts.local_first == 1 else Rebase("replica-empty")
    if facts.replica_max > facts.local_max:
        return Rebase("replica-ahead")
    if facts.local_at is None:
        return Rebase("local-log-gap")
    if facts.replica_after is None:
        return Rebase("written-by-litestream")
    if facts.replica_after != facts.local_at:
        return Rebase("replica-diverged")
    return Joined(facts.replica_max)
