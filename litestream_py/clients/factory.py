"""From where a replica lies to a client for it; the SDK of S3 is imported only when it is needed (some 0.2 s)."""

from __future__ import annotations

from litestream_py.clients.file import FileClient
from litestream_py.clients.specs import FileReplica, S3Replica, S3Settings
from litestream_py.clients.urls import parse_replica_url
from litestream_py.core.ports import ReplicaClient


def open_client(replica: FileReplica | S3Replica | str, settings: S3Settings | None = None) -> ReplicaClient:
    """Return a client for a replica or its URL; nothing is read, written or sent yet.

    `settings` go before what the URL says (S3 only). Raises ConfigError.
    """
    if isinstance(replica, str):
        replica = parse_replica_url(replica)
    if isinstance(replica, FileReplica):
        return FileClient(replica)
    from litestream_py.clients.s3 import S3Client

    return S3Client(replica if settings is None else replica.with_settings(settings))
