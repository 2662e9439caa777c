"""How long a round may take, from how long the devices have taken so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

SLACK = 2.0
"""A device may take so many times what it is expected to take."""
MIN_DEADLINE_S = 1.0
_ROUNDS = 5


class Throughput:
    """Each device's seconds an example: from the round's announcement to its last update, over the examples in them,
    the median of its last five rounds. `rows` are the ledger's paces."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rounds: dict[str, dict[int, list[float]]] = defaultdict(dict)
        for row in rows:
            self.took(row["device"], row["round"], row["examples"], row["after_s"])

    def took(self, device: str, round_: int, examples: int, after_s: float) -> None:
        """An update of so many examples came so long after the announcement."""
        done = self._rounds[device].setdefault(round_, [0.0, 0.0])
        done[0] = max(done[0], after_s)
        done[1] += examples

    def deadline_s(self, work: Mapping[str, int]) -> float | None:
        """Twice what the slowest of these devices is expected to take for so many examples, at least a second. A
        device that has not been measured counts as the slowest that has; None when none has."""
        rates = {device: self._rate(device) for device in self._rounds}
        if not rates:
            return None
        slowest = max(rates.values())
        expected = (rates.get(device, slowest) * examples for device, examples in work.items())
        return max(MIN_DEADLINE_S, SLACK * max(expected, default=0.0))

    def _rate(self, device: str) -> float:
        last = list(self._rounds[device].values())[-_ROUNDS:]
        return median(seconds / max(1.0, examples) for seconds, examples in last)
