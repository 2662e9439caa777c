"""What the round executor needs of others: where rounds are recorded, states made, evaluated and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from federa.aggregation.base import Aggregate

Part = Literal["validation", "test"]
FailureKind = Literal["failed", "refused", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedUpdate:
    """A client's update that is durable, by its digest, and how many examples stand behind it."""

    client: int
    sha256: str
    examples: int


class RoundStore(Protocol):
    """Records the rounds. What is awaited is on the disk then."""

    @property
    def wire_bytes(self) -> int:
        """All bytes of states that have moved."""
        ...

    async def selected(self, round_: int, attempt: int, clients: Sequence[int], broadcast_sha256: str) -> None:
        """Record an attempt's draw."""
        ...

    async def updates(self, round_: int) -> Sequence[AcceptedUpdate]:
        """Every update of a round that was acknowledged, by client."""
        ...

    async def record_failures(
        self, kind: FailureKind, round_: int, attempt: int, devices: Mapping[int, str], reason: str
    ) -> None:
        """Record that this befell these clients, each with the device that hosts it."""
        ...

    async def aggregated(self, round_: int, seconds: float, made: Aggregate) -> None:
        """Record what a round made, so long after its announcement."""
        ...

    async def evaluated(self, round_: int, value: float, examples: int, counters: Mapping[str, float]) -> None:
        """Record the metric of a round's state, and the counters that it is made of."""
        ...


class RoundStates(Protocol):
    """Makes the states. `state` is the digest of what the run has learned so far, `broadcast_sha256` of what the
    devices may download beside the start: the open round's, or, where they evaluate, already the next one's."""

    @property
    def state(self) -> str: ...

    @property
    def broadcast_sha256(self) -> str: ...

    async def make_broadcast(self, round_: int) -> str:
        """Make what goes down in a round from the state, once: the devices may have had it before, to evaluate it.
        Returns its digest."""
        ...

    async def aggregate(self, round_: int, updates: Sequence[AcceptedUpdate]) -> Aggregate:
        """Make the next state of a round's updates and its broadcast."""
        ...

    async def tidy(self, round_: int) -> None:
        """Remove what the round that was recorded as aggregated leaves behind."""
        ...


class Uploads(Protocol):
    """The updates that are on their way in."""

    async def settled(self) -> None:
        """Wait until none is being recorded."""
        ...

    async def forget(self, round_: int) -> None:
        """Drop what broke off of a round's uploads."""
        ...


class Score(Protocol):
    """A state's metric, None without an example, how many examples stand behind it, and what was counted over them."""

    @property
    def value(self) -> float | None: ...

    @property
    def examples(self) -> int: ...

    @property
    def counters(self) -> Mapping[str, float]: ...


class StateEvaluator(Protocol):
    """Scores states."""

    async def evaluate(self, round_: int, state_sha256: str, part: Part) -> Score:
        """Score the state with that digest, which a round made."""
        ...


class Clients(Protocol):
    """Who hosts which client, and how many examples each has: the client registry is the owner of both."""

    @property
    def hosts(self) -> Mapping[int, str]: ...

    @property
    def examples(self) -> Mapping[int, int]: ...


class Progress(Protocol):
    """Shows how the rounds go on."""

    def stage(self, stage: str, note: str = "") -> None:
        """Show what the run does now."""
        ...

    def begin_round(self, round_: int, expected: int, updates: int = 0) -> None:
        """Show a round that has so many of the updates that it waits for."""
        ...

    def count_update(self) -> None:
        """Show one update more."""
        ...

    def wait_for(self, devices: Sequence[str], failure: str = "") -> bool:
        """Show which devices are away that a round waits for, and what failed last in it; False, and nothing, while it
        does not train."""
        ...

    def reached(self, value: float, elapsed_s: float, wire_bytes: int) -> None:
        """Show a round's metric, with the clock and the bytes of all rounds until then."""
        ...
