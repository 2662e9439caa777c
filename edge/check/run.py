"""federa-worker --check: what a worker would find on this device, looked at without joining a run."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path

from edge.board import Board, device_identity, find_board
from edge.board_names import board_of
from edge.check.result import CheckResult, guarded
from edge.power.choice import open_power
from edge.power.source import PowerSource, Reading
from edge.worker import identity, model_cache
from federa.data.readers import DataSource, Row, open_file
from federa.errors import BadInput
from federa.numbers import human_bytes
from federa.tasks import DEFAULT_TASK, TASKS, task_class
from federa.tasks.base import Task

# L4T's releases, which are what a board says of itself, and the JetPack that brought them (NVIDIA's archive).
_JETPACKS = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
_LOW_MEMORY_MIB = 1024
_LOW_DISK_BYTES = 1 << 30
_POWER_S = 1.0
"""How long the sensor is read, at the worker's own pace."""
_HIGH_COST = 0.02  # of a core
_IN_CONTAINER = "in a container, docker/compose.jetson.yaml mounts it"


def check_device(options: argparse.Namespace, root: Path = Path("/")) -> Iterator[CheckResult]:
    """Everything, one after the other. `options` are the worker's; `root` is where /sys, /proc and /etc are."""
    from edge.check.compute import check_compute
    from edge.check.network import check_network

    facts = device_identity(options.board, root)
    board = Board(options.board, board_of(options.board)) if options.board else find_board(root)
    jetson = on_jetson(board, facts, root)
    yield from guarded("board", partial(_board, board, facts, jetson))
    yield from guarded("memory", partial(_memory, root))
    yield from guarded("torch", partial(check_compute, options, jetson))
    yield from guarded("power", partial(_power, options, jetson, board.name is not None, root))
    yield from guarded("data", partial(_data, options.data))
    yield from guarded("coordinator", partial(check_network, options))
    yield from guarded(
        "state folder", partial(_folder, "state folder", "--state", options.state, identity.default_state_folder)
    )
    yield from guarded(
        "cache folder", partial(_folder, "cache folder", "--cache", options.cache, model_cache.default_cache_folder)
    )


def on_jetson(board: Board, facts: Mapping[str, str], root: Path) -> bool:
    """Whether this is a Jetson, even one in a container that sees neither its board nor its release: the kernel is the
    host's."""
    named = board.name is not None or "jetson" in (board.model or "").lower()
    return named or "l4t" in facts or _text(root / "proc/sys/kernel/osrelease").endswith("-tegra")


def _board(board: Board, facts: Mapping[str, str], jetson: bool) -> Iterator[CheckResult]:
    l4t, mode = facts.get("l4t"), facts.get("power_mode")
    if not jetson:
        yield CheckResult(what="board", found=f"{board.shown or os.uname().machine}, not a Jetson")
        return
    if board.shown is None:
        todo = f"name it with --board, without which its power has no total ({_IN_CONTAINER})"
        yield CheckResult(what="board", level="warning", found="a Jetson, but not which", todo=todo)
    elif board.name is None:
        todo = "name a board with the same power rails with --board"
        found = f"{board.shown}, of which no total power is known"
        yield CheckResult(what="board", level="warning", found=found, todo=todo)
    else:
        yield CheckResult(what="board", found=board.shown)
    if l4t is None:
        todo = f"look at /etc/nv_tegra_release ({_IN_CONTAINER})"
        yield CheckResult(what="JetPack", level="warning", found="not known", todo=todo)
    else:
        jetpack = _JETPACKS.get(l4t.partition(".")[0])
        yield CheckResult(what="JetPack", found=f"L4T {l4t}" + (f" (JetPack {jetpack})" if jetpack else ""))
    if mode is None:
        todo = f"sudo nvpmodel -q tells it ({_IN_CONTAINER}); a figure means little without it"
        yield CheckResult(what="power mode", level="warning", found="not known", todo=todo)
    else:
        clocks = [f"{facts[key]} MHz" for key in ("cpu_max_mhz", "gpu_max_mhz") if key in facts]
        names = [f"{name} at most {clock}" for name, clock in zip(("CPU", "GPU"), clocks, strict=False)]
        yield CheckResult(what="power mode", found=", ".join(filter(None, [mode, facts.get("cores"), *names])))


def _memory(root: Path) -> Iterator[CheckResult]:
    # Not what CUDA says is free: on a Jetson the page cache stands in its way, and is given up at need.
    text = _text(root / "proc/meminfo")
    found = {
        key: int(kib) // 1024 for key, kib in re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", text, re.MULTILINE)
    }
    if "MemAvailable" not in found:
        yield CheckResult(
            what="memory",
            level="warning",
            found="not known: no MemAvailable in /proc/meminfo",
            todo="look with free -m",
        )
        return
    text = f"{found['MemAvailable']} of {found.get('MemTotal', 0)} MiB are free"
    if found["MemAvailable"] < _LOW_MEMORY_MIB:
        todo = (
            "end what else runs here (on a Jetson the desktop: sudo systemctl isolate multi-user.target), or add swap"
        )
        yield CheckResult(what="memory", level="warning", found=text, todo=todo)
    else:
        yield CheckResult(what="memory", found=text)


def _power(options: argparse.Namespace, jetson: bool, known: bool, root: Path) -> Iterator[CheckResult]:
    children_s, began_s = _children_s(), time.monotonic()
    choice = open_power(options.power, board=options.board, interval_s=1.0 / options.power_hz, root=root)
    if choice.source is None:
        if options.power == "none":
            yield CheckResult(what="power", found="not measured, as asked (--power none)")
            return
        todo = "the run goes on without joules; --power names a source" + (f"; {_IN_CONTAINER}" if jetson else "")
        yield CheckResult(what="power", level="warning", found=choice.detail, todo=todo)
        return
    try:
        readings, spent_s, busy_s, over_s = _sample(choice.source, options.power_hz)
        problem = choice.source.problem()
    finally:
        choice.source.close()
    yield _reading(choice.source, readings, problem or choice.detail, known)
    # A source that is a process of its own (tegrastats) has used what it did since it was started.
    share = busy_s / over_s + (_children_s() - children_s) / (time.monotonic() - began_s)
    text = f"{1e3 * spent_s / max(1, len(readings)):.2f} ms a reading, {share:.2%} of a core at {options.power_hz:g} Hz"
    if share > _HIGH_COST:
        todo = "a lower --power-hz leaves more for the training"
        yield CheckResult(what="cost of power readings", level="warning", found=text, todo=todo)
    else:
        yield CheckResult(what="cost of power readings", found=text)


def _sample(source: PowerSource, hz: float) -> tuple[list[Reading], float, float, float]:
    """Readings at that pace, and seconds: of waiting for them, of this process's CPU, and in all."""
    readings: list[Reading] = []
    spent_s, began_s, busy_began_s = 0.0, time.monotonic(), time.process_time()
    while True:
        asked_s = time.monotonic()
        readings += source.readings()
        answered_s = time.monotonic()
        spent_s += answered_s - asked_s
        if answered_s - began_s >= max(_POWER_S, 2 / hz):
            return readings, spent_s, time.process_time() - busy_began_s, answered_s - began_s
        time.sleep(max(0.0, asked_s + 1 / hz - answered_s))


def _reading(source: PowerSource, readings: list[Reading], why: str, known: bool) -> CheckResult:
    """`known`: whether it is known which board's rails these are."""
    last = next((one for one in reversed(readings) if one.total_mw is not None or one.rails_mw), None)
    if last is None:
        return CheckResult(
            what="power", level="warning", found=f"{source.name}: no reading: {why}", todo="try another --power"
        )
    rails = ", ".join(f"{name} {mw:.0f} mW" for name, mw in last.rails_mw.items())
    if last.total_mw is None:
        found = f"{source.name}: no total ({why.removeprefix('no total: ')}): {rails}"
        if not known:
            todo = "--board names the board whose rails these are"
        elif "stands there twice" in why:
            todo = (
                "unbind the chip that is not the module's (the numbers behind the label) from its driver in "
                "/sys/bus/i2c/drivers"
            )
        else:
            todo = "the run goes on without joules; try another --power, or --board if this is another board"
        return CheckResult(what="power", level="warning", found=found, todo=todo)
    total = f"{source.name}: {last.total_mw / 1e3:.2f} W of the {source.scope}"
    return CheckResult(what="power", found=f"{total} ({rails})" if rails else total)


def _children_s() -> float:
    """CPU time of the children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _data(file: Path | None) -> Iterator[CheckResult]:
    if file is None:
        yield CheckResult(what="data", found="a shard of the experiment's (no --data)")
        return
    task = _task_of(None)
    try:
        source = open_file(file)
        first = list(islice(source.rows, 1))
        task = _task_of(first[0] if first else None)
        records = DataSource(name=source.name, rows=chain(first, source.rows)).records(task.record)
    except BadInput as error:
        fields = [f"data.{field}" for field in task.data.columns]
        if any(field in str(error) for field in fields):
            # A column that is not there: the experiment may well name others, which a check does not know.
            todo = f"nothing, where the experiment names the columns ({', '.join(fields)})"
            yield CheckResult(what="data", level="warning", found=str(error).removeprefix("data: "), todo=todo)
            return
        todo = "mend it"
        yield CheckResult(what="data", level="failed", found=str(error).removeprefix("data: "), todo=todo)
        return
    text, doubt = task.describe(records)
    if doubt:
        yield CheckResult(what="data", level="warning", found=f"{file}: {text}", todo=doubt)
    else:
        yield CheckResult(what="data", found=f"{file}: {text}")


def _task_of(row: Row | None) -> Task:
    """The task whose columns a device's rows have, under the names that they have by themselves; the default one where
    they have those of none."""
    for name in TASKS if row else ():
        task = task_class(name)(task_class(name).Data())
        if row and all(column in row.values for column in task.data.columns.values()):
            return task
    return task_class(DEFAULT_TASK)(task_class(DEFAULT_TASK).Data())


def _folder(what: str, option: str, wanted: Path | None, default: Callable[[], Path]) -> Iterator[CheckResult]:
    folder = wanted or default()
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        todo = f"choose another with {option}, or let this user (uid {os.getuid()}) write there"
        yield CheckResult(what=what, level="failed", found=f"{folder}: {error.strerror}", todo=todo)
        return
    text = f"{folder}, {human_bytes(free)} free"
    if free < _LOW_DISK_BYTES:
        yield CheckResult(what=what, level="warning", found=text, todo=f"make room, or choose another with {option}")
    else:
        yield CheckResult(what=what, found=text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
