"""Rows that a quote has swallowed: one that was never meant to open, closed by another of the kind many lines later.

To the rules of quoting that is one text of several lines. But each of its lines looks like a row of its own, and ends
or begins with what stands in that column of other rows, such as a label.
"""

from __future__ import annotations

from federa.data.readers.records import BadTable, Form, TableRecord

MAX_VALUE = 60
"""Characters of a value that may recur in a column."""
MAX_VALUES = 1000
"""Different values of a column. One with more holds texts or numbers, and is not looked at."""


class SwallowedRows:
    """Finds among the records of a table those that are likely several."""

    def __init__(self, text: str, form: Form, columns: int) -> None:
        self._text = text
        self._form = form
        self._known: list[set[str] | None] = [set() for _ in range(columns)]
        self._long: list[TableRecord] = []

    def look_at(self, record: TableRecord) -> None:
        """Remember what stands in the columns, and the record itself if it has several lines."""
        for column, (known, value) in enumerate(zip(self._known, record.values, strict=False)):
            if known is not None and len(value) <= MAX_VALUE and value.strip():
                known.add(value)
                if len(known) > MAX_VALUES:
                    self._known[column] = None
        if self._text.find(self._form.newline[-1], record.begin, record.end) >= 0:
            self._long.append(TableRecord(record.line, [], record.begin, record.end))

    def check(self) -> None:
        """When all records have been looked at, raise BadTable for the first that looks like several rows."""
        columns = len(self._known)
        for record in self._long if columns > 1 else ():
            lines = [self._cut(line) for line in self._text[record.begin : record.end].split(self._form.newline[-1])]
            if any(len(line) < columns for line in lines):
                continue
            for column, known in enumerate(self._known):
                # A text may hold separators: what precedes it is counted from the beginning of each line, what follows
                # it from the end.
                places = [column] * (column < columns - 1) + [column - columns] * (column > 0)
                if known and any(all(line[place] in known for line in lines) for place in places):
                    last = record.line + len(lines) - 1
                    why = f"opens a quote that takes in rows up to line {last}: close it, or, if they are one text, "
                    raise BadTable(record.line, f"{why}write the file as .jsonl")

    def _cut(self, line: str) -> list[str]:
        """The line's values, as if there were no quotes."""
        return line.removesuffix("\r").split(self._form.separator)
