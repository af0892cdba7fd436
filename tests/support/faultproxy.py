"""An HTTP proxy between lsync and an S3 server that fails on request, and counts what goes through.

The Host header is passed on as it came, so signatures hold. A fault is chosen per request by the test:

| fault | what the client sees |
|---|---|
| slow-down | 503 SlowDown, nothing reached the store |
| reset | the connection is reset, nothing reached the store |
| hang | no answer, until the client gives up or the proxy closes; nothing reached the store |
| lost | the connection is reset after the store has answered: the request was carried out |
| denied | 403 AccessDenied, nothing reached the store |
| kept | 200 for a batch of deletions, nothing reached the store: it lies |
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["slow-down", "reset", "hang", "lost", "denied", "kept"]
Choose = Callable[[str, str], Fault | None]
"""From method and path (query included) to the fault of this request, or None."""

_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>scripted</Message></Error>"
_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>scripted</Message></Error>"
_KEPT = b"<?xml version='1.0'?><DeleteResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'></DeleteResult>"
_XML = [("Content-Type", "application/xml")]
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close sends a reset


def healthy(_method: str, _path: str) -> Fault | None:
    """Let every request through."""
    return None


class FaultProxy:
    """A running proxy. choose: decides each request's fault; may be replaced at any time. requests: (method, path)."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.choose: Choose = healthy
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()
        self.port = 0

    @property
    def endpoint(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str | None = None) -> int:
        """Return the number of requests so far."""
        return sum(method is None or found == method for found, _ in self.requests)


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Serve on 127.0.0.1 until the block ends; `upstream` is the URL of the real server."""
    proxy = FaultProxy(upstream)

    class Handler(_Handler):
        shared = proxy

    httpd = _Server(("127.0.0.1", 0), Handler)
    proxy.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about connections that broke: that is what they are here for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shared: FaultProxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.shared.choose(self.command, self.path)
        self.shared.requests.append((self.command, self.path))
        if fault is not None:
            self.shared.faults.append(fault)
        match fault:
            case "slow-down":
                self._answer(503, _XML, _SLOW_DOWN)
            case "denied":
                self._answer(403, _XML, _DENIED)
            case "kept":
                self._answer(200, _XML, _KEPT)
            case "reset":
                self._reset()
            case "hang":
                self.shared.closing.wait(120)
                self._reset()
            case "lost":
                self._forward(body)
                self._reset()
            case None:
                self._answer(*self._forward(body))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815  (names of the base class)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        with closing(http.client.HTTPConnection(self.shared.upstream, timeout=30)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length", str(len(body)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
