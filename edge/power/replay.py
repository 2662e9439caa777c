"""A tegrastats log, given again at its pace as if it were measured now. It stands for a board on a machine without
sensors, and is named so wherever one of its figures is shown."""

from __future__ import annotations

import re
import statistics
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path

from edge.power.source import Reading
from edge.power.tegrastats import reading_of, without_total
from edge.power.tegrastats_line import parse_line
from federa.errors import BadInput, one_line

_DATE = re.compile(r"\s*(\d{1,2})-(\d{1,2})-(\d{4})\s+(\d{1,2}):(\d{1,2}):(\d{1,2})\s", re.ASCII)
# Without dates: tegrastats' own default.
_STEP_S = 1.0
# A step longer than this, or back, is a clock that was set.
_JUMP_S = 3600.0
# One call gives no more than this: after a long sleep the older ones are left out.
_AT_ONCE = 10_000


class Replay:
    """Readings of a log, in a loop. Raises BadInput for a log that holds no total power."""

    def __init__(self, path: Path, *, board: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`board` decides the total; None judges by the rails alone."""
        self._board, self._clock = board, clock
        self._lines = _read(path)
        self.scope = _first_scope(self._lines, board)
        if self.scope is None:
            for_board = f" for the board {board!r}" if board else ""
            raise BadInput(f"--power: replay:{path} holds no line of tegrastats with a total power{for_board}")
        self.name = f"replay of {path.name}"
        self._times_s, self._cycle_s = times_of(self._lines)
        self.detail = f"{path.name}: {len(self._lines)} lines, {self._cycle_s:.0f} s, in a loop"
        self._began_s = clock()
        self._next = 0
        """Lines given so far, over all loops."""

    def readings(self) -> list[Reading]:
        now_s = self._clock()
        count = len(self._lines)
        loops, into_s = divmod(now_s - self._began_s, self._cycle_s)
        due = int(loops) * count + bisect_right(self._times_s, into_s)
        found = []
        for place in range(max(self._next, due - _AT_ONCE), due):
            loop, index = divmod(place, count)
            line = parse_line(self._lines[index])
            if line is None:
                continue
            at_s = self._began_s + loop * self._cycle_s + self._times_s[index]
            reading, scope, _ = reading_of(line, at_s, self._board)
            found.append(reading if scope == self.scope else without_total(reading))
        self._next = max(self._next, due)
        return found

    def trouble(self) -> str | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def times_of(lines: Sequence[str], step_s: float | None = None) -> tuple[array[float], float]:
    """When each line was written, in seconds since the first, and the length of the whole, in seconds.

    Dates have steps of a second: the lines of one second are spread over it evenly. A step back, or one of more than an
    hour, is a clock that was set: it counts as the log's usual step. A line that lost its date has the one before it.
    `step_s` is the step of a log without dates (1 s).
    """
    dates = list(map(_date, lines))
    last = next((date for date in dates if date is not None), None)
    if last is None:
        each_s = step_s or _STEP_S
        return array("d", (i * each_s for i in range(len(lines)))), len(lines) * each_s
    filled = [last := date or last for date in dates]
    seconds = [(moment, len(list(group))) for moment, group in groupby(filled)]
    leaps = [(later - earlier).total_seconds() for (earlier, _), (later, _) in pairwise(seconds)]
    usual_s = statistics.median([leap for leap in leaps if 0 < leap <= _JUMP_S] or [_STEP_S])
    usual_count = statistics.median_high(count for _, count in seconds)
    times_s: array[float] = array("d")
    at_s = 0.0
    for place, (leap, (_, count)) in enumerate(zip([0.0, *leaps], seconds, strict=True)):
        if place:
            at_s += leap if 0 < leap <= _JUMP_S else usual_s
        # The log may have begun late in its first second, and ended early in its last.
        whole = max(count, usual_count) if place in (0, len(seconds) - 1) else count
        before = whole - count if place == 0 and len(seconds) > 1 else 0
        times_s.extend(at_s + (before + i) * min(usual_s, 1.0) / whole for i in range(count))
    first_s = times_s[0]
    times_s = array("d", (time_s - first_s for time_s in times_s))
    steps = [later - earlier for earlier, later in pairwise(times_s)]
    return times_s, times_s[-1] + (statistics.median(steps) if steps else _STEP_S)


def check(path: Path, board: str | None = None) -> None:
    """Raises BadInput where `Replay` would."""
    Replay(path, board=board)


def _read(path: Path) -> list[str]:
    try:
        with path.open(errors="replace") as file:
            # The heading of a log that somebody published.
            return [text for text in file if text.strip() and not text.startswith("#")]
    except OSError as error:
        raise BadInput(f"--power: cannot read replay:{path}: {error.strerror or one_line(error)}") from None


def _first_scope(lines: Sequence[str], board: str | None) -> str | None:
    for text in lines:
        line = parse_line(text)
        if line is not None and (scope := reading_of(line, 0.0, board)[1]) is not None:
            return scope
    return None


def _date(text: str) -> datetime | None:
    match = _DATE.match(text)
    if match is None:
        return None
    month, day, year, hour, minute, second = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
