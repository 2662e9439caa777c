"""What a run asks of those who train, and what they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from federa.tasks.metric import Counters


@dataclass(frozen=True, kw_only=True, slots=True)
class CountersReport:
    """What a device counted on what one client holds out for a part."""

    round: int
    part: str
    client: int
    counters: Counters


class Cohort(Protocol):
    """The devices of a run, as its rounds and its evaluation see them: workers on gRPC streams are one, a fake for
    tests another. A call returns at once; what comes of it are events (coordinator.rounds.events), and counters for the
    evaluator. States are named by their SHA-256, in hex."""

    def announce(self, round_: int, device: str, clients: Sequence[int], state_sha256: str) -> bool:
        """Let a device train these clients of its own from that state. False when it has just left: it is announced
        to again when it is back."""
        ...

    def evaluate(self, round_: int, part: str, device: str, clients: Sequence[int], state_sha256: str) -> None:
        """Let a device count on what these clients of its own hold out for that part, if it is here."""
        ...

    def abandon(self, round_: int, clients: Sequence[int], reason: str) -> None:
        """Tell the devices of these clients that their updates are not waited for any more."""
        ...

    def wait(self, round_: int, phase: str) -> None:
        """Tell every device, now or when it comes, what it waits for while it has nothing to do: with phase idle for
        the round's other clients, with evaluate for the evaluation of the round's state."""
        ...
