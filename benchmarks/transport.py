"""What a round costs when nobody trains: real coordinator and worker processes on loopback, beside the same bytes
through a gRPC echo (bare, and one that hashes, writes and fsyncs) and a plain TCP stream, in the same run.

    python -m benchmarks.transport [--states small,medium,large] [--workers 2,4,8] [--turns 2] [--rounds N] [--check]

Every worker hosts one client, all are drawn in every round, all updates are waited for. In each turn a federation runs
its rounds, then every echo as many passes; a figure is the median over the turns. The federation's first round is left
out, because in it workers also get ready, and so is its evaluation, which is the model's affair.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.conclusion import conclude, numbers_of_workers
from benchmarks.echo import KINDS, Echo, Kind
from coordinator.operator.child import Child
from federa.errors import BadInput, FederaError
from federa.numbers import human_bytes
from tests.doubles.noop_coordinator import NoopCoordinator, check_bytes, round_seconds

ROUND_WAIT_S = 180.0
"""The limit for one round of the largest state: far above what any machine needs."""

MAX_TO_DURABLE = 1.5
MAX_SMALL_ROUND_S = 0.2
MAX_MEMORY_STATES, MAX_MEMORY_SLACK_BYTES = 3, 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A state's layout: so many fp32 tensors of so many values each, and how many rounds a turn measures with it."""

    name: str
    tensors: int
    values: int
    rounds: int


STATES = (
    State(name="small", tensors=48, values=6_250, rounds=10),  # 1.2 MB: LoRA on a small model
    State(name="medium", tensors=144, values=36_458, rounds=5),  # 21 MB
    State(name="large", tensors=197, values=629_441, rounds=2),  # 496 MB: full fine-tuning of a BERT
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FederationTurn:
    """What one federation said: a round's seconds after the first, seconds from one round's first training to the
    next's (evaluation and bookkeeping included), and the coordinator's anonymous memory: listening, at its peak, and at
    its peak while rounds ran, without what the start takes."""

    state_bytes: int
    rounds_s: list[float]
    periods_s: list[float]
    start_bytes: int
    peak_bytes: int
    rounds_peak_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportRow:
    """A configuration's figures: medians over all turns, of the memory the highest."""

    state: str
    tensors: int
    state_bytes: int
    workers: int
    round_s: float
    period_s: float
    echo_s: Mapping[str, float]
    memory_bytes: int
    """The coordinator's peak, beyond what it had when it listened."""
    rounds_memory_bytes: int
    """Its peak while rounds ran."""

    def ratio(self, kind: Kind) -> float:
        """How many times what the same bytes take through that echo."""
        return self.round_s / self.echo_s[kind]

    def broken(self) -> list[str]:
        """The README's figures that this row does not hold, each in words."""
        found = []
        where = f"{self.state}, {self.workers} workers"
        if self.state == "large" and self.ratio("durable") > MAX_TO_DURABLE:
            found.append(f"{where}: {self.ratio('durable'):.2f} x the durable echo, at most {MAX_TO_DURABLE:g}")
        if self.state == "small" and self.workers == 2 and self.round_s >= MAX_SMALL_ROUND_S:
            found.append(f"{where}: {self.round_s:.3f} s a round, under {MAX_SMALL_ROUND_S:g} s")
        most = MAX_MEMORY_STATES * self.state_bytes + MAX_MEMORY_SLACK_BYTES
        if self.memory_bytes > most:
            found.append(f"{where}: {human_bytes(self.memory_bytes)} of memory, at most {human_bytes(most)}")
        return found


def row(
    state: State, workers: int, turns: Sequence[FederationTurn], echo_s: Mapping[Kind, Sequence[float]]
) -> TransportRow:
    """The figures of a configuration's turns."""
    return TransportRow(
        state=state.name,
        tensors=state.tensors,
        state_bytes=turns[0].state_bytes,
        workers=workers,
        round_s=statistics.median(seconds for turn in turns for seconds in turn.rounds_s),
        period_s=statistics.median(seconds for turn in turns for seconds in turn.periods_s),
        echo_s={kind: statistics.median(seconds) for kind, seconds in echo_s.items()},
        memory_bytes=max(turn.peak_bytes - turn.start_bytes for turn in turns),
        rounds_memory_bytes=max(turn.rounds_peak_bytes - turn.start_bytes for turn in turns),
    )


def run_federation(state: State, workers: int, rounds: int, folder: Path) -> FederationTurn:
    """A federation of so many rounds after its first. Raises FederaError when it fails or moves other bytes."""
    settings = {"devices": workers, "clients": workers, "clients_per_round": workers, "rounds": rounds + 1}
    env = {"NOOP_TENSORS": str(state.tensors), "NOOP_TENSOR_VALUES": str(state.values)}
    # One tensor moves, or every round would have the state of the one before, which is stored and sent already.
    stamps = folder / "stamps"
    worker_env = {"NOOP_MOVED": "1", "NOOP_STAMPS": str(stamps)}
    with NoopCoordinator(folder, {"federation": settings}, env) as coordinator:
        with _workers(coordinator.address, workers, folder, worker_env) as beside:
            run = coordinator.finish(ROUND_WAIT_S * (rounds + 1), beside)
        footprint = coordinator.footprint
    check_bytes(run, workers)
    began = first_trainings(stamps.read_text())
    return FederationTurn(
        state_bytes=run["state_bytes"],
        rounds_s=round_seconds(run),
        periods_s=periods(began),
        start_bytes=footprint.start_bytes,
        peak_bytes=footprint.peak_bytes(),
        rounds_peak_bytes=footprint.peak_bytes(since=began[0]),
    )


@contextlib.contextmanager
def _workers(address: str, count: int, folder: Path, env: Mapping[str, str]) -> Iterator[list[Child]]:
    started: list[Child] = []
    try:
        for number in range(count):
            command = ["tests.doubles.noop", "worker", "--coordinator", address, "--name", f"worker-{number}"]
            limits = ["--state", str(folder / "keys"), "--give-up-after", "60"]
            started.append(Child([*command, *limits], folder / f"worker-{number}.log", env))
        yield started
    finally:
        for worker in started:
            worker.kill()


def first_trainings(stamps: str) -> list[float]:
    """When each round's first training began, in the order of rounds, by the workers' stamps."""
    began: dict[int, float] = {}
    for line in stamps.splitlines():
        round_, _, at = line.split()
        began[int(round_)] = min(float(at), began.get(int(round_), float("inf")))
    return [began[round_] for round_ in sorted(began)]


def periods(began: Sequence[float]) -> list[float]:
    """Seconds from one round to the next, from round 2 on."""
    return [after - before for before, after in itertools.pairwise(began[1:])]


def measure(state: State, workers: int, turns: int, rounds: int, folder: Path) -> TransportRow:
    """All turns of a configuration; what they leave in `folder` is removed."""
    done: list[FederationTurn] = []
    echo_s: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(turns):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            done.append(run_federation(state, workers, rounds, Path(name, "federation")))
        for kind in KINDS:
            size = done[0].state_bytes
            with (
                tempfile.TemporaryDirectory(dir=folder) as name,
                Echo(kind, clients=workers, size=size, folder=Path(name)) as echo,
            ):
                echo.once()  # like the federation's first round
                echo_s[kind] += [echo.once() for _ in range(rounds)]
    return row(state, workers, done, echo_s)


def table(rows: Sequence[TransportRow]) -> Table:
    """A line a configuration. The times are of a round or a pass, the ratios are the round's to the pass's."""
    shown = Table(title="A round in which nobody trains", title_justify="left")
    columns = ("state", "workers", "round", "round to round", "bare echo", "durable echo", "tcp")
    for column in (*columns, "memory, in rounds"):
        shown.add_column(column, justify="left" if column == "state" else "right")
    for line in rows:
        shown.add_row(
            f"{line.tensors} tensors, {human_bytes(line.state_bytes)}",
            str(line.workers),
            f"{line.round_s:.3f} s",
            f"{line.period_s:.3f} s",
            *(f"{line.echo_s[kind]:.3f} s: {line.ratio(kind):.2f} x" for kind in KINDS),
            f"{line.memory_bytes / line.state_bytes:.2f} x, {line.rounds_memory_bytes / line.state_bytes:.2f} x",
        )
    return shown


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=(__doc__ or "").split(":")[0])
    names = ",".join(state.name for state in STATES)
    parse.add_argument("--states", default=names, help="which of them (default: %(default)s)")
    parse.add_argument("--workers", default="2,4,8", help="how many (default: %(default)s)")
    parse.add_argument("--turns", type=int, default=2, help="federations of each (default: %(default)s)")
    parse.add_argument("--rounds", type=int, help="that a turn measures, from 2 (default: 10, 5, 2 by state)")
    parse.add_argument("--out", type=Path, default=Path.cwd(), help="where a folder is made and removed: a real disk")
    parse.add_argument("--json", type=Path, metavar="FILE", help="the figures, for programs")
    parse.add_argument("--check", action="store_true", help="end with 1 when a figure of the README is not held")
    options = parse.parse_args(arguments)
    known = {state.name: state for state in STATES}
    unknown = [name for name in options.states.split(",") if name not in known]
    if unknown:
        raise BadInput(f"--states: must be some of {names}, not {unknown[0]!r}")
    options.states = [known[name] for name in options.states.split(",")]
    options.workers = numbers_of_workers(options.workers)
    if min(options.workers) < 1 or options.turns < 1 or (options.rounds is not None and options.rounds < 2):
        raise BadInput("--workers and --turns: must be at least 1, --rounds at least 2")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=140)
    try:
        options = _arguments(arguments)
        rows = []
        with tempfile.TemporaryDirectory(prefix="transport-", dir=options.out) as folder:
            for state, workers in itertools.product(options.states, options.workers):
                rows.append(measure(state, workers, options.turns, options.rounds or state.rounds, Path(folder)))
                console.print(f"{state.name}, {workers} workers: {rows[-1].round_s:.3f} s a round", highlight=False)
    except FederaError as error:
        print(f"benchmarks.transport: {error}", file=sys.stderr)
        return error.exit_code
    lines = [{**dataclasses.asdict(line), "ratio": {kind: line.ratio(kind) for kind in KINDS}} for line in rows]
    broken = [figure for line in rows for figure in line.broken()]
    return conclude(console, table(rows), lines, broken, file=options.json, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
