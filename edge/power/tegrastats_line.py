"""One line of tegrastats, of any release from r28 to r39.

A line is read from left to right as a row of fields. Whatever is no field (a warning, garbage, a field that was cut) is
skipped up to the next blank and listed, so that no line raises and nothing is lost in silence. The forms are those of
NVIDIA's Developer Guides and of real logs; the tests hold one line of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

# No field has more than nine digits: longer ones are garbage, and neither overflow nor take time.
_N = r"\d{1,9}"
_REAL = rf"{_N}(?:\.\d{{1,9}})?"
_END = r"(?= |$)"
# `7%`, `@2133`, `12%@204`, `39%@[305,0]`, `@[314,314,314]`; engines also `off` and `729`.
_USE = (
    rf"(?=[\d@o])(?:off|(?P<plain>{_N})|(?:(?P<load>{_REAL})%)?"
    rf"(?:@(?:(?P<mhz>{_N})|\[ ?(?P<each>{_N}(?: ?, ?{_N}){{0,31}}) ?\]))?)"
)
_CORE = re.compile(_USE, re.ASCII)
# Colours, of a terminal's record.
_ESCAPE = re.compile(r"\x1b\[[0-9;?]{0,32}[A-Za-z]")
# Sensors that are switched off print -256; PMIC prints one of two constants (100 up to TX2 and Xavier, 50 on the Nano).
_OFFLINE_C = -256.0
_DUMMY_PMIC_C = (50.0, 100.0)
# Rails of a board, memory and load. `NAME 12` is an engine's clock, but of these a field whose rest was cut.
_OF_A_BOARD = re.compile(r"(?:RAM|SWAP|IRAM|CPU|GPU|SOC|CV|SYS5V|NC|EMC(?:_FREQ)?|GR3D(?:_FREQ)?|(?:VDD|VIN|POM)\w*)$")


@dataclass(frozen=True, slots=True)
class Use:
    """What a core or an engine does. None is what the line does not tell."""

    load: float | None = None
    """Percent of the present clock."""
    mhz: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What one line says. Missing is missing or None, never 0."""

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


class _Draft:
    """A line while it is read: one method a field. Each says whether what its pattern matched makes sense."""

    def __init__(self) -> None:
        self.moment: datetime | None = None
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

    def _first(self, name: str, known: bool) -> bool:
        if known:
            self.repeated.append(name)
        return not known

    def date(self, match: re.Match[str]) -> bool:
        month, day, year, hour, minute, second = map(int, match.groups())
        try:
            moment = datetime(year, month, day, hour, minute, second)
        except ValueError:
            return False
        if self._first("date", self.moment is not None):
            self.moment = moment
        return True

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
        name = match["name"]
        if name in ("RAM", "SWAP", "IRAM"):
            return False
        if self._first(name, name in self.rails_mw):
            self.rails_mw[name] = float(match["mw"])
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


# In this order: the first that fits at a place is taken.
_FIELDS: list[tuple[re.Pattern[str], Callable[[_Draft, re.Match[str]], bool]]] = [
    (re.compile(pattern + _END, re.ASCII), read)
    for pattern, read in (
        (r"(\d{1,2})-(\d{1,2})-(\d{4}) (\d{1,2}):(\d{1,2}):(\d{1,2})", _Draft.date),
        # `RAM 1282/62795MB (lfb 15152x4MB)`, `IRAM 0/252kB(lfb 252kB)`
        (
            rf"(?P<name>RAM|SWAP|IRAM) ?(?P<used>{_N}) ?/ ?(?P<all>{_N}) ?(?P<unit>[kMG])B"
            r"(?: ?\( ?(?:lfb|cached) [\dx ]{1,24}[kMG]?B ?\))?",
            _Draft.memory,
        ),
        (rf"(?:CPU|cpu) ?\[(?P<cores>[^\[\]]*)\](?:@(?P<mhz>{_N}))?", _Draft.cores),
        (rf"(?P<name>EMC|GR3D)(?:_FREQ)? {_USE}", _Draft.controller),
        (rf"MTS fg (?P<fg>{_N})% bg (?P<bg>{_N})%", _Draft.tasks),
        # The current one; r39 adds the peak, of which the cut may leave a part.
        (rf"(?P<name>[A-Za-z][\w.-]*)@(?P<celsius>-?{_REAL})C(?:/-?[\d.]{{0,19}}C?)?", _Draft.temperature),
        # The same: the current one counts when it is whole.
        (rf"(?P<name>[A-Za-z][\w.-]*) (?P<mw>{_REAL}) ?mW(?: ?/ ?[\d.]{{0,19}} ?m?W?){{0,2}}", _Draft.rail),
        # r32 has no unit: upper case, so that a fraction in a message is no rail.
        (rf"(?P<name>[A-Z][A-Z0-9_]*) (?P<mw>{_N}) ?/ ?\d{{0,9}}", _Draft.rail),
        (rf"(?P<name>[A-Z][A-Z0-9_]*) {_USE}", _Draft.engine),
    )
]


def parse_line(text: str) -> Line | None:
    """What the line says, or None when nothing of it is understood. Never raises."""
    # Blanks are irregular: one each from here on.
    text = " ".join((_ESCAPE.sub(" ", text) if "\x1b" in text else text).split())
    draft, place = _Draft(), 0
    while place < len(text):
        for pattern, read in _FIELDS:
            match = pattern.match(text, place)
            if match is not None and read(draft, match):
                end = match.end()
                break
        else:
            end = text.find(" ", place)
            end = len(text) if end < 0 else end
            draft.unknown.append(text[place:end])
        place = end + 1
    # A date, an engine's `NAME 12` or a fraction (`STEP 1/100`) alone may be any message.
    rails = any(map(_OF_A_BOARD.match, draft.rails_mw))
    if not (rails or draft.temps_c or draft.memory_mb or draft.cpus or draft.gpu or draft.emc):
        return None
    return Line(
        moment=draft.moment,
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
    )
