"""What a state is worth, and how long finding that out took in all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from coordinator.evaluation.reference_model import Part, ReferenceModel
from coordinator.storage.ledger import Ledger
from coordinator.storage.run_folder import RunFolder
from federa.tasks.metric import Counters, Metric


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The metric, and how many examples stand behind it. Without an example there is no metric."""

    value: float | None
    examples: int


def result_of(metric: Metric, counters: Counters) -> EvaluationResult:
    """What was counted, as the metric."""
    return EvaluationResult(metric.value(counters), int(counters.get("examples", 0)))


class Evaluator(Protocol):
    """Whoever scores the states of a run."""

    async def judge(self, round_: int, state: str, part: Part) -> EvaluationResult:
        """Of the state with that digest, which a round made."""
        ...


class CentralEvaluator:
    """An evaluator with a validation and a test part of the coordinator's."""

    def __init__(self, learner: ReferenceModel, folder: RunFolder, metric: Metric) -> None:
        self._learner = learner
        self._folder = folder
        self._metric = metric

    async def judge(self, round_: int, state: str, part: Part) -> EvaluationResult:
        counters = await asyncio.to_thread(self._learner.evaluate, self._folder.state(state), part)
        return result_of(self._metric, counters)


class TimedEvaluation:
    """Of one run's states. Its seconds are listed apart from the rounds', and go on over restarts."""

    def __init__(self, judge: Evaluator, ledger: Ledger) -> None:
        self._judge = judge
        self._ledger = ledger
        self._seconds: float = ledger.facts().get("evaluation_s", 0.0)

    async def of(self, round_: int, state: str, part: Part) -> EvaluationResult:
        """The verdict on the state with that digest, which a round made."""
        began = time.monotonic()
        verdict = await self._judge.judge(round_, state, part)
        self._seconds += time.monotonic() - began
        self._ledger.note(evaluation_s=self._seconds)
        return verdict
