"""Files of separated values (.csv, .tsv): the line of names, the separator, and the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest

from federa.data.readers.records import QUOTE, BadTable, Form, TableRecord, first_newline, records
from federa.data.readers.swallowed import SwallowedRows
from federa.data.readers.tabs import tabs_quote
from federa.data.row import Row
from federa.errors import BadInput

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
NAMES = ": its first line must name the columns"
ONE_NAME = f"{NAMES}, with commas, tabs, semicolons or bars between them"


def table_rows(text: str, source: str, *, tabs: bool, private: bool) -> Iterator[Row]:
    """The rows of a table, with the values by the names that its first line gives them. Raises BadInput."""
    try:
        yield from _rows(text, source, tabs=tabs, private=private)
    except BadTable as error:
        raise BadInput(f"data: {source} line {error.line} {error.why}") from None


def _rows(text: str, source: str, *, tabs: bool, private: bool) -> Iterator[Row]:
    nul = text.find("\0")
    if nul >= 0:
        raise BadTable(1 + text.count("\n", 0, nul), "holds a NUL character, which is no text: the file is damaged")
    form, header = _opened(text, tabs)
    if header is None:
        return
    names = header.values
    repeated = frozenset(name for name, count in Counter(names).items() if count > 1)
    swallowed = SwallowedRows(text, form, len(names)) if form.quotes and QUOTE in text else None
    for record in records(text, form, header.end + 1):
        if swallowed:
            swallowed.look_at(record)
        yield Row(
            values=dict(zip_longest(names, record.values[: len(names)])),
            source=source,
            at=f"line {record.line}",
            private=private,
            headed=True,
            repeated=repeated,
            fault=None if len(record.values) == len(names) and record.values != names else _fault(record, names, form),
            advice=NAMES if len(names) > 1 else ONE_NAME,
        )
    if swallowed:
        swallowed.check()


def _opened(text: str, tabs: bool) -> tuple[Form, TableRecord | None]:
    """How the table is written, and the line of names. Where that has no separator of the file's kind but one other,
    that separates: no column that is asked for has such a name."""
    own = "\t" if tabs else ","
    trouble, mine = None, None
    try:
        mine = _with_separator(text, own)
        if mine[1] is None or len(mine[1].values) > 1:
            return mine
    except BadTable as error:
        trouble = error
    first = text[: text.find(first_newline(text, quotes=False))]
    others = []
    for separator in SEPARATORS.keys() - {own}:
        if separator in first:
            try:
                others.append(_with_separator(text, separator))
            except BadTable as error:
                trouble = trouble or error
    several = [(form, header) for form, header in others if header and len(header.values) > 1]
    if len(several) == 1:
        return several[0]
    if trouble:
        raise trouble
    assert mine
    return mine


def _with_separator(text: str, separator: str) -> tuple[Form, TableRecord | None]:
    quotes = tabs_quote(text) if separator == "\t" else True
    form = Form(separator=separator, newline=first_newline(text, quotes=quotes), quotes=quotes)
    return form, next(records(text, form), None)


def _fault(record: TableRecord, names: list[str], form: Form) -> tuple[str, str] | None:
    """What is wrong with a record that has not one value for each name, or the names again."""
    if record.values == names:
        return "has the names of the columns again", ""
    if len(record.values) < len(names):
        return "has fewer values than columns", ": quote what holds line ends" if form.quotes else ""
    if not any(record.values[len(names) :]):
        return None  # spreadsheets write separators for columns that are empty
    what = SEPARATORS[form.separator]
    return "has more values than columns", f": quote what holds {what}" if form.quotes else f": no text may hold {what}"
