"""The state machine of a run's rounds: events in, decisions out.

It is pure. It knows no gRPC, no torch and no clock, so every order of events can be tested in microseconds. Deadlines
and quorums will be events and decisions of their own here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from federa.seeds import derive_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`hosts` says which worker hosts each client."""

    hosts: Mapping[int, str]
    clients_per_round: int
    rounds: int
    target: float
    seed: int


# ---- events


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is ready to train, for the first time or again."""

    worker: str


@dataclass(frozen=True, slots=True)
class Left:
    """A worker's control stream ended."""

    worker: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A client's update is durable."""

    round: int
    client: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The state that a round made has this validation metric."""

    round: int
    value: float


Event = Joined | Left | Accepted | Evaluated

# ---- decisions


@dataclass(frozen=True, slots=True)
class Announce:
    """Let this worker train these clients."""

    round: int
    worker: str
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Every update of the round is there: fold them, in this order, and evaluate."""

    round: int
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    reached: bool


Decision = Announce | Close | Finish


class Rounds:
    """One run. Call `apply` with what happened; do what it returns, in order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.round = 0
        self.selected: tuple[int, ...] = ()
        self.accepted: set[int] = set()
        self._here: set[str] = set()
        self._closing = False
        self._over = False

    @property
    def absent(self) -> list[str]:
        """Workers that something is still expected of and that are not here."""
        return sorted({self.plan.hosts[client] for client in self._awaited()} - self._here)

    def apply(self, event: Event) -> list[Decision]:
        """Take in an event. What comes late, twice or after the end changes nothing."""
        if self._over:
            return []
        match event:
            case Joined(worker):
                self._here.add(worker)
                if self.round == 0:
                    return self._next_round() if not self.absent else []
                return self._announce(worker)
            case Left(worker):
                self._here.discard(worker)
                return []
            case Accepted(round_, client):
                return self._take(round_, client)
            case Evaluated(round_, value):
                return self._judge(round_, value)

    def select(self, round_: int) -> tuple[int, ...]:
        """The clients of a round, ascending: drawn without replacement, from the run's seed alone."""
        draw = random.Random(derive_seed(self.plan.seed, "select", round_))
        return tuple(sorted(draw.sample(sorted(self.plan.hosts), self.plan.clients_per_round)))

    def _awaited(self) -> set[int]:
        # Before the first round every host is waited for, so that nobody starts with an unfair lead.
        return set(self.plan.hosts) if self.round == 0 else set(self.selected) - self.accepted

    def _next_round(self) -> list[Decision]:
        self.round += 1
        self.selected = self.select(self.round)
        self.accepted = set()
        self._closing = False
        decisions: list[Decision] = []
        for worker in sorted(self._here):
            decisions.extend(self._announce(worker))
        return decisions

    def _announce(self, worker: str) -> list[Decision]:
        if self._closing:
            return []
        clients = tuple(client for client in self.selected if self.plan.hosts[client] == worker)
        left = tuple(client for client in clients if client not in self.accepted)
        return [Announce(self.round, worker, left)] if left else []

    def _take(self, round_: int, client: int) -> list[Decision]:
        if round_ != self.round or client not in self.selected or self._closing:
            return []
        self.accepted.add(client)
        if len(self.accepted) < len(self.selected):
            return []
        self._closing = True
        return [Close(self.round, self.selected)]

    def _judge(self, round_: int, value: float) -> list[Decision]:
        if round_ != self.round or not self._closing:
            return []
        reached = value >= self.plan.target
        if reached or self.round >= self.plan.rounds:
            self._over = True
            return [Finish(reached)]
        return self._next_round()
