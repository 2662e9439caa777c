"""JSON text: values one after the other or in an array, each with its line, and what is wrong where there is none.

A value is decoded when it is asked for: a whole array in memory would need several times the file's size.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

_BLANKS = re.compile(r"[ \t\n\r\ufeff]*")
"""Those of JSON, and the byte order mark that stands in the middle of files that were put together."""


class BadJson(Exception):
    """What begins on a line cannot be read. `why` says why, in words that follow "FILE line 3"."""

    def __init__(self, line: int, why: str) -> None:
        self.line = line
        self.why = why


class RepeatingObject(dict[str, object]):
    """An object of which a name stands more than once; it has the last value of each."""

    repeated: frozenset[str]


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = RepeatingObject(found)
    counts = Counter(name for name, _ in pairs)
    repeating.repeated = frozenset(name for name, count in counts.items() if count > 1)
    return repeating


def _constant(name: str) -> str | None:
    """What NaN, Infinity and -Infinity stand for, which are no JSON: NaN is how programs write that there is none."""
    return None if name == "NaN" else name


# A number with decimals stays as it is written: 1.10 is no label 1.1.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=str, parse_constant=_constant)

Found = Iterator[tuple[int, Any, int]]
"""Line, value, and where the value ends."""


def elements(text: str, position: int) -> Found:
    """The elements of the array that begins at `position`. Behind the last, and behind blanks, follows the array's end.
    Raises BadJson."""
    line = 1 + text.count("\n", 0, position)
    following = after_blanks(text, position + 1)
    if text[following : following + 1] == "]":
        return
    while True:
        line += text.count("\n", position, following)
        position = following
        value, end = decode(text, position, line)
        yield line, value, end
        comma = after_blanks(text, end)
        line += text.count("\n", position, comma)
        position = comma
        if text[comma : comma + 1] == "]":
            return
        if text[comma : comma + 1] != ",":
            what = "the array does not end" if comma == len(text) else "a comma or ] must follow an array's element"
            raise BadJson(line, f"is not JSON: {what}")
        following = after_blanks(text, comma + 1)


def decode(text: str, position: int, line: int) -> tuple[Any, int]:
    """The value that begins at `position`, which is on this line, and where it ends. Raises BadJson."""
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        # What a value lacks may be noticed lines after it begins.
        where = (
            f" (line {line + text.count(chr(10), position, error.pos)})" if "\n" in text[position : error.pos] else ""
        )
        reason = error.msg.removesuffix(" at").removesuffix(" starting")
        raise BadJson(line, f"is not JSON: {reason}{where}") from None
    except ValueError:
        raise BadJson(line, "is not JSON: a number has too many digits") from None
    except RecursionError:
        raise BadJson(line, "is not JSON: it is nested too deeply") from None


def is_json(text: str) -> bool:
    """Whether a text is one value."""
    try:
        _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def end_of_line(text: str, position: int) -> int:
    """Where the line ends that a position is on."""
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def after_blanks(text: str, position: int) -> int:
    """The first position from this one on that is no blank."""
    match = _BLANKS.match(text, position)
    return match.end() if match else position


def member(text: str, position: int, name: str) -> int | None:
    """Where the value of this name begins in the object that begins at `position`; None where the object has no such
    name, or none can be read before it. What follows it isn't looked at."""
    while True:
        position = after_blanks(text, position + 1)
        if not text.startswith('"', position):
            return None
        try:
            found, end = decode(text, position, 1)
            colon = after_blanks(text, end)
            begin = after_blanks(text, colon + 1)
            if not text.startswith(":", colon):
                return None
            if found == name:
                return begin
            position = after_blanks(text, decode(text, begin, 1)[1])
        except BadJson:
            return None
        if not text.startswith(",", position):
            return None
