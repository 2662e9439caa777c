"""Carries out what the state machine decides: draws are recorded, rounds announced, timed, closed and evaluated."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from coordinator.rounds.clock import AttemptTimer, RoundClock
from coordinator.rounds.cohort import Cohort
from coordinator.rounds.collaborators import (
    Clients,
    FailureKind,
    Part,
    Progress,
    RoundStates,
    RoundStore,
    Score,
    Uploads,
)
from coordinator.rounds.events import (
    Accepted,
    Announce,
    Close,
    Decision,
    Evaluated,
    Event,
    Failed,
    Finish,
    GiveUp,
    Pause,
    Refused,
    RunHistory,
    Select,
    Unable,
)
from coordinator.rounds.failures import in_words
from coordinator.rounds.scoring import RoundScoring
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.rounds.throughput import Throughput
from federa.errors import BadInput, FederaError
from federa.phases import EVALUATE, IDLE

log = logging.getLogger("federa.coordinator")


class RoundExecutor:
    """Executes the rounds of one run: `apply` takes in what happened, one event at a time, and does what follows. What
    has to be durable is so before it is sent to anybody."""

    def __init__(
        self,
        *,
        machine: RoundStateMachine,
        cohort: Cohort,
        clients: Clients,
        states: RoundStates,
        store: RoundStore,
        uploads: Uploads,
        scoring: RoundScoring,
        progress: Progress,
        throughput: Throughput,
        timer: AttemptTimer,
        post: Callable[[Event | Exception], None],
    ) -> None:
        self.machine = machine
        self.clock = RoundClock()
        self._cohort = cohort
        self._clients = clients
        self._states = states
        self._store = store
        self._uploads = uploads
        self._scoring = scoring
        self._progress = progress
        self._throughput = throughput
        self._timer = timer
        self._post = post
        self._last_failure = ""
        self._shown: tuple[list[str], str] = ([], "")

    async def apply(self, event: Event) -> Finish | None:
        """Take in an event and do what follows from it; the end of the run where that is it. Raises FederaError where
        the run cannot go on."""
        await self._record(event)
        finish = await self.carry_out(self.machine.apply(event))
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
                case GiveUp():
                    raise self._failed(decision)
                case Finish():
                    return decision
        return None

    async def score(self, part: Part) -> Score:
        """Score the newest round's state."""
        return await self._scoring.score(self.machine.round, part)

    def show(self) -> None:
        """Show who is waited for, where that has changed."""
        absent = self.machine.absent
        waits = (absent, self._last_failure if absent else "")
        if waits != self._shown and self._progress.wait_for(*waits):
            if absent and absent != self._shown[0]:
                log.info("round %d: waiting for %s", self.machine.round, ", ".join(absent))
            self._shown = waits

    def stop(self) -> None:
        """Let no deadline fall any more, and end an evaluation under way."""
        self._timer.stop()
        self._scoring.stop()

    def resume(self, history: RunHistory) -> list[Decision]:
        """Take over from an earlier process; what is to be done at once."""
        machine = self.machine
        for point in history.curve:
            self._progress.reached(point.value, point.elapsed_s, point.wire_bytes)
        self.clock.total_s = history.total_s
        decisions = machine.recover(history.snapshot)
        if not machine.round:
            return decisions
        updates = len(history.snapshot.accepted)
        if history.is_aggregated:
            self._progress.begin_round(machine.round, 0, updates)
            machine.closed()
            if history.value is not None:
                return machine.apply(Evaluated(machine.round, history.value))
            self._evaluate(machine.round)
            return decisions
        self.clock.begin(history.spent_s)
        self._progress.begin_round(machine.round, machine.plan.clients_per_round, updates)
        self._progress.stage("training", "going on after a restart")
        self._cohort.wait(machine.round, IDLE)
        return decisions

    # ---- what is decided

    async def _select(self, draw: Select) -> None:
        broadcast = await self._states.make_broadcast(draw.round)
        await self._store.selected(draw.round, draw.attempt, draw.clients, broadcast)
        if draw.attempt == 1:
            self._last_failure = ""
            self.clock.begin()
            self._progress.begin_round(draw.round, self.machine.plan.clients_per_round)
            self._progress.stage("training")
            self._cohort.wait(draw.round, IDLE)
            return
        if draw.clients:
            self._progress.stage("training", f"attempt {draw.attempt}: {_clients(draw.clients)} in place of others")
        # Perhaps nothing is announced, to nobody or to workers that are away: those that are late have a deadline.
        self._start_timer()

    def _announce(self, order: Announce) -> None:
        if self._cohort.announce(order.round, order.worker, order.clients, self._states.broadcast_sha256):
            self._start_timer()

    async def _close(self, order: Close) -> None:
        self._timer.stop()
        await self._uploads.settled()
        # Every update that was acknowledged counts, also one that was being recorded as the round was closed.
        updates = await self._store.updates(order.round)
        missing = sorted(set(order.missing) - {update.client for update in updates})
        if missing:
            reason = f"the round was closed with {len(updates)} updates after {self.clock.elapsed_s():.1f} s"
            await self._record_failures("missing", missing, reason)
            self._cohort.abandon(order.round, missing, reason)
        self._progress.stage("averaging")
        made = await self._states.aggregate(order.round, updates)
        await self._store.aggregated(order.round, self.clock.close_round(), made)
        await self._uploads.forget(order.round)
        await self._states.tidy(order.round)
        self._evaluate(order.round)

    def _pause(self, pause: Pause) -> None:
        self._timer.stop()
        machine = self.machine
        waits = ", ".join(machine.absent) or "a worker that joins or comes back"
        why = f"; last failure: {self._last_failure}" if self._last_failure else ""
        message = (
            f"round {pause.round} has {pause.accepted} of the {machine.plan.quorum} updates it needs after "
            f"{machine.attempt} attempts; waiting for {waits}{why}"
        )
        log.warning("paused: %s", message)
        self._progress.stage("paused", message)

    def _failed(self, end: GiveUp) -> FederaError:
        """The error that ends the run, in the words of those that failed."""
        reasons = in_words(end.failures, self._clients.hosts)
        if end.is_common:
            message = f"round {end.round}: every client fails in the same way: {reasons}"
        else:
            message = (
                f"round {end.round} has {end.accepted} of the {self.machine.plan.quorum} updates it needs after "
                f"{self.machine.attempt} attempts, and nobody is left who could bring more: {reasons}"
            )
        is_bad_input = all(why.bad_input for why in end.failures.values())
        message += "; mend that and start again with the same --out: the run goes on with this round"
        return (BadInput if is_bad_input else FederaError)(message)

    def _start_timer(self) -> None:
        work: dict[str, int] = defaultdict(int)
        for client in self.machine.awaited:
            work[self._clients.hosts[client]] += self._clients.examples.get(client, 0)
        self._timer.start(self.machine.round, self.machine.attempt, work)

    # ---- what a state is worth

    def _evaluate(self, round_: int) -> None:
        """Begin the evaluation, which posts its event. Devices that count may leave and come back meanwhile."""
        if not self._scoring.on_devices:
            # Where they count themselves, this is idle time, and their own evaluation a phase of its own.
            self._cohort.wait(round_, EVALUATE)
        self._progress.stage("evaluating")

        async def finish(score: Score) -> None:
            if score.value is None:
                raise BadInput(
                    "data.validation: no client has a document to validate on: hold out a larger part, or bring more"
                )
            if not math.isfinite(score.value):
                raise FederaError(
                    f"round {round_}: the metric is {score.value:g}: training diverged; a lower learning rate may help"
                )
            await self._store.evaluated(round_, score.value, score.examples, score.counters)
            self._progress.reached(score.value, self.clock.total_s, self._store.wire_bytes)
            self._post(Evaluated(round_, score.value))

        self._scoring.begin(round_, finish, self._post)

    # ---- what happened

    async def _record(self, event: Event) -> None:
        machine, hosts = self.machine, self._clients.hosts
        match event:
            case Accepted(round_, client) if round_ == machine.round:
                self._progress.count_update()
                examples = self._clients.examples.get(client, 0)
                self._throughput.took(hosts[client], round_, examples, self.clock.elapsed_s())
                self._start_timer()
            case Failed(round_, client, why) if machine.waits_for(round_, client):
                await self._record_failures("failed", [client], why.reason)
            case Refused(round_, client, reason) if machine.takes(round_, client):
                await self._record_failures("refused", [client], reason)
            case Unable(worker, why):
                # Before the first round all of its clients: the run may begin without them.
                clients = [
                    client
                    for client in (machine.awaited if machine.round else sorted(hosts))
                    if hosts[client] == worker and (not machine.round or machine.waits_for(machine.round, client))
                ]
                await self._record_failures("failed", clients, f"its worker cannot take part: {why.reason}")

    async def _record_failures(self, kind: FailureKind, clients: Collection[int], reason: str) -> None:
        devices = {client: self._clients.hosts[client] for client in clients}
        if not devices:
            return
        if kind != "missing":
            client, device = list(devices.items())[-1]
            self._last_failure = f"client {client} on {device}: {reason}"
        await self._store.record_failures(kind, self.machine.round, self.machine.attempt, devices, reason)


def _clients(clients: Sequence[int]) -> str:
    return f"client{'s' if len(clients) > 1 else ''} {', '.join(map(str, clients))}"
