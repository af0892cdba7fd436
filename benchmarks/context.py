"""What the benchmarks share: a scratch folder, sample databases, a MinIO server, and applications to start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import Limits
from litestream_py.clients.specs import FileReplica, S3Replica, S3Settings, s3_replica
from tests.support.supervise import free_port, server
from tests.support.tools import find_minio

APPLICATION = Path(__file__).with_name("application.py")
_USER, _SECRET, _BUCKET = "lsync-bench", "lsync-bench-secret", "bench"


class App:
    """The application as a server: `commit` changes rows in one commit."""

    def __init__(self, db: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(APPLICATION), "serve", str(db)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def commit(self, rows: int = 1) -> float:
        """Change `rows` rows in one commit; returns the monotonic seconds when COMMIT returned."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{rows}\n")
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it without closing its connection, as a process that goes on running would be."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True, slots=True)
class MinIO:
    """A running MinIO with one bucket; `env` gives a program the credentials."""

    endpoint: str

    @property
    def env(self) -> dict[str, str]:
        """Environment of a program that uses it."""
        return {
            "AWS_ACCESS_KEY_ID": _USER,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def url(self, prefix: str) -> str:
        """Return the URL of a replica."""
        return f"s3://{_BUCKET}/{prefix}?endpoint={self.endpoint}"

    def replica(self, prefix: str) -> S3Replica:
        """Return the replica with credentials, to open a client here."""
        settings = S3Settings(
            access_key_id=_USER, secret_access_key=_SECRET, region="us-east-1", endpoint=self.endpoint
        )
        return s3_replica(_BUCKET, prefix, settings)

    def requests(self) -> int:
        """Return how many S3 requests it has answered."""
        with urllib.request.urlopen(f"{self.endpoint}/minio/v2/metrics/cluster", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("minio_s3_requests_total{"))


class Context:
    """Everything that a benchmark needs; leave the block to end servers and remove files.

    quick: fewer runs and smaller databases, to see that it works. large: also the databases that take minutes.
    """

    def __init__(self, folder: Path, limits: Limits, *, quick: bool, large: bool) -> None:
        self.folder = folder
        self.limits = limits
        self.quick = quick
        self.large = large
        self._minio: MinIO | None = None
        self._exits = ExitStack()

    def close(self) -> None:
        """End the servers."""
        self._exits.close()

    # --- folders and databases ---

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty folder that is removed after the block."""
        folder = self.folder / uuid.uuid4().hex[:8]
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sample(self, mib: int, target: Path) -> Path:
        """Put a sample database of some `mib` MiB at `target`; built once for each size."""
        built = self.folder / f"sample-{mib}.db"
        if not built.exists():
            subprocess.run([sys.executable, str(APPLICATION), "build", str(built), str(mib)], check=True)
        shutil.copyfile(built, target)
        fd = os.open(target, os.O_RDONLY)
        os.fsync(fd)  # what the copy left to be written would slow down what is measured
        os.close(fd)
        return target

    # --- processes ---

    @contextmanager
    def app(self, db: Path) -> Iterator[App]:
        """Run the application as a server."""
        app = App(db)
        try:
            yield app
        finally:
            app.close()

    @staticmethod
    def measured_app(*words: object) -> dict[str, Any]:
        """Run the application to its end and return what it measured."""
        done = subprocess.run(
            [sys.executable, str(APPLICATION), *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def minio(self) -> MinIO | None:
        """Return the MinIO server of this run, started when first asked for; None where there is none."""
        if self._minio is None:
            program = find_minio()
            if program is None:
                return None
            port = free_port()
            endpoint = f"http://127.0.0.1:{port}"
            env = os.environ | {
                "MINIO_ROOT_USER": _USER,
                "MINIO_ROOT_PASSWORD": _SECRET,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
                "MINIO_CI_CD": "1",
                "MINIO_PROMETHEUS_AUTH_TYPE": "public",
            }
            words = ["server", "--quiet", "--address", f"127.0.0.1:{port}"]

            def command(folder: Path) -> list[str]:
                (folder / _BUCKET).mkdir()
                return [str(program), *words, str(folder)]

            self._exits.enter_context(server(command, env, lambda: _ready(endpoint)))
            self._minio = MinIO(endpoint)
        return self._minio


def _ready(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/minio/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass(frozen=True, slots=True)
class Store:
    """A place for a replica.

    name: in the table. url: for the command line. replica: the same with credentials, to open a client in this process.
    env: what a program needs in its environment.
    """

    name: str
    url: str
    replica: FileReplica | S3Replica
    env: dict[str, str]


def stores(context: Context, folder: Path) -> Iterator[Store]:
    """Yield a folder below `folder`, and MinIO where there is one."""
    yield Store("file", f"file://{folder / 'replica'}", FileReplica(folder / "replica"), {})
    minio = context.minio()
    if minio is not None:
        prefix = uuid.uuid4().hex[:8]
        yield Store("MinIO", minio.url(prefix), minio.replica(prefix), minio.env)
