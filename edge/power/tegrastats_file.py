"""A file of tegrastats' lines, on one time line. It is read as it comes, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice, pairwise
from statistics import median, median_low
from typing import BinaryIO

from edge.power.tegrastats_line import Line, parse_line

DEFAULT_INTERVAL_S = 1.0
MAX_LINE_BYTES = 1 << 16
"""Bytes of a line that are read. The longest real ones have about 1,200."""
DATE_STEP_S = 1.0
_MAX_LINES_A_SECOND = 4096
"""Lines with one date. More than that are of a clock that stands still."""
_FIRST_STEPS = 32
"""Steps from date to date from which the interval is judged."""
_FEW_STEPS = 4
"""Fewer than that may be a gap for the most part: the shorter ones count."""
_BYTE_ORDER = b"\xef\xbb\xbf\xff\xfe"


@dataclass(frozen=True, slots=True)
class LogSample:
    """One line that was understood."""

    line: int
    """Its number in the file, from 1."""
    t_s: float
    """Seconds since the first sample."""
    follows: bool
    """Whether the time since the sample before it is known: not after a clock that was set."""
    text: str
    read: Line


@dataclass(frozen=True, slots=True)
class _Second:
    """The lines of one date, or one line without."""

    moment: datetime | None
    lines: list[tuple[int, str, Line]]

    def before(self, other: _Second | None) -> float | None:
        """Seconds to another one, where both have a date."""
        if other is None or self.moment is None or other.moment is None:
            return None
        return (other.moment - self.moment).total_seconds()


class TegrastatsFile:
    """Goes through a file once; `interval_s`, `has_dates` and `skipped` say what was found so far.

    Dates have steps of a second: the lines of one second are spread over it evenly, those of a second that began or
    ended in the middle at the log's interval. A step back, or one longer than `longest_step_s`, is a clock that was
    set: it counts as one interval. Without dates the interval gives the time.
    """

    def __init__(
        self, file: BinaryIO, interval_s: float | None = None, *, longest_step_s: float = float("inf")
    ) -> None:
        """`interval_s` None: by the dates, else a second."""
        self._file, self._given_s, self._longest_step_s = file, interval_s, longest_step_s
        self.interval_s = interval_s or DEFAULT_INTERVAL_S
        self.has_dates = False
        self.skipped = 0
        """Lines that were not understood."""

    def samples(self) -> Iterator[LogSample]:
        seconds = self._seconds()
        first = list(islice(seconds, _FIRST_STEPS + 1))
        self.has_dates = any(second.moment is not None for second in first)
        if self._given_s is None:
            self.interval_s = _interval(first, self._longest_step_s) or DEFAULT_INTERVAL_S
        before: _Second | None = None
        began_s = last_s = 0.0
        for second, after in pairwise(chain(first, seconds, (None,))):
            assert second is not None
            count, step_s = len(second.lines), None if before is None else before.before(second)
            each_s, late_s = DATE_STEP_S / count, 0.0
            opens, ends = step_s != DATE_STEP_S, second.before(after) != DATE_STEP_S
            if opens or ends:
                each_s = min(each_s, self.interval_s)
                late_s = 0.0 if ends else DATE_STEP_S - count * each_s
            follows = step_s is None or 0 < step_s <= self._longest_step_s
            if before is None:
                began_s = -late_s
            elif step_s is None or not follows:
                began_s = last_s + self.interval_s - late_s
            else:
                # After lines without a date the clock may be behind the time line, which never goes back.
                began_s = max(began_s + step_s, last_s - late_s)
            before = second
            for place, (number, text, line) in enumerate(second.lines):
                last_s = began_s + late_s + place * each_s
                yield LogSample(number, last_s, follows or place > 0, text, line)

    def _seconds(self) -> Iterator[_Second]:
        """Lines that have one date together; each by itself before the first date. A line without one in a log that
        has them belongs to the second of the line before it."""
        date: datetime | None = None
        held: list[tuple[int, str, Line]] = []
        for number, text in enumerate(_texts(self._file), 1):
            line = parse_line(text)
            if line is None:
                self.skipped += bool(text.strip())
                continue
            moment = line.moment or date
            if held and (moment != date or moment is None or len(held) >= _MAX_LINES_A_SECOND):
                yield _Second(date, held)
                held = []
            date = moment
            held.append((number, text, line))
        if held:
            yield _Second(date, held)


def _interval(seconds: Iterable[_Second], longest_step_s: float) -> float | None:
    """The interval of a log's first lines in seconds, by their dates: None where too few are there to judge by."""
    steps = [
        step_s / len(second.lines)
        for second, after in pairwise(seconds)
        if (step_s := second.before(after)) is not None and 0 < step_s <= longest_step_s
    ]
    if len(steps) < 2:
        return None
    return median(steps) if len(steps) >= _FEW_STEPS else median_low(steps)


def _texts(file: BinaryIO) -> Iterator[str]:
    """Lines as text, whatever bytes they hold; of a line without end its beginning."""
    while blob := file.readline(MAX_LINE_BYTES):
        # What tegrastats prints is ASCII: without its zeros UTF-16 is, too, and so is a file that a power cut left.
        text = blob.replace(b"\0", b"").lstrip(_BYTE_ORDER).decode("utf-8", errors="replace")
        while blob and not blob.endswith(b"\n"):
            blob = file.readline(MAX_LINE_BYTES)
        yield text
