"""One line of a log as what tegrastats printed, when somebody else's clock says that it was, and where it is from."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge.power.log_stamp import Stamp, stamp_in
from edge.power.log_text import plain, samples_in
from edge.power.tegrastats_line import Line, parse_plain

_DEPTH = 6
_PLACE_IN_LIST = re.compile(r"\.\d+(?=\.|$)")
# Keys of JSON under which a log's driver tells the time and the place, the ones that are meant first.
_TIMES = (
    *("__realtime_timestamp", "_source_realtime_timestamp", "time", "timestamp", "@timestamp", "ts", "isodate"),
    *("datetime", "date", "created_at", "t"),
)
_PLACES = re.compile(r"host|container|pod|node|instance|^_?machine|^device")
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
    messages, beside = [raw], _Beside()
    if raw.lstrip().startswith("{"):
        messages, beside = _of_json(raw)
    for text in (piece for message in messages for piece in samples_in(plain(message))):
        line = parse_plain(text)
        if line is None:
            continue
        head, tail = line.around
        stamp = None
        if line.moment is None:
            stamp = stamp_in(beside.time) or stamp_in(head) or stamp_in(tail) or stamp_in(beside.rest)
        source = " ".join(filter(None, (beside.place, _source(head))))[:_MAX_SOURCE]
        yield LogLine(text, line, stamp, source)


@dataclass(frozen=True, slots=True)
class _Beside:
    """What stands beside the message in JSON."""

    time: str = ""
    place: str = ""
    rest: str = ""


def _of_json(raw: str) -> tuple[list[str], _Beside]:
    """The texts of an object that hold tegrastats' lines, and what stands beside them."""
    try:
        pairs = list(_pairs(json.loads(raw)))
    except (ValueError, RecursionError):
        return [raw], _Beside()
    found: dict[str, list[str]] = defaultdict(list)
    beside: dict[str, str] = {}
    for key, value in pairs:
        text = plain(str(value))
        if not isinstance(value, str) or parse_plain(text) is None:
            beside.setdefault(key.lower(), text)
        else:
            found[_PLACE_IN_LIST.sub(".", key)].append(value)
    if not found:
        return [raw], _Beside()
    # Some loggers give a line under two keys, one of them with all that stood around it.
    messages = max(found.values(), key=lambda texts: (len(texts), sum(map(len, texts))))
    if len(messages) > 1:
        beside = {key: text for key, text in beside.items() if _PLACES.search(key)}
    last = {key.rpartition(".")[2]: text for key, text in beside.items()}
    places = {text for key, text in beside.items() if _PLACES.search(key) and not text.isdigit()}
    time = next((last[key] for key in _TIMES if key in last), "")
    dates = (text for text in beside.values() if (stamp := stamp_in(text)) is not None and stamp.kind == "date")
    return messages, _Beside(time, " ".join(sorted(places)), "" if time else next(dates, ""))


def _pairs(found: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every value of an object, of those within it too, with its key: `host.name`."""
    if isinstance(found, list) and found and all(isinstance(byte, int) and 0 <= byte < 256 for byte in found):
        yield key, bytes(found).decode("utf-8", "replace")  # as journald prints what is no text
    elif isinstance(found, dict | list):
        parts = found.items() if isinstance(found, dict) else ((str(place), part) for place, part in enumerate(found))
        for name, part in parts if depth < _DEPTH else ():
            yield from _pairs(part, f"{key}.{name}" if key else str(name), depth + 1)
    else:
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
