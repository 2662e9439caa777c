"""The seconds of the rounds, and the deadline of an attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Literal

from coordinator.rounds.events import Deadline, Event
from coordinator.rounds.throughput import Throughput


class RoundClock:
    """Counts a round's seconds from its announcement, downtime apart, and those of all rounds that are over."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._began_s: float | None = None

    def begin(self, spent_s: float = 0.0) -> None:
        """Start a round's clock, of which so many seconds were spent before a restart."""
        self._began_s = time.monotonic() - spent_s

    def elapsed_s(self) -> float:
        """Seconds of the round so far; 0 before the first."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    def close_round(self) -> float:
        """Add the round's seconds to the total; they go on meanwhile. Returns them."""
        seconds = self.elapsed_s()
        self.total_s += seconds
        return seconds


class AttemptTimer:
    """Lets an attempt's deadline fall, which counts from its first announcement. `deadline_s` is a number of seconds,
    auto for what the devices' throughput says, or None for rounds that wait for ever."""

    def __init__(
        self, deadline_s: Literal["auto"] | float | None, throughput: Throughput, post: Callable[[Event], None]
    ) -> None:
        self._deadline_s = deadline_s
        self._throughput = throughput
        self._post = post
        self._announced = ((0, 0), 0.0)  # round and attempt that was announced to devices, and since when
        self._timed = (0, 0)  # those that the timer runs for
        self._timer: asyncio.TimerHandle | None = None

    def start(self, round_: int, attempt: int, work: Mapping[str, int]) -> None:
        """Start an attempt's timer, once, where its deadline is known. `work` are the examples that each device has
        still to train on."""
        now = (round_, attempt)
        if self._announced[0] != now:
            self._announced = (now, time.monotonic())
        if self._deadline_s is None or self._timed == now:
            return
        deadline_s = self._throughput.deadline_s(work) if self._deadline_s == "auto" else self._deadline_s
        if deadline_s is None:
            return
        self.stop()
        self._timed = now
        left_s = max(0.0, self._announced[1] + deadline_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(left_s, self._post, Deadline(*now))

    def stop(self) -> None:
        """Let no deadline fall any more until the next `start`."""
        if self._timer is not None:
            self._timer.cancel()
