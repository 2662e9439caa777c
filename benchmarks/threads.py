"""What CPU threads cost on a machine that does other things too: FeDeRA's start beside a busy process, and two workers
that are started by hand on one machine. Ratios, each of two things that are measured in turns in one run.

    python -m benchmarks.threads [--turns 5] [--spinning] [--check]

`--spinning` measures beside them what federa does no more: all threads on each matrix of the start, and in each worker
a thread for each core, all of which spin while they wait, as GNU's OpenMP has it by default.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.conclusion import conclude
from coordinator.operator.api import run_experiment
from coordinator.operator.child import Child
from federa.compute_threads import use_all_cores, wait_passively
from federa.config import Experiment
from federa.cores import count_cores
from federa.errors import BadInput, FederaError

MAX_BUSY_RATIO = 2.0
MAX_STEP_RATIO = 1.2
WORKERS = 2
DOCUMENTS, ROUNDS = 320, 4
DATA = "documents.jsonl"
SEED = 7
_SPINS = {"GOMP_SPINCOUNT": "300000"}  # what GNU's OpenMP takes where nobody says how its threads wait
_WAITS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


# ---------------------------------------------------------------- FeDeRA's start


def start_once(model: str, spinning: bool) -> float:
    """Seconds of FeDeRA's start in this process, which has loaded nothing of torch yet."""
    wait_passively()
    use_all_cores()
    from federa.methods.decomposition import principal_factors
    from federa.methods.federa import FeDeRA
    from federa.methods.lora import LoRASection, lora_layers
    from federa.models.pretrained import load_pretrained
    from federa.models.tuned import TunedModel

    task = Experiment().make_task()
    section = LoRASection()
    tuned = TunedModel(load_pretrained(model, task.resolved(task.load())), FeDeRA(section))
    began_s = time.perf_counter()
    if spinning:
        for layer in lora_layers(tuned.model):
            principal_factors(layer.weight, section.r, section.scale)
    else:
        tuned.init(SEED)
    return time.perf_counter() - began_s


@contextmanager
def busy_process(log: Path) -> Iterator[None]:
    """Beside it, another process computes all the time."""
    busy = Child(["benchmarks.threads", "busy"], log)
    try:
        busy.receive("busy")
        yield
    finally:
        busy.kill()


def start_s(model: str, folder: Path, *, busy: bool, spinning: bool) -> float:
    """Seconds of FeDeRA's start in a process of its own."""
    with ExitStack() as stack:
        if busy:
            stack.enter_context(busy_process(folder / "busy.log"))
        child = Child(["benchmarks.threads", "start", model, *(["spinning"] if spinning else [])], folder / "start.log",
                      _SPINS if spinning else None)  # fmt: skip
        stack.callback(child.kill)
        return float(child.receive("took"))


# ---------------------------------------------------------------- two workers by hand


def write_documents(path: Path) -> None:
    """Some documents of the embedded data, of each of its classes: enough for steps, and soon evaluated."""
    dataset = Experiment().make_task().load()
    every = max(1, len(dataset) // DOCUMENTS)
    rows = [{"text": text, "label": label} for text, label in dataset.records[::every]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def step_ms(model: str, threads: str, folder: Path, env: Mapping[str, str] | None = None) -> float:
    """The median step of a run's two workers with `--threads threads`, their mean."""
    with ExitStack() as stack:

        def started(name: str, arguments: list[str]) -> Child:
            child = Child(arguments, folder / f"{name}.log", env)
            stack.callback(child.kill)
            return child

        arguments = ["coordinator.main", "--serve", "--out", str(folder / "serve"), "--listen", "127.0.0.1:0"]
        address = started("coordinator", arguments).receive("listening on")
        for number in range(WORKERS):
            name = f"worker-{number}"
            arguments = ["edge.main", "--coordinator", address, "--name", name, "--threads", threads]
            started(name, [*arguments, "--power", "none", "--state", str(folder / "keys")])
        experiment = {
            "methods": [{"name": "lora"}], "model": model, "seed": SEED, "target": {"value": 1.0},
            "federation": {"clients": WORKERS, "devices": WORKERS, "rounds": ROUNDS},
            "data": {"source": str(folder.parent / DATA)},
        }  # fmt: skip
        result = run_experiment(experiment, out=folder / "results", coordinator=address)
        return statistics.mean(device.step_ms.p50 or 0.0 for device in result.runs[0].devices)


# ---------------------------------------------------------------- command line


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=(__doc__ or "").split("\n\n")[0])
    parse.add_argument("--model", default="embedded", help="as for federa-bench")
    parse.add_argument("--turns", type=int, default=5, help="the median of so many (default: %(default)s)")
    parse.add_argument("--spinning", action="store_true", help="measure what federa does no more, too; minutes")
    parse.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parse.add_argument("--check", action="store_true", help="end with 1 where a ratio is not held")
    options = parse.parse_args(arguments)
    if options.turns < 1:
        raise BadInput(f"--turns: must be 1 or more, not {options.turns}")
    return options


def _measured(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds of the starts and of the steps, by contestant: they take turns."""
    model, cores = options.model, count_cores().count
    right = str(max(1, cores // WORKERS))

    def start(busy: bool, spinning: bool = False) -> Callable[[Path], float]:
        return lambda place: start_s(model, place, busy=busy, spinning=spinning)

    def step(threads: str, env: Mapping[str, str] | None = None) -> Callable[[Path], float]:
        return lambda place: step_ms(model, threads, place, env) / 1e3

    contestants = {
        "start, quiet": start(busy=False),
        "start, beside a busy process": start(busy=True),
        "step, --threads set right": step(right),
        "step, --threads auto": step("auto"),
    }
    if options.spinning:
        contestants["start, quiet, spinning"] = start(busy=False, spinning=True)
        contestants["start, beside a busy process, spinning"] = start(busy=True, spinning=True)
        contestants["step, a thread a core each, spinning"] = step(str(cores), _SPINS)
    write_documents(folder / DATA)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(options.turns):
        for number, (name, measure) in enumerate(contestants.items()):
            place = folder / f"{turn}-{number}"
            place.mkdir()
            seconds[name].append(measure(place))
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=120)
    try:
        match arguments if arguments is not None else sys.argv[1:]:
            case ["busy"]:
                print("busy", flush=True)
                while True:
                    pass
            case ["start", model, *rest]:
                print(f"took {start_once(model, spinning=bool(rest))}", flush=True)
                return 0
        options = _arguments(arguments)
        for name in _WAITS:
            os.environ.pop(name, None)  # what is measured is what federa chooses
        with tempfile.TemporaryDirectory(prefix="threads-") as folder:
            seconds = _measured(options, Path(folder))
    except FederaError as error:
        print(f"benchmarks.threads: {error}", file=sys.stderr)
        return error.exit_code
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = {"start": medians["start, quiet"], "step": medians["step, --threads set right"]}
    table = Table(title=f"median of {options.turns} turns", title_justify="left")
    for column in ("", "seconds", "lowest to highest", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    rows: list[dict[str, Any]] = []
    for name, values in seconds.items():
        ratio = medians[name] / first[name.partition(",")[0]]
        table.add_row(name, f"{medians[name]:.3f}", f"{min(values):.3f} to {max(values):.3f}", f"{ratio:.2f} x")
        rows.append({"what": name, "seconds": values, "median_s": medians[name], "ratio": ratio})
    found = {row["what"]: row["ratio"] for row in rows}
    broken = [
        f"{name}: {found[name]:.2f} x, at most {most:g} x"
        for name, most in (("start, beside a busy process", MAX_BUSY_RATIO), ("step, --threads auto", MAX_STEP_RATIO))
        if found[name] > most
    ]
    return conclude(console, table, rows, broken, file=options.json, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
