"""What a worker did when, in one run."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from federa.phases import Activity

HISTORY_S = 600.0
"""Intervals that were handed out are forgotten so long after."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Time on the monotonic clock, all of it in one activity."""

    activity: Activity
    began_s: float
    ended_s: float


class Timeline:
    """`enter` ends the phase before and begins the next, so that from the first one to `close` there is no hole.
    `drain` hands the intervals out, each once. `clock` is time.monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s: list[float] = []  # of each activity, ascending
        self._activities: list[Activity] = []
        self._drained_s = 0.0
        self._ended_s: float | None = None

    @property
    def activity(self) -> Activity | None:
        """The one entered last."""
        return self._activities[-1] if self._activities else None

    def enter(self, round_: int, client: int, phase: str, at_s: float | None = None) -> None:
        """A phase begins, now or at a moment that has just been: at the earliest where the last one began, and where
        the intervals end that were handed out."""
        activity = Activity(round=round_, client=client, phase=phase)
        if activity == self.activity or self._ended_s is not None:
            return
        at_s = self._clock() if at_s is None else at_s
        if self._activities:
            at_s = max(at_s, self._began_s[-1], self._drained_s)
        else:
            self._drained_s = at_s
        self._activities.append(activity)
        self._began_s.append(at_s)

    def close(self, at_s: float | None = None) -> None:
        """Nothing comes after."""
        if self._activities and self._ended_s is None:
            at_s = self._clock() if at_s is None else at_s
            self._ended_s = max(at_s, self._began_s[-1], self._drained_s)

    def drain(self, until_s: float) -> list[Interval]:
        """The intervals up to `until_s`, or to the end where that is earlier, from where those before them ended."""
        if self._ended_s is not None:
            until_s = min(until_s, self._ended_s)
        intervals = []
        for index in range(max(0, bisect_right(self._began_s, self._drained_s) - 1), len(self._activities)):
            following = self._began_s[index + 1] if index + 1 < len(self._activities) else until_s
            began_s, ended_s = max(self._began_s[index], self._drained_s), min(following, until_s)
            if ended_s > began_s:
                intervals.append(Interval(activity=self._activities[index], began_s=began_s, ended_s=ended_s))
        if self._activities:
            self._drained_s = max(self._drained_s, until_s)
            self._forget()
        return intervals

    def activity_at(self, at_s: float) -> Activity | None:
        """What it was in then; None before the first phase, after the end, and where it is forgotten."""
        index = bisect_right(self._began_s, at_s) - 1
        if index < 0 or (self._ended_s is not None and at_s > self._ended_s):
            return None
        return self._activities[index]

    def _forget(self) -> None:
        old = bisect_right(self._began_s, self._drained_s - HISTORY_S) - 1
        if old > 0:
            del self._began_s[:old], self._activities[:old]
