"""One run on this worker: what it was told to prepare, and the clients it trains round by round."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import grpc

from edge.power.meter import Meter
from edge.power.telemetry import TelemetrySender
from edge.power.timeline import Timeline
from edge.training.runtime import ClientRuntime, Setup, TrainedClient
from edge.worker.evaluation import LocalEvaluation
from edge.worker.model_cache import ModelCache
from edge.worker.reports import ACTIVITY_INTERVAL_S, Reports, log_refused
from edge.worker.retry import retry
from edge.worker.run_setup import RunSetup
from edge.worker.task_queue import TaskQueue
from edge.worker.transfer import Download, FileDownload, Link, Upload
from federa.config import Experiment, parse_json
from federa.memory import return_freed
from federa.models.files import ModelFile
from federa.phases import DOWNLOAD, EVALUATE, IDLE, LOAD, TRAIN, UPLOAD
from federa.seeds import derive_seed
from federa.tensors.codec import decode, encode
from federa.tensors.state import Tensors
from protos import federation_pb2 as pb
from protos.federation_pb2_grpc import WorkerServiceStub

log = logging.getLogger("federa.worker")

T = TypeVar("T")

# The coordinator's answers to an update that it will not take: too late for its round, and not what it may be.
_REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}


class WorkStopped(Exception):
    """What was under way is of no more use: the run was released, or the client abandoned."""


class WorkerRun:
    """`prepare`, then `train` for every order; `abandon` and `stop` end what is under way."""

    def __init__(
        self,
        order: pb.Prepare,
        *,
        engine: ClientRuntime,
        stub: WorkerServiceStub,
        worker: str,
        key: str,
        orders: TaskQueue,
        reports: Reports,
        timeline: Timeline,
        telemetry: TelemetrySender,
        meter: Meter,
        thread: ThreadPoolExecutor,
        cache: ModelCache | None = None,
    ) -> None:
        self.order = order
        self.run_id = order.run_id
        self._engine = engine
        self._stub = stub
        self._worker = worker
        self._key = key
        self._orders = orders
        self._reports = reports
        self._evaluation = LocalEvaluation(engine, reports)
        self._is_evaluating = False
        self._timeline = timeline
        self._telemetry = telemetry
        self._thread = thread
        self._over = asyncio.Event()
        self._config = Experiment()
        self._preparation = RunSetup(
            order,
            engine=engine,
            reports=reports,
            timeline=timeline,
            meter=meter,
            cache=cache,
            over=self._over,
            in_thread=self._in_thread,
            bring=self._bring,
        )
        self._installed = False
        self._start: Tensors | None = None  # below fp32 alone, where later states are differences from it
        self._round = 0
        self._awaited = (0, IDLE)  # round and phase, as the coordinator said last
        self._left: list[int] = []  # clients of the order under way, the first of them in work
        self._transfer: asyncio.Future[Any] | None = None
        self._uploads: int | None = None  # the client whose upload `_transfer` is
        self._down = self._up = Link(None)

    # ---- from the control stream, at any moment

    def stop(self) -> None:
        """The run is over: end at the next step, or byte."""
        self._over.set()
        self._drop(self._left)

    def abandon(self, abandoned: pb.Abandon) -> list[int]:
        """End the work on some clients; returns those on which there was any."""
        if (abandoned.run_id, abandoned.round) != (self.run_id, self._round):
            return []
        gone = [client for client in self._left if client in abandoned.clients]
        self._drop(gone)
        return gone

    def overtake(self, round_: int) -> None:
        """That round has begun: nobody waits for the evaluation of an earlier one any more."""
        if self._is_evaluating and round_ > self._round:
            self._drop(self._left)

    def say_prepared(self) -> bool:
        """Report that it can train, when it can."""
        if self._preparation.setup is None or self._over.is_set():
            return False
        self._reports.prepared(self._preparation.setup, self._preparation.power())
        return True

    def wait_for(self, round_: int, phase: str) -> None:
        """What is waited for when there is nothing to do. A word of an earlier stream may come late."""
        self._awaited = max(self._awaited, (round_, phase), key=_stage)
        now = self._timeline.activity
        if now is not None and now.phase in (IDLE, EVALUATE):
            self._rest()

    def tell(self) -> None:
        """Post where time and energy went since the last call."""
        self._telemetry.send()

    def end(self) -> None:
        """Post the last of it. Call before the worker says that it released the run."""
        self._telemetry.close()

    def _rest(self) -> None:
        """Nothing to do: the round goes on elsewhere, or its state is evaluated."""
        round_, phase = max(self._awaited, (self._round, IDLE), key=_stage)
        self._timeline.enter(round_, 0, phase)

    def _drop(self, clients: list[int]) -> None:
        self._left = [client for client in self._left if client not in clients]
        if self._transfer is not None and (self._uploads in clients or not self._left):
            self._transfer.cancel()

    # ---- the work, one call at a time

    async def prepare(self) -> None:
        """Load the base model and the data, and say so, or say what is wrong."""
        await self._preparation.rest()
        try:
            setup = await self._prepared()
        except WorkStopped:
            return
        except Exception as error:
            self._reports.trouble(0, 0, error)
            return
        finally:
            self._rest()
        log.info("prepared run %s on %s in %s", self.run_id, setup.device, setup.precision)
        self.say_prepared()
        self._reports.activity(0, 0, IDLE)

    async def train(self, order: pb.Train) -> None:
        """Download the round's state once, then train and upload each client. One that fails is told, and does not keep
        the next from its turn."""
        if self._over.is_set():
            return
        self._round, self._left = order.round, list(order.clients)
        await self._train_all(order)
        self._left = []
        self._rest()
        await self._in_thread(return_freed)
        self._reports.activity(order.round, order.clients[-1], IDLE)

    async def evaluate(self, order: pb.Evaluate) -> None:
        """Score a state on what the clients hold out. It is downloaded once, and kept for the training that begins with
        it."""
        if self._over.is_set():
            return
        self._round, self._left, self._is_evaluating = order.round, self._evaluation.repeat(order), True
        try:
            if self._left:
                await self._evaluate_all(order)
        except WorkStopped:
            log.info("ended the evaluation of round %d's state", order.round)
        except Exception as error:
            for client in self._left:
                self._reports.trouble(order.round, client, error)
        finally:
            self._left, self._is_evaluating = [], False
        self._rest()
        await self._in_thread(return_freed)
        self._reports.activity(order.round, order.clients[-1], IDLE)

    async def _evaluate_all(self, order: pb.Evaluate) -> None:
        def on_batch() -> None:
            if client not in self._left:
                raise WorkStopped

        await self._prepared()
        state = await self._receive(order)
        self._evaluation.keep(order.state_sha256, state)
        for client in list(self._left):
            self._enter(client, EVALUATE)
            await self._in_thread(self._evaluation.count, order, client, state, on_batch)
            self._evaluation.say(order, client)
            self._left = [other for other in self._left if other != client]

    async def _train_all(self, order: pb.Train) -> None:
        try:
            await self._prepared()
            state = await self._receive(order)
        except WorkStopped:
            return
        except Exception as error:
            for client in self._left:
                self._failed(client, error)
            return
        while self._left:
            client = self._left[0]
            try:
                await self._train_client(client, state, order.state_sha256.hex())
            except WorkStopped:
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
        if self._preparation.setup is None:
            self._config = parse_json(self.order.experiment_json)
            self._down, self._up = Link(self._config.bandwidth_mbps), Link(self._config.bandwidth_mbps)
        return await self._preparation.done(self._round)

    async def _bring(self, cache: ModelCache, files: Sequence[ModelFile], show: Callable[[float], None]) -> Path:
        """The base model's files from the coordinator: at the link's own pace, since what an experiment states is for
        the rounds."""
        if self._over.is_set():
            raise WorkStopped

        async def bring(file: ModelFile, path: Path, moved: Callable[[int], None]) -> None:
            await retry(FileDownload(self._stub, self._request(file.sha256), path, file.size, moved).attempt)

        return await self._unless_stopped(cache.fetch(files, bring, show), None)

    async def _receive(self, order: pb.Train | pb.Evaluate) -> Tensors:
        """The state that an order names, if it is not here already; before the run's first one, its start too, which is
        installed."""
        client = order.clients[0]
        if (kept := self._evaluation.take(order.state_sha256)) is not None:
            return kept

        async def fetch(sha256: bytes, take: Callable[[memoryview], Tensors]) -> Tensors:
            self._enter(client, DOWNLOAD)
            blob = await self._moved(None, Download(self._stub, self._request(sha256), self._down).attempt)
            self._enter(client, LOAD)
            return await self._in_thread(take, blob)

        start = self._start
        if not self._installed:
            start = await fetch(self.order.start_sha256, self._install)
        if start is not None and order.state_sha256 == self.order.start_sha256:
            return start
        del start
        return await fetch(order.state_sha256, lambda blob: decode(blob, self._start))

    def _request(self, sha256: bytes) -> pb.DownloadRequest:
        return pb.DownloadRequest(run_id=self.run_id, sha256=sha256, worker=self._worker, key=self._key)

    def _enter(self, client: int, phase: str, at_s: float | None = None) -> None:
        self._timeline.enter(self._round, client, phase, at_s)
        self._reports.activity(self._round, client, phase)

    def _install(self, blob: memoryview) -> Tensors:
        start = decode(blob)
        try:
            self._engine.install(start)
        except BaseException:
            # The model may be half changed. The next order loads it anew.
            self._engine.release()
            self._preparation.setup = None
            raise
        self._installed = True
        if self._config.wire != "fp32":
            self._start = start
        return start

    async def _train_client(self, client: int, state: Tensors, state_sha256: str) -> None:
        round_ = self._round
        last_shown: float | None = None  # None: not a step was made
        loop = asyncio.get_running_loop()

        def on_step(progress: float) -> None:
            nonlocal last_shown
            if client not in self._left:
                raise WorkStopped
            now_s = time.monotonic()
            if last_shown is None:
                loop.call_soon_threadsafe(self._enter, client, TRAIN, now_s)
                last_shown = now_s
            elif now_s - last_shown > ACTIVITY_INTERVAL_S:
                loop.call_soon_threadsafe(self._reports.activity, round_, client, TRAIN, progress)
                last_shown = now_s

        self._enter(client, LOAD)
        trained = await self._in_thread(self._engine.train, round_, client, state, on_step)
        self._enter(client, UPLOAD)
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
            micro_batch=trained.micro_batch,
        )
        del trained
        await self._moved(client, Upload(self._stub, blob, update, self._up).attempt)

    def _encode(self, client: int, trained: TrainedClient, state: Tensors, state_sha256: str) -> bytes:
        seed = derive_seed(self._config.seed, "wire", "up", self._round, client)
        return encode(trained.tensors, self._config.wire, reference=state, reference_sha256=state_sha256, seed=seed)

    async def _moved(self, uploads: int | None, attempt: Callable[[float], Awaitable[T]]) -> T:
        """A transfer's result; `abandon` and `stop` cancel it, which is told as Stopped. `uploads` is its client."""
        if not self._left or (uploads is not None and uploads not in self._left):
            raise WorkStopped
        return await self._unless_stopped(retry(attempt), uploads)

    async def _unless_stopped(self, work: Awaitable[T], uploads: int | None) -> T:
        transfer = asyncio.ensure_future(work)
        self._transfer, self._uploads = transfer, uploads
        try:
            # Not `await transfer`: a cancelled transfer would look like a cancelled worker.
            await asyncio.wait({transfer})
        finally:
            self._transfer = self._uploads = None
            transfer.cancel()
        if transfer.cancelled():
            raise WorkStopped
        return transfer.result()

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)


def _stage(place: tuple[int, str]) -> tuple[int, bool]:
    """Orders what can be waited for: a round's clients, then its evaluation, then the next round's clients."""
    return place[0], place[1] == EVALUATE
