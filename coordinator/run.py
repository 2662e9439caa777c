"""A run: one method on one data set until the target or the last round. It does what the state machine decides."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from coordinator.aggregation import Update, average
from coordinator.hosting import Wish, assign_clients
from coordinator.intake import Intake, Refused
from coordinator.learner import Learner, Part
from coordinator.ledger import Ledger
from coordinator.progress import ProgressBoard
from coordinator.result import environment, run_result, write_results
from coordinator.rounds import Accepted, Announce, Close, Evaluated, Event, Finish, Joined, Left, Plan, Rounds
from coordinator.run_folder import RunFolder
from coordinator.sessions import Session, Sessions
from federa.config import Experiment
from federa.errors import BadInput, FederaError
from federa.state import shapes_of
from protos import federation_pb2 as pb

RELEASE_WAIT_S = 5.0
"""How long the last reports of the workers are waited for when a run is over."""
MOST_EXAMPLES = 1 << 31
"""Of one client: far above any data set, and what SQLite holds and float64 weighs exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """What is known once the learner is prepared and the devices are chosen."""

    intake: Intake
    rounds: Rounds
    start: str
    hosts: dict[int, str]


class Run:
    """Create it, then `execute`. Worker streams call `joined`, `left` and `heard`, transfers the rest."""

    def __init__(
        self,
        *,
        run_id: str,
        config: Experiment,
        folder: RunFolder,
        learner: Learner,
        sessions: Sessions,
        board: ProgressBoard,
    ) -> None:
        self.run_id = run_id
        self.config = config
        self.folder = folder
        self.over = False
        self.ledger = Ledger(folder.ledger)
        self._learner = learner
        self._sessions = sessions
        self._board = board
        self._ready: _Ready | None = None
        self._state = ""
        self._announced_at = 0.0
        self._elapsed_s = 0.0
        self._evaluation_s = 0.0
        self._control_bytes_before: dict[str, int] = {}
        self._events: asyncio.Queue[Event | FederaError] = asyncio.Queue()
        self._prepared: set[str] = set()
        self._unreleased: set[str] = set()
        self._all_released = asyncio.Event()

    # ---- the run itself

    async def execute(self) -> bool:
        """Run to the end and leave the results in the folder. True when the target was reached.

        Raises FederaError when the run cannot go on, and CancelledError when it is ended early: then, too, the folder
        holds a readable result.
        """
        self.ledger.note(
            run_id=self.run_id, config=self.config.model_dump(mode="json"), environment=environment(), state="running"
        )
        try:
            ready = await self._prepare()
            reached = await self._rounds(ready)
            await self._finish(reached)
            return reached
        except asyncio.CancelledError:
            self._stop("stopped", "ended early by the user")
            raise
        except FederaError as error:
            self._stop("failed", str(error))
            raise
        except Exception as error:
            self._stop("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._learner.stop()
            await asyncio.shield(self._release())
            self.over = True
            self._write_result()
            self.ledger.close()

    async def _prepare(self) -> _Ready:
        began = time.monotonic()
        self._stage("preparing", f"loading {self.config.model} and starting {self.config.method.name}")
        blob = await asyncio.to_thread(self._learner.prepare)
        start = await asyncio.to_thread(self.folder.keep_state, blob)
        self._state = start
        path = self.folder.state(start)
        self.ledger.note(
            trainable_parameters=self._learner.trainable_parameters,
            state_bytes=len(blob),
            start_s=self._learner.start_s,
            base_digest=self._learner.base_digest,
            data_digest=self._learner.data_digest,
            shard_sizes=[len(shard) for shard in self._learner.shards],
        )
        hosts = assign_clients(self.config.federation.clients, await self._devices())
        plan = Plan(
            hosts=hosts,
            clients_per_round=self.config.federation.clients_per_round,
            rounds=self.config.federation.rounds,
            target=self.config.target.value,
            seed=self.config.seed,
        )
        ready = _Ready(
            intake=Intake(self.folder, self.ledger, shapes_of(path), len(blob)),
            rounds=Rounds(plan),
            start=start,
            hosts=hosts,
        )
        self._ready = ready
        self._stage("preparing", "the devices load the base model")
        for name in sorted(set(hosts.values())):
            session = self._sessions.get(name)
            if session is not None:
                self.joined(session)
        await self._absorb(ready)  # until everybody is ready and the first round is announced
        self.ledger.note(setup_s=time.monotonic() - began)
        return ready

    async def _devices(self) -> dict[str, Wish]:
        wanted = self.config.federation.devices
        while len(self._sessions.names) < wanted:
            here = len(self._sessions.names)
            self._stage("waiting", f"{here} of {wanted} devices are connected")
            await self._sessions.change()
        chosen = {}
        for name in self._sessions.names[:wanted]:
            session = self._sessions.get(name)
            assert session is not None
            chosen[name] = Wish(clients=tuple(session.hello.clients), own_data=session.hello.own_data)
        return chosen

    async def _rounds(self, ready: _Ready) -> bool:
        while True:
            finish = await self._absorb(ready)
            if finish is not None:
                return finish.reached

    async def _absorb(self, ready: _Ready) -> Finish | None:
        """Take one event that leads to decisions and carry them out."""
        while True:
            event = await self._events.get()
            if isinstance(event, FederaError):
                raise event
            decisions = ready.rounds.apply(event)
            absent = ready.rounds.absent
            self._board.run.note = f"waiting for {', '.join(absent)}" if absent and ready.rounds.round else ""
            self._board.touch()
            for decision in decisions:
                match decision:
                    case Announce():
                        self._announce(ready, decision)
                    case Close():
                        await self._close(ready, decision)
                    case Finish():
                        return decision
            if decisions:
                return None

    def _announce(self, ready: _Ready, order: Announce) -> None:
        session = self._sessions.get(order.worker)
        if session is None:
            return  # it left a moment ago; when it is back the machine announces again
        if order.round > self._board.run.round:
            self.ledger.announced(order.round, ready.rounds.selected)
            self._announced_at = time.monotonic()
            self._board.run.round = order.round
            self._board.run.updates = 0
            self._board.run.expected = len(ready.rounds.selected)
            self._stage("training")
        session.send(
            pb.CoordinatorMessage(
                train=pb.Train(
                    run_id=self.run_id,
                    round=order.round,
                    state_sha256=bytes.fromhex(self._state),
                    clients=order.clients,
                )
            )
        )

    async def _close(self, ready: _Ready, order: Close) -> None:
        updates = [
            Update(path=self.folder.update(order.round, row["client"], row["sha256"]), examples=row["examples"])
            for row in self.ledger.contributions(order.round)
        ]
        self._stage("averaging")
        blob = await asyncio.to_thread(average, updates)
        self._state = await asyncio.to_thread(self.folder.keep_state, blob)
        seconds = time.monotonic() - self._announced_at
        self.ledger.folded(order.round, seconds, self._state)
        self.folder.drop_updates(order.round)
        # The start state stays: a worker that joins late forms W_res from it.
        self.folder.drop_states(but={ready.start, self._state})
        self._elapsed_s += seconds
        self._board.run.elapsed_s = self._elapsed_s
        self._stage("evaluating")
        value = await self._evaluate("validation")
        self.ledger.evaluated(order.round, value)
        self._board.run.values.append(value)
        self._board.touch()
        self._write_result()
        self._events.put_nowait(Evaluated(order.round, value))

    async def _evaluate(self, part: Part) -> float:
        began = time.monotonic()
        score = await asyncio.to_thread(self._learner.evaluate, self.folder.state(self._state), part)
        self._evaluation_s += time.monotonic() - began
        self.ledger.note(evaluation_s=self._evaluation_s)
        return score.accuracy

    async def _finish(self, reached: bool) -> None:
        await asyncio.to_thread(self.folder.publish_final, self._state)
        self._stage("testing")
        test = await self._evaluate("test")
        self.ledger.note(test=test, state="finished")
        self._stage("finished", "target reached" if reached else "the last round is over")

    def _stop(self, state: str, message: str) -> None:
        self.ledger.note(state=state, failure=message)
        if self._board.run.values:
            self.folder.publish_final(self._state)
        self._stage(state, message)

    async def _release(self) -> None:
        """Let the workers free their memory, and wait for the reports that are still on their way."""
        reason = self._board.run.stage
        for name in sorted(self._unreleased):
            session = self._sessions.get(name)
            if session is None:
                self._unreleased.discard(name)
            else:
                session.send(pb.CoordinatorMessage(release=pb.Release(run_id=self.run_id, reason=reason)))
        if self._unreleased:
            try:
                await asyncio.wait_for(self._all_released.wait(), RELEASE_WAIT_S)
            except asyncio.TimeoutError:
                self._board.run.note = f"no last report from {', '.join(sorted(self._unreleased))}"
        self.ledger.note(control_bytes=self._control_bytes())

    # ---- what worker streams tell

    def joined(self, session: Session) -> None:
        """A worker's stream is up, or the run is ready to have it."""
        ready = self._ready
        hosted = [client for client, host in ready.hosts.items() if host == session.name] if ready else []
        if ready is None or not hosted:
            return
        self._control_bytes_before.setdefault(session.name, session.control_bytes)
        self._unreleased.add(session.name)
        shards = self._learner.shards
        session.send(
            pb.CoordinatorMessage(
                prepare=pb.Prepare(
                    run_id=self.run_id,
                    experiment_json=self.config.model_dump_json(),
                    base_digest=self._learner.base_digest,
                    data_digest=self._learner.data_digest,
                    labels=self._learner.labels,
                    start_sha256=bytes.fromhex(ready.start),
                    shards=[pb.Shard(client=client, indices=shards[client]) for client in hosted],
                )
            )
        )

    def left(self, name: str) -> None:
        """A worker's stream is gone."""
        self._events.put_nowait(Left(name))
        if name in self._unreleased and self._board.run.stage in ("finished", "stopped", "failed"):
            self._was_released(name)

    def heard(self, session: Session, message: pb.WorkerMessage) -> None:
        """A report that names this run."""
        match message.WhichOneof("message"):
            case "prepared":
                chosen = {"device": message.prepared.device, "precision": message.prepared.precision}
                self.ledger.device(session.name, {**session.hello.device, **session.hello.versions, **chosen})
                self._board.worker(session.name).device = ", ".join(chosen.values())
                self._events.put_nowait(Joined(session.name))
            case "trouble":
                trouble = message.trouble
                where = f"client {trouble.client} in round {trouble.round}" if trouble.round else "preparing"
                kind = BadInput if trouble.bad_input else FederaError
                self._events.put_nowait(kind(f"worker {session.name}, {where}: {trouble.message}"))
            case "activity":
                entry = self._board.worker(session.name)
                activity = message.activity
                entry.phase, entry.client, entry.progress = activity.phase, activity.client, activity.progress
                self._board.touch()
            case "phase_time":
                report = message.phase_time
                if not 0 <= report.seconds < math.inf:
                    return  # no clock says this, and JSON has no word for it
                self.ledger.phase(
                    round_=report.round,
                    device=session.name,
                    client=report.client,
                    phase=report.phase,
                    seconds=report.seconds,
                )
            case "released":
                self._was_released(session.name)

    def _was_released(self, name: str) -> None:
        self._unreleased.discard(name)
        if not self._unreleased:
            self._all_released.set()

    # ---- transfers

    def state_to_send(self, digest: str) -> bool:
        """Whether a worker may ask for the state of that digest now."""
        return self._ready is not None and digest in (self._ready.start, self._state)

    def sent(self, worker: str, wire_bytes: int, state_bytes: int) -> None:
        """A state has gone down to a worker."""
        if self.over:
            return
        round_ = max(1, self._board.run.round)
        self.ledger.downloaded(round_=round_, device=worker, wire_bytes=wire_bytes, state_bytes=state_bytes)
        self._count_bytes()

    async def upload(self, first: pb.Chunk, rest: AsyncIterator[pb.Chunk]) -> pb.UploadReply:
        """An update. Raises Refused."""
        update = first.header.update
        ready = self._ready
        if ready is None or self.over or update.round != ready.rounds.round:
            now = ready.rounds.round if ready else 0
            raise Refused(f"update of client {update.client} is for round {update.round}, the run is in round {now}")
        if update.client not in ready.rounds.selected or ready.hosts[update.client] != update.worker:
            raise Refused(f"client {update.client} of worker {update.worker} has no part in round {update.round}")
        if not 1 <= update.examples <= MOST_EXAMPLES:
            raise Refused(f"update of client {update.client} must stand for 1 to {MOST_EXAMPLES} examples")
        reply = await ready.intake.take(first, rest)
        if not reply.already_accepted:
            self._board.run.updates += 1
        self._events.put_nowait(Accepted(update.round, update.client))
        self._count_bytes()
        return reply

    # ---- showing

    def _stage(self, stage: str, note: str = "") -> None:
        self._board.run.stage = stage
        self._board.run.note = note
        self._board.touch()

    def _count_bytes(self) -> None:
        self._board.run.bytes_down, self._board.run.bytes_up = self.ledger.bytes_moved()
        self._board.touch()

    def _control_bytes(self) -> int:
        live = {name: self._sessions.get(name) for name in self._control_bytes_before}
        return sum(
            session.control_bytes - self._control_bytes_before[name] for name, session in live.items() if session
        )

    def _write_result(self) -> None:
        write_results(self.folder.path, [run_result(self.ledger)])
