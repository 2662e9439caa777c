"""What a state is worth, and how long finding that out took in all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from coordinator.learner import Learner, Part
from coordinator.ledger import Ledger
from coordinator.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Verdict:
    """The metric, and how many examples stand behind it. Without an example there is no metric."""

    value: float | None
    examples: int


class Judge(Protocol):
    """Whoever scores the states of a run."""

    async def judge(self, round_: int, state: str, part: Part) -> Verdict:
        """Of the state with that digest, which a round made."""
        ...


class OwnSet:
    """A Judge with a validation and a test part of the coordinator's."""

    def __init__(self, learner: Learner, folder: RunFolder) -> None:
        self._learner = learner
        self._folder = folder

    async def judge(self, round_: int, state: str, part: Part) -> Verdict:
        score = await asyncio.to_thread(self._learner.evaluate, self._folder.state(state), part)
        return Verdict(score.accuracy, score.total)


class Evaluation:
    """Of one run's states. Its seconds are listed apart from the rounds', and go on over restarts."""

    def __init__(self, judge: Judge, ledger: Ledger) -> None:
        self._judge = judge
        self._ledger = ledger
        self._seconds: float = ledger.facts().get("evaluation_s", 0.0)

    async def of(self, round_: int, state: str, part: Part) -> Verdict:
        """The verdict on the state with that digest, which a round made."""
        began = time.monotonic()
        verdict = await self._judge.judge(round_, state, part)
        self._seconds += time.monotonic() - began
        self._ledger.note(evaluation_s=self._seconds)
        return verdict
