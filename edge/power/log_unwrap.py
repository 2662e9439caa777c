"""One line of a log as what tegrastats printed, when somebody else's clock says that it was, and where it is from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge.power.log_stamp import Stamp, stamp_in
from edge.power.log_text import plain, samples_in
from edge.power.tegrastats_line import Line, parse_plain

_DEPTH = 4
# Keys of JSON under which a log's driver tells the time and the place, the ones that are meant first.
_TIMES = ("__REALTIME_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP", "time", "timestamp", "@timestamp", "ts", "date")
_PLACES = re.compile(r"host|container|pod|node|instance|^_?machine|^device", re.IGNORECASE)
_MAX_SOURCE = 120
_MAX_STAMPS = 3
# Of the words before a line these name no source: days, zones, and what tegrastats itself says.
_NO_NAMES = frozenset(
    word
    for words in ("Mon Tue Wed Thu Fri Sat Sun", "UTC GMT CET CEST Z AM PM", "WARNING not invoking as root")
    for word in words.split()
)
_NAME = re.compile(r"[A-Za-z0-9_][\w.@/-]*", re.ASCII)
_HEADER = re.compile(r"==> (?P<file>.{1,200}) <==\s*$|(?P<host>\S{1,200}) \| [A-Z]+!? \| rc=\d+ >>")
_ADDRESS = re.compile(r"\d+(?:\.\d+){3}$", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One sample of a log."""

    text: str
    """Plain: what was read."""
    read: Line
    stamp: Stamp | None
    """Of a line without a date of its own."""
    source: str
    """What stands before every line of one device, but for what changes: a service's name, a host's. May be empty."""


def file_named_in(raw: str) -> str | None:
    """The file or the host of the lines that follow, which `tail`, `head` and ansible put on a line of their own."""
    match = _HEADER.match(raw)
    return None if match is None else plain(match["file"] or match["host"])


def unwrap(raw: str) -> Iterator[LogLine]:
    """The samples in one line of a log: one as a rule, none in a line that is not understood."""
    message, beside = raw, _Beside()
    if raw.lstrip().startswith("{"):
        message, beside = _of_json(raw)
    for text in samples_in(plain(message)):
        line = parse_plain(text)
        if line is None:
            continue
        head, tail = line.around
        stamp = None
        if line.moment is None:
            stamp = stamp_in(beside.time) or stamp_in(head) or stamp_in(tail)
        source = " ".join(filter(None, (beside.place, _source(head))))[:_MAX_SOURCE]
        yield LogLine(text, line, stamp, source)


@dataclass(frozen=True, slots=True)
class _Beside:
    """What stands beside the message in JSON."""

    time: str = ""
    place: str = ""


def _of_json(raw: str) -> tuple[str, _Beside]:
    """The message, which is the longest text of the object, and what stands beside it."""
    try:
        pairs = list(_pairs(json.loads(raw)))
    except (ValueError, RecursionError):
        return raw, _Beside()
    texts = [value for _, value in pairs if isinstance(value, str)]
    message = max(texts, key=len, default="")
    if parse_plain(plain(message)) is None:
        return raw, _Beside()
    known = {key: plain(str(value)) for key, value in reversed(pairs) if value is not message}
    places = [known[key] for key in known if _PLACES.search(key) and isinstance(known[key], str)]
    return message, _Beside(next((known[key] for key in _TIMES if key in known), ""), " ".join(sorted(set(places))))


def _pairs(found: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every value of an object, of those within it too, with its key."""
    if isinstance(found, dict) and depth < _DEPTH:
        for name, value in found.items():
            yield from _pairs(value, str(name), depth + 1)
    elif isinstance(found, list) and found and all(isinstance(byte, int) and 0 <= byte < 256 for byte in found):
        yield key, bytes(found).decode("utf-8", "replace")  # as journald prints what is no text
    elif not isinstance(found, dict | list):
        yield key, found


def _source(head: str) -> str:
    for _ in range(_MAX_STAMPS):
        stamp = stamp_in(head)
        if stamp is None:
            break
        head = head.replace(stamp.whole, " ", 1)
    names = (match[0] for match in _NAME.finditer(head))
    return " ".join(
        name for name in names if name not in _NO_NAMES and (any(map(str.isalpha, name)) or _ADDRESS.match(name))
    )
