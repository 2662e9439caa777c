"""A cohort of devices that do nothing: it keeps what they are asked, in a log that other fakes may share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FakeCohort:
    """A Cohort (coordinator.rounds.cohort). Devices that are `away` take no announcement."""

    def __init__(self, log: list[tuple[Any, ...]] | None = None) -> None:
        self.log: list[tuple[Any, ...]] = [] if log is None else log
        self.away: set[str] = set()

    def announce(self, round_: int, device: str, clients: Sequence[int], state_sha256: str) -> bool:
        if device in self.away:
            return False
        self.log.append(("announce", round_, device, tuple(clients), state_sha256))
        return True

    def evaluate(self, round_: int, part: str, device: str, clients: Sequence[int], state_sha256: str) -> None:
        self.log.append(("evaluate", round_, part, device, tuple(clients), state_sha256))

    def abandon(self, round_: int, clients: Sequence[int], reason: str) -> None:
        self.log.append(("abandon", round_, tuple(clients), reason))

    def wait(self, round_: int, phase: str) -> None:
        self.log.append(("wait", round_, phase))
