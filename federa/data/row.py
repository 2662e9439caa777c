"""One record as its source holds it. A row knows where it stands, so that whoever cannot use it says so by file, line
and column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federa.errors import BadInput, shown

MAX_NAME = 40
"""Characters of a column's name that a message shows."""
MAX_NAMES = 120
"""Characters that a message spends on the names of all columns."""
_NAME = re.compile(r"[^\W\d][\w.-]*|")


class RefusedRow(BadInput):
    """One row cannot be used. `reason` says why in words that are the same for all rows that lack the same; `advice`
    follows it once, however many they are."""

    def __init__(self, row: Row, reason: str, advice: str) -> None:
        super().__init__(f"data: {row.source} {row.at} {reason}{advice}")
        self.at = row.at
        self.reason = reason
        self.advice = advice


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One record. `source` and `at` name it, such as FILE and "line 3". Of a `private` one a refusal quotes nothing. In
    a `fixed` source columns have no names of their own: what is asked for as text_column is its text. In a `headed` one
    the first line names the columns of all rows. More than one value stands under a name in `repeated`. `fault` is what
    is wrong with the row whatever is asked of it, and `advice` what to say where columns are not found."""

    values: Mapping[str, object]
    source: str
    at: str
    private: bool = False
    fixed: bool = False
    headed: bool = False
    repeated: frozenset[str] = frozenset()
    fault: tuple[str, str] | None = None
    advice: str = ""

    def texts(self, columns: Mapping[str, str]) -> list[str]:
        """The values of columns, given by their field in the `data` section (text_column), as text. Raises RefusedRow
        where one is missing, blank or no plain value, and BadInput where no row of the source can have it."""
        if self.fixed:
            columns = {field: _role(field) for field in columns}
        absent = {field: column for field, column in columns.items() if column not in self.values}
        if absent:
            raise self._without(absent, columns)
        for column in columns.values():
            if column in self.repeated:
                why = f"names the column {_quoted(column)} more than once"
                raise BadInput(f"data: {self.source} {why}") if self.headed else self.refused(why)
        if self.fault:
            raise self.refused(*self.fault)
        texts, lacks, advice = [], [], ""
        for field, column in columns.items():
            value = self.values[column]
            if isinstance(value, dict | list):
                lacks.append(f"no {_role(field)}, but a list or an object, in column {_quoted(column)}")
                advice = self.advice
            elif value is None or value != value or not (text := str(value)).strip():  # NaN alone differs from itself
                lacks.append(f"no {_role(field)} in column {_quoted(column)}")
            else:
                texts.append(text)
        if lacks:
            raise self.refused(f"has {' and '.join(lacks)}", advice)
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            # JSON can say half of a surrogate pair; digests, splits and tokenizers have no use for it.
            raise self.refused("holds half of a surrogate pair, which is no text") from None
        return texts

    def refused(self, reason: str, advice: str = "") -> RefusedRow:
        """The error that says why this row cannot be used. The reason quotes no value and begins with a verb, such as
        "has no number": it may be said of many rows."""
        return RefusedRow(self, reason, advice)

    def _without(self, absent: Mapping[str, str], wanted: Mapping[str, str]) -> BadInput:
        """The error for columns that are not there. Without a line of names the first document stands in their place:
        it is not quoted."""
        what = "column" if len(absent) == 1 else "columns"
        fields = ", ".join(f"data.{field}" for field in absent)
        reason = f"has no {what} {' and '.join(map(_quoted, absent.values()))} ({fields})"
        advice = self.advice if len(absent) == len(wanted) else ""
        names = [name for name in self.values if isinstance(name, str)]
        if names and not self.private and (len(absent) < len(wanted) or all(map(_looks_like_a_name, names))):
            advice += f"; it has {_listed(names)}"
        return BadInput(f"data: {self.source} {reason}{advice}") if self.headed else self.refused(reason, advice)


def _role(field: str) -> str:
    return field.removesuffix("_column")


def _quoted(column: str) -> str:
    return f"'{shown(column, MAX_NAME)}'"


def _looks_like_a_name(name: str) -> bool:
    return len(name) <= MAX_NAME and bool(_NAME.fullmatch(name.strip()))


def _listed(names: Sequence[str]) -> str:
    """The names, as many as there is room for. One with blanks around it is quoted: they would not be seen."""
    texts = [shown(name, MAX_NAME) if name == name.strip() and name else _quoted(name) for name in names]
    while len(", ".join(texts)) > MAX_NAMES:
        texts.pop()
    more = len(names) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")
