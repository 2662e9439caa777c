"""One run on this worker: what it was told to prepare, and the clients it trains round by round."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from edge.engine import Engine, Setup, TrainedClient
from edge.orders import Orders
from edge.reports import Reports, log_refused
from edge.retries import persist
from edge.transfer import Download, Link, Upload
from federa.codec import decode, encode
from federa.config import Experiment, parse_json
from federa.memory import return_freed
from federa.seeds import derive_seed
from federa.state import Tensors
from protos import federation_pb2 as pb
from protos.federation_pb2_grpc import FederationStub

log = logging.getLogger("federa.worker")

T = TypeVar("T")

ACTIVITY_INTERVAL_S = 0.5
# The coordinator's answers to an update that it will not take: too late for its round, and not what it may be.
_REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}


class Stopped(Exception):
    """What was under way is of no more use: the run was released, or the client abandoned."""


class Assignment:
    """`prepare`, then `train` for every order; `abandon` and `stop` end what is under way."""

    def __init__(
        self,
        order: pb.Prepare,
        *,
        engine: Engine,
        stub: FederationStub,
        worker: str,
        key: str,
        orders: Orders,
        reports: Reports,
        thread: ThreadPoolExecutor,
    ) -> None:
        self.order = order
        self.run_id = order.run_id
        self._engine = engine
        self._stub = stub
        self._worker = worker
        self._key = key
        self._orders = orders
        self._reports = reports
        self._thread = thread
        self._config = Experiment()
        self._setup: Setup | None = None
        self._installed = False
        self._start: Tensors | None = None  # below fp32 alone, where later states are differences from it
        self._stopped = False
        self._round = 1
        self._left: list[int] = []  # clients of the order under way, the first of them in work
        self._transfer: asyncio.Future[Any] | None = None
        self._uploads: int | None = None  # the client whose upload `_transfer` is
        self._idle_since: float | None = None
        self._down = self._up = Link(None)

    # ---- from the control stream, at any moment

    def stop(self) -> None:
        """The run is over: end at the next step, or byte."""
        self._stopped = True
        self._drop(self._left)

    def abandon(self, abandoned: pb.Abandon) -> list[int]:
        """End the work on some clients; returns those on which there was any."""
        if (abandoned.run_id, abandoned.round) != (self.run_id, self._round):
            return []
        gone = [client for client in self._left if client in abandoned.clients]
        self._drop(gone)
        return gone

    def say_prepared(self) -> bool:
        """Report that it can train, when it can."""
        if self._setup is None or self._stopped:
            return False
        self._reports.prepared(self._setup)
        return True

    def report_idle(self) -> None:
        """Report the time since the last work. Call before the worker says that it released the run."""
        if self._idle_since is not None:
            self._reports.phase(self._round, 0, "idle", time.monotonic() - self._idle_since)
            self._idle_since = None

    def _drop(self, clients: list[int]) -> None:
        self._left = [client for client in self._left if client not in clients]
        if self._transfer is not None and (self._uploads in clients or not self._left):
            self._transfer.cancel()

    # ---- the work, one call at a time

    async def prepare(self) -> None:
        """Load the base model and the data, and say so, or say what is wrong."""
        try:
            setup = await self._prepared()
        except Exception as error:
            self._reports.trouble(0, 0, error)
            return
        log.info("prepared run %s on %s in %s", self.run_id, setup.device, setup.precision)
        self.say_prepared()
        self._reports.activity(0, 0, "idle")
        if self._idle_since is None:
            self._idle_since = time.monotonic()

    async def train(self, order: pb.Train) -> None:
        """Download the round's state once, then train and upload each client. One that fails is told, and does not keep
        the next from its turn."""
        if self._stopped:
            return
        self._round, self._left = order.round, list(order.clients)
        self.report_idle()
        await self._train_all(order)
        self._left = []
        await self._in_thread(return_freed)
        self._idle_since = time.monotonic()
        self._reports.activity(order.round, order.clients[-1], "idle")

    async def _train_all(self, order: pb.Train) -> None:
        try:
            await self._prepared()
            state = await self._receive(order)
        except Stopped:
            return
        except Exception as error:
            for client in self._left:
                self._failed(client, error)
            return
        while self._left:
            client = self._left[0]
            try:
                await self._train_client(client, state, order.state_sha256.hex())
            except Stopped:
                log.info("ended the work on client %d for round %d", client, order.round)
            except Exception as error:
                self._failed(client, error)
            self._left = [other for other in self._left if other != client]

    def _failed(self, client: int, error: Exception) -> None:
        if client not in self._left:
            return  # abandoned meanwhile: it may be queued again
        self._orders.failed(self.run_id, self._round, client)
        if isinstance(error, grpc.aio.AioRpcError) and error.code() in _REFUSALS:
            # The coordinator knows, and goes on without it. So does this worker.
            log_refused(client, self._round, str(error.details()))
        else:
            self._reports.trouble(self._round, client, error)

    async def _prepared(self) -> Setup:
        if self._setup is None:
            self._config = parse_json(self.order.experiment_json)
            self._down, self._up = Link(self._config.bandwidth_mbps), Link(self._config.bandwidth_mbps)
            self._setup = await self._in_thread(self._engine.prepare, self.order)
        return self._setup

    async def _receive(self, order: pb.Train) -> Tensors:
        """The round's state; before the run's first one, its start too, which is installed."""
        client = order.clients[0]
        seconds = {"download": 0.0, "load": 0.0}

        async def fetch(sha256: bytes, take: Callable[[memoryview], Tensors]) -> Tensors:
            request = pb.DownloadRequest(run_id=self.run_id, sha256=sha256, worker=self._worker, key=self._key)
            began = time.monotonic()
            self._reports.activity(order.round, client, "download")
            try:
                blob = await self._moved(None, Download(self._stub, request, self._down).attempt)
            finally:
                seconds["download"] += time.monotonic() - began
            began = time.monotonic()
            self._reports.activity(order.round, client, "load")
            try:
                return await self._in_thread(take, blob)
            finally:
                seconds["load"] += time.monotonic() - began

        try:
            start = self._start
            if not self._installed:
                start = await fetch(self.order.start_sha256, self._install)
            if start is not None and order.state_sha256 == self.order.start_sha256:
                return start
            del start
            return await fetch(order.state_sha256, lambda blob: decode(blob, self._start))
        finally:
            for phase, spent_s in seconds.items():
                self._reports.phase(order.round, client, phase, spent_s)

    def _install(self, blob: memoryview) -> Tensors:
        start = decode(blob)
        try:
            self._engine.install(start)
        except BaseException:
            # The model may be half changed. The next order loads it anew.
            self._engine.release()
            self._setup = None
            raise
        self._installed = True
        if self._config.wire != "fp32":
            self._start = start
        return start

    async def _train_client(self, client: int, state: Tensors, state_sha256: str) -> None:
        round_ = self._round
        last_shown = 0.0
        loop = asyncio.get_running_loop()

        def on_step(progress: float) -> None:
            nonlocal last_shown
            if client not in self._left:
                raise Stopped
            if time.monotonic() - last_shown > ACTIVITY_INTERVAL_S:
                last_shown = time.monotonic()
                loop.call_soon_threadsafe(self._reports.activity, round_, client, "train", progress)

        self._reports.activity(round_, client, "train")
        began = time.monotonic()
        try:
            trained = await self._in_thread(self._engine.train, round_, client, state, on_step)
        except Exception:
            self._reports.phase(round_, client, "train", time.monotonic() - began)
            raise
        self._reports.phase(round_, client, "load", trained.load_s)
        self._reports.phase(round_, client, "train", trained.train_s)
        self._reports.activity(round_, client, "upload")
        began = time.monotonic()
        try:
            # Before the engine's next call, which may change what it gave.
            blob = await self._in_thread(self._encode, client, trained, state, state_sha256)
            update = pb.UpdateHeader(
                run_id=self.run_id,
                round=round_,
                client=client,
                worker=self._worker,
                key=self._key,
                examples=trained.examples,
                loss=trained.loss,
                step_ms=trained.step_ms,
            )
            del trained
            await self._moved(client, Upload(self._stub, blob, update, self._up).attempt)
        finally:
            self._reports.phase(round_, client, "upload", time.monotonic() - began)

    def _encode(self, client: int, trained: TrainedClient, state: Tensors, state_sha256: str) -> bytes:
        seed = derive_seed(self._config.seed, "wire", "up", self._round, client)
        return encode(trained.tensors, self._config.wire, reference=state, reference_sha256=state_sha256, seed=seed)

    async def _moved(self, uploads: int | None, attempt: Callable[[float], Awaitable[T]]) -> T:
        """A transfer's result; `abandon` and `stop` cancel it, which is told as Stopped. `uploads` is its client."""
        if not self._left or (uploads is not None and uploads not in self._left):
            raise Stopped
        transfer = asyncio.ensure_future(persist(attempt))
        self._transfer, self._uploads = transfer, uploads
        try:
            # Not `await transfer`: a cancelled transfer would look like a cancelled worker.
            await asyncio.wait({transfer})
        finally:
            self._transfer = self._uploads = None
            transfer.cancel()
        if transfer.cancelled():
            raise Stopped
        return transfer.result()

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
