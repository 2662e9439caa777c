"""Carries out what the state machine decides: draws are recorded, workers told, rounds timed, closed and evaluated."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from coordinator.clients.registry import ClientRegistry
from coordinator.clients.update_spool import UpdateSpool
from coordinator.evaluation.evaluator import EvaluationResult, TimedEvaluation
from coordinator.evaluation.reference_model import Part
from coordinator.progress import ProgressBoard
from coordinator.report.result import run_result
from coordinator.rounds.events import (
    Accepted,
    Announce,
    Close,
    Deadline,
    Decision,
    Evaluated,
    Event,
    Failed,
    Finish,
    Pause,
    Refused,
    Select,
    Unable,
)
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.rounds.throughput import Throughput
from coordinator.storage.broadcast import Broadcast, make_broadcast
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import ClientFailure
from coordinator.storage.recovery import RecoveredRun
from coordinator.storage.run_folder import RunFolder
from federa.aggregation.base import Aggregate, AggregateFiles, RoundUpdates, Update
from federa.config import Experiment
from federa.errors import BadInput
from federa.memory import return_freed
from federa.phases import EVALUATE, IDLE

log = logging.getLogger("federa.coordinator")


class RoundExecutor:
    """Of one run. `state` is the digest of what the run has learned so far, `start` of what it began with."""

    def __init__(
        self,
        *,
        config: Experiment,
        rounds: RoundStateMachine,
        folder: RunFolder,
        ledger: Ledger,
        crew: ClientRegistry,
        intake: UpdateSpool,
        evaluation: TimedEvaluation,
        board: ProgressBoard,
        start: str,
        post: Callable[[Event | Exception], None],
    ) -> None:
        self.rounds = rounds
        self.start = self.state = start
        self.server_state: str | None = None
        self.broadcast: Broadcast | None = None
        """What the workers may download beside the start: of the round that is open, or, where they evaluate, already
        the next round's."""
        self._broadcast_of = 0  # its round
        self._evaluating: asyncio.Future[None] | None = None
        self._config = config
        self._aggregator = config.make_aggregator()
        self._folder = folder
        self._ledger = ledger
        self._crew = crew
        self._intake = intake
        self._evaluation = evaluation
        self._board = board
        self._post = post
        self._began = 0.0
        self._announced = ((0, 0), 0.0)  # round and attempt that a worker has heard of, and since when
        self._timed = (0, 0)  # those that the timer runs for
        self._timer: asyncio.TimerHandle | None = None
        self._pace = Throughput(ledger.paces())
        self._last_failure = ""
        self._absent: list[str] = []
        self._all_s = 0.0  # of all folded rounds

    def elapsed_s(self) -> float:
        """Seconds since the round was announced, downtime apart."""
        return time.monotonic() - self._began

    def stop(self) -> None:
        """Let no deadline fall any more, and end an evaluation under way."""
        self._stop_timer()
        if self._evaluating is not None:
            self._evaluating.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def resume(self, past: RecoveredRun) -> list[Decision]:
        """Take over from an earlier process; what is to be done at once."""
        self.state, self.server_state = past.state, past.server_state
        board = self._board.run
        for point in run_result(self._ledger)["curve"]:
            self._board.reached(point["value"], point["elapsed_s"], point["bytes_down"] + point["bytes_up"])
        self._all_s = sum(row["seconds"] for row in self._ledger.rounds())
        decisions = self.rounds.recover(past.past)
        if past.last is None:
            return decisions
        board.round, board.updates = self.rounds.round, len(past.past.accepted)
        if past.folded:
            self.rounds.closed()
            if past.last["value"] is not None:
                return self.rounds.apply(Evaluated(self.rounds.round, past.last["value"]))
            self._evaluate_aside(self.rounds.round)
            return decisions
        self.broadcast = Broadcast(self._folder, past.last["broadcast_sha256"], self.start)
        self._broadcast_of = past.last["round"]
        self._began = time.monotonic() - past.spent_s
        board.expected = self.rounds.plan.clients_per_round
        self._board.stage("training", "going on after a restart")
        self._crew.wait(past.last["round"], IDLE)
        return decisions

    async def apply(self, event: Event) -> Finish | None:
        """Take in an event and do what follows from it."""
        self._record(event)
        finish = await self.carry_out(self.rounds.apply(event))
        self.show()
        return finish

    async def carry_out(self, decisions: Sequence[Decision]) -> Finish | None:
        """Do what was decided, in order; the end of the run where that is among it."""
        for decision in decisions:
            match decision:
                case Select():
                    await self._select(decision)
                case Announce():
                    self._announce(decision)
                case Close():
                    await self._close(decision)
                case Pause():
                    self._pause(decision)
                case Finish():
                    return decision
        return None

    # ---- what is decided

    async def _select(self, draw: Select) -> None:
        if draw.attempt == 1:
            await self._make_broadcast(draw.round)
        assert self.broadcast is not None
        self._ledger.selected(draw.round, draw.attempt, draw.clients, self.broadcast.sha256)
        board = self._board.run
        if draw.attempt == 1:
            self._began = time.monotonic()
            board.round, board.updates, board.expected = draw.round, 0, self.rounds.plan.clients_per_round
            self._board.stage("training")
            self._crew.wait(draw.round, IDLE)
        elif draw.clients:
            self._board.stage("training", f"attempt {draw.attempt}: {_clients(draw.clients)} in place of others")
        if draw.attempt > 1:
            # Perhaps nothing is announced, to nobody or to workers that are away: those that are late have a deadline.
            self._time()

    def _announce(self, order: Announce) -> None:
        assert self.broadcast is not None
        if self._crew.announce(order, self.broadcast.sha256):
            self._time()

    async def _close(self, order: Close) -> None:
        assert self.broadcast is not None
        self._stop_timer()
        await self._intake.settled()
        # Every update that was acknowledged counts, also one that was being recorded as the round was closed.
        rows = self._ledger.contributions(order.round)
        missing = sorted(set(order.missing) - {row["client"] for row in rows})
        if missing:
            reason = f"the round was closed with {len(rows)} updates after {self.elapsed_s():.1f} s"
            for client in missing:
                self._set_back("missing", order.round, client, reason)
            self._crew.abandon(order.round, missing, reason)
        updates = [
            Update(path=self._folder.update(order.round, row["client"], row["sha256"]), examples=row["examples"])
            for row in rows
        ]
        self._board.stage("averaging")
        made = await asyncio.to_thread(self._aggregate, updates, self.broadcast)
        self.state, self.server_state = made.state, made.server_state
        seconds = self.elapsed_s()
        self._ledger.folded(order.round, seconds, self.state, self.server_state)
        self._all_s += seconds
        self._intake.forget(order.round)
        # The start state stays: a worker that joins late forms W_res from it.
        kept = {self.start, self.state, self.server_state or self.start}
        await asyncio.to_thread(self._folder.tidy, states=kept, updates=set(), round_=order.round)
        self._evaluate_aside(order.round)

    def _aggregate(self, updates: Sequence[Update], broadcast: Broadcast) -> Aggregate:
        before = self._folder.state(self.server_state) if self.server_state else None
        files = AggregateFiles(
            state=self._folder.fresh_state(), server_state=self._folder.fresh_server_state(), before=before
        )
        made = self._aggregator.aggregate(RoundUpdates(updates, broadcast.base), files)
        if made.server_state is not None:
            self._folder.name_state(files.server_state, made.server_state)
        self._folder.name_state(files.state, made.state)
        return_freed()
        return made

    async def _make_broadcast(self, round_: int) -> None:
        """Once for a round: the devices may have had it before, to evaluate it."""
        if self._broadcast_of == round_:
            return
        self.broadcast = await asyncio.to_thread(
            make_broadcast,
            self._folder,
            wire=self._config.wire,
            round_=round_,
            state=self.state,
            start=self.start,
            seed=self._config.seed,
        )
        self._broadcast_of = round_

    # ---- what a state is worth

    async def score(self, part: Part) -> EvaluationResult:
        """The verdict on the newest round's state. The devices score it as they get it: as the next broadcast."""
        state, round_ = self.state, self.rounds.round
        if self._config.evaluation == "devices":
            await self._make_broadcast(round_ + 1)
            assert self.broadcast is not None
            state = self.broadcast.sha256
        return await self._evaluation.of(round_, state, part)

    def _evaluate_aside(self, round_: int) -> None:
        """Begin the evaluation, which posts its event. Devices that count may leave and come back meanwhile."""
        if self._config.evaluation == "coordinator":
            # Where they count themselves, this is idle time, and their own evaluation a phase of its own.
            self._crew.wait(round_, EVALUATE)
        self._board.stage("evaluating")
        self._evaluating = asyncio.ensure_future(self._evaluate(round_))

    async def _evaluate(self, round_: int) -> None:
        try:
            verdict = await self.score("validation")
            if verdict.value is None:
                raise BadInput(
                    "data.validation: no client has a document to validate on: hold out a larger part, or bring more"
                )
            self._ledger.evaluated(round_, verdict.value, verdict.examples)
            self._board.reached(verdict.value, self._all_s, self._ledger.bytes_down + self._ledger.bytes_up)
            self._post(Evaluated(round_, verdict.value))
        except Exception as error:
            self._post(error)

    def _pause(self, pause: Pause) -> None:
        self._stop_timer()
        plan = self.rounds.plan
        waits = ", ".join(self.rounds.absent) or "a worker that joins or comes back"
        why = f"; last failure: {self._last_failure}" if self._last_failure else ""
        words = (
            f"round {pause.round} has {pause.accepted} of the {plan.quorum} updates it needs after "
            f"{self.rounds.attempt} attempts; waiting for {waits}{why}"
        )
        log.warning("paused: %s", words)
        self._board.stage("paused", words)

    # ---- deadlines

    def _time(self) -> None:
        """Start the attempt's timer, once, where its deadline is known: it counts from the first announcement."""
        attempt = (self.rounds.round, self.rounds.attempt)
        wanted = self._config.federation.deadline_s
        if self._announced[0] != attempt:
            self._announced = (attempt, time.monotonic())
        if wanted is None or self._timed == attempt:
            return
        deadline_s = self._pace.deadline_s(self._work()) if wanted == "auto" else wanted
        if deadline_s is None:
            return
        self._stop_timer()
        self._timed = attempt
        left_s = max(0.0, self._announced[1] + deadline_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(left_s, self._post, Deadline(*attempt))

    def _work(self) -> dict[str, int]:
        work: dict[str, int] = defaultdict(int)
        for client in self.rounds.awaited:
            work[self.rounds.hosts[client]] += self._crew.examples.get(client, 0)
        return work

    # ---- what happened

    def _record(self, event: Event) -> None:
        rounds = self.rounds
        match event:
            case Accepted(round_, client) if round_ == rounds.round:
                self._board.run.updates += 1
                examples = self._crew.examples.get(client, 0)
                self._pace.took(rounds.hosts[client], round_, examples, self.elapsed_s())
                self._time()
            case Failed(round_, client, reason) if rounds.waits_for(round_, client):
                self._set_back("failed", round_, client, reason)
            case Refused(round_, client, reason) if rounds.takes(round_, client):
                self._set_back("refused", round_, client, reason)
            case Unable(worker, reason):
                for client in rounds.awaited:
                    if rounds.hosts[client] == worker:
                        self._set_back("failed", rounds.round, client, f"its worker cannot take part: {reason}")

    def _set_back(self, kind: ClientFailure, round_: int, client: int, reason: str) -> None:
        device = self.rounds.hosts[client]
        if kind != "missing":
            self._last_failure = f"client {client} on {device}: {reason}"
        self._ledger.setback(
            kind, round_=round_, attempt=self.rounds.attempt, client=client, device=device, reason=reason
        )

    def show(self) -> None:
        """Say who is waited for."""
        if self._board.run.stage == "training" and self.rounds.absent != self._absent:
            self._absent = self.rounds.absent
            self._board.run.note = f"waiting for {', '.join(self._absent)}" if self._absent else ""
            if self._absent:
                log.info("round %d: %s", self.rounds.round, self._board.run.note)
        self._board.touch()


def _clients(clients: Sequence[int]) -> str:
    return f"client{'s' if len(clients) > 1 else ''} {', '.join(map(str, clients))}"
