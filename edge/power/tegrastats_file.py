"""A file of tegrastats' lines, on one time line. It is read as it comes, so that memory does not grow with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice, pairwise
from statistics import median, median_low
from typing import BinaryIO, Literal

from edge.power.log_sources import Sources
from edge.power.log_stamp import StampClock
from edge.power.log_unwrap import LogLine, file_named_in, unwrap
from edge.power.tegrastats_line import Line

DEFAULT_INTERVAL_S = 1.0
MAX_LINE_BYTES = 1 << 16
"""Bytes of a line that are read. The longest real ones have about 1,200."""
DATE_STEP_S = 1.0
_MAX_LINES_A_SECOND = 4096
"""Lines with one date. More than that are of a clock that stands still."""
_FIRST_LINES = 64
"""Lines from which it is judged which clock gives the time."""
_FIRST_STEPS = 32
"""Steps from date to date from which the interval is judged."""
_LEAST_STEP_S = 0.05
"""tegrastats takes no shorter interval than about 0.1 s."""
_FEW_STEPS = 4
"""Fewer than that may be a gap for the most part: the shorter ones count."""
_MAX_BYTES_WITHOUT_END = 1 << 26
"""What has no line's end for so long is no log."""
_BYTE_ORDER = b"\xef\xbb\xbf\xff\xfe"
_LINE_END = re.compile(rb"\r{0,2}\n|\r")
_BEGINNING = datetime(1970, 1, 1)

TimeFrom = Literal["dates", "timestamps", "interval"]
"""What gives a log its time: the lines' own dates, timestamps of another program beside them, or the interval alone."""


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


_Numbered = tuple[int, LogLine]


@dataclass(frozen=True, slots=True)
class _Second:
    """The lines of one date, or one line without."""

    at_s: float | None
    lines: list[_Numbered]

    def before(self, other: _Second | None) -> float | None:
        """Seconds to another one, where both have a date."""
        return None if other is None or self.at_s is None or other.at_s is None else other.at_s - self.at_s


class TegrastatsFile:
    """Goes through a file once; the rest says what was found so far.

    Dates, and most timestamps, have steps of a second: the lines of one second are spread over it evenly, those of a
    second that began or ended in the middle at the log's interval. A step back, or one longer than `longest_step_s`, is
    a clock that was set: it counts as one interval. Without dates the timestamps of other programs give the time, and
    without these the interval.
    """

    def __init__(
        self, file: BinaryIO, interval_s: float | None = None, *, longest_step_s: float = float("inf")
    ) -> None:
        """`interval_s` None: by the dates, else a second."""
        self._file, self._given_s, self._longest_step_s = file, interval_s, longest_step_s
        self.interval_s = interval_s or DEFAULT_INTERVAL_S
        self.time_from: TimeFrom = "interval"
        self.step_s = 0.0
        """What the clock cannot tell apart."""
        self.skipped = 0
        """Lines that were not understood."""
        self.sources = Sources()

    @property
    def is_assumed(self) -> bool:
        """Whether the interval, and with it all time and energy, is neither told by the log nor given."""
        return self.time_from == "interval" and self._given_s is None

    def samples(self) -> Iterator[LogSample]:
        numbered = self._lines()
        head = list(islice(numbered, _FIRST_LINES))
        self._choose_clock([line for _, line in head])
        seconds = self._seconds(chain(head, numbered))
        first = list(islice(seconds, _FIRST_STEPS + 1))
        if self._given_s is None:
            self.interval_s = _interval(first, self._longest_step_s) or DEFAULT_INTERVAL_S
        before: _Second | None = None
        began_s = last_s = 0.0
        for second, after in pairwise(chain(first, seconds, (None,))):
            assert second is not None
            step_s = None if before is None else before.before(second)
            late_s, each_s = self._spread(len(second.lines), step_s, second.before(after))
            follows = step_s is None or 0 < step_s <= self._longest_step_s
            if before is None:
                began_s = -late_s
            elif step_s is None or not follows:
                began_s = last_s + self.interval_s - late_s
            else:
                # After lines without a date the clock may be behind the time line, which never goes back.
                began_s = max(began_s + step_s, last_s - late_s)
            before = second
            for place, (number, line) in enumerate(second.lines):
                last_s = began_s + late_s + place * each_s
                yield LogSample(number, last_s, follows or place > 0, line.text, line.read)

    def _spread(self, count: int, before_s: float | None, after_s: float | None) -> tuple[float, float]:
        """How long after a second's beginning its first line is, and how far apart its lines are."""
        if self.time_from == "timestamps" and not self.step_s:
            return 0.0, 0.0
        each_s, late_s = DATE_STEP_S / count, 0.0
        opens, ends = before_s != DATE_STEP_S, after_s != DATE_STEP_S
        if opens or ends:
            each_s = min(each_s, self.interval_s)
            late_s = 0.0 if ends else DATE_STEP_S - count * each_s
        return late_s, each_s

    def _choose_clock(self, lines: Sequence[LogLine]) -> None:
        if any(line.read.moment is not None for line in lines):
            self.time_from, self.step_s = "dates", DATE_STEP_S
        elif _go_on(lines):
            self.time_from = "timestamps"
            parts = any(line.stamp is not None and line.stamp.has_parts for line in lines)
            self.step_s = 0.0 if parts else DATE_STEP_S

    def _lines(self) -> Iterator[_Numbered]:
        """What is understood, with the number of its line."""
        file = ""
        for number, text in enumerate(_texts(self._file), 1):
            understood = False
            for line in unwrap(text):
                understood = True
                self.sources.add(line, file)
                yield number, line
            if not understood:
                file = file_named_in(text) or file
                self.skipped += bool(text.strip())

    def _seconds(self, lines: Iterable[_Numbered]) -> Iterator[_Second]:
        """Lines that have one date together; each by itself before the first date. A line without one in a log that
        has them belongs to the second of the line before it."""
        clock = StampClock()
        at_s: float | None = None
        held: list[_Numbered] = []
        for number, line in lines:
            now_s = at_s
            if self.time_from != "timestamps" and line.read.moment is not None:
                now_s = (line.read.moment - _BEGINNING).total_seconds()
            elif self.time_from == "timestamps" and line.stamp is not None:
                now_s = clock.seconds(line.stamp)
            if held and (now_s != at_s or now_s is None or len(held) >= _MAX_LINES_A_SECOND):
                yield _Second(at_s, held)
                held = []
            at_s = now_s
            held.append((number, line))
        if held:
            yield _Second(at_s, held)


def _go_on(lines: Sequence[LogLine]) -> bool:
    """Whether the timestamps of a log's first lines are a clock's: most lines have one, of one kind, and they go on.
    `ts -i` counts from the line before, and what waited in a buffer has the time at which it was written."""
    stamps = [line.stamp for line in lines if line.stamp is not None]
    if not stamps or 2 * len(stamps) < len(lines) or len({stamp.kind for stamp in stamps}) > 1:
        return False
    clock = StampClock()
    steps = [after - before for before, after in pairwise([clock.seconds(stamp) for stamp in stamps])]
    if any(stamp.has_parts for stamp in stamps) and len(steps) > 1 and median(steps) < _LEAST_STEP_S:
        return False
    return not steps or (sum(step > 0 for step in steps) > 4 * sum(step < 0 for step in steps))


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
    """Lines as text, whatever bytes they hold; of a line without end its beginning. Raises ValueError for what has no
    line's end at all."""
    held, since_end = b"", 0
    while blob := file.readline(MAX_LINE_BYTES):
        # What tegrastats prints is ASCII: without its zeros UTF-16 is, too, and so is a file that a power cut left.
        held += blob.replace(b"\0", b"")
        *lines, rest = _LINE_END.split(held)
        since_end = len(blob) if lines else since_end + len(blob)
        if since_end > _MAX_BYTES_WITHOUT_END:
            raise ValueError(f"{since_end >> 20} MiB of it have no line's end: it is no log of lines")
        if lines and held.endswith(b"\r"):
            # It may be the first half of an end.
            *lines, rest = *lines[:-1], lines[-1] + b"\r"
        for line in lines:
            yield _decoded(line)
        held = rest[:MAX_LINE_BYTES]
    if held:
        yield _decoded(held)


def _decoded(line: bytes) -> str:
    return line[:MAX_LINE_BYTES].lstrip(_BYTE_ORDER).decode("utf-8", errors="replace").rstrip("\r")
