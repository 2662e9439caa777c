"""What a tegrastats log says: its samples on one time line, the energy over them, and what was not understood.

Everything is added up while the log is read, so that memory does not grow with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from edge.power.integral import MAX_GAP_INTERVALS, integrate
from edge.power.rails import SCOPES, total_of
from edge.power.tegrastats_file import TegrastatsFile, TimeFrom
from edge.power.tegrastats_line import Line

_CHUNK_READINGS = 1024
_MAX_REMARKS = 12
NO_RAILS = "no power in this log: tegrastats shows rails only to root on this release"
NO_TOTAL = "no total: these rails are of no board that is known"
_MAX_NAMES = 500
"""The most different names, or words that are not understood, that are counted apart."""


@dataclass(slots=True)
class Spread:
    """Count, mean, least and most of values that come one by one."""

    count: int = 0
    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)

    @property
    def mean(self) -> float:
        return self.total / self.count


@dataclass(slots=True)
class ScopeEnergy:
    """Totals of one scope, integrated interval by interval."""

    max_gap_s: float
    power: Spread = field(default_factory=Spread)
    joules: float = 0.0
    covered_s: float = 0.0
    largest_gap_s: float = 0.0
    _points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, t_s: float, total_mw: float, follows: bool) -> None:
        if not follows:
            self.flush()
            self._points.clear()
        self.power.add(total_mw)
        self._points.append((t_s, total_mw / 1000))
        if len(self._points) >= _CHUNK_READINGS:
            self.flush()

    def flush(self) -> None:
        """Integrate what is held; the last point stays, for the next ones to go on from."""
        if len(self._points) > 1:
            part = integrate(self._points, self._points[0][0], self._points[-1][0], self.max_gap_s)
            self.joules += part.joules or 0.0
            self.covered_s += part.covered_s
            self.largest_gap_s = max(self.largest_gap_s, part.largest_gap_s)
            del self._points[:-1]


class TegrastatsLog:
    """Reads a log once, in `samples`; the rest says what was found so far. `interval_s` is what --interval says."""

    def __init__(self, file: BinaryIO, interval_s: float | None = None) -> None:
        self._file = TegrastatsFile(file, interval_s)
        self.samples_read = self.jumps_back = self.gaps = 0
        self.duration_s = 0.0
        self.rails: dict[str, Spread] = {}
        self.temps: dict[str, Spread] = {}
        self.gpu = {"load (%)": Spread(), "clock (MHz)": Spread()}
        self.unknown: Counter[str] = Counter()
        self.repeated: Counter[str] = Counter()
        self.offline: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self._energies: dict[str, ScopeEnergy] = {}
        self._refused: Counter[str] = Counter()
        """Lines that lost a rail, by the scope that their total would have: others may have lost it without a trace."""
        self._broken: dict[str, bool] = {}

    def samples(self) -> Iterator[dict[str, Any]]:
        """Every sample as the mapping that --json prints."""
        last_s = 0.0
        for sample in self._file.samples():
            line = sample.read
            total = total_of(line.rails_mw, None, None, line.twice, line.unread)
            self.samples_read += 1
            self.duration_s = sample.t_s
            self.gaps += sample.t_s - last_s > self._max_gap_s
            last_s = sample.t_s
            self._count(line, total.warning)
            if total.refused:
                self._refused[total.refused] += 1
            if not sample.follows:
                self.jumps_back += 1
                self._broken = dict.fromkeys(self._energies, True)
            if total.mw is not None:
                scope = total.scope or ""
                energy = self._energies.setdefault(scope, ScopeEnergy(self._max_gap_s))
                energy.add(sample.t_s, total.mw, not self._broken.pop(scope, False))
            yield {
                "line": sample.line,
                "t_s": round(sample.t_s, 6),
                "rails_mw": line.rails_mw,
                "total_mw": total.mw,
                "scope": total.scope,
                "gpu_load": line.gpu_load,
                "gpu_mhz": line.gpu_mhz,
                "temps_c": line.temps_c,
            }

    @property
    def interval_s(self) -> float:
        return self._file.interval_s

    @property
    def time_from(self) -> TimeFrom:
        return self._file.time_from

    @property
    def is_assumed(self) -> bool:
        """Whether nothing tells the time: it, and the energy, are made of an interval that is assumed."""
        return self._file.is_assumed

    @property
    def mixed(self) -> str | None:
        """Whose lines are mixed, so that there is no total."""
        return self._file.sources.mixed(forward=self.time_from != "interval" and not self.jumps_back)

    @property
    def note(self) -> str | None:
        """What else there is to know about where the lines are from."""
        return None if self.mixed else self._file.sources.note()

    @property
    def skipped(self) -> int:
        """Lines that were not understood."""
        return self._file.skipped

    @property
    def scope(self) -> str | None:
        """The scope of the energy: the widest, as what has a narrower one lost a rail. Unlike ones are never added."""
        if self.mixed:
            return None
        return min(self._energies.keys() - self._refused.keys(), key=SCOPES.index, default=None)

    @property
    def other_scopes(self) -> dict[str, int]:
        """Samples that are left out of the energy as they have another scope."""
        own = self.scope
        return {scope: energy.power.count for scope, energy in self._energies.items() if own not in (None, scope)}

    @property
    def energy(self) -> ScopeEnergy | None:
        scope = self.scope
        if scope is None:
            return None
        energy = self._energies[scope]
        energy.flush()
        return energy

    def ending(self) -> dict[str, Any]:
        """The last line that --json prints. What could not be integrated is None."""
        energy = self.energy
        known = energy is not None and energy.covered_s > 0
        mean_mw: float | None = None
        peak_mw: float | None = None
        if energy is not None:
            peak_mw = energy.power.high
            # Over the time; of the samples where the time between them is not known.
            mean_mw = 1000 * energy.joules / energy.covered_s if known else energy.power.mean
        return {
            "samples": self.samples_read,
            "skipped": self.skipped,
            "energy_j": energy.joules if energy is not None and known else None,
            "mean_mw": mean_mw,
            "peak_mw": peak_mw,
            "coverage": min(1.0, energy.covered_s / self.duration_s) if energy is not None and known else None,
            "scope": self.scope,
            "time_from": self.time_from,
            "interval_s": self.interval_s,
            "interval_assumed": self.is_assumed,
            "remarks": [*filter(None, [self.why_no_energy()]), *self.remarks()],
        }

    def why_no_energy(self) -> str | None:
        """Why no line has a total, in one line; None where there are totals, or no lines at all."""
        if not self.samples_read or self.scope is not None:
            return None
        if self.mixed or not self.rails:
            return self.mixed or NO_RAILS
        return next(iter(self.warnings), NO_TOTAL)

    def remarks(self) -> list[str]:
        """What a figure of this log must be read with, a line each: what is assumed, left out or uncertain."""
        lines = [self.note] if self.note else []
        if self.is_assumed and self.samples_read > 1:
            lines.append(
                f"no time was found in the log: {1000 * self.interval_s:g} ms from line to line are assumed; "
                "--interval says otherwise"
            )
        if self.jumps_back:
            lines.append(f"the clock jumped back or stood still: {self.jumps_back} x; nothing is integrated over that")
        if self.gaps:
            lines.append(f"gaps of more than three intervals: {self.gaps}; nothing is integrated over them")
        for scope, count in self.other_scopes.items():
            lines.append(f"samples of another scope ({scope}), not in the energy: {count}")
        lines += [f"{warning} ({count} x)" for warning, count in self.warnings.most_common(_MAX_REMARKS)]
        return lines

    def _count(self, line: Line, warning: str | None) -> None:
        for spreads, values in ((self.rails, line.rails_mw), (self.temps, line.temps_c)):
            for name, value in values.items():
                if name in spreads or len(spreads) < _MAX_NAMES:
                    spreads.setdefault(name, Spread()).add(value)
        for spread, number in zip(self.gpu.values(), (line.gpu_load, line.gpu_mhz), strict=True):
            if number is not None:
                spread.add(number)
        # Where the time is known, what stands in front of a line was: the time, or whose line it is.
        in_front = set(line.around[0].split()) if self.time_from != "interval" else set()
        unknown = [word for word in line.unknown if word not in in_front]
        tallies = ((self.unknown, unknown), (self.repeated, line.repeated), (self.offline, line.offline))
        for counter, words in (*tallies, (self.warnings, [warning] if warning else [])):
            for word in words:
                counter[word if word in counter or len(counter) < _MAX_NAMES else "others"] += 1

    @property
    def _max_gap_s(self) -> float:
        """Dates cannot tell less than a second apart."""
        return max(MAX_GAP_INTERVALS * self.interval_s, self._file.step_s)
