"""Carry out a retention plan: delete in its order, in batches, and see that the store really did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.retention import RetentionPlan
from litestream_py.errors import NotFoundError, ReplicaError
from litestream_py.failpoints import declare, hit

BETWEEN_BATCHES = declare("retention.between_batches")

_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Deleted:
    """Files that are gone."""

    files: tuple[FileInfo, ...]


def execute_retention(client: ReplicaClient, plan: RetentionPlan) -> Deleted:
    """Delete what the plan names; a crash in between leaves what the plan would name next time.

    One file of each batch is asked for afterwards: some stores say yes and keep it. Raises AccessDeniedError where
    deleting is not allowed, ReplicaError where the store lies, LsyncError; what was deleted until then is gone.
    """
    for start in range(0, len(plan.deletes), _BATCH):
        batch = plan.deletes[start : start + _BATCH]
        client.delete([info.name for info in batch])
        _check_gone(client, batch[-1])
        hit(BETWEEN_BATCHES)
    return Deleted(plan.deletes)


def _check_gone(client: ReplicaClient, info: FileInfo) -> None:
    try:
        client.read(info.name, size=1)
    except NotFoundError:
        return
    raise ReplicaError(
        "delete",
        f"{client.url}: {info.name}",
        "the store confirmed the deletion and keeps the file",
        hint="set retention.enabled: false and let a lifecycle rule of the store delete old files",
    )
