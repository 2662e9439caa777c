"""Timestamps that other programs put beside tegrastats' words: docker, journald, `ts`, container runtimes, loggers.

A stamp gives the time of a line that has no date of its own. Only differences count, so that it does no harm when
neither a zone nor a year is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

_DAY_S = 86_400.0
# A leap year stands for a year that is not told.
_SOME_YEAR = 2000
_YEAR_S = 366 * _DAY_S
_MONTHS = {name: number for number, name in enumerate(re.findall("...", "JanFebMarAprMayJunJulAugSepOctNovDec"), 1)}
# What a count of digits says about the unit of a time since 1970: seconds to nanoseconds, from 2001 to 2100.
_UNITS = {10: 1.0, 13: 1e3, 16: 1e6, 19: 1e9}
_FIRST_S, _LAST_S = 1e9, 4.1e9

_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d\d):(?P<second>\d\d)(?:(?:\.|,(?=\d{3}(?!\d)))(?P<part>\d{1,9}))?(?![\d:])"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment by somebody else's clock."""

    seconds: float
    """Since a beginning that all stamps of this kind share."""
    kind: str
    """Stamps of two kinds cannot be compared."""
    period_s: float | None = None
    """After so long it begins again, as the time of day does."""
    whole: str = ""
    """The words it was read from."""

    @property
    def has_parts(self) -> bool:
        """Whether it is finer than a second."""
        return self.seconds % 1 != 0


def _dated(match: re.Match[str]) -> tuple[float, str, float | None]:
    found = match.groupdict()
    year = int(found["year"] or found.get("late") or 0)
    month = _MONTHS.get(found["month"]) or int(found["month"])
    moment = datetime(
        year or _SOME_YEAR, month, int(found["day"]), int(found["hour"]), int(found["minute"]), int(found["second"])
    )
    seconds = moment.replace(tzinfo=timezone.utc).timestamp() + _parts(found["part"]) - _zone_s(found.get("zone"))
    return seconds, "date" if year else "date without a year", None if year else _YEAR_S


def _epoch(match: re.Match[str]) -> tuple[float, str, float | None]:
    seconds = int(match["count"]) / _UNITS[len(match["count"])] + _parts(match["part"])
    if not _FIRST_S <= seconds <= _LAST_S:
        raise ValueError("no time of our days")
    return seconds, "since 1970", None


def _elapsed(match: re.Match[str]) -> tuple[float, str, float | None]:
    return float(match["count"]), "since a start", None


def _of_day(match: re.Match[str]) -> tuple[float, str, float | None]:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if match["half"]:
        hour = hour % 12 + 12 * (match["half"].upper() == "PM")
    seconds = timedelta(hours=hour, minutes=minute, seconds=second).total_seconds()
    if minute > 59 or second > 60 or seconds > _DAY_S:
        raise ValueError("no time of a day")
    return seconds + _parts(match["part"]), "time of day", _DAY_S


def _parts(digits: str | None) -> float:
    return float(f"0.{digits}") if digits else 0.0


def _zone_s(zone: str | None) -> float:
    """How far it is ahead of UTC: `+0530`, `-08:00`. Z, UTC and none are not."""
    if zone is None or zone[0] not in "+-":
        return 0.0
    digits = zone[1:].replace(":", "")
    return (-1 if zone[0] == "-" else 1) * (3600.0 * int(digits[:2]) + 60.0 * int(digits[2:] or 0))


# The first that is found counts.
_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[float, str, float | None]]], ...] = tuple(
    (re.compile(pattern, re.ASCII), read)
    for pattern, read in (
        # 2025-11-04T01:46:50.123456789Z, 2025/11/04 01:46:50, 2025-11-04 01:46:50,123+0100
        (
            r"(?<!\d)(?P<year>\d{4})(?P<mark>[-/])(?P<month>\d\d)(?P=mark)(?P<day>\d\d)[T_ ,]{1,2}"
            rf"{_CLOCK} ?(?P<zone>Z|[+-]\d\d:?\d\d)?",
            _dated,
        ),
        # 04/Nov/2025:01:46:50 +0000, 04 Nov 2025 01:46:50
        (
            rf"(?<!\d)(?P<day>\d{{1,2}})[ /-]{_MONTH}[ /-](?P<year>\d{{4}})[ :]{_CLOCK} ?(?P<zone>[+-]\d\d:?\d\d)?",
            _dated,
        ),
        # Nov 04 01:46:50, 2025 Nov  4 01:46:50.123, Tue Nov  4 01:46:50 UTC 2025
        (
            rf"(?:(?<!\d)(?P<year>\d{{4}}) )?(?<![A-Za-z]){_MONTH} {{1,2}}(?P<day>\d{{1,2}})[ ,]{{1,2}}"
            rf"{_CLOCK}(?: (?:[A-Z]{{3,4}} )?(?P<late>(?:19|20)\d\d)(?!\d))?",
            _dated,
        ),
        # 1762220810, 1762220810.123, and in ms, us or ns
        (r"(?<![\w./-])(?P<count>\d{10}(?:\d{3}){0,3})(?:\.(?P<part>\d{1,9}))?(?![\w/-])", _epoch),
        # [  812.345678] as of the kernel, 12.345 alone
        (r"\[ ?(?P<count>\d{1,9}\.\d{3,9}) ?\]", _elapsed),
        (r"^(?P<count>\d{1,9}\.\d{1,9})(?=[ ,:]|$)", _elapsed),
        (rf"(?<![\d:.]){_CLOCK}(?: ?(?P<half>[AaPp][Mm])\b)?", _of_day),
    )
)


def stamp_in(text: str) -> Stamp | None:
    """The first timestamp of a plain text."""
    for pattern, read in _FORMS:
        for match in pattern.finditer(text):
            try:
                seconds, kind, period_s = read(match)
            except ValueError:
                continue
            return Stamp(seconds, kind, period_s, match[0])
    return None


class StampClock:
    """Puts the stamps of one log on one line of time: what begins again goes on."""

    def __init__(self) -> None:
        self._last_s = float("-inf")
        self._laps_s = 0.0

    def seconds(self, stamp: Stamp) -> float:
        at_s = stamp.seconds + self._laps_s
        if stamp.period_s is not None and at_s < self._last_s - stamp.period_s / 2:
            self._laps_s += stamp.period_s
            at_s += stamp.period_s
        self._last_s = at_s
        return at_s
