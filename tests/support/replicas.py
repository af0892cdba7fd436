"""Every kind of replica client behind one face, for tests that must hold for all of them."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient, Stored
from litestream_py.clients.specs import PART_SIZE_MIN, FileReplica
from litestream_py.core.ports import ReplicaClient
from litestream_py.ltx.ids import TXID, FileName
from tests.support.minio import S3Bucket

TIMESTAMP_MS = 1_795_181_829_870
FOREIGN = (
    "0000000000000001-0000000000000001.ltx.tmp",
    "0000000000000002-0000000000000001.ltx",
    "0000000000000000-0000000000000001.ltx",
    "000000000000000A-000000000000000A.ltx",
    ".hidden",
    "folder/0000000000000009-0000000000000009.ltx",
)
"""Names at a level that are no LTX files of it: temporary, reversed, zero, upper case, other, below a folder."""


@dataclass
class Replica:
    """A replica under test.

    open: another client for the same replica. source: bytes as a file the client may take. plant: put an object under
    a name of a level behind the client's back. residue: what lies in the store beside listed files and side objects:
    temporary files, unfinished uploads. atomic: whether conditional writes hold under concurrency, which moto's
    server does not promise.
    """

    kind: str
    client: ReplicaClient
    open: Callable[[], ReplicaClient]
    source: Callable[[bytes], Path]
    plant: Callable[[int, str, bytes], None]
    residue: Callable[[], list[str]]
    atomic: bool = True


def name(txid: int, top: int | None = None, level: int = 0) -> FileName:
    """Return the name of an LTX file."""
    return FileName(level, TXID(txid), TXID(txid if top is None else top))


def blob(size: int, seed: int = 0) -> bytes:
    """Return random bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


@pytest.fixture(params=["file-link", "file-copy", "s3", "memory"])
def replica(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replica]:
    """A replica of each kind, empty."""
    kind: str = request.param
    with ExitStack() as stack:
        sources = tmp_path / "sources"
        sources.mkdir()
        if kind == "file-copy":
            sources = other_file_system(tmp_path, stack)
        if kind == "s3":
            made = _s3(request.getfixturevalue("s3_bucket"), stack)
        elif kind == "memory":
            made = _memory()
        else:
            made = _file(tmp_path / "replica", kind)
        made.source = lambda body: _write(sources / secrets.token_hex(8), body)
        stack.callback(made.client.close)
        yield made


def other_file_system(tmp_path: Path, stack: ExitStack) -> Path:
    """Return a folder on another file system than `tmp_path`; skips the test where there is none."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to copy from")
    folder = Path(tempfile.mkdtemp(dir=shm))
    stack.callback(shutil.rmtree, folder)
    return folder


def _write(path: Path, body: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def _unset(body: bytes) -> Path:
    raise AssertionError("set by the fixture")


def _file(root: Path, kind: str) -> Replica:
    def plant(level: int, key: str, body: bytes) -> None:
        _write(root / "ltx" / str(level) / key, body)

    def residue() -> list[str]:
        return [path.name for path in root.rglob(".*") if path.is_file()]

    spec = FileReplica(root)
    return Replica(kind, open_client(spec), lambda: open_client(spec), _unset, plant, residue)


def _s3(bucket: S3Bucket, stack: ExitStack) -> Replica:
    spec = bucket.replica("a/db", part_size_bytes=PART_SIZE_MIN, concurrency=3)

    def open_one() -> ReplicaClient:
        client = open_client(spec)
        stack.callback(client.close)
        return client

    def plant(level: int, key: str, body: bytes) -> None:
        bucket.raw.put_object(Bucket=bucket.name, Key=f"a/db/{level:04x}/{key}", Body=body)

    def residue() -> list[str]:
        return ["upload"] * bucket.open_uploads()

    return Replica("s3", open_one(), open_one, _unset, plant, residue, atomic=bucket.server.is_minio)


def _memory() -> Replica:
    client = MemoryClient()

    def plant(level: int, key: str, body: bytes) -> None:
        """Only LTX names exist in memory: a foreign one lands at another level."""
        client.files[name(1, level=level + 1)] = Stored(body, 0)

    return Replica("memory", client, lambda: client, _unset, plant, list)
