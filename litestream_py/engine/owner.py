"""Claim a replica before the first upload, and notice when somebody else has taken it over (design section 7)."""

from __future__ import annotations

import threading
from typing import Final

from litestream_py.core.ownership import TAKEOVER_AFTER_S, Claim, Mine, OwnerRecord, Taken, decide_owner
from litestream_py.core.ports import ReplicaClient
from litestream_py.errors import OwnedElsewhereError, PreconditionError

KEY: Final = "owner.json"
_CLAIMS_MAX: Final = 3


class Owner:
    """Our claim on one replica; not thread-safe."""

    def __init__(self, client: ReplicaClient, *, writer_id: str, host: str) -> None:
        self._client = client
        self._writer_id = writer_id
        self._host = host
        self._epoch: int | None = None
        self._lock = threading.Lock()  # one question at a time

    def ensure(self, *, last_upload_ms: int, now_ms: int) -> bool:
        """Make sure that we own the replica, before an upload; False if our claim is gone: the replica was emptied.

        last_upload_ms: when the replica was last uploaded to, by anybody as far as we know. The object is read when we
        have no claim yet, and again after a silence of half the take-over time. Raises OwnedElsewhereError (exit 8),
        LsyncError.
        """
        with self._lock:
            return self._ensure(last_upload_ms, now_ms)

    def _ensure(self, last_upload_ms: int, now_ms: int) -> bool:
        silence_s = (now_ms - last_upload_ms) / 1000
        if self._epoch is not None and silence_s < TAKEOVER_AFTER_S / 2:
            return True
        for _ in range(_CLAIMS_MAX):
            found = self._client.read_side(KEY)
            current = OwnerRecord.decode(found) if found is not None else None
            if found is None and self._epoch is not None:
                self._epoch = None
                return False
            decision = decide_owner(
                current, writer_id=self._writer_id, host=self._host, last_upload_ms=last_upload_ms, now_ms=now_ms
            )
            match decision:
                case Mine():
                    if self._epoch is not None and decision.epoch != self._epoch:
                        raise self._lost(current)
                    self._epoch = decision.epoch
                    return True
                case Claim():
                    if self._epoch is not None:
                        raise self._lost(current)
                    if self._claim(decision.record, found):
                        return True
                case Taken():
                    raise self._lost(decision.owner)
        raise self._lost(None)

    def _claim(self, record: OwnerRecord, found: bytes | None) -> bool:
        """Write our record; False if somebody was faster, or our own write made itself look so: its answer was lost."""
        try:
            self._client.write_side(KEY, record.encode(), expected=found)
        except PreconditionError:
            return False
        self._epoch = record.epoch
        return True

    def _lost(self, owner: OwnerRecord | None) -> OwnedElsewhereError:
        who = "another writer" if owner is None else f"the writer on {owner.host}"
        return OwnedElsewhereError(
            "upload to",
            self._client.url,
            f"{who} owns this replica",
            hint=f"stop it, or start again {TAKEOVER_AFTER_S:.0f} s after its last upload: it is then taken over",
        )
