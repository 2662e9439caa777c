"""The worker: dials the coordinator, keeps the control stream up, and does what it orders, one thing at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from edge.power.meter import Meter
from edge.power.telemetry import INTERVAL_S, Batches, TelemetrySender
from edge.power.timeline import Timeline
from edge.training.runtime import ClientRuntime
from edge.worker.heartbeat_latency import HeartbeatLatency
from edge.worker.model_cache import ModelCache
from edge.worker.report_queue import ReportQueue
from edge.worker.reports import Reports, log_refused
from edge.worker.task_queue import TaskQueue
from edge.worker.worker_run import WorkerRun
from federa.backoff import Backoff
from federa.errors import BadInput, FederaError
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, HEARTBEAT_S, PROTOCOL, dial
from protos.credentials import Credentials
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.handshake import Obstacle, find_obstacle

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

    def end(self) -> None:
        """Let who waits for it go on, and find it over: of a stream that broke, gRPC leaves the generator suspended."""
        self.over = True
        self.admitted.set()
        self.welcomed.set()


class Worker:
    """`run` it; cancel that to end it. `pulse` has how fast the coordinator answered in the run under way. `facts` of
    the device stand beside the engine's. `meter` is in use already, and stays so; without one no power is measured.
    Without a `cache` a base model that is not on this machine is not fetched. `on_connection` hears when a coordinator
    takes this worker, and when that is over."""

    def __init__(
        self,
        *,
        engine: ClientRuntime,
        address: str,
        name: str,
        key: str,
        clients: Sequence[int] = (),
        own_data: bool = False,
        give_up_after_s: float,
        credentials: Credentials | None = None,
        meter: Meter | None = None,
        facts: Mapping[str, str] | None = None,
        cache: ModelCache | None = None,
        on_connection: Callable[[bool], None] = lambda connected: None,
    ) -> None:
        self.pulse = HeartbeatLatency()
        self._engine = engine
        self._meter = meter or Meter()
        self._facts = dict(facts or {})
        self._cache = cache
        self._on_connection = on_connection
        self._batches = Batches()
        self._address = address
        self._credentials = credentials
        self._name = name
        self._give_up_after_s = give_up_after_s
        self._hello = pb.Hello(protocol=PROTOCOL, name=name, key=key, clients=clients, own_data=own_data)
        self._outbox = ReportQueue()
        self._orders = TaskQueue()
        self._assignment: WorkerRun | None = None
        self._stream = _Stream()
        self._was_welcomed = False
        self._heartbeats = 0
        self._heard_at = time.monotonic()
        # One thread for all that torch does: its allocator and its thread pool then stay with it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def run(self) -> None:
        """Serve until cancelled. Raises FederaError when the coordinator refuses this worker, or has been away for
        longer than it waits."""
        self._hello.versions.update(self._engine.versions())
        self._hello.device.update({**self._engine.facts(), **self._facts})
        async with dial(self._address, self._credentials) as data_channel:
            self._data = WorkerServiceStub(data_channel)
            working = asyncio.ensure_future(self._work())
            connecting = asyncio.ensure_future(self._stay_connected())
            telling = asyncio.ensure_future(self._tell())
            tasks = (connecting, working, telling)
            try:
                # None ends but by an error. One of the work's own would else leave a worker that only beats.
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                if self._assignment is not None:
                    self._assignment.stop()
                await asyncio.wait(tasks)
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
        async with dial(self._address, self._credentials) as channel:
            self._stream = stream = _Stream()
            self.pulse.cut()
            call = WorkerServiceStub(channel).Control(self._outgoing(stream))
            beating = asyncio.ensure_future(self._beat(call, stream))
            try:
                if any(key == ADMITTED for key, _ in await call.initial_metadata() or ()):
                    stream.admitted.set()
                async for message in call:
                    self._heard_at = time.monotonic()
                    self._hear(message)
                return "the coordinator ended the stream"
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.ALREADY_EXISTS and self._was_welcomed:
                    # This key takes the name back from its own old stream, so another worker came while this one was
                    # away. It may go again, and there may be a trained update here: not final until this one gives up.
                    return f"another worker has the name {self._name!r} meanwhile: {error.details()}"
                if error.code() in _FINAL or error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    raise BadInput(str(error.details())) from None
                obstacle = None
                if error.code() is grpc.StatusCode.UNAVAILABLE and not stream.admitted.is_set():
                    obstacle = await self._obstacle()
                return str(obstacle or error.details() or error.code().name)
            except asyncio.CancelledError:
                # Also raised by a call that was cancelled for its silence; this task itself was not, then.
                if not beating.done():
                    raise
                return "no answer to its heartbeats"
            finally:
                stream.end()
                self._on_connection(False)
                beating.cancel()
                call.cancel()

    async def _obstacle(self) -> Obstacle | None:
        """Why no connection came about, where TLS is why. Raises BadInput for what time does not mend."""
        obstacle = await asyncio.to_thread(find_obstacle, self._address, self._credentials)
        if obstacle is not None and obstacle.lasting:
            raise BadInput(str(obstacle))
        return obstacle

    async def _outgoing(self, stream: _Stream) -> AsyncIterator[pb.WorkerMessage]:
        await stream.admitted.wait()
        if not stream.over:
            yield pb.WorkerMessage(hello=self._hello)
        await stream.welcomed.wait()
        if not stream.over:
            async for message in self._outbox.stream():
                yield message

    async def _beat(self, call: grpc.aio.StreamStreamCall, stream: _Stream) -> None:
        began = time.monotonic()
        while time.monotonic() - max(began, self._heard_at) < min(SILENCE_S, max(self._give_up_after_s, 1.0)):
            if stream.welcomed.is_set():
                self._heartbeats += 1
                self.pulse.sent(self._heartbeats)
                self._outbox.beat(self._heartbeats)
            await asyncio.sleep(min(HEARTBEAT_S, max(0.25, self._give_up_after_s / 8)))
        call.cancel()

    def _hear(self, message: pb.CoordinatorMessage) -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self._stream.welcomed.set()
                self._was_welcomed = True
                log.info("connected to %s as %s", self._address, self._name)
                self._on_connection(True)
            case "heartbeat":
                self.pulse.answered(message.heartbeat.sequence)
                self._outbox.confirm(message.heartbeat.sequence)
            case "prepare":
                self._hear_prepare(message.prepare)
            case "train":
                self._orders.put(message.train)
                if self._assignment is not None and self._assignment.run_id == message.train.run_id:
                    self._assignment.overtake(message.train.round)
            case "evaluate":
                self._orders.put(message.evaluate)
            case "abandon":
                self._hear_abandon(message.abandon)
            case "wait":
                if self._assignment is not None and self._assignment.run_id == message.wait.run_id:
                    self._assignment.wait_for(message.wait.round, message.wait.phase)
            case "release":
                if self._assignment is not None and self._assignment.run_id == message.release.run_id:
                    self._assignment.stop()
                self._orders.put(message.release)

    def _hear_prepare(self, order: pb.Prepare) -> None:
        assignment = self._assignment
        if assignment is not None and assignment.order != order:
            assignment.stop()  # the coordinator is done with that run, and its release was lost on the way
        elif assignment is not None and assignment.say_prepared():
            return  # a coordinator that was away repeats it, and must not wait for a training under way to hear that
        self._orders.put(order)

    def _hear_abandon(self, order: pb.Abandon) -> None:
        gone = self._orders.abandon(order)
        if self._assignment is not None:
            gone += self._assignment.abandon(order)
        for client in gone:
            log_refused(client, order.round, order.reason)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if self._assignment is not None:
                self._assignment.tell()

    # ---- the work

    async def _work(self) -> None:
        while True:
            order = await self._orders.get()
            if isinstance(order, pb.Prepare):
                await self._prepare(order)
            elif isinstance(order, pb.Release):
                await self._release(order.run_id)
            elif self._assignment is None or self._assignment.run_id != order.run_id:
                log.warning("an order for run %s was left: it is not prepared here", order.run_id)
            elif isinstance(order, pb.Evaluate):
                await self._assignment.evaluate(order)
            else:
                await self._assignment.train(order)

    async def _prepare(self, order: pb.Prepare) -> None:
        if self._assignment is not None and self._assignment.order != order:
            await self._forget(self._assignment)
        if self._assignment is None:
            self.pulse.reset()
            timeline, post = Timeline(), self._outbox.post
            self._assignment = WorkerRun(
                order,
                engine=self._engine,
                stub=self._data,
                worker=self._name,
                key=self._hello.key,
                orders=self._orders,
                reports=Reports(order.run_id, post),
                timeline=timeline,
                telemetry=TelemetrySender(order.run_id, timeline, self._meter, self._batches, post),
                meter=self._meter,
                thread=self._thread,
                cache=self._cache,
            )
        await self._assignment.prepare()

    async def _release(self, run_id: str) -> None:
        if self._assignment is not None and self._assignment.run_id == run_id:
            await self._forget(self._assignment)
            log.info("released run %s, waiting for the next (%s)", run_id, self.pulse)
        self._outbox.post(pb.WorkerMessage(released=pb.Released(run_id=run_id)))

    async def _forget(self, assignment: WorkerRun) -> None:
        assignment.end()
        self._assignment = None
        self._orders.forget(assignment.run_id)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.release)
