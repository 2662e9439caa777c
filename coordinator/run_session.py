"""A run: one method on one data set until the target or the last round, from its set-up to its results.

What is in the ledger of an earlier process of the same run is not done again: the run goes on where that one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from typing import Any

from coordinator.clients.registry import ClientRegistry
from coordinator.clients.sessions import Sessions
from coordinator.clients.telemetry import TelemetryReceiver
from coordinator.clients.update_receiver import UpdateReceiver
from coordinator.clients.update_spool import UpdateSpool
from coordinator.evaluation.evaluator import CentralEvaluator, EvaluationResult, Evaluator, TimedEvaluation
from coordinator.evaluation.federated import FederatedEvaluator
from coordinator.evaluation.reference_model import ReferenceModel
from coordinator.progress import ProgressBoard
from coordinator.report.result import environment, run_result, write_results
from coordinator.rounds.events import Event, Finish, Plan
from coordinator.rounds.executor import RoundExecutor
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import LedgerFailure
from coordinator.storage.model_store import ModelStore
from coordinator.storage.recovery import recover
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.samples import Samples
from federa.bundle import BundleFacts
from federa.config import DEVICES, Experiment
from federa.errors import FederaError
from protos import federation_pb2 as pb

TICK_S = 2.0
"""How often the ledger hears that a run lives: a restart counts the time since then as downtime."""


class RunSession:
    """Create it, then `execute`. Worker streams talk to its `crew`, transfers to its `desk`."""

    def __init__(
        self,
        *,
        run_id: str,
        config: Experiment,
        folder: RunFolder,
        ledger: Ledger,
        learner: ReferenceModel,
        sessions: Sessions,
        board: ProgressBoard,
    ) -> None:
        self.run_id = run_id
        self.config = config
        self.folder = folder
        self.ledger = ledger
        self.over = False
        self.state_bytes = 0
        self.conductor: RoundExecutor | None = None
        """Once everything is prepared."""
        self._learner = learner
        self._board = board
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._writing: asyncio.Future[None] | None = None
        facts = ledger.facts()
        self._control_bytes_before = facts.get("control_bytes", 0)
        self._model_bytes_before = facts.get("model_bytes", 0)
        self._under_way_before_s = max(0.0, time.time() - facts["began_at"]) if "began_at" in facts else 0.0
        self._created = time.monotonic()
        self.intake = UpdateSpool(folder, ledger)
        self.shelf = ModelStore()
        self.samples = Samples(folder.path)
        self.telemetry = TelemetryReceiver(ledger, self.samples, config.federation.rounds, self._under_way_s)
        self.crew = ClientRegistry(
            run_id=run_id, sessions=sessions, ledger=ledger, telemetry=self.telemetry, board=board, post=self.post
        )
        self.desk = UpdateReceiver(self, sessions)
        evaluator: Evaluator = CentralEvaluator(learner, folder, config.metric)
        if config.evaluation == "devices":
            evaluator = FederatedEvaluator(
                self.crew,
                ledger,
                board,
                task=config.make_task(),
                metric=config.metric,
                deadline_s=config.federation.deadline_s,
            )
        self._evaluation = TimedEvaluation(evaluator, ledger)

    async def execute(self) -> bool:
        """Run to the end and leave the results in the folder. True when the target was reached.

        Raises FederaError when the run cannot go on, and CancelledError when it is ended early: then, too, the folder
        holds a readable result, and the run can be taken up again.
        """
        ticking = asyncio.ensure_future(self._tick())
        try:
            return await self._execute()
        except asyncio.CancelledError:
            self._stop("stopped", "ended early by the user")
            raise
        except (OSError, LedgerFailure) as error:
            failure = self.cannot_write(error)
            self._stop("failed", str(failure))
            raise failure from error
        except FederaError as error:
            self._stop("failed", str(error))
            raise
        except Exception as error:
            self._stop("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            ticking.cancel()
            self._learner.stop()
            if self.conductor is not None:
                self.conductor.stop()
            await asyncio.shield(self.crew.release(self._board.run.stage))
            self.over = True
            if self._writing is not None:
                await asyncio.wait([self._writing])
            # A ledger or a disk that fails has had its say already.
            with contextlib.suppress(OSError):
                self.samples.write()
            with contextlib.suppress(FederaError, OSError):
                self._note_bytes()
                self.ledger.flush()
                self._write_result()
            with contextlib.suppress(FederaError):
                self.ledger.close()

    def post(self, event: Event | Exception) -> None:
        """Something happened, or ends the run."""
        self._events.put_nowait(event)

    def cannot_write(self, error: Exception) -> FederaError:
        """What must be durable could not be written: the run stops, with these words."""
        if isinstance(error, OSError):
            what = error.filename or self.folder.path
            error = FederaError(f"cannot write to {what}: {error.strerror or error}")
        failure = FederaError(
            f"{error}; the run stops, with nothing lost that was acknowledged: "
            "mend it and start again with the same --out"
        )
        self.post(failure)
        return failure

    def count_bytes(self) -> None:
        """Show the bytes that have moved."""
        self._board.run.bytes_down, self._board.run.bytes_up = self.ledger.bytes_down, self.ledger.bytes_up
        self._board.touch()

    def _under_way_s(self) -> float:
        """Since the run began, downtime included: the devices' clocks went on."""
        return self._under_way_before_s + time.monotonic() - self._created

    # ---- its course

    async def _execute(self) -> bool:
        began = time.monotonic()
        facts = self._note_start()
        finish = await self._prepare(facts)
        self.ledger.note(setup_s=(facts.get("setup_s") or 0.0) + time.monotonic() - began)
        conductor = self.conductor
        assert conductor is not None
        rounds_done = 0
        while finish is None:
            finish = await conductor.apply(await self._next_event())
            if len(self._board.run.values) != rounds_done:
                rounds_done = len(self._board.run.values)
                self._write_soon()
        await self._finish(conductor, finish)
        return finish.reached

    async def _next_event(self) -> Event:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def _note_start(self) -> dict[str, Any]:
        """Record that the run is under way, for the first time or again; the facts from before."""
        facts = self.ledger.facts()
        now = time.time()
        # Wall clock: between two processes there is no other.
        away_s = max(0.0, now - facts["alive_at"]) if "alive_at" in facts else 0.0
        self.ledger.note(
            run_id=self.run_id,
            config=self.config.model_dump(mode="json"),
            better=self.config.metric.better,
            environment=environment(),
            state="running",
            failure=None,
            began_at=facts.get("began_at", now),
            alive_at=now,
            restarts=facts.get("restarts", -1) + 1,
            downtime_s=facts.get("downtime_s", 0.0) + away_s,
        )
        return facts

    async def _prepare(self, facts: dict[str, Any]) -> Finish | None:
        """Until everybody is ready and the first round is announced, or an earlier process's round is taken up."""
        self._board.stage("preparing", f"loading {self.config.model} and starting {self.config.method.name}")
        past = recover(self.ledger, self.folder)
        if past is None:
            blob = await asyncio.to_thread(self._learner.prepare)
            start = await asyncio.to_thread(self.folder.keep_state, blob)
            start_s: float | None = self._learner.start_s
        else:
            # Another version of torch would decompose otherwise, and the workers formed W_res from the one recorded.
            start, start_s = past.start, facts.get("start_s")
            blob = await asyncio.to_thread(self._learner.prepare, self.folder.state(start).read_bytes())
            for key, what in (("base_digest", "base model"), ("data_digest", "data set")):
                if facts.get(key) != getattr(self._learner, key):
                    raise FederaError(f"the {what} here is not the one that this run began with; name another --out")
        self.state_bytes = len(blob)
        del blob
        await asyncio.to_thread(lambda: self.shelf.fill(self._learner.model_files(self.folder.model)))
        own_data = self.config.data.source == DEVICES
        self.ledger.note(
            trainable_parameters=self._learner.trainable_parameters,
            state_bytes=self.state_bytes,
            start_sha256=start,
            start_s=start_s,
            base_digest=self._learner.base_digest,
            data_digest=self._learner.data_digest,
            shard_sizes=None if own_data else [len(shard) for shard in self._learner.shards],
        )
        rounds = RoundStateMachine(await self._plan())
        conductor = RoundExecutor(
            config=self.config,
            rounds=rounds,
            folder=self.folder,
            ledger=self.ledger,
            crew=self.crew,
            intake=self.intake,
            evaluation=self._evaluation,
            board=self._board,
            start=start,
            post=self.post,
        )
        decisions = await conductor.resume(past) if past else []
        self.count_bytes()
        self.conductor = conductor
        if not rounds.round:
            self._board.stage("preparing", "the devices load the base model")
        brief = pb.Prepare(
            run_id=self.run_id,
            experiment_json=self._learner.experiment.model_dump_json(),
            base_digest=self._learner.base_digest,
            data_digest=self._learner.data_digest,
            start_sha256=bytes.fromhex(start),
            model=self.shelf.listing(),
        )
        split_there = self.config.evaluation == "devices"
        self.crew.brief(brief, self._learner.shards, split_there=split_there, own_data_only=own_data)
        finish = await conductor.carry_out(decisions)
        conductor.show()
        while finish is None and not rounds.round:
            finish = await conductor.apply(await self._next_event())
        return finish

    async def _plan(self) -> Plan:
        federation = self.config.federation
        enough = await self.crew.gather(
            clients=federation.clients, devices=federation.devices, enough=federation.devices_to_start
        )
        return Plan(
            devices_to_start=enough,
            clients_per_round=federation.clients_per_round,
            over_select=federation.over_select,
            quorum=federation.updates_to_close,
            attempts=federation.attempts,
            timed=federation.deadline_s is not None,
            rounds=federation.rounds,
            target=self.config.target.value,
            better=self.config.metric.better,
            seed=self.config.seed,
        )

    async def _finish(self, conductor: RoundExecutor, finish: Finish) -> None:
        await asyncio.to_thread(self._publish, conductor)
        self._board.stage("testing")
        test = await self._tested(conductor)
        await asyncio.to_thread(self._publish, conductor, test.value)
        self.ledger.note(test=test.value, test_examples=test.examples, state="finished")
        shutil.rmtree(self.folder.model, ignore_errors=True)  # a second copy of what is elsewhere
        self._board.stage("finished", "target reached" if finish.reached else "the last round is over")

    async def _tested(self, conductor: RoundExecutor) -> EvaluationResult:
        """The verdict on the test part. Devices may be away for long: what ends the run is heard meanwhile."""
        testing = asyncio.ensure_future(conductor.score("test"))
        hearing = asyncio.ensure_future(self._failure())
        try:
            await asyncio.wait({testing, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
            return await testing
        finally:
            testing.cancel()
            hearing.cancel()

    async def _failure(self) -> None:
        """Never returns; raises what ends the run."""
        while True:
            await self._next_event()

    def _publish(self, conductor: RoundExecutor, test: float | None = None) -> None:
        """Make final/ the bundle of the newest state."""
        last = self.ledger.rounds()[-1]
        facts = BundleFacts(
            experiment=self._learner.experiment,
            base_digest=self._learner.base_digest,
            round=last["round"],
            value=last["value"],
            test=test,
        )
        self.folder.publish_final(state=conductor.state, start=conductor.start, facts=facts)

    def _stop(self, state: str, message: str) -> None:
        with contextlib.suppress(FederaError, OSError):
            self.ledger.note(state=state, failure=message)
            if self._board.run.values and self.conductor is not None:
                self._publish(self.conductor)
        self._board.stage(state, message)

    # ---- what is written by the way

    async def _tick(self) -> None:
        model_bytes = 0
        while True:
            await asyncio.sleep(TICK_S)
            round_ = self.conductor.rounds.round if self.conductor is not None else 0
            elapsed_s = self.conductor.elapsed_s() if self.conductor is not None else 0.0
            try:
                await asyncio.to_thread(self.ledger.alive, round_, elapsed_s, time.time())
                if self.shelf.wire_bytes != model_bytes:  # a long time may go by before the first round ends
                    model_bytes = self.shelf.wire_bytes
                    await asyncio.to_thread(self.ledger.note, model_bytes=self._model_bytes_before + model_bytes)
                await asyncio.to_thread(self.samples.write)
            except (FederaError, OSError) as error:
                self.cannot_write(error)
                return

    def _note_bytes(self) -> None:
        self.ledger.note(
            control_bytes=self._control_bytes_before + self.crew.control_bytes,
            model_bytes=self._model_bytes_before + self.shelf.wire_bytes,
        )

    def _write_soon(self) -> None:
        """Write the result so far, while the run goes on; where the last one is still being written, let that be."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write_aside())

    async def _write_aside(self) -> None:
        try:
            self._note_bytes()
            await asyncio.to_thread(self._write_result)
        except (FederaError, OSError) as error:
            self.cannot_write(error)

    def _write_result(self) -> None:
        write_results(self.folder.path, [run_result(self.ledger, self.samples)])
