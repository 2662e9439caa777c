"""The control stream to the coordinator: kept up for as long as the worker lives, with heartbeats on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import grpc

from edge.worker.heartbeat_latency import HeartbeatLatency
from edge.worker.report_queue import ReportQueue
from federa.backoff import Backoff
from federa.errors import BadInput, FederaError
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, HEARTBEAT_S, dial, other_protocol
from protos.credentials import Credentials
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.handshake import Obstacle, find_obstacle
from protos.proxy import Proxy

log = logging.getLogger("federa.worker")

# Answers to a hello that no later attempt would change.
_FINAL = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.PERMISSION_DENIED,  # what the certificate does not allow, or it is revoked
    grpc.StatusCode.UNAUTHENTICATED,
}
SILENCE_S = 4 * HEARTBEAT_S
"""A coordinator that answers no heartbeat for so long is taken for lost."""


class _Stream:
    """How far a control stream has come."""

    def __init__(self) -> None:
        self.admitted = asyncio.Event()
        self.welcomed = asyncio.Event()
        self.over = False

    def close(self) -> None:
        """Let who waits for it go on, and find it over: of a stream that broke, gRPC leaves the generator suspended."""
        self.over = True
        self.admitted.set()
        self.welcomed.set()


class Connection:
    """`keep` it. Each new stream begins with `hello`; then `reports` go out, and `receive` is called with every message
    of the coordinator's but its welcome, heartbeats and pings. `on_change` is called when the coordinator takes this
    worker, and when that is over."""

    def __init__(
        self,
        address: str,
        credentials: Credentials | None,
        proxy: Proxy | None = None,
        *,
        hello: pb.Hello,
        give_up_after_s: float,
        reports: ReportQueue,
        receive: Callable[[pb.CoordinatorMessage], None],
        on_change: Callable[[bool], None],
    ) -> None:
        self.latency = HeartbeatLatency()
        self._address = address
        self._credentials = credentials
        self._proxy = proxy
        self._hello = hello
        self._give_up_after_s = give_up_after_s
        self._reports = reports
        self._receive = receive
        self._on_change = on_change
        self._stream = _Stream()
        self._was_welcomed = False
        self._heartbeats = 0
        self._received_at_s = time.monotonic()

    async def keep(self) -> None:
        """Connect, and again whenever the stream ends. Raises FederaError when the coordinator refuses this worker, or
        has been away for longer than it waits."""
        self._received_at_s = time.monotonic()
        backoff = Backoff()
        while True:
            before_s = self._received_at_s
            reason = await self._connect()
            if self._received_at_s > before_s:
                backoff = Backoff()
            away_s = time.monotonic() - self._received_at_s
            if away_s >= self._give_up_after_s:
                raise FederaError(
                    f"gave up: no word from the coordinator at {self._address} for {away_s:.0f} s "
                    f"(--give-up-after {self._give_up_after_s:g}): {reason}"
                )
            log.info("not connected to %s (%s), trying again", self._address, reason)
            await asyncio.sleep(min(backoff.next_s(), self._give_up_after_s - away_s))

    async def _connect(self) -> str:
        """One control stream, until it ends; returns why it did."""
        async with dial(self._address, self._credentials, self._proxy) as channel:
            self._stream = stream = _Stream()
            self._hello.connection += 1
            self.latency.disconnected()
            call = WorkerServiceStub(channel).Control(self._outgoing(stream))
            beating = asyncio.ensure_future(self._send_heartbeats(call, stream))
            try:
                if any(key == ADMITTED for key, _ in await call.initial_metadata() or ()):
                    stream.admitted.set()
                async for message in call:
                    self._received_at_s = time.monotonic()
                    self._dispatch(message)
                return "the coordinator ended the stream"
            except grpc.aio.AioRpcError as error:
                return await self._reason(error, stream)
            except asyncio.CancelledError:
                # Also raised by a call that was cancelled for its silence; this task itself was not, then.
                if not beating.done():
                    raise
                return "no answer to its heartbeats"
            finally:
                stream.close()
                self._on_change(False)
                beating.cancel()
                call.cancel()

    async def _reason(self, error: grpc.aio.AioRpcError, stream: _Stream) -> str:
        """Why a stream broke. Raises BadInput for what no later attempt would change."""
        if error.code() is grpc.StatusCode.ALREADY_EXISTS and self._was_welcomed:
            # This key takes the name back from its own old stream, so another worker came while this one was away. It
            # may go again, and there may be a trained update here: not final until this one gives up.
            return f"another worker has the name {self._hello.name!r} meanwhile: {error.details()}"
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise BadInput(other_protocol(self._address)) from None
        if error.code() in _FINAL or error.code() is grpc.StatusCode.ALREADY_EXISTS:
            raise BadInput(str(error.details())) from None
        obstacle = None
        if error.code() is grpc.StatusCode.UNAVAILABLE and not stream.admitted.is_set():
            obstacle = await self._obstacle()
        return str(obstacle or error.details() or error.code().name)

    async def _obstacle(self) -> Obstacle | None:
        """Why no connection came about, where TLS is why. Raises BadInput for what time does not mend."""
        obstacle = await asyncio.to_thread(find_obstacle, self._address, self._credentials, self._proxy)
        if obstacle is not None and obstacle.lasting:
            raise BadInput(str(obstacle))
        return obstacle

    async def _outgoing(self, stream: _Stream) -> AsyncIterator[pb.WorkerMessage]:
        await stream.admitted.wait()
        if not stream.over:
            yield pb.WorkerMessage(hello=self._hello)
        await stream.welcomed.wait()
        if not stream.over:
            async for message in self._reports.stream():
                yield message

    async def _send_heartbeats(self, call: grpc.aio.StreamStreamCall, stream: _Stream) -> None:
        began_s = time.monotonic()
        patience_s = min(SILENCE_S, max(self._give_up_after_s, 1.0))
        while time.monotonic() - max(began_s, self._received_at_s) < patience_s:
            if stream.welcomed.is_set():
                self._heartbeats += 1
                self.latency.sent(self._heartbeats)
                self._reports.send_heartbeat(self._heartbeats)
            await asyncio.sleep(min(HEARTBEAT_S, max(0.25, self._give_up_after_s / 8)))
        call.cancel()

    def _dispatch(self, message: pb.CoordinatorMessage) -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self._stream.welcomed.set()
                self._was_welcomed = True
                log.info("connected to %s as %s", self._address, self._hello.name)
                self._on_change(True)
            case "heartbeat":
                self.latency.answered(message.heartbeat.sequence)
                self._reports.confirm(message.heartbeat.sequence)
            case "ping":
                self._reports.send_ping(message.ping.number)
            case _:
                self._receive(message)
