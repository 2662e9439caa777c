"""What stands around a round executor, without disk, model or network: all keep what they were asked in one log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.rounds.clock import AttemptTimer
from coordinator.rounds.collaborators import AcceptedUpdate
from coordinator.rounds.events import Accepted, Event, Finish, Plan
from coordinator.rounds.executor import RoundExecutor
from coordinator.rounds.scoring import RoundScoring
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.rounds.throughput import Throughput
from federa.aggregation.base import Aggregate
from tests.doubles.fake_cohort import FakeCohort

Log = list[tuple[Any, ...]]


@dataclass
class FakeStore:
    """A RoundStore. `accepted` are the updates of the round that is open, by client."""

    log: Log
    accepted: dict[int, int] = field(default_factory=dict)
    wire_bytes: int = 0

    async def selected(self, round_: int, attempt: int, clients: Sequence[int], broadcast_sha256: str) -> None:
        self.log.append(("selected", round_, attempt, tuple(clients), broadcast_sha256))

    async def updates(self, round_: int) -> Sequence[AcceptedUpdate]:
        return [
            AcceptedUpdate(client=client, sha256=f"update {client}", examples=examples)
            for client, examples in sorted(self.accepted.items())
        ]

    async def record_failures(
        self, kind: str, round_: int, attempt: int, devices: Mapping[int, str], reason: str
    ) -> None:
        self.log.append((kind, round_, attempt, dict(devices), reason))

    async def aggregated(self, round_: int, seconds: float, made: Aggregate) -> None:
        self.log.append(("aggregated", round_, made.state, made.server_state))

    async def evaluated(self, round_: int, value: float, examples: int, counters: Mapping[str, float]) -> None:
        self.log.append(("evaluated", round_, value, examples))


@dataclass
class FakeStates:
    """A RoundStates whose digests are words."""

    log: Log
    state: str = "start"
    broadcast_sha256: str = "start"
    broadcast_of: int = 0

    async def make_broadcast(self, round_: int) -> str:
        if self.broadcast_of != round_:
            self.broadcast_of, self.broadcast_sha256 = round_, f"{self.state} for round {round_}"
            self.log.append(("broadcast", round_))
        return self.broadcast_sha256

    async def aggregate(self, round_: int, updates: Sequence[AcceptedUpdate]) -> Aggregate:
        self.log.append(("aggregate", round_, tuple(update.client for update in updates)))
        self.state = f"state {round_}"
        return Aggregate(state=self.state, server_state=f"server {round_}")

    async def tidy(self, round_: int) -> None:
        self.log.append(("tidy", round_))


@dataclass
class FakeUploads:
    """An Uploads. `recorded` is set when nothing is being recorded any more."""

    log: Log
    recorded: asyncio.Event | None = None

    async def settled(self) -> None:
        if self.recorded is not None:
            await self.recorded.wait()

    async def forget(self, round_: int) -> None:
        self.log.append(("forget", round_))


@dataclass
class FakeScore:
    value: float | None
    examples: int = 10
    counters: dict[str, float] = field(default_factory=lambda: {"examples": 10.0})


@dataclass
class FakeEvaluator:
    """A StateEvaluator. `scores` are taken one after the other: a value, an exception, or None for no example; after
    them every one is 0."""

    log: Log
    scores: list[float | Exception | None] = field(default_factory=list)

    async def evaluate(self, round_: int, state_sha256: str, part: str) -> FakeScore:
        self.log.append(("score", round_, part, state_sha256))
        score = self.scores.pop(0) if self.scores else 0.0
        if isinstance(score, Exception):
            raise score
        return FakeScore(score)


@dataclass
class FakeProgress:
    """A Progress."""

    stages: list[tuple[str, str]] = field(default_factory=list)
    round: tuple[int, int, int] = (0, 0, 0)
    waiting: list[list[str]] = field(default_factory=list)
    points: list[tuple[float, float, int]] = field(default_factory=list)

    def stage(self, stage: str, note: str = "") -> None:
        self.stages.append((stage, note))

    def begin_round(self, round_: int, expected: int, updates: int = 0) -> None:
        self.round = (round_, expected, updates)

    def count_update(self) -> None:
        self.round = (*self.round[:2], self.round[2] + 1)

    def wait_for(self, devices: Sequence[str], failure: str = "") -> bool:
        if not self.stages or self.stages[-1][0] != "training":
            return False
        self.waiting.append([*devices, *([failure] if failure else [])])
        return True

    def reached(self, value: float, elapsed_s: float, wire_bytes: int) -> None:
        self.points.append((value, elapsed_s, wire_bytes))


@dataclass
class FakeClients:
    """A Clients."""

    hosts: dict[int, str]
    examples: dict[int, int]


class Rounds:
    """A round executor among fakes, with clients 0, 2, ... on device a and 1, 3, ... on device b. Create it, and use
    it, on an event loop."""

    def __init__(
        self, *, clients: int = 4, on_devices: bool = False, deadline_s: Any = None, scores: Sequence[Any] = (),
        **plan: Any,
    ) -> None:  # fmt: skip
        self.log: Log = []
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self.cohort = FakeCohort(self.log)
        self.store, self.states = FakeStore(self.log), FakeStates(self.log)
        self.uploads, self.progress = FakeUploads(self.log), FakeProgress()
        self.evaluator = FakeEvaluator(self.log, list(scores))
        self.clients = FakeClients(
            hosts={client: "ab"[client % 2] for client in range(clients)},
            examples={client: 10 * (client + 1) for client in range(clients)},
        )
        every = {
            "devices": 2,
            "devices_to_start": 2,
            "clients_per_round": clients,
            "quorum": clients,
            "rounds": 3,
            "target": 0.9,
        }
        self.machine = RoundStateMachine(Plan(**{**every, "seed": 1, "timed": deadline_s is not None, **plan}))
        throughput = Throughput()
        self.executor = RoundExecutor(
            machine=self.machine,
            cohort=self.cohort,
            clients=self.clients,
            states=self.states,
            store=self.store,
            uploads=self.uploads,
            scoring=RoundScoring(self.evaluator, self.states, on_devices=on_devices),
            progress=self.progress,
            throughput=throughput,
            timer=AttemptTimer(deadline_s, throughput, self.events.put_nowait),
            post=self.events.put_nowait,
        )

    def hosted_by(self, device: str) -> tuple[int, ...]:
        return tuple(client for client, host in sorted(self.clients.hosts.items()) if host == device)

    async def happen(self, *events: Event) -> Finish | None:
        """Take events in, one after the other; the end of the run where one brings it."""
        finish = None
        for event in events:
            finish = await self.executor.apply(event) or finish
        return finish

    async def accept(self, *clients: int) -> None:
        """Updates of these clients become durable, and are told."""
        for client in clients:
            self.store.accepted[client] = self.clients.examples[client]
            await self.happen(Accepted(self.machine.round, client))

    async def posted(self) -> Event | Exception:
        """The next thing that was posted: a deadline, an evaluation, what ends the run."""
        return await asyncio.wait_for(self.events.get(), 10)

    def take_log(self) -> Log:
        """What was done since the last time."""
        taken, self.log[:] = list(self.log), []
        return taken
