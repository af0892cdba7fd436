"""An HTTP server that answers from a list and remembers what it was asked: for answers that no real store can be made
to give on demand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from litestream_py.clients.specs import S3Replica, S3Settings, s3_replica


@dataclass(frozen=True)
class Answer:
    """One answer. length: what Content-Length claims, where that is not the body's."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stub:
    """The server's address, the answers it still has, and the requests it got.

    An answer may be kept for a method ("PUT", Answer(...)); what is not scripted is answered with 200 and no body.
    """

    endpoint: str
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_answer(self, method: str) -> Answer:
        """Take the first answer that is kept for the method."""
        with self.lock:
            for i, (kept_for, answer) in enumerate(self.answers):
                if kept_for == method:
                    del self.answers[i]
                    return answer
        return Answer(headers={"ETag": '"stub"'})


def s3_error(status: int, code: str, message: str = "scripted") -> Answer:
    """Return an error as S3 spells it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, body.encode(), {"Content-Type": "application/xml"})


STARTED = Answer(body=b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
COMPLETED = Answer(body=b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")


def stubbed(stub: Stub, **settings: object) -> S3Replica:
    """Return a replica at bucket bkt, prefix db of the stub; further settings by name."""
    said = {"access_key_id": "AK", "secret_access_key": "hush", "region": "r1", "endpoint": stub.endpoint}
    return s3_replica("bkt", "db", S3Settings(**{**said, **settings}))  # type: ignore[arg-type]


@pytest.fixture(name="stub")
def _stub() -> Iterator[Stub]:
    """A server that answers as the test says."""
    with stub_server() as running:
        yield running


@contextmanager
def stub_server() -> Iterator[Stub]:
    """Serve on 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = stub.next_answer(self.command)
            with stub.lock:
                stub.requests.append(Request(self.command, self.path, headers, body))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            if answer.length is not None:
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815  (names of the base class)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
