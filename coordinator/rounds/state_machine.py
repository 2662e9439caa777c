"""The state machine of a run's rounds: events in, decisions out.

It is pure. It knows no gRPC, no torch and no clock, so every order of events can be tested in microseconds. A deadline
is an event like the others: whoever carries the decisions out has the clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

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
    GiveUp,
    Joined,
    Left,
    Pause,
    Plan,
    Refused,
    RoundSnapshot,
    Select,
    Unable,
)
from coordinator.rounds.failures import Failure, Outlook, RoundFailures
from federa.seeds import derive_seed
from federa.tasks.metric import is_reached

REFUSALS_UNTIL_QUARANTINE = 3
"""A client whose updates were refused so often is drawn no more in this run."""


@dataclass(slots=True)
class _Attempts:
    """The round that is open."""

    number: int = 0  # of the attempt, from 1
    tries: int = 0  # since the round began or went on after a pause
    selected: set[int] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    failures: RoundFailures = field(default_factory=RoundFailures)
    paused: bool = False
    closing: bool = False

    @property
    def awaited(self) -> set[int]:
        return self.selected - self.accepted - self.failed


class RoundStateMachine:
    """Decides about the rounds of one run. Call `apply` with what happened; do what it returns, in order.

    Who hosts which client, and who is unable, is the client registry's to know (coordinator.clients.registry). The
    machine asks nobody: it has what the events so far have told it, no newer than the last one that it took in. So the
    same events lead to the same decisions, whatever has happened in the meantime."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.round = 0
        self.hosts: dict[int, str] = {}
        self._open = _Attempts()
        self._here: set[str] = set()
        self._unable: dict[str, Failure] = {}
        self._refusals: dict[int, int] = {}
        self._refused: dict[int, Failure] = {}  # the last refusal of each client
        self._over = False

    @property
    def attempt(self) -> int:
        return self._open.number

    @property
    def selected(self) -> tuple[int, ...]:
        """The clients drawn for this round so far, ascending."""
        return tuple(sorted(self._open.selected))

    @property
    def awaited(self) -> tuple[int, ...]:
        """The drawn clients whose update may still come."""
        return tuple(sorted(self._open.awaited))

    @property
    def absent(self) -> list[str]:
        """Workers that something is expected of and that are not here."""
        return sorted({self.hosts[client] for client in self._open.awaited} - self._here)

    @property
    def quarantined(self) -> list[int]:
        """Clients that are drawn no more."""
        return sorted(client for client, count in self._refusals.items() if count >= REFUSALS_UNTIL_QUARANTINE)

    def takes(self, round_: int, client: int) -> bool:
        """Whether an update of that round and client is of use now. One of a client that was given up for this round
        is, as long as the round is open."""
        if round_ != self.round or self._open.closing or self._over:
            return False
        return client in self._open.selected and self._refusals.get(client, 0) < REFUSALS_UNTIL_QUARANTINE

    def waits_for(self, round_: int, client: int) -> bool:
        """Whether an update of that round and client is still expected."""
        return self.takes(round_, client) and client in self._open.awaited

    def recover(self, past: RoundSnapshot) -> list[Decision]:
        """Take over from an earlier process. Call it first, if at all; of the workers nobody is here yet."""
        self.hosts = dict(past.hosts)
        self._refusals = dict(past.refusals)
        self._refused = {client: Failure(reason) for client, reason in past.reasons.items()}
        self.round = past.round
        self._open = _Attempts(
            past.attempt, 0, set(past.selected), set(past.accepted), set(past.failed) - set(past.accepted)
        )
        return self._settle() if self.round else []

    def closed(self) -> None:
        """The round is aggregated already: only its evaluation is awaited. After `recover`."""
        self._open.closing = True

    def apply(self, event: Event) -> list[Decision]:
        """Take in an event. What comes late, twice or after the end changes nothing."""
        if self._over:
            return []
        match event:
            case Joined(worker, clients):
                return self._joined(worker, clients)
            case Left(worker):
                self._here.discard(worker)
                return self._end_if_everybodys()
            case Unable(worker, why):
                self._here.discard(worker)
                self._unable[worker] = why
                lost = {client for client in self._open.awaited if self.hosts[client] == worker}
                return self._lose(lost, why) if lost else self._end_if_stuck()
            case Accepted(round_, client):
                if not self.takes(round_, client):
                    return []
                self._open.accepted.add(client)
                self._open.failed.discard(client)
                self._open.failures.forget(client)
                return self._settle()
            case Failed(round_, client, why):
                return self._lose({client}, why) if self.waits_for(round_, client) else []
            case Refused(round_, client, reason):
                if not self.takes(round_, client):
                    return []
                self._refusals[client] = self._refusals.get(client, 0) + 1
                self._refused[client] = Failure(reason)
                return self._lose({client}, self._refused[client])
            case Deadline(round_, attempt):
                now = (self.round, self._open.number)
                return self._settle(expired=True) if self.round and (round_, attempt) == now else []
            case Evaluated(round_, value):
                return self._evaluated(round_, value)

    # ---- who takes part

    def _joined(self, worker: str, clients: Iterable[int]) -> list[Decision]:
        self._here.add(worker)
        self._unable.pop(worker, None)
        self.hosts.update(dict.fromkeys(clients, worker))
        for client in clients:
            self._open.failures.forget(client)
        if self.round == 0:
            ready = self._here & set(self.hosts.values())
            return self._next_round() if len(ready) >= self.plan.devices_to_start else []
        if self._open.paused:
            self._open.paused = False
            self._open.tries = 0
            self._open.failures = RoundFailures()
            return [*self._announce(worker), *self._settle(expired=True)]
        return self._announce(worker)

    def _draw(self, attempt: int, wanted: int) -> list[int]:
        """Up to so many clients, without replacement, from the run's seed alone where rounds have no deadline. With
        one, those whose workers are here go first: the others would only use up its time."""
        open_ = self._open
        out = {*self.quarantined, *(client for client, host in self.hosts.items() if host in self._unable)}
        hosted = [client for client in sorted(self.hosts) if client not in out]
        scope = ("select", self.round) if attempt == 1 else ("select", self.round, attempt)
        draw = random.Random(derive_seed(self.plan.seed, *scope))
        fresh = [client for client in hosted if client not in open_.selected]
        order = draw.sample(fresh, len(fresh))
        # Clients that failed in an earlier attempt have another chance when no others are left.
        again = [client for client in hosted if client in open_.failed]
        order += draw.sample(again, len(again))
        if self.plan.timed:
            order.sort(key=lambda client: self.hosts[client] not in self._here)
        return sorted(order[:wanted])

    # ---- a round's course

    def _next_round(self) -> list[Decision]:
        self.round += 1
        self._open = _Attempts()
        return self._try()

    def _try(self) -> list[Decision]:
        """Draw clients for what is missing, or pause."""
        open_ = self._open
        if open_.tries >= self.plan.attempts:
            return self._pause()
        attempt = open_.number + 1
        drawn = self._draw(attempt, self.plan.clients_per_round + self.plan.over_select - len(open_.accepted))
        if len(open_.accepted | open_.awaited | set(drawn)) < self.plan.quorum:
            return self._pause()
        # Only now: a pause before the draw must not make the round's first attempt its second.
        open_.number = attempt
        open_.tries += 1
        open_.selected.update(drawn)
        open_.failed.difference_update(drawn)
        decisions: list[Decision] = [Select(self.round, open_.number, tuple(drawn))]
        for worker in sorted(self._here):
            decisions.extend(self._announce(worker, among=drawn))
        return decisions

    def _pause(self) -> list[Decision]:
        self._open.paused = True
        return self._end_if_stuck() or [Pause(self.round, len(self._open.accepted))]

    def _announce(self, worker: str, among: Iterable[int] | None = None) -> list[Decision]:
        if self._open.closing:
            return []
        chosen = self._open.awaited if among is None else self._open.awaited & set(among)
        clients = tuple(sorted(client for client in chosen if self.hosts[client] == worker))
        return [Announce(self.round, worker, clients)] if clients else []

    def _lose(self, clients: set[int], why: Failure) -> list[Decision]:
        if self._open.closing:
            return []
        for client in clients - self._open.accepted:
            self._open.failed.add(client)
            self._open.failures.add(client, why)
        return self._settle()

    def _settle(self, expired: bool = False) -> list[Decision]:
        """Close the round, go on waiting, or try again."""
        open_ = self._open
        if open_.closing:
            return []
        full = len(open_.accepted) >= self.plan.clients_per_round
        waiting = bool(open_.awaited) and not expired and not open_.paused
        if full or (not waiting and len(open_.accepted) >= self.plan.quorum):
            open_.closing = True
            return [Close(self.round, tuple(sorted(open_.accepted)), tuple(sorted(open_.awaited)))]
        if end := self._end_if_everybodys():
            return end
        if open_.paused:
            return self._end_if_stuck()
        return [] if waiting else self._try()

    def _evaluated(self, round_: int, value: float) -> list[Decision]:
        if round_ != self.round or not self._open.closing:
            return []
        reached = is_reached(self.plan.better, value, self.plan.target)
        if reached or self.round >= self.plan.rounds:
            self._over = True
            return [Finish(reached)]
        return self._next_round()

    # ---- failures that do not go away

    def _end_if_everybodys(self) -> list[Decision]:
        open_ = self._open
        if open_.accepted or open_.closing or not self._outlook.is_everybodys(open_.failures):
            return []
        self._over = True
        return [GiveUp(self.round, 0, dict(sorted(open_.failures.last.items())), True)]

    def _end_if_stuck(self) -> list[Decision]:
        open_ = self._open
        unable = {client: self._unable[host] for client, host in self.hosts.items() if host in self._unable}
        refused = {client: self._refused.get(client, Failure()) for client in self.quarantined}
        found = {**refused, **unable, **open_.failures.last}
        failures = {client: found[client] for client in sorted(found) if client not in open_.accepted}
        if not open_.paused or open_.closing or not self._outlook.is_stuck(failures):
            return []
        self._over = True
        return [GiveUp(self.round, len(open_.accepted), failures, False)]

    @property
    def _outlook(self) -> Outlook:
        return Outlook(
            hosts=self.hosts,
            here=self._here,
            unable=self._unable,
            awaited=self._open.awaited,
            devices=self.plan.devices,
            quorum=self.plan.quorum,
            tries_left=self._open.tries < self.plan.attempts,
        )
