"""Records of a file of separated values: lines cut at a separator, with or without quotes around values.

With quotes it is RFC 4180: a value that begins with a quotation mark ends with the next one that is not doubled. What
that rule leaves open is refused with its line, never guessed: a mark that never closes would make one text of many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

QUOTE = '"'


class BadTable(Exception):
    """What stands on a line cannot be read. `why` says why, in words that follow "FILE line 3"."""

    def __init__(self, line: int, why: str) -> None:
        self.line = line
        self.why = why


class TableRecord(NamedTuple):
    """The values of one record, the line that it begins on, and the part of the text that it is."""

    line: int
    values: list[str]
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How a table is written. `newline` ends its lines: LF, CR LF, or CR alone. A `strict` one has no quotation mark in
    a value that has none around it."""

    separator: str
    newline: str
    quotes: bool = True
    strict: bool = False


def first_newline(text: str, *, quotes: bool) -> str:
    """The end of the first line, outside quotes: LF, CR LF, or CR alone. LF where there is none."""
    position = 0
    while True:
        ends = [end for end in (text.find("\n", position), text.find("\r", position)) if end >= 0]
        end = min(ends, default=len(text))
        opens = text.find(QUOTE, position, end) if quotes else -1
        closes = text.find(QUOTE, opens + 1) if opens >= 0 else -1
        if closes < 0:
            return "\r\n" if text.startswith("\r\n", end) else text[end : end + 1] or "\n"
        position = closes + 1


def records(text: str, form: Form, position: int = 0) -> Iterator[TableRecord]:
    """The records from `position` on. Empty lines are none. Raises BadTable."""
    last = form.newline[-1]
    number = 1 + text.count(last, 0, position)
    careful = "\r" in text
    while position < len(text):
        end = _line_end(text, position, last)
        line = text[position:end]
        if form.quotes and QUOTE in line:
            values, end = _with_quotes(text, position, form)
            yield TableRecord(number, values, position, end)
            number += text.count(last, position, end)
        elif line := _without_end(text, position, end, form) if careful else line:
            yield TableRecord(number, line.split(form.separator), position, end)
        number += 1
        position = end + 1


def _line_end(text: str, position: int, last: str) -> int:
    end = text.find(last, position)
    return len(text) if end < 0 else end


def _with_quotes(text: str, position: int, form: Form) -> tuple[list[str], int]:
    """The values of the record that begins at `position`, and where its last line ends."""
    values = []
    end = position
    while True:
        if text.startswith(QUOTE, position):
            begin = position + 1
            position = _closing(text, position, form)
            value = text[begin:position].replace(QUOTE + QUOTE, QUOTE)
            position += 2 if form.newline == "\r\n" and text.startswith("\r\n", position + 1) else 1
        else:
            begin = position
            if end <= position:
                end = _line_end(text, position, form.newline[-1])
            position = text.find(form.separator, begin, end)
            if position < 0:
                position = end
            value = _without_end(text, begin, position, form)
            if QUOTE in value:
                _check_unquoted(text, begin, value, form)
        values.append(value)
        if not text.startswith(form.separator, position):
            return values, position
        position += 1


def _closing(text: str, opening: int, form: Form) -> int:
    """Where the value ends whose quotation mark opens there. What follows is a separator or the line's end."""
    closing = text.find(QUOTE, opening + 1)
    while closing >= 0 and text.startswith(QUOTE, closing + 1):
        closing = text.find(QUOTE, closing + 2)
    if closing < 0:
        raise BadTable(
            _line_of(text, opening, form),
            'opens a quote that never closes: close it, or write "" for a quote in a text',
        )
    after = closing + 1
    if after == len(text) or text[after] == form.separator or text.startswith((form.newline, form.newline[-1]), after):
        return closing
    if text[after] in "\r\n":
        raise _other_end(text, after, form)
    first, ends = _line_of(text, opening, form), _line_of(text, closing, form)
    if ends > first:
        why = f'opens a quote that ends in the midst of line {ends}: close it, or write "" for a quote in a text'
        raise BadTable(first, why)
    raise BadTable(first, 'has a quote inside a value that is in quotes: write it as ""')


def _without_end(text: str, begin: int, end: int, form: Form) -> str:
    """A line or a value, without the CR of its line's end CR LF."""
    value = text[begin:end]
    if form.newline == "\r\n" and text.startswith("\n", end):
        value = value.removesuffix("\r")
    if "\r" in value or "\n" in value:
        raise _other_end(text, begin, form)
    return value


def _check_unquoted(text: str, begin: int, value: str, form: Form) -> None:
    """Raises BadTable where a quotation mark in a value without quotes around it may not be part of the text."""
    if value.lstrip().startswith(QUOTE):
        why = "has blanks before a quote: take them away, or quote the whole value"
    elif "\\" + QUOTE in value:
        why = 'has a quote behind a backslash: quote the value, and write "" for a quote in it'
    elif form.strict:
        why = "has a quote inside a value that is not in quotes"
    else:
        return
    raise BadTable(_line_of(text, begin, form), why)


def _other_end(text: str, position: int, form: Form) -> BadTable:
    why = (
        "has another line end than the first line, or one outside quotes: give all lines the same, and quote such texts"
    )
    return BadTable(_line_of(text, position, form), why)


def _line_of(text: str, position: int, form: Form) -> int:
    return 1 + text.count(form.newline[-1], 0, position)
