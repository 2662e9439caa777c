"""Whether the lines of a log are of one board. Of several there is no total: it would be nobody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from edge.power.log_unwrap import LogLine
from federa.errors import shown

_MAX_SOURCES = 500
_MAX_NAMED = 4
_RARE = 20
"""What stands before less than one line in so many is no source's name: a message that was mixed into the line."""
# Rails that one kind of board has and no other. The first that is there tells.
_MARKS = ("POM_5V_IN", "VDD_CPU_SOC_MSS", "VDD_GPU_SOC", "SYS5V", "VDD_CPU_GPU_CV", "VDD_SYS_GPU")


@dataclass(slots=True)
class _Lines:
    """The lines of one source: how many, and from where to where."""

    count: int
    first: int
    last: int


class Sources:
    """Takes in the lines of a log one by one. `mixed` says why they have no common total, `note` what else to know."""

    def __init__(self) -> None:
        self._count = 0
        self._ram_mb: Counter[float] = Counter()
        self._cores: Counter[int] = Counter()
        self._marks: Counter[str] = Counter()
        self._beginnings = 0
        self._sources: dict[str, _Lines] = {}

    def add(self, line: LogLine, file: str = "") -> None:
        """`file` is what the log says that the line is from, on a line of its own."""
        self._count += 1
        read = line.read
        if read.ram_mb is not None:
            _tally(self._ram_mb, read.ram_mb[1])
            self._beginnings += 1
        if read.cpus:
            _tally(self._cores, len(read.cpus))
        if (mark := next((name for name in _MARKS if name in read.rails_mw), None)) is not None:
            _tally(self._marks, mark)
        source = f"{file} {line.source}".strip()
        lines = self._sources.get(source)
        if lines is not None:
            lines.count, lines.last = lines.count + 1, self._count
        elif len(self._sources) < _MAX_SOURCES:
            self._sources[source] = _Lines(1, self._count, self._count)

    def mixed(self, forward: bool) -> str | None:
        """In one line, whose lines are mixed. `forward`: the log's clock never went back."""
        for what, counts in (
            ("RAM of {:g} MB", self._ram_mb),
            ("{} cores", self._cores),
            ("the rail {}", self._marks),
        ):
            if len(counts) > 1:
                named = {what.format(key): count for key, count in counts.most_common()}
                return f"lines of different boards are mixed: {_listed(named)}"
        others = self._count - self._beginnings
        if min(self._beginnings, others) > 1 and others * _RARE >= self._count:
            return f"its lines seem to be folded: of {self._count} pieces, {others} do not begin with RAM"
        sources = self._regular()
        if len(sources) > 1 and not (forward and _one_after_the_other(sources)):
            return f"lines of several sources are mixed: {_named(sources)}"
        return None

    def note(self) -> str | None:
        """What else to know: a log whose source changed once may be of one board that got another name."""
        sources = self._regular()
        return f"lines of several sources, taken for one board: {_named(sources)}" if len(sources) > 1 else None

    def _regular(self) -> dict[str, _Lines]:
        """Sources that more than a stray line is of."""
        if all(self._sources) and len(self._sources) == self._count:
            # Nobody came twice: names of a very short log, or what changes with each line.
            return self._sources if self._count <= _MAX_NAMED else {}
        regular = {
            name: lines
            for name, lines in self._sources.items()
            if lines.count > 1 and lines.count * _RARE >= self._count
        }
        # Where most lines have nothing before them, what stands before the others is no source's name.
        bare = regular.get("")
        return regular if bare is None or 4 * bare.count < 3 * self._count else {}


def _tally(counts: Counter, key: object) -> None:
    if key in counts or len(counts) < _MAX_SOURCES:
        counts[key] += 1


def _one_after_the_other(sources: Mapping[str, _Lines]) -> bool:
    in_order = sorted(sources.values(), key=lambda lines: lines.first)
    return all(before.last < after.first for before, after in pairwise(in_order))


def _named(sources: Mapping[str, _Lines]) -> str:
    return _listed({f"'{shown(name, 60)}'" if name else "none": lines.count for name, lines in sources.items()})


def _listed(counts: Mapping[str, int]) -> str:
    words = [f"{name} ({count} {'line' if count == 1 else 'lines'})" for name, count in counts.items()]
    more = len(words) - _MAX_NAMED
    return ", ".join(words[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
