"""Reads a source of power at a steady pace, and says what it measured in a window of time."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from edge.power.integral import MAX_GAP_INTERVALS, add_counts, integrate
from edge.power.source import CountedEnergy, PowerSource, Reading
from federa.energy import Energy

log = logging.getLogger("federa.worker")

KEEP_S = 600.0
"""Readings of so long ago are forgotten, taken or not: what bounds the memory."""

COUNT_WAIT_S = 30.0
"""So long a counter's next reading is waited for: it tells exactly what was used since the last one. Past that, the
time is given away as not measured."""

DEFAULT_HZ = 10.0
_SPACINGS = 32  # the last ones, whose median tells how fast a source really gives readings
_CLOSE_WAIT_S = 5.0


class Meter:
    """A context in which `source` is read `hz` times a second, on a thread of its own; without a source there is no
    thread, and nothing is measured. `detail` says in one line what is read, or why nothing is. The source is the
    caller's to close."""

    def __init__(
        self,
        source: PowerSource | None = None,
        *,
        hz: float = DEFAULT_HZ,
        detail: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.detail = detail
        self._source = source
        self._clock = clock
        self._began_s = clock()
        self._period_s = 1.0 / hz
        self._lock = threading.Lock()
        self._points: deque[tuple[float, float]] = deque()  # (at_s, total in W)
        self._counts: deque[CountedEnergy] = deque()
        self._spacings_s: deque[float] = deque(maxlen=_SPACINGS)
        self._interval_s = self._period_s
        self._fresh: deque[Reading] = deque()
        self._newest_s = float("-inf")
        self._problem: str | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Meter:
        if self._source is not None:
            self._began_s = self._clock()
            self._thread = threading.Thread(target=self._sample, name="power", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_WAIT_S)

    @property
    def source(self) -> str:
        """The source's name; empty without one."""
        return self._source.name if self._source is not None else ""

    @property
    def scope(self) -> str:
        """What its total covers; empty where there is none."""
        return (self._source.scope or "") if self._source is not None else ""

    @property
    def interval_s(self) -> float:
        """Between readings: as asked, or as the source gives them where it is slower. 0 without a source."""
        return self._interval_s if self._source is not None else 0.0

    # ---- what was measured

    def settled_s(self, now_s: float) -> float:
        """Up to where nothing more will be learned: the newest total, or `now_s` when none comes."""
        with self._lock:
            if self._counts:
                newest_s, patience_s = self._counts[-1].until_s, COUNT_WAIT_S
            elif self._points:
                newest_s, patience_s = self._points[-1][0], MAX_GAP_INTERVALS * self._interval_s
            else:
                return now_s
        return now_s if now_s - newest_s > patience_s else min(now_s, newest_s)

    def measured(self, began_s: float, ended_s: float) -> Energy:
        """A window's energy: as the source's counter says where it has one, else integrated from its power. Without a
        source there are seconds alone, and no gap."""
        if self._source is None:
            return Energy(seconds=ended_s - began_s)
        with self._lock:
            points, max_gap_s = list(self._points), MAX_GAP_INTERVALS * self._interval_s
            counts = list(self._counts)
        energy = integrate(points, began_s, ended_s, max_gap_s)
        first_s = points[0][0] if points else ended_s
        if counts:
            energy = replace(add_counts(counts, began_s, ended_s), peak_w=energy.peak_w)
            first_s = counts[0].since_s
        if first_s > began_s or not points:  # the gap before the first one is as old as the meter
            silent_s = min(first_s, ended_s) - min(self._began_s, began_s)
            energy = replace(energy, largest_gap_s=max(energy.largest_gap_s, silent_s))
        return energy

    def drain(self, until_s: float) -> list[Reading]:
        """The readings up to then that were not handed out before, oldest first."""
        drained = []
        with self._lock:
            while self._fresh and self._fresh[0].at_s <= until_s:
                drained.append(self._fresh.popleft())
        return drained

    def record(self, reading: Reading) -> None:
        """Keep one more reading. What is older than the newest one is left out."""
        with self._lock:
            if reading.at_s <= self._newest_s:
                return
            self._newest_s = reading.at_s
            self._fresh.append(reading)
            if reading.total_mw is not None:
                if self._points:
                    self._spacings_s.append(reading.at_s - self._points[-1][0])
                    self._interval_s = max(self._period_s, median(self._spacings_s))
                self._points.append((reading.at_s, reading.total_mw / 1e3))
            if reading.counted is not None:
                self._counts.append(reading.counted)
            oldest_s = reading.at_s - KEEP_S
            while self._points and self._points[0][0] < oldest_s:
                self._points.popleft()
            while self._counts and self._counts[0].until_s < oldest_s:
                self._counts.popleft()
            while self._fresh[0].at_s < oldest_s:
                self._fresh.popleft()

    # ---- the thread

    def _sample(self) -> None:
        assert self._source is not None
        began_s, turn = self._clock(), 0
        try:
            while not self._over.is_set():
                for reading in self._source.readings():
                    self.record(reading)
                self._log_problem(self._source.problem())
                # Each turn has its own moment from the beginning on: no drift, and what was missed is not made up for.
                turn = max(turn + 1, int((self._clock() - began_s) / self._period_s) + 1)
                self._over.wait(began_s + turn * self._period_s - self._clock())
        except Exception:  # its contract says that there is none; training goes on without
            log.exception("power: the source failed, nothing more is measured")

    def _log_problem(self, problem: str | None) -> None:
        if problem != self._problem:
            log.warning("power: %s", problem if problem is not None else "read again")
        self._problem = problem
