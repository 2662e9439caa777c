"""Scoring the newest state, beside whatever else a run does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from coordinator.rounds.collaborators import Part, RoundStates, Score, StateEvaluator


class RoundScoring:
    """Has the states of the rounds scored: by `on_devices` as they are broadcast next, else as they are here."""

    def __init__(self, evaluator: StateEvaluator, states: RoundStates, *, on_devices: bool) -> None:
        self.on_devices = on_devices
        self._evaluator = evaluator
        self._states = states
        self._under_way: asyncio.Future[None] | None = None

    async def score(self, round_: int, part: Part) -> Score:
        """Score the newest state, which that round made."""
        state = await self._states.make_broadcast(round_ + 1) if self.on_devices else self._states.state
        return await self._evaluator.evaluate(round_, state, part)

    def begin(self, round_: int, finish: Callable[[Score], Awaitable[None]], fail: Callable[[Exception], None]) -> None:
        """Score the validation part in a task of its own, whose result `finish` takes and whose exception `fail`."""

        async def work() -> None:
            try:
                await finish(await self.score(round_, "validation"))
            except Exception as error:
                fail(error)

        self._under_way = asyncio.ensure_future(work())

    def stop(self) -> None:
        """End what is under way."""
        if self._under_way is not None:
            self._under_way.cancel()
