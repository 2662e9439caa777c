"""JSON: one object a line (JSONL), objects over several lines, or one array of objects.

Objects are read one after the other: a whole array in memory would need several times the file's size.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from federa.data.row import Row
from federa.errors import BadInput

ONE_OBJECT = ': the file is one object, and must hold one for each row, as orient="records" writes'
_BLANKS = re.compile(r"[ \t\n\r\ufeff]*")
"""Those of JSON, and the byte order mark that stands in the middle of files that were put together."""


class _Repeating(dict[str, object]):
    """An object of which a name stands more than once; it has the last value of each."""

    repeated: frozenset[str]


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    counts = Counter(name for name, _ in pairs)
    repeating.repeated = frozenset(name for name, count in counts.items() if count > 1)
    return repeating


def _constant(name: str) -> str | None:
    """What NaN, Infinity and -Infinity stand for, which are no JSON: NaN is how programs write that there is none."""
    return None if name == "NaN" else name


# A number with decimals stays as it is written: 1.10 is no label 1.1.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=str, parse_constant=_constant)


def json_rows(text: str, source: str, *, private: bool) -> Iterator[Row]:
    """The objects of a JSON file, as rows. Raises BadInput with the line of what is none."""
    start = _after_blanks(text, 0)
    if start == len(text):
        return
    first_end = _end_of_line(text, start)
    if text[start] == "[":
        found = _elements(text, start)
    elif _is_json(text[start:first_end]):
        found = _lines(text)
    else:
        found = _stream(text, start)
    by_line, single = _after_blanks(text, first_end) < len(text), False
    try:
        for number, (line, value, end) in enumerate(found, start=1):
            if not isinstance(value, dict):
                raise _Bad(line, 'must be a JSON object, one for each row, as orient="records" writes')
            if number == 1:
                single = text[start] == "{" and _after_blanks(text, end) == len(text)
            yield Row(
                values=value,
                source=source,
                at=f"line {line}" if by_line or single else f"record {number}",
                private=private,
                repeated=value.repeated if isinstance(value, _Repeating) else frozenset(),
                advice=ONE_OBJECT if single else "",
            )
    except _Bad as error:
        raise BadInput(f"data: {source} line {error.line} {error.why}") from None


class _Bad(Exception):
    def __init__(self, line: int, why: str) -> None:
        self.line = line
        self.why = why


_Found = Iterator[tuple[int, Any, int]]
"""Line, value, and where the value ends."""


def _lines(text: str) -> _Found:
    """One value a line. Not splitlines(): a text may hold U+2028, which ends no JSON line."""
    position, number = 0, 0
    while position < len(text):
        end, number = _end_of_line(text, position), number + 1
        line = text[position:end]
        begin = _after_blanks(line, 0)
        if begin < len(line):
            value, stop = _decode(line, begin, number)
            if _after_blanks(line, stop) < len(line):
                raise _Bad(number, "is not JSON: more follows after the value; one stands on a line")
            yield number, value, end
        position = end + 1


def _stream(text: str, position: int) -> _Found:
    """Values one after the other, each over as many lines as it needs."""
    line = 1 + text.count("\n", 0, position)
    while position < len(text):
        value, end = _decode(text, position, line)
        yield line, value, end
        following = _after_blanks(text, end)
        line += text.count("\n", position, following)
        position = following
        if text.startswith(",", position):
            raise _Bad(line, "is not JSON: a comma follows the value; that is for the elements of an array alone")


def _elements(text: str, position: int) -> _Found:
    """The elements of the array that begins at `position`, the only value of the file."""
    line = 1 + text.count("\n", 0, position)
    following = _after_blanks(text, position + 1)
    empty = text[following : following + 1] == "]"
    while not empty:
        line += text.count("\n", position, following)
        position = following
        value, end = _decode(text, position, line)
        yield line, value, end
        comma = _after_blanks(text, end)
        line += text.count("\n", position, comma)
        position = comma
        if text[comma : comma + 1] == "]":
            following = comma
            break
        if text[comma : comma + 1] != ",":
            what = "the array does not end" if comma == len(text) else "a comma or ] must follow an array's element"
            raise _Bad(line, f"is not JSON: {what}")
        following = _after_blanks(text, comma + 1)
    rest = _after_blanks(text, following + 1)
    if rest < len(text):
        raise _Bad(
            1 + text.count("\n", 0, rest), "follows after the array's end: it must be the only value of the file"
        )


def _decode(text: str, position: int, line: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        # What a value lacks may be noticed lines after it begins.
        where = (
            f" (line {line + text.count(chr(10), position, error.pos)})" if "\n" in text[position : error.pos] else ""
        )
        reason = error.msg.removesuffix(" at").removesuffix(" starting")
        raise _Bad(line, f"is not JSON: {reason}{where}") from None
    except ValueError:
        raise _Bad(line, "is not JSON: a number has too many digits") from None
    except RecursionError:
        raise _Bad(line, "is not JSON: it is nested too deeply") from None


def _is_json(line: str) -> bool:
    try:
        _DECODER.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _after_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position
