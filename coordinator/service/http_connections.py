"""Limits on HTTP's connections, which aiohttp has none for: how many there may be, and how long a client may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

MAX_CONNECTIONS = 16
"""The most connections at a time; for one more the oldest is ended: an honest one is over within a second."""
TIMEOUT_S = 10.0
"""How long a client may take to send its whole request, and to take each part of the answer."""
LINGER_S = 1.0
"""How long a client may go on sending after its answer."""

# aiohttp would log a traceback for every malformed request: anybody could fill the disk with them.
_silent = logging.getLogger("federa.coordinator.http")
_silent.setLevel(logging.CRITICAL + 1)


class LimitedServer(web.Server):
    """aiohttp's server with deadlines. `handler` is cancelled when its client leaves or is ended."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, handler_cancellation=True, logger=_silent, access_log=None, lingering_time=LINGER_S)
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        """The open connections, oldest first."""
        self._deadlines: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """aiohttp's call for a new connection."""
        super().connection_made(handler, transport)
        while len(self._open) >= MAX_CONNECTIONS:
            self._end(next(iter(self._open)))
        self._open[handler] = transport
        self.hurry(handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """aiohttp's call for one that is over."""
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)
        self.wait(handler)

    def hurry(self, handler: web.RequestHandler) -> None:
        """Count the client's TIMEOUT_S anew from now on."""
        self.wait(handler)
        if handler in self._open:
            self._deadlines[handler] = asyncio.get_running_loop().call_later(TIMEOUT_S, self._end, handler)

    def wait(self, handler: web.RequestHandler) -> None:
        """The client waits for the answer: nothing is asked of it."""
        deadline = self._deadlines.pop(handler, None)
        if deadline is not None:
            deadline.cancel()

    def end_all(self) -> None:
        """End every connection."""
        for handler in list(self._open):
            self._end(handler)

    def _end(self, handler: web.RequestHandler) -> None:
        self.wait(handler)
        transport = self._open.pop(handler, None)
        if transport is not None:
            transport.abort()
