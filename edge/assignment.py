"""One run on this worker: what it was told to prepare, and the clients it trains round by round."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc

from edge.backoff import Backoff
from edge.engine import Engine, Setup, TrainedClient
from edge.transfer import Link, download, upload
from federa.config import parse_json
from federa.errors import BadInput, FederaError, one_line
from federa.memory import return_freed
from protos import federation_pb2 as pb
from protos.federation_pb2_grpc import FederationStub

log = logging.getLogger("federa.worker")

T = TypeVar("T")
Report = Callable[[pb.WorkerMessage], None]

ACTIVITY_INTERVAL_S = 0.5
# The coordinator is away or the link is: the same call may succeed later. Every other status is its answer.
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


class Stopped(Exception):
    """The run was released while a client was being trained."""


class Assignment:
    """`prepare`, then `train` for every order; `stop` from anywhere makes a training under way end at its next step."""

    def __init__(
        self,
        order: pb.Prepare,
        *,
        engine: Engine,
        stub: FederationStub,
        worker: str,
        report: Report,
        thread: ThreadPoolExecutor,
    ) -> None:
        self.run_id = order.run_id
        self._order = order
        self._engine = engine
        self._stub = stub
        self._worker = worker
        self._report = report
        self._thread = thread
        self._setup: Setup | None = None
        self._stopped = False
        self._installed = False
        self._taken: set[tuple[int, int]] = set()
        self._idle_since: float | None = None
        self._last_round = 1
        self._down = self._up = Link(None)

    def stop(self) -> None:
        self._stopped = True

    def report_idle(self) -> None:
        """Report the time since the last work. Call before the worker says that it released the run."""
        if self._idle_since is not None:
            self._phase(self._last_round, 0, "idle", time.monotonic() - self._idle_since)
            self._idle_since = None

    def take(self, order: pb.Train) -> list[int]:
        """The clients of an order that are not in hand already: after a reconnect the coordinator announces again."""
        fresh = [client for client in order.clients if (order.round, client) not in self._taken]
        self._taken.update((order.round, client) for client in fresh)
        return fresh

    async def prepare(self) -> None:
        """Load the base model and the data, and say so, or say what is wrong."""
        if self._setup is None:
            try:
                mbps = parse_json(self._order.experiment_json).bandwidth_mbps
                self._down, self._up = Link(mbps), Link(mbps)
                self._setup = await self._in_thread(self._engine.prepare, self._order)
            except Exception as error:
                self._trouble(0, 0, error)
                return
        setup = self._setup
        log.info("prepared run %s on %s in %s", self.run_id, setup.device, setup.precision)
        self._report(
            pb.WorkerMessage(prepared=pb.Prepared(run_id=self.run_id, device=setup.device, precision=setup.precision))
        )
        self._activity(0, 0, "idle")
        if self._idle_since is None:
            self._idle_since = time.monotonic()

    async def train(self, round_: int, clients: list[int], state_sha256: bytes) -> None:
        """Download the round's state once, then train and upload each client."""
        client = clients[0]
        state = b""
        try:
            self._last_round = round_
            self.report_idle()
            began = time.monotonic()
            self._activity(round_, client, "download")
            state = await self._fetch(state_sha256)
            start = state
            if not self._installed and state_sha256 != self._order.start_sha256:
                start = await self._fetch(self._order.start_sha256)
            self._phase(round_, client, "download", time.monotonic() - began)
            if not self._installed:
                began = time.monotonic()
                await self._in_thread(self._engine.install, start)
                self._installed = True
                self._phase(round_, client, "load", time.monotonic() - began)
            del start
            for client in clients:
                await self._train_client(round_, client, state)
        except Stopped:
            log.info("run %s was released in round %d", self.run_id, round_)
        except Exception as error:
            self._trouble(round_, client, error)
        finally:
            del state
            await self._in_thread(return_freed)
            self._idle_since = time.monotonic()
            self._activity(round_, client, "idle")

    async def _train_client(self, round_: int, client: int, state: bytes) -> None:
        last_shown = 0.0
        loop = asyncio.get_running_loop()

        def on_step(progress: float) -> None:
            nonlocal last_shown
            if self._stopped:
                raise Stopped
            if time.monotonic() - last_shown > ACTIVITY_INTERVAL_S:
                last_shown = time.monotonic()
                loop.call_soon_threadsafe(self._activity, round_, client, "train", progress)

        self._activity(round_, client, "train")
        trained = await self._in_thread(self._engine.train, round_, client, state, on_step)
        self._phase(round_, client, "load", trained.load_s)
        self._phase(round_, client, "train", trained.train_s)
        self._activity(round_, client, "upload")
        began = time.monotonic()
        await self._deliver(round_, client, trained)
        self._phase(round_, client, "upload", time.monotonic() - began)

    async def _fetch(self, sha256: bytes) -> bytes:
        request = pb.DownloadRequest(run_id=self.run_id, sha256=sha256, worker=self._worker)
        return await self._retried(lambda: download(self._stub, request, self._down))

    async def _deliver(self, round_: int, client: int, trained: TrainedClient) -> None:
        header = pb.UpdateHeader(
            run_id=self.run_id,
            round=round_,
            client=client,
            worker=self._worker,
            examples=trained.examples,
            loss=trained.loss,
            step_ms=trained.step_ms,
        )
        try:
            await self._retried(lambda: upload(self._stub, trained.blob, header, self._up))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise FederaError(f"the coordinator refused the {error.details()}") from None
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            # Too late, or of a run that is over: the coordinator goes on without it, and so does this worker.
            log.warning("the coordinator refused: %s", error.details())

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        backoff = Backoff()
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if self._stopped:
                    raise Stopped from None
                if error.code() not in _PASSING:
                    raise
                log.warning("%s, trying again: %s", error.code().name, error.details())
                await asyncio.sleep(backoff.next_s())

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    # ---- reports

    def _phase(self, round_: int, client: int, phase: str, seconds: float) -> None:
        times = pb.PhaseTime(run_id=self.run_id, round=round_, client=client, phase=phase, seconds=seconds)
        self._report(pb.WorkerMessage(phase_time=times))

    def _activity(self, round_: int, client: int, phase: str, progress: float = 0.0) -> None:
        now = pb.Activity(run_id=self.run_id, round=round_, client=client, phase=phase, progress=progress)
        self._report(pb.WorkerMessage(activity=now))

    def _trouble(self, round_: int, client: int, error: Exception) -> None:
        self._taken.discard((round_, client))
        if self._stopped:
            return
        if isinstance(error, FederaError):
            log.error("%s", error)
            message = str(error)
        else:
            log.error("run %s failed here", self.run_id, exc_info=error)
            message = f"{type(error).__name__}: {one_line(error)}"
        self._report(
            pb.WorkerMessage(
                trouble=pb.Trouble(
                    run_id=self.run_id,
                    round=round_,
                    client=client,
                    message=message,
                    bad_input=isinstance(error, BadInput),
                )
            )
        )
