"""What a state is worth, and how long finding that out took in all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from coordinator.evaluation.reference_model import Part, ReferenceModel
from coordinator.storage.ledger import Ledger
from coordinator.storage.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The metric, and how many examples stand behind it. Without an example there is no metric."""

    value: float | None
    examples: int


class Evaluator(Protocol):
    """Whoever scores the states of a run."""

    async def judge(self, round_: int, state: str, part: Part) -> EvaluationResult:
        """Of the state with that digest, which a round made."""
        ...


class CentralEvaluator:
    """A Judge with a validation and a test part of the coordinator's."""

    def __init__(self, learner: ReferenceModel, folder: RunFolder) -> None:
        self._learner = learner
        self._folder = folder

    async def judge(self, round_: int, state: str, part: Part) -> EvaluationResult:
        score = await asyncio.to_thread(self._learner.evaluate, self._folder.state(state), part)
        return EvaluationResult(score.accuracy, score.total)


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
