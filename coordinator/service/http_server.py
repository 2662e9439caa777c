"""The live report and Prometheus' metrics over HTTP, on threads of their own: no client can hold up the coordinator."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from coordinator.report import render_report
from coordinator.report.metrics import CONTENT_TYPE, exposition
from coordinator.service.server import Coordinator, Status
from federa.address import host_port
from federa.errors import BadInput, one_line

log = logging.getLogger("federa.coordinator")

MAX_CONNECTIONS = 16
"""At a time, a thread each; for one more the oldest is ended: an honest one is over within a second."""
TIMEOUT_S = 10.0
"""For each read from a client, and for each piece that it takes."""
SNAPSHOT_WAIT_S = 10.0
FRESH_S = 2.0
"""Results are read again after so long."""
REPORT_FRESH_S = 5.0
SHORTEST_TOKEN = 16
"""Characters."""
_LONGEST_TOKEN = 1000
_PIECE_BYTES = 1 << 16
_METHODS = "GET, HEAD"


def read_token(path: Path) -> str:
    """The token in a file. Raises BadInput."""
    try:
        with path.open("rb") as file:
            token = file.read(2 * _LONGEST_TOKEN).decode("ascii", "replace").strip()
    except OSError as error:
        raise BadInput(f"--http-token: cannot read {path}: {error.strerror}") from None
    if not SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not (token.isascii() and token.isprintable()):
        raise BadInput(
            f"--http-token: {path} must hold {SHORTEST_TOKEN} to {_LONGEST_TOKEN} printable ASCII characters"
        )
    return token


class HttpServer:
    """Listening from its making until `close`. Create it on the coordinator's event loop."""

    def __init__(self, coordinator: Coordinator, address: str, token: str | None = None) -> None:
        """With a `token`, readers must show it. Raises BadInput for an address that is none, or not to be had."""
        host, port = host_port("--http", address)
        self._coordinator, self._loop = coordinator, asyncio.get_running_loop()
        self._token = token
        self._result = _Kept(FRESH_S, self._read_result)
        self._report = _Kept(REPORT_FRESH_S, lambda: render_report(self._result.get()).encode())
        try:
            self._server = _Server(self, host, port)
        except (OSError, UnicodeError) as error:
            words = getattr(error, "strerror", None) or one_line(error)
            raise BadInput(f"--http: cannot listen on {address}: {words}") from None
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.end_all()
        self._server.server_close()

    def admits(self, path: str, authorization: str) -> bool:
        """Whether a request with this header may have that page: the token as Bearer, or as the password of anybody in
        Basic, which browsers ask for. Whether the process lives is no secret."""
        if self._token is None or path == "/healthz":
            return True
        scheme, _, shown = authorization.strip().partition(" ")
        token = shown.strip().encode()
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).partition(b":")[2]
            except ValueError:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(token, self._token.encode())

    def page(self, path: str) -> tuple[str, bytes] | None:
        """The content type and content of a path, None where there is nothing. On any thread but the loop's."""
        if path == "/healthz":
            return "text/plain; charset=utf-8", b"ok\n"
        if path == "/":
            return "text/html; charset=utf-8", self._report.get()
        if path == "/result.json":
            return "application/json", json.dumps(self._result.get(), indent=1, allow_nan=False).encode() + b"\n"
        if path == "/metrics":
            return CONTENT_TYPE, exposition(self._status(), self._result.get())
        return None

    def _status(self) -> Status:
        """Taken on the loop: whatever changes there is whole between two of its steps."""

        async def take() -> Status:
            return self._coordinator.status()

        return asyncio.run_coroutine_threadsafe(take(), self._loop).result(SNAPSHOT_WAIT_S)

    def _read_result(self) -> dict[str, Any]:
        return self._status().view.result()


class _Kept:
    """What is made anew when it is asked for after some seconds, by one thread while the others wait."""

    def __init__(self, fresh_s: float, make: Callable[[], Any]) -> None:
        self._fresh_s, self._make = fresh_s, make
        self._lock = threading.Lock()
        self._made_s, self._value = -fresh_s, None

    def get(self) -> Any:
        with self._lock:
            if self._value is None or time.monotonic() - self._made_s > self._fresh_s:
                self._value, self._made_s = self._make(), time.monotonic()
            return self._value


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, web: HttpServer, host: str, port: int) -> None:
        bare = host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        self.web = web
        self._open: OrderedDict[int, socket.socket] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__((bare, port), _Handler)

    def server_bind(self) -> None:
        # Without the look-up of its own name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._open) >= MAX_CONNECTIONS:
                _end(self._open.popitem(last=False)[1])
            self._open[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def end_all(self) -> None:
        with self._lock:
            for request in self._open.values():
                _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client of http left", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0: one request a connection.
    timeout = TIMEOUT_S
    server_version, sys_version = "federa", ""
    server: _Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _no(self) -> None:
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", f"only {_METHODS}\n".encode(), True)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _no

    def _answer(self, with_body: bool) -> None:
        plain = "text/plain; charset=utf-8"
        path = self.path.partition("?")[0]
        if not self.server.web.admits(path, self.headers.get("Authorization", "")):
            self._send(HTTPStatus.UNAUTHORIZED, plain, b"this needs the token of --http-token\n", with_body)
            return
        try:
            page = self.server.web.page(path)
        except Exception:
            log.exception("http: %s failed", self.path[:100])
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, plain, b"not now\n", with_body)
            return
        if page is None:
            self._send(HTTPStatus.NOT_FOUND, plain, b"/, /metrics, /result.json and /healthz are here\n", with_body)
        else:
            self._send(HTTPStatus.OK, *page, with_body)

    def _send(self, status: HTTPStatus, content_type: str, content: bytes, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", _METHODS)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="federa", charset="UTF-8"')
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if with_body:
            view = memoryview(content)
            for begin in range(0, len(view), _PIECE_BYTES):
                self.wfile.write(view[begin : begin + _PIECE_BYTES])

    def log_message(self, *_: Any) -> None:
        """Nothing: Prometheus asks every few seconds."""


def _end(request: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has gone by itself
        request.shutdown(socket.SHUT_RDWR)
