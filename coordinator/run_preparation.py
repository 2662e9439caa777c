"""Preparing a run: its model and states, its plan, and who executes its rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from coordinator.clients.run_clients import RunClients
from coordinator.clients.update_receiver import OpenRounds
from coordinator.clients.worker_setup import WorkerSetup
from coordinator.evaluation.evaluator import CentralEvaluator, Evaluator, TimedEvaluator
from coordinator.evaluation.federated import FederatedEvaluator
from coordinator.evaluation.reference_model import ReferenceModel
from coordinator.progress import ProgressBoard
from coordinator.rounds.clock import AttemptTimer
from coordinator.rounds.events import Decision, Event, Plan
from coordinator.rounds.executor import RoundExecutor
from coordinator.rounds.scoring import RoundScoring
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.rounds.throughput import Throughput
from coordinator.storage.recovery import RecoveredRun, recover
from coordinator.storage.round_states import RunStates
from coordinator.storage.round_store import LedgerRoundStore
from coordinator.storage.run_storage import RunStorage
from coordinator.threads import in_thread
from federa.config import DEVICES, Experiment
from federa.errors import FederaError
from federa.tasks.composition import in_words
from federa.tasks.skew import ClientCounts
from federa.tasks.skew import in_words as skew_in_words
from protos import federation_pb2 as pb

log = logging.getLogger("federa.coordinator")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRun:
    """A run that can begin, or go on with `decisions`. `rounds` are what updates come for, `setup` is what the workers
    prepare."""

    executor: RoundExecutor
    decisions: Sequence[Decision]
    rounds: OpenRounds
    setup: WorkerSetup


class RunPreparation:
    """Prepares one run, from the ledger's word where an earlier process began it."""

    def __init__(
        self,
        *,
        run_id: str,
        config: Experiment,
        storage: RunStorage,
        clients: RunClients,
        model: ReferenceModel,
        board: ProgressBoard,
        post: Callable[[Event | Exception], None],
    ) -> None:
        self._run_id = run_id
        self._config = config
        self._storage = storage
        self._clients = clients
        self._model = model
        self._board = board
        self._post = post

    async def prepare(self) -> PreparedRun:
        """Load the model, wait for enough devices, and put the run's rounds together. Raises FederaError."""
        config, folder = self._config, self._storage.folder
        self._board.stage("preparing", f"loading {config.model} and starting {config.method.name}")
        recovered = await in_thread(recover, self._storage.ledger, folder)
        # May take minutes: who ends the run meanwhile does not wait for it.
        start, state_bytes = await asyncio.to_thread(self._load_model, recovered)
        if self._model.composition:
            text = f"data: {in_words(self._model.composition)}"
            log.info("%s: %s", config.method.name, text)
            self._board.say(text)
        if text := self._split_in_words():
            log.info("%s: %s", config.method.name, text)
            self._board.say(f"data: {text}")
        if (cut := self._model.cut) is not None and cut.cut:
            text = f"data: held out, {cut.in_words(config.data.max_length)}"
            log.info("%s: %s", config.method.name, text)
            self._board.say(text)
        for note in self._model.model_notes:
            self._board.say(f"model: {config.model} {note}")
        machine = RoundStateMachine(await self._plan())
        states = RunStates(folder, config.make_aggregator(), wire=config.wire, seed=config.seed, start=start)
        throughput = Throughput(recovered.paces if recovered else ())
        executor = await self._make_executor(machine, states, throughput)
        decisions: Sequence[Decision] = ()
        if recovered is not None:
            history = recovered.history
            open_broadcast = None if history.is_aggregated else recovered.broadcast
            states.resume(recovered.state, recovered.server_state, history.snapshot.round, open_broadcast)
            decisions = executor.resume(history)
        rounds = OpenRounds(machine=machine, states=states, clock=executor.clock, state_bytes=state_bytes)
        return PreparedRun(executor=executor, decisions=decisions, rounds=rounds, setup=self._worker_setup(start))

    def _split_in_words(self) -> str:
        """How skewed the clients' data are, where the coordinator deals them out."""
        if self._config.data.source == DEVICES:
            return ""
        counts = ClientCounts.read(self._model.composition.get("clients"))
        what = "record" if self._config.evaluation == "devices" else "training record"
        return skew_in_words(counts, list(map(len, self._model.shards)), what)

    def _load_model(self, recovered: RecoveredRun | None) -> tuple[str, int]:
        """Load the model and make the start, or take the one that an earlier process made: another version of torch
        would decompose otherwise, and the workers formed W_res from the one recorded. Its digest and size."""
        model, folder, ledger = self._model, self._storage.folder, self._storage.ledger
        if recovered is None:
            blob = model.prepare()
            start = folder.keep_state(blob)
            start_s: float | None = model.start_s
        else:
            facts = ledger.facts()
            start, start_s = recovered.start, facts.get("start_s")
            # Computed again they might differ, with another number of threads, and the workers have their shards.
            model.clusters = facts.get("clusters")
            blob = model.prepare(folder.state(start).read_bytes())
            parts = (("base_digest", "base model"), ("data_digest", "data set"), ("held_out_digest", "held-out data"))
            for key, what in parts:
                if facts.get(key) != getattr(model, key):
                    raise FederaError(f"the {what} here is not the one that this run began with; name another --out")
        self._storage.models.fill(model.model_files(folder.model))
        own_data = self._config.data.source == DEVICES
        ledger.note(
            trainable_parameters=model.trainable_parameters,
            state_bytes=len(blob),
            start_sha256=start,
            start_s=start_s,
            base_digest=model.base_digest,
            data_digest=model.data_digest,
            held_out_digest=model.held_out_digest,
            clusters=None if model.clusters is None else list(model.clusters),
            data=dict(model.composition) or None,
            held_out_cut=None if model.cut is None else asdict(model.cut),
            model_notes=list(model.model_notes),
            shard_sizes=None if own_data else [len(shard) for shard in model.shards],
        )
        return start, len(blob)

    async def _plan(self) -> Plan:
        federation = self._config.federation
        enough = await self._clients.handler.gather(
            clients=federation.clients, devices=federation.devices, enough=federation.devices_to_start
        )
        return Plan(
            devices=federation.devices,
            devices_to_start=enough,
            clients_per_round=federation.clients_per_round,
            over_select=federation.over_select,
            quorum=federation.updates_to_close,
            attempts=federation.attempts,
            timed=federation.deadline_s is not None,
            rounds=federation.rounds,
            target=self._config.target.value,
            better=self._config.metric.better,
            seed=self._config.seed,
        )

    async def _make_executor(
        self, machine: RoundStateMachine, states: RunStates, throughput: Throughput
    ) -> RoundExecutor:
        clients, ledger = self._clients, self._storage.ledger

        async def record(seconds: float) -> None:
            await in_thread(ledger.note, evaluation_s=seconds)

        facts = await in_thread(ledger.facts)
        evaluator = TimedEvaluator(self._make_evaluator(throughput), record, facts.get("evaluation_s", 0.0))
        return RoundExecutor(
            machine=machine,
            cohort=clients.cohort,
            clients=clients.registry,
            states=states,
            store=LedgerRoundStore(ledger),
            uploads=clients.spool,
            scoring=RoundScoring(evaluator, states, on_devices=self._config.evaluation == "devices"),
            progress=self._board,
            throughput=throughput,
            timer=AttemptTimer(self._config.federation.deadline_s, throughput, self._post),
            post=self._post,
        )

    def _make_evaluator(self, throughput: Throughput) -> Evaluator:
        if self._config.evaluation != "devices":
            return CentralEvaluator(self._model, self._storage.folder.state, self._config.metric)
        evaluator = FederatedEvaluator(
            cohort=self._clients.cohort,
            clients=self._clients.registry,
            store=self._storage.ledger,
            progress=self._board,
            throughput=throughput,
            metric=self._config.metric,
            # The resolved experiment's: what may be counted depends on the classes that were found.
            check=self._model.experiment.make_task().check,
            deadline_s=self._config.federation.deadline_s,
        )
        self._clients.handler.listener = evaluator
        return evaluator

    def _worker_setup(self, start: str) -> WorkerSetup:
        model = self._model
        prepare = pb.Prepare(
            run_id=self._run_id,
            experiment_json=model.experiment.model_dump_json(),
            base_digest=model.base_digest,
            data_digest=model.data_digest,
            start_sha256=bytes.fromhex(start),
            model=self._storage.models.listing(),
        )
        return WorkerSetup(
            prepare=prepare,
            shards=model.shards,
            held_out_there=self._config.evaluation == "devices",
            own_data_only=self._config.data.source == DEVICES,
            max_length=self._config.data.max_length,
        )
