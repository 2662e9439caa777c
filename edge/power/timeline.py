"""What a worker did when, in one run."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

HISTORY_S = 600.0
"""Of stretches that were taken, those of so long ago are forgotten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where in a run something belongs. Round 0 is before the first one; client 0 also stands for none of them."""

    round: int
    client: int
    phase: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A piece of time, on the monotonic clock, all of it in one place."""

    place: Place
    began_s: float
    ended_s: float


class Timeline:
    """`enter` ends the phase before and begins the next, so that from the first one to `end` there is no hole. `take`
    hands its pieces out, each once. `clock` is time.monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s: list[float] = []  # of each place, ascending
        self._places: list[Place] = []
        self._taken_s = 0.0
        self._ended_s: float | None = None

    @property
    def place(self) -> Place | None:
        """The one entered last."""
        return self._places[-1] if self._places else None

    def enter(self, round_: int, client: int, phase: str, at_s: float | None = None) -> None:
        """A phase begins, now or at a moment that has just been: at the earliest where the last one began, and where
        the pieces end that were taken."""
        place = Place(round=round_, client=client, phase=phase)
        if place == self.place or self._ended_s is not None:
            return
        at_s = self._clock() if at_s is None else at_s
        if self._places:
            at_s = max(at_s, self._began_s[-1], self._taken_s)
        else:
            self._taken_s = at_s
        self._places.append(place)
        self._began_s.append(at_s)

    def end(self, at_s: float | None = None) -> None:
        """Nothing comes after."""
        if self._places and self._ended_s is None:
            at_s = self._clock() if at_s is None else at_s
            self._ended_s = max(at_s, self._began_s[-1], self._taken_s)

    def take(self, until_s: float) -> list[Stretch]:
        """The pieces up to `until_s`, or to the end where that is earlier, from where those end that were taken."""
        if self._ended_s is not None:
            until_s = min(until_s, self._ended_s)
        stretches = []
        for index in range(max(0, bisect_right(self._began_s, self._taken_s) - 1), len(self._places)):
            following = self._began_s[index + 1] if index + 1 < len(self._places) else until_s
            began_s, ended_s = max(self._began_s[index], self._taken_s), min(following, until_s)
            if ended_s > began_s:
                stretches.append(Stretch(place=self._places[index], began_s=began_s, ended_s=ended_s))
        if self._places:
            self._taken_s = max(self._taken_s, until_s)
            self._forget()
        return stretches

    def place_at(self, at_s: float) -> Place | None:
        """What it was in then; None before the first phase, after the end, and where it is forgotten."""
        index = bisect_right(self._began_s, at_s) - 1
        if index < 0 or (self._ended_s is not None and at_s > self._ended_s):
            return None
        return self._places[index]

    def _forget(self) -> None:
        old = bisect_right(self._began_s, self._taken_s - HISTORY_S) - 1
        if old > 0:
            del self._began_s[:old], self._places[:old]
