"""One real coordinator and many simulated workers on one machine: what it costs as their number grows.

    python -m benchmarks.scale [--workers 10,100,1000] [--clients-per-round 100] [--rounds 5] [--check]

The workers are simulated in a few processes (benchmarks.simulated): they speak the real protocol, each over two
connections of its own, and train nothing. They share the machine's cores with the coordinator.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.conclusion import conclude, numbers_of_workers
from coordinator.operator.child import Child
from federa.errors import BadInput, FederaError
from federa.numbers import human_bytes
from tests.doubles.noop_coordinator import NoopCoordinator, check_bytes, round_seconds

TENSORS, VALUES = 48, 6_250  # 1.2 MB
ROUND_WAIT_S = 120.0
QUANTILES = {"p50": 50, "p99": 99, "max": 100}
MAX_ROUND_S = 5.0
"""The figure to hold, for 100 clients with 1,000 workers connected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleRow:
    """What so many workers cost. Seconds and processor seconds are of a round after the first, bytes are the
    coordinator's anonymous memory."""

    workers: int
    clients: int
    """A round's."""
    connected_s: float
    """From the word to connect until all are welcomed and have their orders."""
    connected_cpu_s: float
    """The coordinator's processor seconds in that time."""
    round_s: float
    """From its announcement until its new state is durable, the median."""
    period_s: float
    """From a round's first order to the next one's, bookkeeping included, the median."""
    cpu_s: float
    """The coordinator's processor time between the first orders of two rounds, on average."""
    cores: float
    """The seconds divided by the time between."""
    start_bytes: int
    connected_bytes: int
    peak_bytes: int
    round_trip_s: Mapping[str, float]
    """The latency of a heartbeat while rounds ran, seen by the workers' processes: p50, p99, max."""

    def broken(self) -> list[str]:
        """The README's figure that this row does not hold, in words."""
        if self.workers >= 1000 and self.clients == 100 and self.round_s >= MAX_ROUND_S:
            return [f"{self.workers} workers: {self.round_s:.2f} s a round, under {MAX_ROUND_S:g} s"]
        return []


def run_federation(workers: int, clients: int, rounds: int, processes: int, folder: Path) -> ScaleRow:
    """So many rounds after the first. Raises FederaError when anything fails or other bytes move."""
    settings = {"devices": workers, "clients": workers, "clients_per_round": clients, "rounds": rounds + 1}
    env = {"NOOP_TENSORS": str(TENSORS), "NOOP_TENSOR_VALUES": str(VALUES)}
    with (
        NoopCoordinator(folder, {"federation": settings}, env) as coordinator,
        _simulated(coordinator.address, workers, processes, folder) as simulated,
    ):
        _all(simulated, "ready")
        began = time.monotonic()
        _all(simulated, "connected", after="connect")
        connected = time.monotonic()
        connected_bytes = coordinator.footprint.samples[-1].anonymous_bytes
        for child in simulated:
            child.send("go")
        run = coordinator.finish(ROUND_WAIT_S * (rounds + 1), simulated)
        reports = [json.loads(child.receive()) for child in simulated]
    check_bytes(run, clients, newcomers=min(clients, workers - clients))
    orders = first_orders(reports)
    footprint = coordinator.footprint
    cpu_s = footprint.cpu_s(orders[0], orders[-1])
    round_trips_s = [value for entry in reports for value in entry["round_trips_s"]]
    return ScaleRow(
        workers=workers,
        clients=clients,
        connected_s=connected - began,
        connected_cpu_s=footprint.cpu_s(began, connected),
        round_s=statistics.median(round_seconds(run)),
        period_s=statistics.median(after - before for before, after in itertools.pairwise(orders)),
        cpu_s=cpu_s / (len(orders) - 1),
        cores=cpu_s / (orders[-1] - orders[0]),
        start_bytes=footprint.start_bytes,
        connected_bytes=connected_bytes,
        peak_bytes=footprint.peak_bytes(),
        round_trip_s={name: float(np.percentile(round_trips_s, q)) for name, q in QUANTILES.items()},
    )


def first_orders(reports: Sequence[Mapping[str, Any]]) -> list[float]:
    """When the first order of each round after the first came to any process, in the order of rounds."""
    began: dict[int, float] = {}
    for entry in reports:
        for round_, at in entry["rounds_began"].items():
            began[int(round_)] = min(at, began.get(int(round_), float("inf")))
    return [began[round_] for round_ in sorted(began) if round_ > 1]


@contextlib.contextmanager
def _simulated(address: str, workers: int, processes: int, folder: Path) -> Iterator[list[Child]]:
    bounds = [workers * index // processes for index in range(processes + 1)]
    started: list[Child] = []
    try:
        for first, end in itertools.pairwise(bounds):
            command = ["tests.doubles.simulated_workers", address, str(first), str(end - first)]
            started.append(Child(command, folder / f"simulated-{first}.log"))
        yield started
    finally:
        for child in started:
            child.kill()


def _all(children: Sequence[Child], word: str, after: str = "") -> None:
    """Let all of them say that word, after one that is said to them."""
    for child in children:
        if after:
            child.send(after)
    for child in children:
        child.receive(word)


def table(rows: Sequence[ScaleRow]) -> Table:
    """A line a number of workers."""
    shown = Table(title="One coordinator, simulated workers", title_justify="left")
    columns = ("workers (simulated)", "clients a round", "connected", "round", "round to round", "CPU a round")
    for column in (*columns, "memory: start, connected, peak", "heartbeat p50 / p99 / max"):
        shown.add_column(column, justify="right")
    for line in rows:
        shown.add_row(
            str(line.workers),
            str(line.clients),
            f"{line.connected_s:.2f} s: {line.connected_cpu_s:.2f} s CPU",
            f"{line.round_s:.3f} s",
            f"{line.period_s:.3f} s",
            f"{line.cpu_s:.2f} s: {line.cores:.2f} cores",
            ", ".join(human_bytes(count) for count in (line.start_bytes, line.connected_bytes, line.peak_bytes)),
            " / ".join(f"{1000 * line.round_trip_s[name]:.1f}" for name in QUANTILES) + " ms",
        )
    return shown


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parse.add_argument("--workers", default="10,100,1000", help="simulated (default: %(default)s)")
    parse.add_argument("--clients-per-round", type=int, default=100, help="or all there are (default: %(default)s)")
    parse.add_argument("--rounds", type=int, default=5, help="measured, after a first one (default: %(default)s)")
    parse.add_argument("--processes", type=int, default=2, help="that simulate the workers (default: %(default)s)")
    parse.add_argument("--out", type=Path, default=Path.cwd(), help="where a folder is made and removed: a real disk")
    parse.add_argument("--json", type=Path, metavar="FILE", help="the figures, for programs")
    parse.add_argument("--check", action="store_true", help="end with 1 when the README's figure is not held")
    options = parse.parse_args(arguments)
    options.workers = numbers_of_workers(options.workers)
    if options.processes < 1 or min(options.workers) < options.processes:
        raise BadInput("--workers: must be at least --processes, and that at least 1")
    if options.clients_per_round < 1 or options.rounds < 2:
        raise BadInput("--clients-per-round: must be at least 1, --rounds at least 2")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    try:
        options = _arguments(arguments)
        rows = []
        with tempfile.TemporaryDirectory(prefix="scale-", dir=options.out) as folder:
            for workers in options.workers:
                clients = min(workers, options.clients_per_round)
                place = Path(folder, str(workers))
                rows.append(run_federation(workers, clients, options.rounds, options.processes, place))
                console.print(f"{workers} simulated workers: {rows[-1].round_s:.3f} s a round", highlight=False)
    except FederaError as error:
        print(f"benchmarks.scale: {error}", file=sys.stderr)
        return error.exit_code
    lines = [dataclasses.asdict(line) for line in rows]
    broken = [figure for line in rows for figure in line.broken()]
    return conclude(console, table(rows), lines, broken, file=options.json, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
