"""Whether a tab-separated file quotes. Published ones quote nothing, and a quotation mark is part of the text; pandas
and spreadsheets quote. It is decided for the whole file, and refused where both may be."""

from __future__ import annotations

import re
from collections.abc import Iterator

from federa.data.readers.records import QUOTE, BadTable, Form, first_newline, records

_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_BACKSLASHED = re.compile(r'"(?:[^"\\]|\\.)*"')
_DOUBT = "has quotes of which it is not certain whether they belong to the text: rewrite the file as .jsonl or .csv"


def tabs_quote(text: str) -> bool:
    """Whether the values of this file are quoted. Raises BadTable with the line that leaves it open."""
    if QUOTE not in text:
        return False
    literal = Form(separator="\t", newline=first_newline(text, quotes=False), quotes=False)
    names = next((record.values for record in records(text, literal)), [])
    if any(name.startswith(QUOTE) for name in names):
        return True  # no column is called so
    plain_reading = _fits(text, literal, len(names))
    quoted = Form(separator="\t", newline=literal.newline, strict=True)
    quoted_reading = _fits(text, quoted, len(names))
    if plain_reading and quoted_reading:
        return _both(text, literal, quoted)
    if not quoted_reading:
        if plain_reading:
            _refuse_backslashes(text, literal)
        for line, value in _marked(text, literal):
            if '""' in value[1:-1]:
                # What looks written by a program that quotes has a quotation mark that is not.
                raise BadTable(line, _DOUBT)
    return quoted_reading


def _refuse_backslashes(text: str, literal: Form) -> None:
    """Raises BadTable for a value in quotes with a backslash before those within it, as some programs write them."""
    if "\\" + QUOTE not in text:
        return
    for record in records(text, literal):
        for value in record.values:
            if "\\" + QUOTE in value and _BACKSLASHED.fullmatch(value):
                raise BadTable(record.line, _DOUBT)


def _fits(text: str, form: Form, columns: int) -> bool:
    """Whether each record has as many values as there are names."""
    try:
        return all(len(record.values) == columns for record in records(text, form))
    except BadTable:
        return False


def _marked(text: str, form: Form) -> Iterator[tuple[int, str]]:
    """Values that stand in quotes, as a program writes them, by line."""
    last, number, counted = form.newline[-1], 1, 0
    position = text.find(QUOTE)
    while position >= 0:
        begin, end = text.rfind(last, 0, position) + 1, text.find(last, position)
        end = len(text) if end < 0 else end
        number, counted = number + text.count(last, counted, begin), begin
        for value in text[begin:end].removesuffix("\r").split(form.separator):
            if value.startswith(QUOTE) and _QUOTED.fullmatch(value):
                yield number, value
        position = text.find(QUOTE, end)


def _both(text: str, literal: Form, quoted: Form) -> bool:
    """Whether a file quotes that can be read either way. A program that quotes only what needs it has doubled a
    quotation mark in each value that it quoted."""
    for record in records(text, quoted):
        if text.find(literal.newline[-1], record.begin, record.end) >= 0 or any(
            "\t" in value for value in record.values
        ):
            raise BadTable(record.line, _DOUBT)
    for line, value in _marked(text, literal):
        if '""' not in value[1:-1]:
            raise BadTable(line, _DOUBT)
    return True
