"""What the coordinator's model says of a state, and how long that took in all."""

from __future__ import annotations

import asyncio
import time

from coordinator.learner import Learner, Part
from coordinator.ledger import Ledger
from coordinator.run_folder import RunFolder


class Evaluation:
    """Of one run's states. Its seconds are listed apart from the rounds', and go on over restarts."""

    def __init__(self, learner: Learner, folder: RunFolder, ledger: Ledger) -> None:
        self._learner = learner
        self._folder = folder
        self._ledger = ledger
        self._seconds: float = ledger.facts().get("evaluation_s", 0.0)

    async def of(self, state: str, part: Part) -> float:
        """The metric of the state with that digest."""
        began = time.monotonic()
        score = await asyncio.to_thread(self._learner.evaluate, self._folder.state(state), part)
        self._seconds += time.monotonic() - began
        self._ledger.note(evaluation_s=self._seconds)
        return score.accuracy
