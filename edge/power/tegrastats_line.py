"""One line of tegrastats, of any release from r28 to r39.

A line is read from left to right as a row of fields, which whatever signs a log adds may touch. Whatever is no field (a
warning, garbage, a field that was cut) is skipped and listed, so that no line raises and nothing is lost in silence.
The forms are those of NVIDIA's Developer Guides and of real logs; the tests hold one line of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from edge.power.log_text import CUT, DATE, plain

# No field has more than nine digits: longer ones are garbage, and neither overflow nor take time.
_N = r"\d{1,9}"
_REAL = rf"{_N}(?:\.\d{{1,9}})?"
_SEPARATING = r" ,:()\[\]"
_TO = rf"[{_SEPARATING[:3]}]{{1,3}}"
# Where a field ends: a full stop may close the sentence that it stands in.
_END = rf"(?=\.{{0,3}}(?:[{_SEPARATING}]|$))"
_GAP = re.compile(rf"[{_SEPARATING}]*")
_WORD = re.compile(rf"[^{_SEPARATING}]*[{_SEPARATING}]*")
# `7%`, `@2133`, `12%@204`, `39%@[305,0]`, `@[314,314,314]`; engines also `off` and `729`.
_USE = (
    rf"(?=[\d@o])(?:off|(?P<plain>{_N})|(?:(?P<load>{_REAL})%)?"
    rf"(?:@(?:(?P<mhz>{_N})|\[ ?(?P<each>{_N}(?: ?, ?{_N}){{0,31}}) ?\]))?)"
)
_CORE = re.compile(_USE, re.ASCII)
# Sensors that are switched off print -256; PMIC prints one of two constants (100 up to TX2 and Xavier, 50 on the Nano).
_OFFLINE_C = -256.0
_DUMMY_PMIC_C = (50.0, 100.0)
# Rails of a board, memory and load. `NAME 12` is an engine's clock, but of these a field whose rest was cut.
_OF_A_BOARD = re.compile(r"(?:RAM|SWAP|IRAM|CPU|GPU|SOC|CV|SYS5V|NC|EMC(?:_FREQ)?|GR3D(?:_FREQ)?|(?:VDD|VIN|POM)\w*)$")
# What only a rail has, in words that were not understood.
_OF_A_RAIL = re.compile(r"\d ?mW|VDD|VIN|POM_", re.ASCII)
_BEGUN_RAILS = frozenset(name[:end] for name in ("VIN", "VDD_", "POM_") for end in range(1, 4))
_DATE = re.compile(DATE, re.ASCII)
_RAM = re.compile(r"(?<![A-Za-z])RAM[ ,:]")


@dataclass(frozen=True, slots=True)
class Use:
    """What a core or an engine does. None is what the line does not tell."""

    load: float | None = None
    """Percent of the present clock."""
    mhz: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What one line says. Missing is missing or None, never 0.

    More than 15 attributes: a line of tegrastats has as many kinds of fields.
    """

    moment: datetime | None = None
    """The device's local time, in steps of a second; it can jump. None before r34."""
    rails_mw: dict[str, float] = field(default_factory=dict)
    """The first number of each rail, the current one. The second is the mean since tegrastats began."""
    gpu_load: float | None = None
    """Percent."""
    gpu_mhz: float | None = None
    """The fastest of several clusters."""
    temps_c: dict[str, float] = field(default_factory=dict)
    ram_mb: tuple[float, float] | None = None
    """Used, of all."""
    swap_mb: tuple[float, float] | None = None
    cpus: list[Use | None] = field(default_factory=list)
    """A core that is off is None."""
    emc: Use | None = None
    """The memory controller."""
    engines: dict[str, Use | None] = field(default_factory=dict)
    """By name without `_FREQ`; one that is off is None."""
    unknown: list[str] = field(default_factory=list)
    """What was not understood, up to the next blank each."""
    offline: list[str] = field(default_factory=list)
    """Sensors that are switched off, or never measure (PMIC)."""
    repeated: list[str] = field(default_factory=list)
    """Names that came again: the first one counts (NC is printed twice on AGX Orin)."""
    twice: list[str] = field(default_factory=list)
    """Rails among these."""
    unread: list[str] = field(default_factory=list)
    """What may be a rail, or the beginning or the rest of one, and cannot be read."""
    around: tuple[str, str] = ("", "")
    """What stands before the first field, but for the date, and after the last one."""


class _Draft:
    """A line while it is read: one method a field. Each says whether what its pattern matched makes sense."""

    def __init__(self) -> None:
        self.rails_mw: dict[str, float] = {}
        self.gpu: Use | None = None
        self.temps_c: dict[str, float] = {}
        self.memory_mb: dict[str, tuple[float, float]] = {}
        self.cpus: list[Use | None] = []
        self.emc: Use | None = None
        self.engines: dict[str, Use | None] = {}
        self.unknown: list[str] = []
        self.offline: list[str] = []
        self.repeated: list[str] = []
        self.twice: list[str] = []
        self.unread: list[str] = []
        self.numbers = 0
        """The most that a rail of the line has: current, average, peak."""

    def _first(self, name: str, known: bool) -> bool:
        if known:
            self.repeated.append(name)
        return not known

    def memory(self, match: re.Match[str]) -> bool:
        name, unit = match["name"], {"k": 1 / 1024, "M": 1.0, "G": 1024.0}[match["unit"]]
        if self._first(name, name in self.memory_mb):
            self.memory_mb[name] = (float(match["used"]) * unit, float(match["all"]) * unit)
        return True

    def cores(self, match: re.Match[str]) -> bool:
        if not self._first("CPU", bool(self.cpus)):
            return True
        for text in match["cores"].split(","):
            word = text.strip()
            core = _CORE.fullmatch(word)
            if word in ("off", "na"):
                self.cpus.append(None)
            elif core is None or core["plain"] is not None:
                self.unknown.append(word)
                self.cpus.append(Use())
            else:
                self.cpus.append(_use(core, match["mhz"]))
        return True

    def controller(self, match: re.Match[str]) -> bool:
        if match["plain"] is not None:
            return False
        use = _use(match)
        if match["name"] == "EMC":
            if self._first("EMC", self.emc is not None):
                self.emc = use
        elif self._first("GR3D", self.gpu is not None):
            self.gpu = use
        return True

    def tasks(self, match: re.Match[str]) -> bool:
        self.engines.update({f"MTS {which}": Use(load=float(match[which])) for which in ("fg", "bg")})
        return True

    def temperature(self, match: re.Match[str]) -> bool:
        name, celsius = match["name"], float(match["celsius"])
        if celsius <= _OFFLINE_C or (name.upper() == "PMIC" and celsius in _DUMMY_PMIC_C):
            self.offline.append(name)
        elif self._first(name, name in self.temps_c):
            self.temps_c[name] = celsius
        return True

    def rail(self, match: re.Match[str]) -> bool:
        name, mw = match["name"], float(match["mw"])
        if name in ("RAM", "SWAP", "IRAM"):
            return False
        if self._first(name, name in self.rails_mw):
            self.rails_mw[name] = mw
        else:
            self.twice.append(name)
        self.numbers = max(self.numbers, 1 + match[0].count("/"))
        return True

    def engine(self, match: re.Match[str]) -> bool:
        name = match["name"].removesuffix("_FREQ")
        if _OF_A_BOARD.match(match["name"]):
            return False
        if self._first(name, name in self.engines):
            off = match[0].endswith("off")
            self.engines[name] = None if off else _use(match, match["plain"])
        return True


def _use(match: re.Match[str], mhz: str | None = None) -> Use:
    """The use that `_USE` matched, at the clock `mhz` where it has none of its own."""
    clocks = match["each"].split(",") if match["each"] else [own] if (own := match["mhz"] or mhz) else []
    return Use(
        load=None if match["load"] is None else float(match["load"]),
        mhz=max(map(float, clocks)) if clocks else None,
    )


# In this order: the first that fits at a place is taken. What is sure to be tegrastats' comes with True.
_FIELDS: list[tuple[re.Pattern[str], Callable[[_Draft, re.Match[str]], bool], bool]] = [
    (re.compile(pattern + _END, re.ASCII), read, sure)
    for pattern, read, sure in (
        # `RAM 1282/62795MB (lfb 15152x4MB)`, `IRAM 0/252kB(lfb 252kB)`
        (
            rf"(?P<name>RAM|SWAP|IRAM)[ ,:]{{0,3}}(?P<used>{_N}) ?/ ?(?P<all>{_N}) ?(?P<unit>[kMG])B"
            r"(?:[ ,]{0,2}\( ?(?:lfb|cached)[ ,][\dx ]{1,24}[kMG]?B ?\))?",
            _Draft.memory,
            True,
        ),
        (rf"(?:CPU|cpu)[ ,:]{{0,3}}\[(?P<cores>[^\[\]]*)\](?:@(?P<mhz>{_N}))?", _Draft.cores, True),
        (rf"(?P<name>EMC|GR3D)(?:_FREQ)?{_TO}{_USE}", _Draft.controller, True),
        (rf"MTS{_TO}fg{_TO}(?P<fg>{_N})%{_TO}bg{_TO}(?P<bg>{_N})%", _Draft.tasks, True),
        # The current one; r39 adds the peak, of which the cut may leave a part.
        (rf"(?P<name>[A-Za-z][\w.-]*)@(?P<celsius>-?{_REAL})C(?:/-?[\d.]{{0,19}}C?)?", _Draft.temperature, True),
        # The current one is what counts: no average and no peak, be it below zero, cut or damaged, costs it.
        (
            rf"(?P<name>[A-Za-z](?:[\w-]|\.(?!\.))*){_TO}(?P<mw>-?{_REAL}) ?mW"
            rf"(?: ?/ ?[^{_SEPARATING}/]{{0,19}}(?: ?mW)?){{0,2}}",
            _Draft.rail,
            True,
        ),
        # r32 has no unit: upper case, so that a fraction in a message is no rail.
        (rf"(?P<name>[A-Z][A-Z0-9_]*){_TO}(?P<mw>-?{_N}) ?/ ?[-\dna]{{0,10}}", _Draft.rail, False),
        (rf"(?P<name>[A-Z][A-Z0-9_]*){_TO}{_USE}", _Draft.engine, False),
    )
]


def parse_line(text: str) -> Line | None:
    """What the line says, or None when nothing of it is understood. Never raises."""
    return parse_plain(plain(text))


def parse_plain(text: str) -> Line | None:
    """The same of a text that went through `plain`."""
    moment, text = _without_date(text)
    draft = _Draft()
    place = _GAP.match(text).end()  # type: ignore[union-attr]  # it may be empty, so it always fits
    lost, first, last, last_field = 0, len(text), 0, ""
    while place < len(text):
        for pattern, read, sure in _FIELDS:
            match = pattern.match(text, place)
            if match is not None and read(draft, match):
                _lose(draft, text[lost:place])
                if sure or _OF_A_BOARD.match(match["name"]):
                    first = min(first, place)
                    last, last_field = match.end(), match[0]
                place = lost = match.end()
                place = _GAP.match(text, place).end()  # type: ignore[union-attr]
                break
        else:
            place = _WORD.match(text, place).end()  # type: ignore[union-attr]
    _lose(draft, text[lost:])
    # A date, one clock, an engine's `NAME 12` or a fraction (`STEP 1/100`) alone may be any message.
    rails = any(map(_OF_A_BOARD.match, draft.rails_mw))
    if not (rails or draft.temps_c or draft.memory_mb or draft.cpus or (draft.gpu and draft.emc)):
        return None
    head, tail = text[:first].strip(), text[last:].strip()
    if CUT in text or tail.split(" ")[0] in _BEGUN_RAILS or _is_cut(last_field, draft.numbers):
        draft.unread.append("the end of the line")
    return Line(
        moment=moment,
        rails_mw=draft.rails_mw,
        gpu_load=None if draft.gpu is None else draft.gpu.load,
        gpu_mhz=None if draft.gpu is None else draft.gpu.mhz,
        temps_c=draft.temps_c,
        ram_mb=draft.memory_mb.get("RAM"),
        swap_mb=draft.memory_mb.get("SWAP"),
        cpus=draft.cpus,
        emc=draft.emc,
        engines=draft.engines,
        unknown=draft.unknown,
        offline=draft.offline,
        repeated=draft.repeated,
        twice=draft.twice,
        unread=draft.unread,
        around=(head, tail),
    )


def _without_date(text: str) -> tuple[datetime | None, str]:
    """The line's date, and the rest. Of several dates tegrastats' own is the last one before RAM."""
    ram = _RAM.search(text)
    matches = list(_DATE.finditer(text, 0, ram.start()))[::-1] if ram else []
    for match in matches or _DATE.finditer(text):
        month, day, year, hour, minute, second = map(int, match.groups())
        try:
            moment = datetime(year, month, day, hour, minute, second)
        except ValueError:
            continue
        return moment, f"{text[: match.start()]} {text[match.end() :]}"
    return None, text


def _lose(draft: _Draft, text: str) -> None:
    """What was not understood is listed by its words."""
    for word in text.split():
        if word.strip(",:()[]"):
            draft.unknown.append(word)
            if _OF_A_RAIL.search(word):
                draft.unread.append(word)


def _is_cut(field_: str, numbers: int) -> bool:
    """Whether the last field of a line is a rail that has less than the others: a rail after it may be lost."""
    if "mW" not in field_:
        return field_.endswith("/")
    return not field_.removesuffix(".").endswith("mW") or 1 + field_.count("/") < numbers
