"""The job that verifies a replica every `validation.interval`: reads all of it, tells whether it can be restored."""

from __future__ import annotations

from litestream_py.daemon.replication import Replication
from litestream_py.daemon.scheduler import ReplicaWork
from litestream_py.engine.verifier import Progress, VerifyOptions, verify
from litestream_py.errors import DatabaseBusyError


class ValidationJob(ReplicaWork):
    """Verifies one replica; see `scheduler.Job`. The first time is an interval after the start."""

    def __init__(self, replication: Replication, interval_s: float) -> None:
        self._r = replication
        self._interval_s = interval_s
        self._started = False
        self._stopping = False

    def crashed(self, error: BaseException) -> float | None:
        """A mistake of ours: say so, and try again next time."""
        self._r.publisher.crashed(error)
        return self._interval_s

    def step(self) -> float | None:
        """Verify; returns the seconds until the next time."""
        if self._r.ended is not None:
            return None
        if self._started and self._r.uploader.confirmed is not None:
            verdict = verify(self._r.client, VerifyOptions(), progress=Progress(advance=self._go_on))
            if self._stopping:
                return None
            self._r.publisher.verified(verdict)
        self._started = True
        return self._interval_s

    def stop(self) -> None:
        """Have a verification under way end at its next look."""
        self._stopping = True

    def _go_on(self, _read_bytes: int) -> None:
        if self._stopping:
            raise DatabaseBusyError("verify", self._r.client.url, "lsync is being stopped")
