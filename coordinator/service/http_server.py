"""The live report and Prometheus' metrics over HTTP.

It runs on an event loop of its own, on a thread: whatever a client does there, neither a heartbeat nor an
acknowledgement of the coordinator waits for it. (Eight clients that ask without a pause keep a step of the
coordinator's loop waiting 0.1 ms, the median on two cores; 5 ms when they share the loop.) Ledgers are read and pages
are rendered on two more threads.

aiohttp reads requests and limits their lines and headers (8 KiB each). How many connections there may be and how long
a client may take is kept here: aiohttp has no limit for either.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiohttp import web
from multidict import CIMultiDict

from coordinator.report import render_report
from coordinator.report.metrics import CONTENT_TYPE, exposition
from coordinator.service.http_connections import LimitedServer
from coordinator.service.public_result import public_result
from coordinator.service.server import Coordinator, CoordinatorStatus
from federa.errors import BadInput, one_line
from federa.regular_file import open_regular
from protos.address import BadAddress, host_port, plain_host

log = logging.getLogger("federa.coordinator")

SNAPSHOT_WAIT_S = 10.0
FRESH_S = 2.0
"""Results are read again after so long."""
REPORT_FRESH_S = 5.0
MIN_TOKEN = 16
"""Characters."""
_MAX_TOKEN = 1000
_BACKLOG = 64
_WRITE_BYTES = 1 << 16
_METHODS = ("GET", "HEAD")

T = TypeVar("T")


def read_token(path: Path) -> str:
    """The token in a file. Raises BadInput."""
    try:
        with open_regular(path, pipes=True) as file:
            token = file.read(2 * _MAX_TOKEN).decode("ascii", "replace").strip()
    except OSError as error:
        raise BadInput(f"--http-token: cannot read {path}: {error.strerror}") from None
    if not MIN_TOKEN <= len(token) <= _MAX_TOKEN or not (token.isascii() and token.isprintable()):
        raise BadInput(f"--http-token: {path} must hold {MIN_TOKEN} to {_MAX_TOKEN} printable ASCII characters")
    return token


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer."""

    status: HTTPStatus
    content: bytes
    content_type: str = "text/plain; charset=utf-8"

    def response(self) -> web.StreamResponse:
        """Its head."""
        headers = CIMultiDict(
            {
                "Server": "federa",
                "Content-Type": self.content_type,
                "Content-Length": str(len(self.content)),
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            }
        )
        if self.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_METHODS)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers.add("WWW-Authenticate", 'Basic realm="federa", charset="UTF-8"')
            headers.add("WWW-Authenticate", "Bearer")
        response = web.StreamResponse(status=self.status, headers=headers)
        response.force_close()  # one request a connection
        return response


class _Cached(Generic[T]):
    """What is made anew when it is asked for after some seconds, once for all who ask meanwhile. Making it goes on when
    they leave."""

    def __init__(self, fresh_s: float, make: Callable[[], Awaitable[T]]) -> None:
        self._fresh_s, self._make = fresh_s, make
        self._making: asyncio.Future[T] | None = None
        self._made_s = 0.0

    async def get(self) -> T:
        """The value, at most so many seconds old."""
        if self._making is None or (self._making.done() and time.monotonic() - self._made_s > self._fresh_s):
            self._making = asyncio.ensure_future(self._make_once())
        return await asyncio.shield(self._making)

    async def _make_once(self) -> T:
        try:
            value = await self._make()
        except BaseException:
            self._making = None
            raise
        self._made_s = time.monotonic()
        return value


class HttpServer:
    """Listening from its making until `close`. Create it on the coordinator's event loop."""

    def __init__(self, coordinator: Coordinator, address: str, token: str | None = None) -> None:
        """With a `token`, readers must show it. Raises BadInput for an address that is none, or not to be had."""
        try:
            host, port = host_port(address)
        except BadAddress as error:
            raise BadInput(f"--http: {error}") from None
        self._coordinator, self._coordinator_loop = coordinator, asyncio.get_running_loop()
        self._token = token
        try:
            listening = _listen(plain_host(host), port)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise BadInput(f"--http: cannot listen on {address}: {reason}") from None
        self.address = f"{host}:{listening.getsockname()[1]}"
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="http-worker")
        self._result: _Cached[dict[str, Any]] = _Cached(FRESH_S, self._read_result)
        self._report: _Cached[bytes] = _Cached(REPORT_FRESH_S, self._render)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="http", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join)
        self._workers.shutdown(wait=False, cancel_futures=True)

    # ---- on the thread

    def _run(self, listening: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(listening))
        finally:
            self._loop.close()

    async def _serve(self, listening: socket.socket) -> None:
        connections = LimitedServer(lambda request: self._answer(request, connections))
        server = await self._loop.create_server(connections, sock=listening, backlog=_BACKLOG)
        await self._stop.wait()
        server.close()
        connections.end_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _answer(self, request: web.BaseRequest, connections: LimitedServer) -> web.StreamResponse:
        connections.wait(request.protocol)
        # The path as it was sent: what is admitted is what is looked up.
        path = request.raw_path.partition("?")[0]
        if request.method not in _METHODS:
            page = _Page(HTTPStatus.METHOD_NOT_ALLOWED, f"only {', '.join(_METHODS)}\n".encode())
        elif not self.admits(path, request.headers.get("Authorization", "")):
            page = _Page(HTTPStatus.UNAUTHORIZED, b"this needs the token of --http-token\n")
        else:
            page = await self._page(path)
        response = page.response()
        connections.hurry(request.protocol)
        await response.prepare(request)
        if request.method != "HEAD":
            view = memoryview(page.content)
            for begin in range(0, len(view), _WRITE_BYTES):
                await response.write(view[begin : begin + _WRITE_BYTES])
                connections.hurry(request.protocol)
        await response.write_eof()
        return response

    async def _page(self, path: str) -> _Page:
        try:
            found = await self._content(path)
        except Exception:
            log.exception("http: %s failed", path[:100])
            return _Page(HTTPStatus.SERVICE_UNAVAILABLE, b"not now\n")
        return found or _Page(HTTPStatus.NOT_FOUND, b"/, /metrics, /result.json and /healthz are here\n")

    def admits(self, path: str, authorization: str) -> bool:
        """Whether a request with this header may have that page: the token as Bearer, or as the password of anybody in
        Basic, which browsers ask for. Whether the process lives is no secret."""
        if self._token is None or path == "/healthz":
            return True
        scheme, _, shown = authorization.strip().partition(" ")
        token = shown.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).partition(b":")[2]
            except ValueError:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(token, self._token.encode())

    async def _content(self, path: str) -> _Page | None:
        """What there is under a path."""
        if path == "/healthz":
            return _Page(HTTPStatus.OK, b"ok\n")
        if path == "/":
            return _Page(HTTPStatus.OK, await self._report.get(), "text/html; charset=utf-8")
        if path == "/result.json":
            content = await self._work(_as_json, await self._result.get())
            return _Page(HTTPStatus.OK, content, "application/json")
        if path == "/metrics":
            content = await self._work(exposition, await self._status(), await self._result.get())
            return _Page(HTTPStatus.OK, content, CONTENT_TYPE)
        return None

    def _work(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        return self._loop.run_in_executor(self._workers, function, *arguments)

    async def _status(self) -> CoordinatorStatus:
        """Taken on the coordinator's loop: whatever changes there is whole between two of its steps."""

        async def read_status() -> CoordinatorStatus:
            return self._coordinator.status()

        taken = asyncio.run_coroutine_threadsafe(read_status(), self._coordinator_loop)
        return await asyncio.wait_for(asyncio.wrap_future(taken), SNAPSHOT_WAIT_S)

    async def _read_result(self) -> dict[str, Any]:
        status = await self._status()
        return public_result(await self._work(status.view.result))

    async def _render(self) -> bytes:
        return await self._work(lambda result: render_report(result).encode(), await self._result.get())


def _as_json(result: dict[str, Any]) -> bytes:
    return json.dumps(result, indent=1, allow_nan=False).encode() + b"\n"


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
