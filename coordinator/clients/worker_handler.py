"""What comes from the workers of a run on their control streams: that they are here or gone, and their reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from coordinator.clients.cohort import GrpcCohort
from coordinator.clients.placement import PlacementRequest
from coordinator.clients.registry import ClientRegistry
from coordinator.clients.sessions import Session, Sessions
from coordinator.clients.telemetry import MAX_TEXT_CHARS, TelemetryReceiver
from coordinator.clients.worker_setup import WorkerSetup
from coordinator.progress import ProgressBoard
from coordinator.rounds.cohort import CountersReport
from coordinator.rounds.events import Event, Failed, Joined, Left, Unable
from coordinator.rounds.failures import MAX_KINDS, Failure
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import LedgerFailure
from coordinator.threads import in_thread, to_its_end
from federa.errors import BadInput, FederaError, shown
from federa.tasks.composition import CutRecords
from protos import federation_pb2 as pb

log = logging.getLogger("federa.coordinator")


class EvaluationListener(Protocol):
    """Federated evaluation, which asks the devices to score a state (coordinator.evaluation.federated). What matters
    to it reaches it at once, also while the rounds wait for it."""

    def ready(self, worker: str) -> None: ...

    def presence_changed(self) -> None: ...

    def receive(self, worker: str, report: CountersReport, max_examples: int) -> None: ...

    def failed(self, worker: str, round_: int, client: int, why: Failure) -> None: ...


class WorkerHandler:
    """Handles the worker streams of one run: they call `joined`, `left` and `received`. What matters to the rounds goes
    on to `post` as events, what ends the run as an exception."""

    def __init__(
        self,
        *,
        registry: ClientRegistry,
        cohort: GrpcCohort,
        sessions: Sessions,
        ledger: Ledger,
        telemetry: TelemetryReceiver,
        board: ProgressBoard,
        post: Callable[[Event | Exception], None],
    ) -> None:
        self.listener: EvaluationListener | None = None
        self.rounds_began = False
        """Whether the first round has begun: before it a run ends where too few workers are able, later it goes on
        without them."""
        self._registry = registry
        self._cohort = cohort
        self._sessions = sessions
        self._ledger = ledger
        self._telemetry = telemetry
        self._board = board
        self._post = post
        self._setup: WorkerSetup | None = None
        self._enough = 0

    # ---- who takes part

    async def gather(self, *, clients: int, devices: int, enough: int) -> int:
        """Wait until enough of the devices have been seen, and place the clients. Those of an earlier process of this
        run count, connected or not: they come back. Returns how many devices the first round waits for."""
        registry, sessions = self._registry, self._sessions
        registry.expect(clients=clients, devices=devices)
        while len(names := sorted({*sessions.names, *registry.workers})) < enough:
            self._board.stage("waiting", f"{len(names)} of {enough} devices are connected")
            await sessions.change()
        await self._place([session for name in sessions.names if (session := sessions.get(name)) is not None])
        self._enough = min(enough, len(registry.workers))
        return self._enough

    async def set_up(self, setup: WorkerSetup) -> None:
        """Let every host prepare, now or when it joins."""
        self._setup = setup
        for name in self._sessions.names:
            if (session := self._sessions.get(name)) is not None:
                await self.joined(session)

    async def _place(self, sessions: list[Session]) -> None:
        requests = {
            session.name: PlacementRequest(clients=tuple(session.hello.clients), own_data=session.hello.own_data)
            for session in sessions
        }
        keys = {session.name: session.hello.key for session in sessions}

        async def place() -> None:
            await self._registry.place(requests, keys)
            self._sessions.bind(self._registry.keys)

        # To its end: a stream that breaks meanwhile must not leave the ledger with what the registry does not know.
        await to_its_end(asyncio.ensure_future(place()))

    # ---- what the streams bring

    async def joined(self, session: Session) -> None:
        """Take in a worker whose stream is up, for the first time or again: who comes after the run began hosts what
        has no host yet."""
        name, setup = session.name, self._setup
        self._registry.arrive(name)
        if setup is None or self._cohort.is_releasing:
            return
        if name not in self._registry.workers:
            try:
                await self._place([session])
            except BadInput as error:
                log.warning("worker %s takes no part: %s", name, error)
            except LedgerFailure as error:
                self._post(error)
            # Meanwhile it may have left, or have come again.
            if name not in self._registry.workers or self._sessions.get(name) is not session:
                return
        self._cohort.prepare(session, setup)

    def left(self, name: str) -> None:
        """Take note of a worker whose stream is gone."""
        self._registry.leave(name)
        self._post(Left(name))
        self._presence_changed()
        if self._cohort.is_releasing:
            self._cohort.released(name)

    async def key_copied(self, name: str) -> None:
        """Let the run's display and its results say that a second worker came with a worker's name and key."""
        self._board.warn(f"a second worker named {name} with the same key was refused: name and key are in use twice")
        copied = (await in_thread(self._ledger.facts)).get("copied_keys", [])
        try:
            await in_thread(self._ledger.note, copied_keys=sorted({*copied, name}))
        except LedgerFailure as error:
            self._post(error)

    def received(self, session: Session, message: pb.WorkerMessage) -> None:
        """Take in a report that names this run. One of a worker that hosts nothing here is nobody's business."""
        name = session.name
        if name not in self._registry.workers:
            return
        match message.WhichOneof("message"):
            case "prepared":
                self._prepared(session, message.prepared)
            case "client_error":
                self._client_error(name, message.client_error)
            case "activity":
                entry, activity = self._board.worker(name), message.activity
                entry.phase, entry.client, entry.progress = activity.phase[:20], activity.client, activity.progress
                self._board.touch()
            case "telemetry":
                self._telemetry.receive(name, self._registry.hosted_by(name), message.telemetry)
            case "counters":
                self._counters(session, message.counters)
            case "released":
                self._cohort.released(name)

    # ---- the reports

    def _prepared(self, session: Session, prepared: pb.Prepared) -> None:
        name, clients, setup = session.name, self._registry.hosted_by(session.name), self._setup
        if setup is None:
            return  # of an earlier process's order: it prepares again for this one's
        cut = {
            client: CutRecords(prepared.cut[client].records, prepared.cut[client].cut)
            for client in clients
            if client in prepared.cut
        }
        objection = setup.objection(clients, prepared.examples, own_data=session.hello.own_data)
        objection = objection or setup.objection_to_cut(cut)
        if objection:
            self._unable(name, Failure(objection, bad_input=True))
            return
        chosen = {"device": prepared.device[:MAX_TEXT_CHARS], "precision": prepared.precision[:MAX_TEXT_CHARS]}
        examples = {client: prepared.examples[client] for client in clients}
        facts = {**session.hello.device, **session.hello.versions, **chosen}
        if prepared.threads:
            facts["threads"] = str(prepared.threads)  # of this run; in the hello, of when the worker was started
        self._ledger.prepared(name, facts, examples, cut)
        self._say_cut(name, cut, setup.max_length)
        if prepared.HasField("power"):
            self._telemetry.receive_power(name, prepared.power)
        self._registry.mark_ready(name, examples)
        self._board.worker(name).device = ", ".join(chosen.values())
        self._post(Joined(name, tuple(clients)))
        if self.listener is not None:
            self.listener.ready(name)

    def _say_cut(self, worker: str, cut: Mapping[int, CutRecords], max_length: int) -> None:
        total = CutRecords.summed(cut.values())
        text = f"data: on {worker} {total.in_words(max_length)}"
        if total.cut and text not in self._board.run.facts:  # it is prepared anew after a restart
            log.info("%s", text)
            self._board.say(text)

    def _counters(self, session: Session, report: pb.Counters) -> None:
        if self.listener is None or self._setup is None:
            return
        trained_on = self._registry.examples.get(report.client, 0)
        most = self._setup.max_held_out(report.client, trained_on, own_data=session.hello.own_data)
        counted = CountersReport(
            round=report.round, part=report.part, client=report.client, counters=dict(report.counters)
        )
        self.listener.receive(session.name, counted, most)

    def _client_error(self, worker: str, error: pb.ClientError) -> None:
        message = shown(" ".join(error.message.split()), MAX_TEXT_CHARS)
        if error.round == 0:
            # It does not try again by itself, whatever the cause.
            self._unable(worker, Failure(message, error.bad_input))
        elif self._registry.hosts.get(error.client) == worker:
            log.warning("worker %s, client %d in round %d: %s", worker, error.client, error.round, message)
            why = Failure(message, error.bad_input, error.passing)
            self._post(Failed(error.round, error.client, why))
            if self.listener is not None:
                self.listener.failed(worker, error.round, error.client, why)

    def _unable(self, worker: str, why: Failure) -> None:
        """A worker could not prepare. The run goes on without it where that leaves enough to begin with."""
        log.warning("worker %s cannot take part: %s", worker, why.reason)
        registry = self._registry
        registry.mark_unable(worker, why)
        self._presence_changed()
        if self.rounds_began or not self._too_few_are_left():
            self._post(Unable(worker, why))
            if not self.rounds_began:
                self._board.stage("preparing", f"without worker {worker}, which cannot take part: {why.reason}")
            return
        found = {why.kind: f"worker {worker}, preparing: {why.reason}"}
        for name, other in sorted(registry.unable.items()):
            found.setdefault(other.kind, f"worker {name}: {other.reason}")
        is_bad_input = all(other.bad_input for other in registry.unable.values())
        self._post((BadInput if is_bad_input else FederaError)("; ".join(list(found.values())[:MAX_KINDS])))

    def _too_few_are_left(self) -> bool:
        """Whether the first round cannot begin. While more devices may come it can, unless as many as it waits for
        have failed, and no other is here."""
        registry = self._registry
        if registry.devices <= len(registry.workers):
            return len(registry.able) < self._enough
        others = [name for name in registry.able if registry.away_s(name) is None]
        return not others and len(registry.unable) >= self._enough

    def _presence_changed(self) -> None:
        if self.listener is not None:
            self.listener.presence_changed()
