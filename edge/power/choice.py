"""Which source of power readings to use: the one that --power names, or the first that gives a total."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.board import find_board
from edge.board_names import board_of, check_board
from edge.power import replay, tegrastats
from edge.power.jtop import Jtop
from edge.power.nvml import Nvml
from edge.power.rapl import Rapl
from edge.power.source import PowerSource
from edge.power.sysfs import Sysfs, labels_twice
from federa.errors import BadInput, one_line, shown

_CHOICES = "auto, sysfs, tegrastats, jtop, nvml, rapl, replay:FILE or none"
_REPLAY = "replay:"
# Beyond the intervals that a source needs: a child's start.
_START_S = 2.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Choice:
    """What is measured with; None: nothing."""

    source: PowerSource | None
    detail: str
    """In one line, for reports: what is read, or what was looked for."""


@dataclass(frozen=True, slots=True)
class _Where:
    """What opening a source takes."""

    board: str
    interval_s: float
    root: Path


def _open_tegrastats(where: _Where) -> PowerSource:
    path = tegrastats.find(where.root)
    if path is None:
        raise OSError("not found in $PATH nor as /usr/bin/tegrastats")
    return tegrastats.Tegrastats(path, board=where.board, interval_s=where.interval_s, twice=labels_twice(where.root))


# In the order in which `auto` tries them. Each raises OSError where it cannot measure here.
_OPENERS: dict[str, Callable[[_Where], PowerSource]] = {
    "sysfs": lambda where: Sysfs(where.board, where.root),
    "tegrastats": _open_tegrastats,
    "jtop": lambda where: Jtop(where.board, where.interval_s, labels_twice(where.root)),
    "nvml": lambda where: Nvml(),
    "rapl": lambda where: Rapl(where.root),
}


def check_spec(spec: str) -> None:
    """Raises BadInput for what --power cannot be, and for a log that cannot be replayed. Opens no device."""
    if spec.startswith(_REPLAY):
        replay.check(_file(spec))
    elif spec not in ("auto", "none", *_OPENERS):
        raise BadInput(f"--power: {spec!r} is no source of power readings; it may be {_CHOICES}")


def open_power(spec: str, *, board: str | None, interval_s: float, root: Path = Path("/")) -> Choice:
    """The source that `spec` means. `board` is --board's word, or None: then the device tree tells.

    Raises BadInput for a bad spec or board, and for a source named in `spec` that cannot be opened here. `auto` never
    fails: without any source it says what was looked for.
    """
    known = None if board is None else check_board(board)
    if spec.startswith(_REPLAY):
        log = replay.Replay(_file(spec), board=known)
        return Choice(log, f"{log.name}: {log.detail}")
    check_spec(spec)
    if spec == "none":
        return Choice(None, "--power none")
    here = find_board(root)
    where = _Where(known or here.name or here.model or "unknown", interval_s, root)
    if spec == "auto":
        return _first(where)
    try:
        source, why_no_total = _open(spec, where)
    except OSError as problem:
        raise BadInput(f"--power: {spec}: {one_line(problem)}") from None
    return Choice(source, _detail(source, why_no_total))


def _first(where: _Where) -> Choice:
    """The first that gives a total; without any, the first that gives rails."""
    refused: list[str] = []
    rails: tuple[PowerSource, str] | None = None
    for name in _OPENERS:
        try:
            source, why_no_total = _open(name, where)
        except OSError as problem:
            refused.append(f"{name}: {one_line(problem)}")
            continue
        if why_no_total is None:
            if rails is not None:
                rails[0].close()
            return Choice(source, "; ".join([_detail(source, None), *_refusals(refused)]))
        refused.append(f"{name}: {why_no_total}")
        if rails is None:
            rails = (source, why_no_total)
        else:
            source.close()
    if rails is None:
        return Choice(None, f"not measured: {'; '.join(refused)}")
    source, why_no_total = rails
    others = [line for line in refused if not line.startswith(f"{source.name}: ")]
    return Choice(source, "; ".join([_detail(source, why_no_total), *_refusals(others)]))


def _open(name: str, where: _Where) -> tuple[PowerSource, str | None]:
    """The source, and why it gives no total (None: it does). Raises OSError where it gives no reading at all."""
    source = _OPENERS[name](where)
    # RAPL and tegrastats need an interval for their first reading, and a slow start another.
    until_s = time.monotonic() + 2 * where.interval_s + (_START_S if name in ("tegrastats", "jtop") else 0.0)
    count = rails = 0
    # A first line may be cut, and a sensor busy: the second decides.
    while rails < 2:
        for reading in source.readings():
            if reading.total_mw is not None:
                return source, None
            count += 1
            rails += bool(reading.rails_mw)
        if time.monotonic() > until_s:
            break
        time.sleep(_POLL_S)
    if rails:
        return source, f"rails, but no total: {_why(source, where)}"
    problem = source.problem() or ("what it reads holds no power; as root it may" if count else "it gives no reading")
    source.close()
    raise OSError(problem)


def _why(source: PowerSource, where: _Where) -> str:
    if where.board == "unknown":
        return "the board is unknown; --board names it"
    if board_of(where.board) is None:
        return f"none is known for the board '{shown(where.board)}'; --board overrides it"
    return (source.problem() or f"these are not the rails of {where.board}").removeprefix("no total: ")


def _detail(source: PowerSource, why_no_total: str | None) -> str:
    scope = f"total of the {source.scope}" if why_no_total is None else why_no_total
    return f"{source.name}: {source.detail}; {scope}"


def _refusals(refused: list[str]) -> list[str]:
    return [f"not {line}" for line in refused]


def _file(spec: str) -> Path:
    name = spec.removeprefix(_REPLAY)
    if not name:
        raise BadInput(f"--power: replay: names no file; it may be {_CHOICES}")
    return Path(name)
