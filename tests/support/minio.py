"""The S3 server of the tests, as fixtures: MinIO, or with a loud line moto.

One server for each pytest worker, started with the first test that asks for it; each test its own bucket. MinIO comes
from `tools.get_minio`, failing that from a container. Where neither can be had, moto's server stands in, unless CI or
LSYNC_REQUIRE_MINIO is set in the environment: then it is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from litestream_py.clients.specs import S3Replica, S3Settings, s3_replica
from tests.support import tools
from tests.support.supervise import free_port, server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoS3

ACCESS_KEY_ID = "lsync-tests"
SECRET_ACCESS_KEY = "lsync-tests-secret"
REGION = "us-east-1"
IMAGE = "minio/minio:RELEASE.2025-09-07T16-13-09Z"

_WHY_MOTO = pytest.StashKey[str]()


@dataclass(frozen=True)
class S3Server:
    """A running S3 server; every S3 setting that a test needs."""

    endpoint: str
    is_minio: bool

    @property
    def settings(self) -> S3Settings:
        """Settings that reach it."""
        return S3Settings(
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            region=REGION,
            endpoint=self.endpoint,
        )

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that give a program the credentials."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def raw(self) -> BotoS3:
        """Return a plain boto3 client; the caller closes it."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
        )


@dataclass(frozen=True)
class S3Bucket:
    """An empty bucket of its own for one test; `raw` is a plain boto3 client to look at it from outside."""

    server: S3Server
    name: str
    raw: BotoS3

    def replica(self, prefix: str = "db", **settings: Any) -> S3Replica:
        """Return a replica in this bucket; further settings by name."""
        return s3_replica(self.name, prefix, S3Settings(**settings).over(self.server.settings))

    def url(self, prefix: str = "db") -> str:
        """Return the URL of a replica in this bucket; credentials come from the environment."""
        return f"s3://{self.name}/{prefix}?endpoint={self.server.endpoint}"

    def keys(self) -> list[str]:
        """Return all keys in the bucket, in order."""
        pages = self.raw.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def open_uploads(self) -> int:
        """Return the number of multipart uploads that were neither completed nor aborted."""
        return len(self.raw.list_multipart_uploads(Bucket=self.name, Prefix="").get("Uploads", []))


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """The S3 server of this worker."""
    try:
        program: Path | None = tools.get_minio()
        why_not = ""
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        program, why_not = None, str(error)
    if program is not None:
        with _minio(lambda folder, port: [str(program), *_serve(str(folder), f"127.0.0.1:{port}")]) as running:
            yield running
    elif _docker_answers():
        with _minio(_container) as running:
            yield running
    elif os.environ.get("CI") == "true" or os.environ.get("LSYNC_REQUIRE_MINIO"):
        pytest.fail(f"MinIO is required here (CI or LSYNC_REQUIRE_MINIO), and there is none: {why_not}", pytrace=False)
    else:
        request.config.stash[_WHY_MOTO] = why_not
        with _moto() as running:
            yield running


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[S3Bucket]:
    """An empty bucket; it stays until the server ends."""
    raw = s3_server.raw()
    name = f"t-{uuid.uuid4().hex}"
    raw.create_bucket(Bucket=name)
    yield S3Bucket(s3_server, name, raw)
    raw.close()


# --- the three kinds of server ----------------------------------------------------------------------------------------


def _serve(folder: str, address: str) -> list[str]:
    return ["server", "--quiet", "--address", address, folder]


def _container(folder: Path, port: int) -> list[str]:
    names = ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_BROWSER", "MINIO_UPDATE")
    passed = [word for name in names for word in ("-e", name)]
    return ["docker", "run", "--rm", "-p", f"127.0.0.1:{port}:9000", *passed, IMAGE, *_serve("/data", ":9000")]


@contextmanager
def minio_on(data: Path, port: int) -> Iterator[S3Server]:
    """Run a MinIO of a test's own on a folder and a port, to stop and start it; skips the test where there is none."""
    program = tools.find_minio()
    if program is None:
        pytest.skip("needs a MinIO program")
    with _minio(lambda _, port: [str(program), *_serve(str(data), f"127.0.0.1:{port}")], port) as running:
        yield running


@contextmanager
def _minio(command: Any, port: int | None = None) -> Iterator[S3Server]:
    port = port or free_port()
    endpoint = f"http://127.0.0.1:{port}"
    env = os.environ | {
        "MINIO_ROOT_USER": ACCESS_KEY_ID,
        "MINIO_ROOT_PASSWORD": SECRET_ACCESS_KEY,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CI_CD": "1",  # a folder on the root drive is good enough
    }
    with server(lambda folder: command(folder, port), env, lambda: _answers(f"{endpoint}/minio/health/ready")):
        yield S3Server(endpoint, is_minio=True)


@contextmanager
def _moto() -> Iterator[S3Server]:
    from moto.server import ThreadedMotoServer

    stand_in = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    stand_in.start()
    try:
        host, port = stand_in.get_host_and_port()
        yield S3Server(f"http://{host}:{port}", is_minio=False)
    finally:
        stand_in.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


# --- the loud line, also from the workers of pytest-xdist -------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the reason to the controlling process, where this is a worker."""
    why = session.config.stash.get(_WHY_MOTO, None)
    output = getattr(session.config, "workeroutput", None)
    if why is not None and output is not None:
        output["why_moto"] = why


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's reason."""
    why = getattr(node, "workeroutput", {}).get("why_moto")
    if why is not None:
        node.config.stash[_WHY_MOTO] = why


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly that the S3 tests have not met a real server."""
    why = config.stash.get(_WHY_MOTO, None)
    if why is not None:
        terminalreporter.write_line(f"S3 TESTS RUN AGAINST moto, NOT MinIO: {why}", red=True, bold=True)
