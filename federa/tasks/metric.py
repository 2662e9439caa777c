"""A metric: one number made of counters, which way it is better, and what its target may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Counters = Mapping[str, float]
"""What was counted over examples, by name. Counters can be added, rates cannot: each device counts on its own examples,
and the sum is everybody's. `examples`, how many there were, is always among them."""

BY_CLASS = "/"
"""Stands in the name of a counter that counts one class, such as `gold/3`. Of those there may be thousands."""

Better = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """`of` computes it from the counters of at least one example. `target` is used where the experiment gives none; a
    target must be above `above` and at most `at_most`, where these are set."""

    name: str
    better: Better
    of: Callable[[Counters], float]
    target: float
    above: float | None = None
    at_most: float | None = None

    def value(self, counters: Counters) -> float | None:
        """The metric of what was counted; None without an example."""
        return self.of(counters) if counters.get("examples") else None


def overall(counters: Counters) -> dict[str, float]:
    """The counters without those by class: what a person is shown."""
    return {name: value for name, value in counters.items() if BY_CLASS not in name}


def is_reached(better: Better, value: float, target: float) -> bool:
    """Whether a value is as good as the target."""
    return value >= target if better == "higher" else value <= target


def best_of(better: Better, values: Iterable[float]) -> float | None:
    """The best of them; None where there are none."""
    return (max if better == "higher" else min)(values, default=None)


def total(counted: Iterable[Counters]) -> dict[str, float]:
    """The sum of counters, added in the order given."""
    sums: dict[str, float] = {"examples": 0.0}
    for counters in counted:
        for name, value in counters.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums
