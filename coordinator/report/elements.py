"""What the page is made of: tables, figures and words, as plain data that the templates turn into HTML.

Every text here is plain. Escaping is the templates' part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.report.runs import Entry, as_text, number_in, show_backing
from federa.numbers import SPACE, Formatter

UNMEASURED, UNREACHED = "not measured", "not reached"


@dataclass(frozen=True, slots=True)
class Badge:
    """A mark in a frame. `title` is what one reads who points at it."""

    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One <td>: lines of text, a badge after them, and small print below."""

    text: str
    kind: str = ""
    """Its class: 'none' for what is not known, 'good', 'bad'."""
    title: str = ""
    badge: Badge | None = None
    small: str = ""
    more: Sequence[tuple[str, str]] = ()
    """Lines in place of `text`, each with its title."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table's row. With a `method` its head has that method's coloured dot, or that of the run at `place`."""

    head: str
    cells: Sequence[Cell]
    method: str | None = None
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a box that scrolls."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[TableRow]
    box: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that the page's script draws by its `data`, with the numbers behind it."""

    title: str
    label: str
    """What the figure shows, for readers who do not see it."""
    kind: str
    data: dict[str, str]
    table: Table
    note: str = ""
    badge: Badge | None = None
    has_scale: bool = False
    """Whether the script says there which scale it drew."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Tables below a line that opens them; in place of tables, a note that there are none."""

    summary: str
    tables: Sequence[Table]
    note: str = ""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a sentence."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Sentence:
    """How one run went."""

    method: str
    parts: Sequence[TextPart]
    badge: Badge | None = None


@dataclass(frozen=True, slots=True)
class RunDevices:
    """One run's devices: notes, figures, tables, and tables that are folded away."""

    label: str
    is_open: bool
    badge: Badge | None
    notes: Sequence[str]
    figures: Sequence[Figure]
    tables: Sequence[Table]
    folds: Sequence[Fold]


def cell(value: object, show: Formatter, unit: str = "", missing: str = UNMEASURED) -> Cell:
    """A number in words, exact where one points at it."""
    number = number_in(value)
    if number is None:
        return Cell(missing, "none")
    return Cell(show(number), title=f"{exact(number)}{SPACE if unit else ''}{unit}")


def scored(value: object, show: Formatter, examples: object) -> Cell:
    """A score, and below it how many examples stand behind it."""
    number = number_in(value)
    if number is None:
        return Cell(UNMEASURED, "none")
    return Cell(show(number), title=exact(number), small=show_backing(examples) if number_in(examples) else "")


def plain(value: object, missing: str = UNMEASURED) -> Cell:
    """Any value as words."""
    text = as_text(value)
    return Cell(text) if text else Cell(missing, "none")


def exact(number: float) -> str:
    """All of a number's digits."""
    return f"{number:,}" if isinstance(number, int) else repr(number)


def method_key(run: Entry) -> str:
    """What the style sheet finds a method's colour by."""
    return as_text(run.get("method"))
