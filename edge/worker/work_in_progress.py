"""The clients on which a run is at work, and how that work is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class WorkStopped(Exception):
    """What was under way is of no more use: the run was released, or the client abandoned."""


class WorkInProgress:
    """The clients of the order under way, and the transfer that is made for them. `drop` and `stop` may be called at
    any moment, on the event loop; a computation on another thread asks `check` at every step."""

    def __init__(self) -> None:
        self.clients: list[int] = []
        """Those that are not done; work is on the first one."""
        self.over = asyncio.Event()
        """The run is."""
        self._transfer: asyncio.Future[Any] | None = None
        self._uploading: int | None = None  # the client whose upload `_transfer` is

    def begin(self, clients: Sequence[int]) -> None:
        """An order with these clients is begun."""
        self.clients = list(clients)

    def drop(self, clients: Sequence[int]) -> list[int]:
        """These are done or of no more use: ends the transfer that is made for them. Returns those that were open."""
        dropped = [client for client in self.clients if client in clients]
        self.clients = [client for client in self.clients if client not in clients]
        # What a preparation fetches is for no client, and none that is dropped ends it.
        if self._transfer is not None and dropped and (self._uploading in dropped or not self.clients):
            self._transfer.cancel()
        return dropped

    def stop(self) -> None:
        """The run is over: end at the next step, or byte."""
        self.over.set()
        self.clients = []
        if self._transfer is not None:
            self._transfer.cancel()

    def check(self, client: int) -> None:
        """Raises WorkStopped where the client is of no more use."""
        if client not in self.clients:
            raise WorkStopped

    async def transfer(self, moving: Awaitable[T], uploading: int | None = None) -> T:
        """A transfer's result. Raises WorkStopped where it is ended by `drop` or `stop`; `uploading` is its client."""
        transfer = asyncio.ensure_future(moving)
        self._transfer, self._uploading = transfer, uploading
        try:
            # Not `await transfer`: a cancelled transfer would look like a cancelled worker.
            await asyncio.wait({transfer})
        finally:
            self._transfer = self._uploading = None
            transfer.cancel()
        if transfer.cancelled():
            raise WorkStopped
        return transfer.result()
