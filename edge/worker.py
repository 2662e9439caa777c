"""The worker: dials the coordinator, keeps the control stream up, and does what it orders, one thing at a time."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from edge.assignment import Assignment
from edge.backoff import Backoff
from edge.engine import Engine
from federa.errors import BadInput, FederaError
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, HEARTBEAT_S, PROTOCOL, client_options
from protos.federation_pb2_grpc import FederationStub

log = logging.getLogger("federa.worker")

# Answers to a hello that no later attempt would change.
_FINAL = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
}
SILENCE_S = 4 * HEARTBEAT_S
"""A coordinator that answers no heartbeat for so long is taken for lost."""

Order = pb.Prepare | pb.Train | pb.Release


class Worker:
    """`run` it; cancel that to end it."""

    def __init__(
        self,
        *,
        engine: Engine,
        address: str,
        name: str,
        clients: Sequence[int] = (),
        own_data: bool = False,
        give_up_after_s: float,
    ) -> None:
        self._engine = engine
        self._address = address
        self._name = name
        self._give_up_after_s = give_up_after_s
        self._hello = pb.Hello(
            protocol=PROTOCOL, name=name, instance=uuid.uuid4().hex, clients=clients, own_data=own_data
        )
        self._outbox: deque[pb.WorkerMessage] = deque()
        self._wake = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._assignment: Assignment | None = None
        self._heard_at = time.monotonic()
        # One thread for all that torch does: its allocator and its thread pool then stay with it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def run(self) -> None:
        """Serve until cancelled. Raises FederaError when the coordinator refuses this worker, or has been away for
        longer than it waits."""
        self._hello.versions.update(self._engine.versions())
        self._hello.device.update(self._engine.facts())
        async with grpc.aio.insecure_channel(self._address, options=client_options()) as data_channel:
            self._data = FederationStub(data_channel)
            working = asyncio.ensure_future(self._work())
            try:
                await self._stay_connected()
            finally:
                working.cancel()
                if self._assignment is not None:
                    self._assignment.stop()
                self._thread.shutdown(wait=False, cancel_futures=True)

    # ---- the control stream

    async def _stay_connected(self) -> None:
        self._heard_at = time.monotonic()
        backoff = Backoff()
        while True:
            before = self._heard_at
            reason = await self._connection()
            if self._heard_at > before:
                backoff = Backoff()
            away_s = time.monotonic() - self._heard_at
            if away_s >= self._give_up_after_s:
                raise FederaError(
                    f"gave up: no word from the coordinator at {self._address} for {away_s:.0f} s "
                    f"(--give-up-after {self._give_up_after_s:g}): {reason}"
                )
            log.info("not connected to %s (%s), trying again", self._address, reason)
            await asyncio.sleep(min(backoff.next_s(), self._give_up_after_s - away_s))

    async def _connection(self) -> str:
        """One control stream, until it ends; returns why it did."""
        async with grpc.aio.insecure_channel(self._address, options=client_options()) as channel:
            admitted = asyncio.Event()
            self._welcomed.clear()
            call = FederationStub(channel).Control(self._outgoing(admitted))
            beating = asyncio.ensure_future(self._beat(call))
            try:
                if ADMITTED in tuple(await call.initial_metadata()):
                    admitted.set()
                async for message in call:
                    self._heard_at = time.monotonic()
                    self._hear(message)
                return "the coordinator ended the stream"
            except grpc.aio.AioRpcError as error:
                if error.code() in _FINAL:
                    raise BadInput(str(error.details())) from None
                return str(error.details() or error.code().name)
            except asyncio.CancelledError:
                # Also raised by a call that was cancelled for its silence; this task itself was not, then.
                if not beating.done():
                    raise
                return "no answer to its heartbeats"
            finally:
                beating.cancel()
                call.cancel()

    async def _outgoing(self, admitted: asyncio.Event) -> AsyncIterator[pb.WorkerMessage]:
        await admitted.wait()
        yield pb.WorkerMessage(hello=self._hello)
        await self._welcomed.wait()
        while True:
            while self._outbox:
                yield self._outbox[0]
                # Only now it has been written: one that a broken stream took along goes out again on the next.
                self._outbox.popleft()
            self._wake.clear()
            await self._wake.wait()

    async def _beat(self, call: grpc.aio.StreamStreamCall) -> None:
        began = time.monotonic()
        sequence = 0
        while time.monotonic() - max(began, self._heard_at) < min(SILENCE_S, max(self._give_up_after_s, 1.0)):
            sequence += 1
            self._send(pb.WorkerMessage(heartbeat=pb.Heartbeat(sequence=sequence)))
            await asyncio.sleep(min(HEARTBEAT_S, max(0.25, self._give_up_after_s / 8)))
        call.cancel()

    def _send(self, message: pb.WorkerMessage) -> None:
        self._outbox.append(message)
        self._wake.set()

    def _hear(self, message: pb.CoordinatorMessage) -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self._welcomed.set()
                log.info("connected to %s as %s", self._address, self._name)
            case "prepare":
                self._orders.put_nowait(message.prepare)
            case "train":
                self._orders.put_nowait(message.train)
            case "release":
                if self._assignment is not None and self._assignment.run_id == message.release.run_id:
                    self._assignment.stop()
                self._orders.put_nowait(message.release)

    # ---- the work

    async def _work(self) -> None:
        while True:
            order = await self._orders.get()
            if isinstance(order, pb.Prepare):
                await self._prepare(order)
            elif isinstance(order, pb.Train):
                assignment = self._assignment
                if assignment is not None and assignment.run_id == order.run_id:
                    clients = assignment.take(order)
                    if clients:
                        await assignment.train(order.round, clients, order.state_sha256)
            else:
                await self._release(order.run_id)

    async def _prepare(self, order: pb.Prepare) -> None:
        if self._assignment is not None and self._assignment.run_id != order.run_id:
            await self._forget()
        if self._assignment is None:
            self._assignment = Assignment(
                order,
                engine=self._engine,
                stub=self._data,
                worker=self._name,
                report=self._send,
                thread=self._thread,
            )
        await self._assignment.prepare()

    async def _release(self, run_id: str) -> None:
        if self._assignment is not None and self._assignment.run_id == run_id:
            self._assignment.report_idle()
            await self._forget()
            log.info("released run %s, waiting for the next", run_id)
        self._send(pb.WorkerMessage(released=pb.Released(run_id=run_id)))

    async def _forget(self) -> None:
        self._assignment = None
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.release)
