"""Who may write to a replica: the owner object and the rule of taking over; pure (design section 7).

`<prefix>/lsync/owner.json` is claimed just before the first real upload. The same writer (a hash of machine and
database path) resumes; another one takes over by itself once the replica has seen no upload for a while, because a
rescheduled container is that far more often than a rival. It is safe because an owner reads the object again before an
upload that follows a silence of half that time, and stops when the epoch is no longer its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

TAKEOVER_AFTER_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """Content of `owner.json`: writer_id (hex), epoch (counts take-overs), host, since (Unix milliseconds)."""

    writer_id: str
    epoch: int
    host: str
    since_ms: int

    def encode(self) -> bytes:
        """Return the JSON line."""
        fields = {"writer_id": self.writer_id, "epoch": self.epoch, "host": self.host, "since": self.since_ms}
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> OwnerRecord | None:
        """Return the record, or None if the bytes are none: then somebody's file stands there, not an owner."""
        try:
            fields: dict[str, Any] = json.loads(data)
            return cls(str(fields["writer_id"]), int(fields["epoch"]), str(fields["host"]), int(fields["since"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Mine:
    """We own the replica already, at this epoch."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Write this record if the object still is what was read."""

    record: OwnerRecord


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody else owns it; wait_s more without an upload and it may be taken over."""

    owner: OwnerRecord
    wait_s: float


def decide_owner(
    current: OwnerRecord | None, *, writer_id: str, host: str, last_upload_ms: int, now_ms: int
) -> Mine | Claim | Taken:
    """Decide what to do about the owner object before an upload.

    last_upload_ms: when the replica's newest file was stored, 0 if it has none.
    """
    if current is not None and current.writer_id == writer_id:
        return Mine(current.epoch)
    if current is None:
        return Claim(OwnerRecord(writer_id, 1, host, now_ms))
    # A claim counts as a sign of life too: its owner may be about to upload its first file.
    silence_s = (now_ms - max(last_upload_ms, current.since_ms)) / 1000
    if silence_s < TAKEOVER_AFTER_S:
        return Taken(current, TAKEOVER_AFTER_S - silence_s)
    return Claim(OwnerRecord(writer_id, current.epoch + 1, host, now_ms))
