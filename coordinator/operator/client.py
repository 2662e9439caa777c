"""An operator's side of the wire: submit an experiment, watch it, end it, fetch its files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType

import grpc

from federa.backoff import Backoff
from federa.config import Experiment
from federa.durable import replacement
from federa.errors import BadInput, FederaError
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL, dial, other_protocol
from protos.credentials import Credentials
from protos.federation_pb2_grpc import OperatorServiceStub
from protos.handshake import find_obstacle
from protos.proxy import Proxy
from protos.streams import Assembler, StreamError

REACH_WAIT_S = 10.0
FILE_LIMIT_BYTES = 64 << 30
PATIENCE_S = 600.0
"""How long a coordinator may be away in the middle of an experiment."""
_REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}


class OperatorClient:
    """A connection to one coordinator, as an async context manager. Every method raises FederaError in one line."""

    def __init__(
        self,
        address: str,
        credentials: Credentials | None = None,
        proxy: Proxy | None = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._proxy = proxy
        self._patience_s = patience_s

    async def __aenter__(self) -> OperatorClient:
        self._channel = dial(self._address, self._credentials, self._proxy)
        self._stub = OperatorServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def submit(self, experiment: Experiment, experiment_id: str = "") -> str:
        """Queue an experiment under this id, or go on with the one that has it; returns its id."""
        request = pb.SubmitRequest(
            experiment_json=experiment.model_dump_json(), protocol=PROTOCOL, experiment_id=experiment_id
        )
        # Before the call, which waits for a coordinator that is just starting.
        obstacle = await asyncio.to_thread(find_obstacle, self._address, self._credentials, self._proxy)
        if obstacle is not None:
            raise BadInput(f"--coordinator: {obstacle}")
        try:
            reply = await self._stub.Submit(request, wait_for_ready=True, timeout=REACH_WAIT_S)
        except grpc.aio.AioRpcError as error:
            raise self._explain(error) from None
        return str(reply.experiment_id)

    async def watch(self, experiment_id: str) -> AsyncIterator[pb.Progress]:
        """Snapshots until the experiment is over, also over a restart of the coordinator. Raises when it stays away."""
        backoff = Backoff()
        heard_at = time.monotonic()
        while True:
            try:
                async for snapshot in self._stub.Watch(pb.WatchRequest(experiment_id=experiment_id)):
                    heard_at, backoff = time.monotonic(), Backoff()
                    yield snapshot
                    if snapshot.over:
                        return
                reason: FederaError = FederaError("the coordinator ended the stream")
            except grpc.aio.AioRpcError as error:
                reason = self._explain(error)
                if error.code() not in _AWAY:
                    raise reason from None
            if time.monotonic() - heard_at > self._patience_s:
                raise reason
            await asyncio.sleep(backoff.next_s())

    async def cancel(self, experiment_id: str) -> None:
        """End it early."""
        try:
            await self._stub.Cancel(pb.CancelRequest(experiment_id=experiment_id), timeout=REACH_WAIT_S)
        except grpc.aio.AioRpcError as error:
            raise self._explain(error) from None

    async def fetch(self, experiment_id: str, path: str, target: Path) -> None:
        """Bring one file of the result to `target`."""
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise FederaError(f"the coordinator names a file outside of its folder: {path!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacement(target) as fresh, fresh.open("wb") as file:
                assembler = Assembler(file.write, size_limit=FILE_LIMIT_BYTES)
                async for chunk in self._stub.Fetch(pb.FetchRequest(experiment_id=experiment_id, path=path)):
                    assembler.feed(chunk)
                assembler.finish()
        except grpc.aio.AioRpcError as error:
            raise self._explain(error) from None
        except StreamError as error:
            raise FederaError(f"{path} did not arrive whole: {error}") from None

    def _explain(self, error: grpc.aio.AioRpcError) -> FederaError:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return BadInput(f"--coordinator: {other_protocol(self._address)}")
        if error.code() in _REFUSED:
            return BadInput(str(error.details()))
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return FederaError(f"--coordinator: nobody answers at {self._address} ({error.details()})")
        return FederaError(f"the coordinator at {self._address}: {error.code().name}: {error.details()}")
