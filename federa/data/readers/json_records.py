"""JSON: one object a line (JSONL), objects over several lines, or one array of objects."""

from __future__ import annotations

from collections.abc import Iterator

from federa.data.readers.dotted import with_wholes
from federa.data.readers.json_text import (
    BadJson,
    Found,
    RepeatingObject,
    after_blanks,
    decode,
    elements,
    end_of_line,
    is_json,
)
from federa.data.row import Row
from federa.errors import BadInput

ONE_OBJECT = ': the file is one object, and must hold one for each row, as orient="records" writes'


def json_rows(text: str, source: str, *, private: bool) -> Iterator[Row]:
    """The objects of a JSON file, as rows. Raises BadInput with the line of what is none."""
    start = after_blanks(text, 0)
    if start == len(text):
        return
    first_end = end_of_line(text, start)
    if text[start] == "[":
        found = _array(text, start)
    elif is_json(text[start:first_end]):
        found = _lines(text)
    else:
        found = _stream(text, start)
    by_line, single = after_blanks(text, first_end) < len(text), False
    try:
        for number, (line, value, end) in enumerate(found, start=1):
            if not isinstance(value, dict):
                raise BadJson(line, 'must be a JSON object, one for each row, as orient="records" writes')
            if number == 1:
                single = text[start] == "{" and after_blanks(text, end) == len(text)
            yield Row(
                values=with_wholes(value),
                source=source,
                at=f"line {line}" if by_line or single else f"record {number}",
                private=private,
                repeated=value.repeated if isinstance(value, RepeatingObject) else frozenset(),
                advice=ONE_OBJECT if single else "",
            )
    except BadJson as error:
        raise BadInput(f"data: {source} line {error.line} {error.why}") from None


def _lines(text: str) -> Found:
    """One value a line. Not splitlines(): a text may hold U+2028, which ends no JSON line."""
    position, number = 0, 0
    while position < len(text):
        end, number = end_of_line(text, position), number + 1
        line = text[position:end]
        begin = after_blanks(line, 0)
        if begin < len(line):
            value, stop = decode(line, begin, number)
            if after_blanks(line, stop) < len(line):
                raise BadJson(number, "is not JSON: more follows after the value; one stands on a line")
            yield number, value, end
        position = end + 1


def _stream(text: str, position: int) -> Found:
    """Values one after the other, each over as many lines as it needs."""
    line = 1 + text.count("\n", 0, position)
    while position < len(text):
        value, end = decode(text, position, line)
        yield line, value, end
        following = after_blanks(text, end)
        line += text.count("\n", position, following)
        position = following
        if text.startswith(",", position):
            raise BadJson(line, "is not JSON: a comma follows the value; that is for the elements of an array alone")


def _array(text: str, position: int) -> Found:
    """The elements of the array that begins at `position`, the only value of the file."""
    end = position + 1
    for line, value, end in elements(text, position):
        yield line, value, end
    rest = after_blanks(text, after_blanks(text, end) + 1)
    if rest < len(text):
        line = 1 + text.count("\n", 0, rest)
        raise BadJson(line, "follows after the array's end: it must be the only value of the file")
