"""What the devices are asked in federated evaluation, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.rounds.collaborators import Part
from coordinator.rounds.failures import Failure
from federa.tasks.metric import Counters, total


@dataclass(slots=True)
class Question:
    """One state and part that the devices are asked to count on, and what came of it."""

    round: int
    part: Part
    state: str
    answers: dict[int, Counters] = field(default_factory=dict)
    """Each client's counters so far."""
    failed: dict[int, Failure] = field(default_factory=dict)
    """Clients that could not be counted on, until their host says anew that it is ready, and why."""
    asked_again: bool = False
    """All that failed were asked a second time."""
    asked_s: dict[str, float] = field(default_factory=dict)
    """When each host was asked, at first: one that keeps dying on it gains no time."""
    left_out: set[str] = field(default_factory=set)

    @property
    def sum(self) -> Counters:
        """What all have counted, added in the order of the clients: who answered first changes nothing."""
        return total(self.answers[client] for client in sorted(self.answers))

    def failures(self, unable: Mapping[str, Failure], hosts: Mapping[int, str]) -> dict[int, Failure]:
        """Why each client that has not counted will not do so, where that is known: by its own failure, or since its
        host is unable."""
        found = {client: unable[host] for client, host in hosts.items() if host in unable}
        found.update(self.failed)
        return {client: why for client, why in sorted(found.items()) if client not in self.answers}
