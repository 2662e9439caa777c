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
LIST = ': it must be a list, such as ["a", "b"], as .jsonl and .parquet hold them'
_NAME = re.compile(r"[^\W\d][\w.-]*|")


class RefusedRow(BadInput):
    """One row cannot be used. `reason` says why in words that are the same for all rows that lack the same; `advice`
    follows it once, however many they are."""

    def __init__(self, row: Row, reason: str, advice: str, item: int | None = None) -> None:
        self.at = row.at if item is None else row.place_of(item)
        super().__init__(f"data: {row.source} {self.at} {reason}{advice}")
        self.reason = reason
        self.advice = advice


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One record. `source` and `at` name it, such as FILE and "line 3"; where the items of its lists stand on lines of
    their own, such as tokens, these are its `lines`. Of a `private` one a refusal quotes nothing. In a `fixed` source
    columns have no names of their own: what is asked for as text_column is its text. In a `headed` one all rows have
    the same columns; where these are `named` by the reader, not by the file, a refusal may list them always. More than
    one value stands under a name in `repeated`. `fault` is what is wrong with the row whatever is asked of it, and
    `advice` what to say where columns are not found."""

    values: Mapping[str, object]
    source: str
    at: str
    lines: Sequence[int] = ()
    private: bool = False
    fixed: bool = False
    headed: bool = False
    named: bool = False
    repeated: frozenset[str] = frozenset()
    fault: tuple[str, str] | None = None
    advice: str = ""

    def texts(self, columns: Mapping[str, str]) -> list[str]:
        """The values of columns, given by their field in the `data` section (text_column), as text. Raises RefusedRow
        where one is missing, blank or no plain value, and BadInput where no row of the source can have it."""
        columns = self._found(columns)
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
        self._check_signs(texts)
        return texts

    def lists(self, columns: Mapping[str, str]) -> list[list[str]]:
        """The values of columns that are lists of plain values, given by their field in the `data` section
        (token_column), as text. The lists are equally long, and hold something. Raises RefusedRow where one is missing,
        empty, of another length or no list, or an item of it is missing, empty or no plain value, and BadInput where no
        row of the source can have it."""
        columns = self._found(columns)
        lists: list[list[str]] = []
        for field, column in columns.items():
            values = self.values[column]
            many, where = f"{_role(field)}s", f"in column {_quoted(column)}"
            if values is None or values == [] or values != values:
                raise self.refused(f"has no {many} {where}")
            if not isinstance(values, list):
                raise self.refused(f"has no list of {many} {where}", LIST)
            texts = []
            for item, value in enumerate(values):
                if isinstance(value, dict | list):
                    raise self.refused(f"has no {_role(field)}, but a list or an object, {where}", item=item)
                # A token may be a blank: some programs make such.
                if value is None or value != value or value == "":
                    raise self.refused(f"has no {_role(field)} {where}", item=item)
                texts.append(str(value))
            self._check_signs(texts)
            lists.append(texts)
        if len(set(map(len, lists))) > 1:
            named = " and ".join(f"{_role(field)}s ({_quoted(column)})" for field, column in columns.items())
            raise self.refused(f"has not as many of one as of the other: {named}")
        return lists

    def refused(self, reason: str, advice: str = "", item: int | None = None) -> RefusedRow:
        """The error that says why this row cannot be used; with `item`, the index in its lists, it names that item's
        own place. The reason quotes no value and begins with a verb, such as "has no number": it may be said of many
        rows."""
        return RefusedRow(self, reason, advice, item)

    def place_of(self, item: int) -> str:
        """Where an item of the row's lists stands."""
        return f"line {self.lines[item]}" if self.lines else f"{self.at} (item {item + 1})"

    def _found(self, columns: Mapping[str, str]) -> Mapping[str, str]:
        """These columns, by their field, when the row has each of them once and no fault."""
        if self.fixed:
            columns = {field: _role(field) for field in columns}
        values, repeated = self.values, self.repeated
        for column in columns.values():
            if column not in values:
                absent = {field: column for field, column in columns.items() if column not in values}
                raise self._without(absent, columns)
        for column in columns.values() if repeated else ():
            if column in repeated:
                why = f"names the column {_quoted(column)} more than once"
                raise BadInput(f"data: {self.source} {why}") if self.headed else self.refused(why)
        if self.fault:
            raise self.refused(*self.fault)
        return columns

    def _check_signs(self, texts: Sequence[str]) -> None:
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            # JSON can say half of a surrogate pair; digests, splits and tokenizers have no use for it.
            raise self.refused("holds half of a surrogate pair, which is no text") from None

    def _without(self, absent: Mapping[str, str], wanted: Mapping[str, str]) -> BadInput:
        """The error for columns that are not there. Without a line of names the first document stands in their place:
        it is not quoted."""
        what = "column" if len(absent) == 1 else "columns"
        fields = ", ".join(f"data.{field}" for field in absent)
        reason = f"has no {what} {' and '.join(map(_quoted, absent.values()))} ({fields})"
        advice = self.advice if len(absent) == len(wanted) else ""
        names = [name for name in self.values if isinstance(name, str)]
        sure = len(absent) < len(wanted) or all(map(_looks_like_a_name, names))
        if names and (self.named or (sure and not self.private)):
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
