"""Rows that a quote has swallowed: one that was never meant to open, closed by another of the kind many lines later.

To the rules of quoting that is one text of several lines. But each of its lines looks like a row of its own, and ends
or begins with what stands in that column of other rows, such as a label.
"""

from __future__ import annotations

from typing import NamedTuple

from federa.data.readers.records import BadTable, Form, TableRecord, records


class _Suspect(NamedTuple):
    line: int
    lines: list[list[str]]
    """Each of its lines, cut at the separator as if there were no quotes."""


class SwallowedRows:
    """The records over several lines of a table, each of which may be several."""

    def __init__(self, text: str, form: Form, columns: int) -> None:
        self._text = text
        self._form = form
        self._columns = columns
        self._suspects: list[_Suspect] = []

    def look_at(self, record: TableRecord) -> None:
        """Remember the record if each of its lines could be a row."""
        newline = self._form.newline[-1]
        if self._columns < 2 or self._text.find(newline, record.begin, record.end) < 0:
            return
        lines = self._text[record.begin : record.end].split(newline)
        if all(line.count(self._form.separator) >= self._columns - 1 for line in lines):
            cut = [line.removesuffix("\r").split(self._form.separator) for line in lines]
            self._suspects.append(_Suspect(record.line, cut))

    def check(self, begin: int) -> None:
        """Look through the table, from `begin` on, for what stands in the suspects' lines. Raises BadTable."""
        if not self._suspects:
            return
        for column in range(self._columns):
            wanted = {
                value for suspect in self._suspects for line in suspect.lines for value in self._ends(line, column)
            }
            rows = records(self._text, self._form, begin)
            known = {row.values[column] for row in rows if column < len(row.values) and row.values[column] in wanted}
            for suspect in self._suspects:
                if all(any(value in known for value in self._ends(line, column)) for line in suspect.lines):
                    last = suspect.line + len(suspect.lines) - 1
                    raise BadTable(
                        suspect.line,
                        f"opens a quote that takes in rows up to line {last}: close it, or write the file as .jsonl if "
                        "they are one text",
                    )

    def _ends(self, line: list[str], column: int) -> list[str]:
        """What stands in this column of a line, counted from its beginning and from its end."""
        return [value for value in (line[column], line[column - self._columns]) if value.strip()]
