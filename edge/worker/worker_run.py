"""One run on this worker: its preparation, and the clients it trains and evaluates round by round."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import grpc

from edge.power.meter import Meter
from edge.power.timeline import Timeline
from edge.training.runtime import ClientRuntime, Setup, TrainedClient
from edge.worker.compute_thread import ComputeThread
from edge.worker.evaluation import LocalEvaluation
from edge.worker.model_cache import ModelCache
from edge.worker.received_states import ReceivedStates
from edge.worker.reports import ACTIVITY_INTERVAL_S, Reports, log_refused
from edge.worker.run_activity import RunActivity
from edge.worker.run_setup import RunSetup
from edge.worker.run_transfers import RunTransfers
from edge.worker.task_queue import TaskQueue
from edge.worker.telemetry import Batches, TelemetrySender
from edge.worker.work_in_progress import WorkInProgress, WorkStopped
from federa.config import Experiment, parse_json
from federa.memory import return_freed
from federa.phases import EVALUATE, IDLE, LOAD, TRAIN, UPLOAD
from federa.seeds import derive_seed
from federa.tasks.composition import CutRecords
from federa.tensors.codec import encode
from federa.tensors.state import Tensors
from protos import federation_pb2 as pb
from protos.federation_pb2_grpc import WorkerServiceStub

log = logging.getLogger("federa.worker")

# The coordinator's answers to an update that it will not take: too late for its round, and not what it may be.
_REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerContext:
    """What a worker has for all of its runs."""

    runtime: ClientRuntime
    stub: WorkerServiceStub
    name: str
    key: str
    tasks: TaskQueue
    thread: ComputeThread
    meter: Meter
    cache: ModelCache | None
    batches: Batches
    post: Callable[[pb.WorkerMessage], None]
    """Sends a message to the coordinator, now or when there is a connection."""


class WorkerRun:
    """`prepare`, then `train` and `evaluate` for every order; `abandon`, `overtake` and `stop` end what is under
    way."""

    def __init__(self, order: pb.Prepare, context: WorkerContext) -> None:
        self.order = order
        self._runtime = context.runtime
        self._tasks = context.tasks
        self._thread = context.thread
        self._reports = Reports(order.run_id, context.post)
        self._evaluation = LocalEvaluation(context.runtime, self._reports)
        self._is_evaluating = False
        self._config = Experiment()
        self._work = WorkInProgress()
        timeline = Timeline()
        self._telemetry = TelemetrySender(order.run_id, timeline, context.meter, context.batches, context.post)
        self._activity = RunActivity(timeline, self._reports)
        self._transfers = RunTransfers(
            order.run_id, stub=context.stub, worker=context.name, key=context.key, work=self._work
        )
        self._setup = RunSetup(
            order,
            runtime=context.runtime,
            reports=self._reports,
            timeline=timeline,
            meter=context.meter,
            cache=context.cache,
            over=self._work.over,
            thread=context.thread,
            fetch=self._transfers.fetch_model,
        )
        self._states = ReceivedStates(
            order.start_sha256,
            runtime=context.runtime,
            setup=self._setup,
            evaluation=self._evaluation,
            transfers=self._transfers,
            activity=self._activity,
            thread=context.thread,
        )

    @property
    def run_id(self) -> str:
        return self.order.run_id

    def is_for(self, order: pb.Prepare) -> bool:
        """Whether the order is this run's, repeated: one that comes again has nothing to be tried any more."""
        mine, other = pb.Prepare(), pb.Prepare()
        mine.CopyFrom(self.order)
        other.CopyFrom(order)
        mine.trial = other.trial = False
        return mine == other

    # ---- from the control stream, at any moment

    def stop(self) -> None:
        """The run is over: end at the next step, or byte."""
        self._work.stop()

    def abandon(self, abandoned: pb.Abandon) -> list[int]:
        """End the work on some clients; returns those on which there was any."""
        if (abandoned.run_id, abandoned.round) != (self.run_id, self._activity.round):
            return []
        return self._work.drop(abandoned.clients)

    def overtake(self, round_: int) -> None:
        """That round has begun: nobody waits for the evaluation of an earlier one any more."""
        if self._is_evaluating and round_ > self._activity.round:
            self._work.drop(self._work.clients)

    def wait_for(self, round_: int, phase: str) -> None:
        """What is waited for when there is nothing to do."""
        self._activity.wait_for(round_, phase)

    def report_prepared(self) -> bool:
        """Report that it can train, when it can."""
        if self._setup.setup is None or self._work.over.is_set():
            return False
        self._reports.prepared(self._setup.setup, self._setup.power())
        return True

    def send_telemetry(self) -> None:
        """Send where time and energy went since the last call."""
        self._telemetry.send()

    def close(self) -> None:
        """Send the last of it. Call before the worker reports that it released the run."""
        self._telemetry.close()

    # ---- the work, one call at a time

    async def prepare(self) -> None:
        """Load the base model and the data, and report that, or what is wrong."""
        await self._setup.rest()
        try:
            setup = await self._prepared()
        except WorkStopped:
            return
        except Exception as error:
            self._reports.client_error(0, 0, error)
            return
        finally:
            self._activity.rest()
        log.info("prepared run %s on %s in %s", self.run_id, setup.device, setup.precision)
        if (cut := CutRecords.summed(setup.cut.values())).cut:
            log.warning("%s", cut.in_words(self._config.data.max_length))
        self.report_prepared()
        self._reports.activity(0, 0, IDLE)

    async def train(self, order: pb.Train) -> None:
        """Download the round's state once, then train and upload each client. One that fails is reported, and does not
        keep the next from its turn."""
        if self._work.over.is_set():
            return
        self._activity.round = order.round
        self._work.begin(order.clients)
        await self._train_all(order)
        await self._end(order.clients[-1])

    async def evaluate(self, order: pb.Evaluate) -> None:
        """Score a state on what the clients hold out. It is downloaded once, and kept for the training that begins with
        it."""
        if self._work.over.is_set():
            return
        self._activity.round, self._is_evaluating = order.round, True
        self._work.begin(self._evaluation.repeat(order))
        try:
            if self._work.clients:
                await self._evaluate_all(order)
        except WorkStopped:
            log.info("ended the evaluation of round %d's state", order.round)
        except Exception as error:
            for client in self._work.clients:
                self._reports.client_error(order.round, client, error)
        finally:
            self._is_evaluating = False
        await self._end(order.clients[-1])

    async def _end(self, last: int) -> None:
        self._work.begin([])
        self._activity.rest()
        await self._thread.run(return_freed)
        self._activity.report_idle(last)

    async def _prepared(self) -> Setup:
        if self._setup.setup is None:
            self._config = parse_json(self.order.experiment_json)
            self._transfers.pace(self._config.bandwidth_mbps)
        return await self._setup.done(self._activity.round)

    async def _evaluate_all(self, order: pb.Evaluate) -> None:
        await self._prepared()
        state = await self._states.receive(order, self._config.wire)
        self._evaluation.keep(order.state_sha256, state)
        for client in list(self._work.clients):
            self._activity.enter(client, EVALUATE)
            on_batch = partial(self._work.check, client)
            await self._thread.run(self._evaluation.count, order, client, state, on_batch)
            self._evaluation.report(order, client)
            self._work.drop([client])

    async def _train_all(self, order: pb.Train) -> None:
        try:
            await self._prepared()
            state = await self._states.receive(order, self._config.wire)
        except WorkStopped:
            return
        except Exception as error:
            for client in self._work.clients:
                self._failed(client, error)
            return
        while self._work.clients:
            client = self._work.clients[0]
            try:
                await self._train_client(client, state, order.state_sha256.hex())
            except WorkStopped:
                log.info("ended the work on client %d for round %d", client, order.round)
            except Exception as error:
                self._failed(client, error)
            self._work.drop([client])

    def _failed(self, client: int, error: Exception) -> None:
        if client not in self._work.clients:
            return  # abandoned meanwhile: it may be queued again
        self._tasks.failed(self.run_id, self._activity.round, client)
        if isinstance(error, grpc.aio.AioRpcError) and error.code() in _REFUSALS:
            # The coordinator knows, and goes on without it. So does this worker.
            log_refused(client, self._activity.round, str(error.details()))
        else:
            self._reports.client_error(self._activity.round, client, error)

    async def _train_client(self, client: int, state: Tensors, state_sha256: str) -> None:
        self._activity.enter(client, LOAD)
        trained = await self._thread.run(
            self._runtime.train, self._activity.round, client, state, self._on_step(client)
        )
        self._activity.enter(client, UPLOAD)
        # Before the runtime's next call, which may change what it gave.
        blob = await self._thread.run(self._encode, client, trained, state, state_sha256)
        update = pb.UpdateHeader(
            round=self._activity.round,
            client=client,
            examples=trained.examples,
            loss=trained.loss,
            step_ms=trained.step_ms,
            micro_batch=trained.micro_batch,
        )
        del trained
        await self._transfers.upload(blob, update)

    def _on_step(self, client: int) -> Callable[[float], None]:
        """What the runtime calls at every step, on its thread, with the progress."""
        last_shown_s: float | None = None  # None: not a step was made
        loop = asyncio.get_running_loop()

        def on_step(progress: float) -> None:
            nonlocal last_shown_s
            self._work.check(client)
            now_s = time.monotonic()
            if last_shown_s is None:
                loop.call_soon_threadsafe(self._activity.enter, client, TRAIN, now_s)
                last_shown_s = now_s
            elif now_s - last_shown_s > ACTIVITY_INTERVAL_S:
                loop.call_soon_threadsafe(self._activity.progress, client, TRAIN, progress)
                last_shown_s = now_s

        return on_step

    def _encode(self, client: int, trained: TrainedClient, state: Tensors, state_sha256: str) -> bytes:
        seed = derive_seed(self._config.seed, "wire", "up", self._activity.round, client)
        return encode(trained.tensors, self._config.wire, reference=state, reference_sha256=state_sha256, seed=seed)
