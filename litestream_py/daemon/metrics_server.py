"""The HTTP server of `/metrics`: one page, on a socket that the caller has bound.

Binding apart from serving lets start-up fail early with a clear message, and lets port 0 report what it became. Each
connection has its own daemon thread and a deadline, so that no client can hold the process up.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from litestream_py.config_values import Address
from litestream_py.errors import ConfigError

Render = Callable[[str], tuple[bytes, str]]
"""From an Accept header to body and content type."""

_CLIENT_TIMEOUT_S: Final = 10.0


def bind(address: Address) -> socket.socket:
    """Return a listening TCP socket; raises ConfigError if the address cannot be had."""
    try:
        family, _, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.create_server(where[:2], family=family)
    except OSError as error:
        raise ConfigError(
            "listen", address, error.strerror or error, hint="choose another address: `addr`, or --metrics-addr"
        ) from error
    return bound


class MetricsServer:
    """Serves until closed; started with its own thread by the constructor.

    Args:
        bound: a listening socket, which the server owns from now on.
        render: makes the page; called in the threads of the connections.
    """

    def __init__(self, bound: socket.socket, render: Render) -> None:
        host, port = bound.getsockname()[:2]
        self.address = Address(host, port)
        self._server = _Server(bound, render)
        self._thread = threading.Thread(target=self._server.serve_forever, name="lsync-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and release the port; idempotent."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, bound: socket.socket, render: Render) -> None:
        super().__init__(bound.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.render = render

    def handle_error(self, request: object, client_address: object) -> None:
        """Drop a connection that broke; a client that goes away is no event of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server_version = "lsync"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the metrics, or say where they are."""
        if self.path.partition("?")[0] != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, b"the metrics are at /metrics\n", "text/plain; charset=utf-8")
            return
        body, content_type = self.server.render(self.headers.get("Accept", ""))
        self._answer(HTTPStatus.OK, body, content_type)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Log nothing: a scrape is no event."""
