"""What a state is worth, and how long finding that out took in all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from coordinator.evaluation.reference_model import ReferenceModel
from coordinator.rounds.collaborators import Part
from federa.tasks.metric import Counters, Metric


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The metric, how many examples stand behind it, and what was counted over them. Without an example there is no
    metric."""

    value: float | None
    examples: int
    # Left out of comparisons: both numbers are made of it.
    counters: Counters = field(default_factory=dict, compare=False)


def result_of(metric: Metric, counters: Counters) -> EvaluationResult:
    """Make the metric of what was counted."""
    return EvaluationResult(metric.value(counters), int(counters.get("examples", 0)), counters)


class Evaluator(Protocol):
    """Scores the states of a run."""

    async def evaluate(self, round_: int, state_sha256: str, part: Part) -> EvaluationResult:
        """Score the state with that digest, which a round made."""
        ...


class CentralEvaluator:
    """An Evaluator with a validation and a test part of the coordinator's. `path_of` says where a state lies."""

    def __init__(self, model: ReferenceModel, path_of: Callable[[str], Path], metric: Metric) -> None:
        self._model = model
        self._path_of = path_of
        self._metric = metric

    async def evaluate(self, round_: int, state_sha256: str, part: Part) -> EvaluationResult:
        """Score a state on the coordinator, on a thread."""
        counters = await asyncio.to_thread(self._model.evaluate, self._path_of(state_sha256), part)
        return result_of(self._metric, counters)


class TimedEvaluator:
    """Times an Evaluator. The seconds are listed apart from the rounds', and go on from the `seconds` that an earlier
    process recorded; `record` makes them durable."""

    def __init__(self, evaluator: Evaluator, record: Callable[[float], Awaitable[None]], seconds: float = 0.0) -> None:
        self._evaluator = evaluator
        self._record = record
        self._seconds = seconds

    async def evaluate(self, round_: int, state_sha256: str, part: Part) -> EvaluationResult:
        """Score a state, and record how long that took."""
        began = time.monotonic()
        result = await self._evaluator.evaluate(round_, state_sha256, part)
        self._seconds += time.monotonic() - began
        await self._record(self._seconds)
        return result
