"""A run: one method on one data set until the target or the last round. It does what the state machine decides."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from coordinator.aggregation import Update, average
from coordinator.crew import Crew
from coordinator.hosting import assign_clients
from coordinator.intake import Intake, Late, Refused
from coordinator.learner import Learner, Part
from coordinator.ledger import Ledger
from coordinator.progress import ProgressBoard
from coordinator.result import environment, run_result, write_results
from coordinator.rounds import Accepted, Announce, Close, Evaluated, Event, Finish, Plan, Rounds
from coordinator.run_folder import RunFolder
from coordinator.sessions import Sessions
from federa.config import Experiment
from federa.errors import FederaError
from federa.memory import return_freed
from federa.state import shapes_of
from protos import federation_pb2 as pb

MOST_EXAMPLES = 1 << 31
"""Of one client: far above any data set, and what SQLite holds and float64 weighs exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """What is known once the learner is prepared and the devices are chosen."""

    intake: Intake
    rounds: Rounds
    start: str


class Run:
    """Create it, then `execute`. Worker streams talk to its `crew`; transfers call the methods at the end."""

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
        self._board = board
        self._ready: _Ready | None = None
        self._state = ""
        self._announced_at = 0.0
        self._evaluation_s = 0.0
        self._events: asyncio.Queue[Event | FederaError] = asyncio.Queue()
        self.crew = Crew(
            run_id=run_id, sessions=sessions, ledger=self.ledger, board=board, post=self._events.put_nowait
        )

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
            control_bytes = await asyncio.shield(self.crew.release(self._board.run.stage))
            self.ledger.note(control_bytes=control_bytes)
            self.over = True
            self._write_result()
            self.ledger.close()

    async def _prepare(self) -> _Ready:
        began = time.monotonic()
        self._board.stage("preparing", f"loading {self.config.model} and starting {self.config.method.name}")
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
        devices = await self.crew.gather(self.config.federation.devices)
        hosts = assign_clients(self.config.federation.clients, devices)
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
        )
        self._ready = ready
        self._board.stage("preparing", "the devices load the base model")
        brief = pb.Prepare(
            run_id=self.run_id,
            experiment_json=self.config.model_dump_json(),
            base_digest=self._learner.base_digest,
            data_digest=self._learner.data_digest,
            labels=self._learner.labels,
            start_sha256=bytes.fromhex(start),
        )
        self.crew.brief(hosts, brief, self._learner.shards)
        await self._absorb(ready)  # until everybody is ready and the first round is announced
        self.ledger.note(setup_s=time.monotonic() - began)
        return ready

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
        if self.crew.announce(order, self._state) and order.round > self._board.run.round:
            self.ledger.announced(order.round, ready.rounds.selected)
            self._announced_at = time.monotonic()
            self._board.run.round = order.round
            self._board.run.updates = 0
            self._board.run.expected = len(ready.rounds.selected)
            self._board.stage("training")

    async def _close(self, ready: _Ready, order: Close) -> None:
        updates = [
            Update(path=self.folder.update(order.round, row["client"], row["sha256"]), examples=row["examples"])
            for row in self.ledger.contributions(order.round)
        ]
        self._board.stage("averaging")
        blob = await asyncio.to_thread(average, updates)
        self._state = await asyncio.to_thread(self.folder.keep_state, blob)
        seconds = time.monotonic() - self._announced_at
        del blob
        await asyncio.to_thread(return_freed)
        self.ledger.folded(order.round, seconds, self._state)
        self.folder.drop_updates(order.round)
        # The start state stays: a worker that joins late forms W_res from it.
        self.folder.drop_states(but={ready.start, self._state})
        self._board.run.elapsed_s += seconds
        bytes_after = sum(self.ledger.bytes_moved())
        self._board.stage("evaluating")
        value = await self._evaluate("validation")
        self.ledger.evaluated(order.round, value)
        self._board.run.values.append(value)
        self._board.run.elapsed_after_s.append(self._board.run.elapsed_s)
        self._board.run.bytes_after.append(bytes_after)
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
        self._board.stage("testing")
        test = await self._evaluate("test")
        self.ledger.note(test=test, state="finished")
        self._board.stage("finished", "target reached" if reached else "the last round is over")

    def _stop(self, state: str, message: str) -> None:
        self.ledger.note(state=state, failure=message)
        if self._board.run.values:
            self.folder.publish_final(self._state)
        self._board.stage(state, message)

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

    async def upload(
        self, first: pb.Chunk, rest: AsyncIterator[pb.Chunk], admit: Callable[[], Awaitable[None]]
    ) -> pb.UploadReply:
        """An update. `admit` is called when its header is in order, to have the rest sent. Raises Refused."""
        update = first.header.update
        ready = self._ready
        if ready is None or self.over or update.round != ready.rounds.round:
            now = ready.rounds.round if ready else 0
            raise Late(f"update of client {update.client} is for round {update.round}, the run is in round {now}")
        if update.client not in ready.rounds.selected or ready.rounds.plan.hosts[update.client] != update.worker:
            raise Late(f"client {update.client} of worker {update.worker} has no part in round {update.round}")
        if not 1 <= update.examples <= MOST_EXAMPLES:
            raise Refused(f"update of client {update.client} must stand for 1 to {MOST_EXAMPLES} examples")
        if not all(0 <= milliseconds < math.inf for milliseconds in update.step_ms):
            raise Refused(f"update of client {update.client} has a step time that no clock says")
        reply = await ready.intake.take(first, rest, admit)
        if not reply.already_accepted:
            self._board.run.updates += 1
        self._events.put_nowait(Accepted(update.round, update.client))
        self._count_bytes()
        return reply

    # ---- showing

    def _count_bytes(self) -> None:
        self._board.run.bytes_down, self._board.run.bytes_up = self.ledger.bytes_moved()
        self._board.touch()

    def _write_result(self) -> None:
        write_results(self.folder.path, [run_result(self.ledger)])
