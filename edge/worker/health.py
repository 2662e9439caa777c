"""Whether this worker is connected to its coordinator, told by gRPC's health protocol on an address of this machine."""

from __future__ import annotations

import asyncio
from types import TracebackType

import grpc

from federa.errors import BadInput
from protos.address import BadAddress, host_port, is_loopback
from protos.channel import server_options
from protos.health import Health


def check_address(address: str) -> None:
    """Raises BadInput for what --health cannot be."""
    try:
        host_port(address, least_port=1)
    except BadAddress as error:
        raise BadInput(f"--health: {error}") from None
    if not is_loopback(address):
        # Unencrypted, and nobody else's business.
        raise BadInput(f"--health: must be a loopback address with its port, such as 127.0.0.1:50052, not {address!r}")


class HealthServer:
    """An async context that listens; with no address it does nothing. Call `set_serving` when the connection comes and
    goes."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._health = Health(serving=False)
        self._server: grpc.aio.Server | None = None
        self._setting: asyncio.Future[None] | None = None  # a task that nobody holds may be collected

    async def __aenter__(self) -> HealthServer:
        """Raises BadInput for an address that is not to be had."""
        if self._address is not None:
            server = grpc.aio.server(options=server_options())
            await self._health.add_to(server)
            try:
                bound = server.add_insecure_port(self._address)
            except RuntimeError:
                bound = 0
            if bound == 0:
                raise BadInput(f"--health: cannot listen on {self._address}: the port is in use")
            await server.start()
            self._server = server
        return self

    def set_serving(self, connected: bool) -> None:
        """From now on. Call it on the event loop."""
        self._setting = asyncio.ensure_future(self._health.set_serving(connected))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
