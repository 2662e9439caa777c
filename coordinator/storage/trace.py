"""A device's power over a run's time, in a bounded number of bins however long the run is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

MAX_BINS = 600
MAX_INTERVALS = 2_000
MIN_BIN_S = 0.5
MIN_SPACINGS, MAX_SPACING_S = 5, 10.0
"""How many spacings between samples say how far apart these usually are, and the spacing above which there is a gap."""

PhaseInterval = tuple[float, float, int, str]
"""What a device was doing: from, to, round, phase."""


class PowerTrace:
    """Bins on a grid of Unix time that double in width when there would be more than 600, and while the time between
    two samples, of which `interval_s` is the first guess, would leave bins empty. Samples may come in any order."""

    def __init__(self, interval_s: float = 0.0) -> None:
        self.bin_s = MIN_BIN_S
        while self.bin_s < 2 * interval_s:
            self.bin_s *= 2
        self._bins: dict[int, tuple[float, int]] = {}  # sum in watts and count, by number on the grid
        self._low = self._high = 0
        self._last_s: float | None = None
        self._spacings: Counter[float] = Counter()  # how many want bins of that width
        self._intervals: list[PhaseInterval] = []
        self._min_interval_s = 0.0

    @property
    def began_s(self) -> float | None:
        """Unix time at which the first bin begins."""
        return self._low * self.bin_s if self._bins else None

    def add(self, at_s: float, round_: int, phase: str, power_w: float | None) -> None:
        """Take in a sample of that Unix time."""
        number = int(at_s // self.bin_s)
        if not self._bins:
            self._low = self._high = number
        self._low, self._high = min(self._low, number), max(self._high, number)
        total, count = self._bins.get(number, (0.0, 0))
        self._bins[number] = (total, count) if power_w is None else (total + power_w, count + 1)
        if self._last_s is not None and 0 < at_s - self._last_s <= MAX_SPACING_S:
            self._spacings[_bin_for(at_s - self._last_s)] += 1
            while self.bin_s < self._usual_bin_s():
                self._widen()
        self._last_s = at_s
        while self._high - self._low >= MAX_BINS:
            self._widen()
        self._add_to_phase(at_s, round_, phase)

    def shown(self, origin_s: float) -> dict[str, Any] | None:
        """The trace as it stands in result.json, in seconds since `origin_s`; None without any power."""
        if not any(count for _, count in self._bins.values()):
            return None
        power_w: list[float | None] = []
        for number in range(self._low, self._high + 1):
            total, count = self._bins.get(number, (0.0, 0))
            power_w.append(round(total / count, 4) if count else None)
        return {
            "bin_s": self.bin_s,
            "from_s": round(self._low * self.bin_s - origin_s, 3),
            "power_w": power_w,
            "phases": [
                [round(from_s - origin_s, 3), round(to_s - origin_s, 3), round_, phase]
                for from_s, to_s, round_, phase in self._intervals
            ],
        }

    def _usual_bin_s(self) -> float:
        """The width that the median of the spacings wants; 0 while there are few."""
        before, seen = 0, self._spacings.total()
        if seen < MIN_SPACINGS or (seen > 64 and seen % 64):
            return 0.0  # not at each of many: a run has millions
        for bin_s, count in sorted(self._spacings.items()):
            before += count
            if before >= seen / 2:
                return bin_s
        return 0.0

    def _widen(self) -> None:
        self.bin_s *= 2
        old, self._bins = self._bins, {}
        for number, (total, count) in old.items():
            there = self._bins.get(number // 2, (0.0, 0))
            self._bins[number // 2] = (there[0] + total, there[1] + count)
        self._low, self._high = self._low // 2, self._high // 2

    def _add_to_phase(self, at_s: float, round_: int, phase: str) -> None:
        if self._intervals:
            from_s, to_s, of_round, of_phase = self._intervals[-1]
            if at_s < to_s:
                return  # of an earlier process, or a clock that was set back: it has its phase
            # A phase lasts until the next one's first sample.
            self._intervals[-1] = (from_s, at_s, of_round, of_phase)
            if (of_round, of_phase) == (round_, phase):
                return
        self._intervals.append((at_s, at_s, round_, phase))
        if len(self._intervals) > MAX_INTERVALS:
            self._coarsen()

    def _coarsen(self) -> None:
        """Leave the shortest intervals to those before them, until there are half as many."""
        self._min_interval_s = max(self._min_interval_s, self.bin_s / 8)
        while len(self._intervals) > MAX_INTERVALS // 2:
            self._intervals = _without_short(self._intervals, self._min_interval_s)
            self._min_interval_s *= 2


def _bin_for(spacing_s: float) -> float:
    """The narrowest bin that is wider than a spacing by half."""
    bin_s = MIN_BIN_S
    while bin_s < 1.5 * spacing_s:
        bin_s *= 2
    return bin_s


def _without_short(intervals: Sequence[PhaseInterval], min_s: float) -> list[PhaseInterval]:
    kept: list[PhaseInterval] = []
    for interval in intervals:
        if kept and (interval[1] - interval[0] < min_s or kept[-1][2:] == interval[2:]):
            from_s, _, round_, phase = kept[-1]
            kept[-1] = (from_s, interval[1], round_, phase)
        else:
            kept.append(interval)
    return kept
