"""The raw samples of a run's devices: a compressed table each, DIR/samples/NAME.csv.gz, and what is drawn from it.

A file is a sequence of whole gzip members, which any reader takes for one: what is appended at a time is a member of
its own, so that a killed process costs its last one at most.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import logging
import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from coordinator.storage.trace import PowerTrace

log = logging.getLogger("federa.coordinator")

FOLDER = "samples"
MAX_WAITING_BYTES = 32 << 20
"""What waits of all devices until the next `write`."""
MAX_FILES = 100
"""Files of one device: each begins when its set of rails or sensors changes."""
_MAX_QUOTED = 150  # of the 255 bytes that a file's name may have
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Columns:
    """What a device's table has columns for, in the order of its samples."""

    rails: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The header. The units are part of the names: no rail can be mistaken for a column of another kind."""
        rails, temps = (f"{name}_mw" for name in self.rails), (f"{name}_c" for name in self.sensors)
        return ("at_s", "round", "client", "phase", "total_mw", *rails, "gpu_load", "gpu_mhz", *temps, "throttled")


@dataclass(slots=True)
class _Table:
    """One device's table. `waiting` are lines with their header; `file` is what is appended to, once it is open."""

    interval_s: float = 0.0
    waiting: list[tuple[str, str]] = field(default_factory=list)
    trace: PowerTrace | None = None
    file: Path | None = None
    header: str = ""


class Samples:
    """Samples in one run's folder. `add` takes samples in and never blocks; `write` and `traces` belong on a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._tables: dict[str, _Table] = {}
        self._waiting_bytes = 0
        self._taking, self._writing = threading.Lock(), threading.Lock()
        self._warned = False

    def add(self, device: str, columns: Columns, rows: Iterable[Sequence[str]], interval_s: float = 0.0) -> None:
        """Take in samples of a device, as the cells of its columns, to be written with the next `write`."""
        header, text = _csv([columns.names]), _csv(rows)
        with self._taking:
            table = self._tables.setdefault(device, _Table())
            table.interval_s = interval_s or table.interval_s
            if self._waiting_bytes + len(text) > MAX_WAITING_BYTES:
                if not self._warned:
                    log.warning("samples of worker %s are dropped: more than %d bytes wait", device, MAX_WAITING_BYTES)
                self._warned = True
                return
            self._waiting_bytes += len(text)
            if text:
                table.waiting.append((header, text))

    def write(self) -> None:
        """Append what waits. Raises OSError when the disk takes no more."""
        with self._writing:
            with self._taking:
                waiting = {name: table.waiting for name, table in self._tables.items() if table.waiting}
                for name in waiting:
                    self._tables[name].waiting = []
                self._waiting_bytes = 0
            for device, texts in waiting.items():
                table = self._tables[device]
                trace = self._trace(device)
                for header, lines in _by_header(texts):
                    self._append(device, table, header, lines)
                    _draw(trace, [header, *lines])

    def traces(self, intervals_s: Mapping[str, float]) -> dict[str, dict[str, Any] | None]:
        """The power of these devices over time, as result.json shows it: from the first sample of any of them. Each
        has so many seconds between two samples."""
        with self._writing:
            for device, interval_s in intervals_s.items():
                self._table(device).interval_s = interval_s
            traces = {device: self._trace(device) for device in intervals_s}
            origin_s = min((trace.began_s for trace in traces.values() if trace.began_s is not None), default=0.0)
            return {device: trace.shown(origin_s) for device, trace in traces.items()}

    def _table(self, device: str) -> _Table:
        with self._taking:
            return self._tables.setdefault(device, _Table())

    def _trace(self, device: str) -> PowerTrace:
        """A device's trace, the first time from the files of earlier processes."""
        table = self._table(device)
        if table.trace is None:
            table.trace = PowerTrace(table.interval_s)
            for path in self._files(device):
                _draw(table.trace, _lines(path))
        return table.trace

    # ---- files

    def _path(self, device: str, number: int) -> Path:
        quoted = quote(device, safe="")
        if len(quoted) > _MAX_QUOTED:
            quoted = f"{quoted[:_MAX_QUOTED]}-{hashlib.sha256(device.encode()).hexdigest()[:12]}"
        # No quoted name has a plus in it.
        return self._folder / (f"{quoted}+{number}.csv.gz" if number > 1 else f"{quoted}.csv.gz")

    def _files(self, device: str) -> list[Path]:
        paths = (self._path(device, number) for number in range(1, MAX_FILES + 1))
        return [path for path in paths if path.exists()]

    def _append(self, device: str, table: _Table, header: str, lines: Sequence[str]) -> None:
        if table.file is None or table.header != header:
            table.file = None
            path = self._open(device, header)
            if path is None:
                return
            table.file, table.header = path, header
        fresh = not table.file.exists() or table.file.stat().st_size == 0
        member = gzip.compress("".join([header, *lines] if fresh else lines).encode(), compresslevel=6)
        try:
            with table.file.open("ab") as file:
                file.write(member)
        except OSError:
            table.file = None  # what is there of the member is cut off when the file is opened again
            raise

    def _open(self, device: str, header: str) -> Path | None:
        """The file that goes on with this header: the device's last one, without a torn end, or the next. None when
        it has too many."""
        self._folder.mkdir(exist_ok=True)
        files = self._files(device)
        if files:
            cut_torn(files[-1])
            there = next(_lines(files[-1]), header)
            if there == header:
                return files[-1]
        if len(files) >= MAX_FILES:
            if not self._warned:
                log.warning("samples of worker %s are dropped: its rails changed %d times", device, MAX_FILES)
            self._warned = True
            return None
        return self._path(device, len(files) + 1)


def read_samples(folder: Path, device: str) -> Iterator[dict[str, str]]:
    """A device's samples in the order in which they came, each by the names of its columns; missing is empty."""
    for path in Samples(folder)._files(device):
        yield from csv.DictReader(_lines(path))


def cut_torn(path: Path) -> None:
    """Cut off what is not a whole gzip member at a file's end."""
    whole = 0
    with path.open("rb") as file:
        for _, end in _members(file):
            whole = end
    if whole < path.stat().st_size:
        os.truncate(path, whole)


def _members(file: io.BufferedReader) -> Iterator[tuple[bytes, int]]:
    """The content of each whole member and the byte that it ends before. A member is what was written at a time."""
    at, data = 0, b""
    while True:
        inflate = zlib.decompressobj(wbits=31)
        content: list[bytes] = []
        while not inflate.eof:
            data = data or file.read(_READ_BYTES)
            if not data:
                return
            try:
                content.append(inflate.decompress(data))
            except zlib.error:
                return
            at, data = at + len(data) - len(inflate.unused_data), inflate.unused_data
        yield b"".join(content), at


def _lines(path: Path) -> Iterator[str]:
    """The lines of the whole members."""
    with path.open("rb") as file:
        for content, _ in _members(file):
            yield from content.decode(errors="replace").splitlines(keepends=True)


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _by_header(texts: Sequence[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Texts that follow one another under the same header, together."""
    together: list[str] = []
    for place, (header, text) in enumerate(texts):
        together.append(text)
        if place + 1 == len(texts) or texts[place + 1][0] != header:
            yield header, together
            together = []


def _draw(trace: PowerTrace, lines: Iterable[str]) -> None:
    for row in csv.DictReader(line for text in lines for line in text.splitlines(keepends=True)):
        try:
            power = row["total_mw"]
            trace.add(float(row["at_s"]), int(row["round"]), row["phase"], float(power) / 1e3 if power else None)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue  # a line of a damaged file
