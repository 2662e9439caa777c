"""The worker: keeps the connection to the coordinator, and does what it orders, one thing at a time."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence

from edge.power.meter import Meter
from edge.training.runtime import ClientRuntime
from edge.worker.compute_thread import ComputeThread
from edge.worker.connection import Connection
from edge.worker.heartbeat_latency import HeartbeatLatency
from edge.worker.model_cache import ModelCache
from edge.worker.report_queue import ReportQueue
from edge.worker.reports import log_refused
from edge.worker.task_queue import TaskQueue
from edge.worker.telemetry import INTERVAL_S, Batches
from edge.worker.worker_run import WorkerContext, WorkerRun
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL, dial
from protos.credentials import Credentials
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.proxy import Proxy

log = logging.getLogger("federa.worker")


class Worker:
    """`run` it; cancel that to end it. `facts` of the device stand beside the runtime's. `meter` is in use already, and
    stays so; without one no power is measured. Without a `cache` a base model that is not on this machine is not
    fetched. `on_connection` is called when a coordinator takes this worker, and when that is over."""

    def __init__(
        self,
        *,
        runtime: ClientRuntime,
        address: str,
        name: str,
        key: str,
        clients: Sequence[int] = (),
        own_data: bool = False,
        give_up_after_s: float,
        credentials: Credentials | None = None,
        proxy: Proxy | None = None,
        meter: Meter | None = None,
        facts: Mapping[str, str] | None = None,
        cache: ModelCache | None = None,
        on_connection: Callable[[bool], None] = lambda connected: None,
    ) -> None:
        self._runtime = runtime
        self._meter = meter or Meter()
        self._facts = dict(facts or {})
        self._cache = cache
        self._address = address
        self._credentials = credentials
        self._proxy = proxy
        self._hello = pb.Hello(
            protocol=PROTOCOL,
            name=name,
            key=key,
            clients=clients,
            own_data=own_data,
            process=secrets.token_hex(16),
        )
        self._reports = ReportQueue()
        self._tasks = TaskQueue()
        self._thread = ComputeThread()
        self._run: WorkerRun | None = None
        self._connection = Connection(
            address,
            credentials,
            proxy,
            hello=self._hello,
            give_up_after_s=give_up_after_s,
            reports=self._reports,
            receive=self._receive,
            on_change=on_connection,
        )

    @property
    def latency(self) -> HeartbeatLatency:
        """How fast the coordinator answered in the run under way."""
        return self._connection.latency

    async def run(self) -> None:
        """Serve until cancelled. Raises FederaError when the coordinator refuses this worker, or has been away for
        longer than it waits."""
        self._hello.versions.update(self._runtime.versions())
        self._hello.device.update({**self._runtime.facts(), **self._facts})
        async with dial(self._address, self._credentials, self._proxy) as data_channel:
            tasks = [
                asyncio.ensure_future(endless)
                for endless in (
                    self._connection.keep(),
                    self._work(self._context(WorkerServiceStub(data_channel))),
                    self._send_telemetry(),
                )
            ]
            try:
                # None ends but by an error. One of the work's own would else leave a worker that is only connected.
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                if self._run is not None:
                    self._run.stop()
                await asyncio.wait(tasks)
                self._thread.close()

    def _context(self, stub: WorkerServiceStub) -> WorkerContext:
        return WorkerContext(
            runtime=self._runtime,
            stub=stub,
            name=self._hello.name,
            key=self._hello.key,
            tasks=self._tasks,
            thread=self._thread,
            meter=self._meter,
            cache=self._cache,
            batches=Batches(),
            post=self._reports.post,
        )

    # ---- what the coordinator says

    def _receive(self, message: pb.CoordinatorMessage) -> None:
        match message.WhichOneof("message"):
            case "prepare":
                self._receive_prepare(message.prepare)
            case "train":
                self._tasks.put(message.train)
                if (run := self._run_of(message.train.run_id)) is not None:
                    run.overtake(message.train.round)
            case "evaluate":
                self._tasks.put(message.evaluate)
            case "abandon":
                self._receive_abandon(message.abandon)
            case "wait":
                if (run := self._run_of(message.wait.run_id)) is not None:
                    run.wait_for(message.wait.round, message.wait.phase)
            case "release":
                if (run := self._run_of(message.release.run_id)) is not None:
                    run.stop()
                self._tasks.put(message.release)

    def _receive_prepare(self, order: pb.Prepare) -> None:
        run = self._run
        if run is not None and not run.is_for(order):
            run.stop()  # the coordinator is done with that run, and its release was lost on the way
        elif run is not None and run.report_prepared():
            return  # a coordinator that was away repeats it, and must not wait for a training under way to be answered
        self._tasks.put(order)

    def _receive_abandon(self, order: pb.Abandon) -> None:
        gone = self._tasks.abandon(order)
        if self._run is not None:
            gone += self._run.abandon(order)
        for client in gone:
            log_refused(client, order.round, order.reason)

    def _run_of(self, run_id: str) -> WorkerRun | None:
        """The run under way, where it is that one."""
        return self._run if self._run is not None and self._run.run_id == run_id else None

    # ---- the work

    async def _send_telemetry(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if self._run is not None:
                self._run.send_telemetry()

    async def _work(self, context: WorkerContext) -> None:
        while True:
            order = await self._tasks.get()
            if isinstance(order, pb.Prepare):
                await self._prepare(order, context)
            elif isinstance(order, pb.Release):
                await self._release(order.run_id)
            elif (run := self._run_of(order.run_id)) is None:
                log.warning("an order for run %s was left: it is not prepared here", order.run_id)
            elif isinstance(order, pb.Evaluate):
                await run.evaluate(order)
            else:
                await run.train(order)

    async def _prepare(self, order: pb.Prepare, context: WorkerContext) -> None:
        if self._run is not None and not self._run.is_for(order):
            await self._forget(self._run)
        if self._run is None:
            self.latency.reset()
            self._run = WorkerRun(order, context)
        await self._run.prepare()

    async def _release(self, run_id: str) -> None:
        if (run := self._run_of(run_id)) is not None:
            await self._forget(run)
            log.info("released run %s, waiting for the next (%s)", run_id, self.latency)
        self._reports.post(pb.WorkerMessage(released=pb.Released(run_id=run_id)))

    async def _forget(self, run: WorkerRun) -> None:
        run.close()
        self._run = None
        self._tasks.forget(run.run_id)
        await self._thread.run(self._runtime.release)
