"""What sampling power costs: CPU time of the sampling thread, and how much slower training gets.

    python -m benchmarks.power [--hz 10] [--seconds 12] [--pairs 20] [--block 8] [--json FILE]

Without a sensor's bus: the source is the one of the boards, but it reads a small tree of ordinary files, laid out as
/sys is on an Orin NX, in a temporary folder. A register on the board's I2C bus takes about half a millisecond more.
One training (embedded model, one thread, every step the same work) goes on in blocks of steps, by turns with sampling
and without; the ratio is the median over pairs of neighbours, so that a noisy machine is noisy for both, and its
quartiles stand beside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from edge.power.choice import open_power
from edge.power.meter import Meter
from edge.power.source import PowerSource, Reading
from edge.training.device import choose_device
from edge.training.precision import choose_precision
from edge.training.trainer import Trainer
from federa.config import EMBEDDED, Experiment, Training
from federa.errors import BadInput, FederaError
from federa.methods.lora import LoRA, LoRASection
from federa.models.pretrained import load_pretrained
from federa.models.tuned import TunedModel

BOARD = "NVIDIA Jetson Orin NX"
NOTE = "without a sensor's bus: ordinary files in the place of /sys"
CPU_LIMIT_PERCENT = 1.0
SLOWDOWN_LIMIT_PERCENT = 1.0
SEED, BATCH, LENGTH = 7, 16, 128
_RAILS = {"VDD_IN": (5000, 1400), "VDD_CPU_GPU_CV": (5000, 420), "VDD_SOC": (5000, 300)}  # mV and mA
_TEMPERATURES = ("cpu-thermal", "gpu-thermal", "soc0-thermal", "soc1-thermal", "soc2-thermal", "tj-thermal")


def make_tree(root: Path) -> None:
    """Sensors as on an Orin NX, three rails and six temperatures."""
    chip = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    chip.mkdir(parents=True)
    for number, (name, (millivolt, milliamp)) in enumerate(_RAILS.items(), start=1):
        (chip / f"in{number}_label").write_text(f"{name}\n")
        (chip / f"in{number}_input").write_text(f"{millivolt}\n")
        (chip / f"curr{number}_input").write_text(f"{milliamp}\n")
    for number, name in enumerate(_TEMPERATURES):
        zone = root / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{name}\n")
        (zone / "temp").write_text("48500\n")


class Timed:
    """A source that notes the CPU time of the thread that reads it, the meter's own share included."""

    def __init__(self, source: PowerSource) -> None:
        self.name, self.scope, self.detail = source.name, source.scope, source.detail
        self.problem, self.close = source.problem, source.close
        self.stamps: list[tuple[float, float]] = []
        """time.monotonic() and the thread's CPU seconds at each call."""
        self._source = source

    def readings(self) -> list[Reading]:
        self.stamps.append((time.monotonic(), time.thread_time()))
        return self._source.readings()

    def cpu_percent(self) -> float:
        """The share of one core, from the first call to the last. The first ones open files: ten are left out."""
        (began_s, began_cpu_s), (ended_s, ended_cpu_s) = self.stamps[min(10, len(self.stamps) - 2)], self.stamps[-1]
        return 100 * (ended_cpu_s - began_cpu_s) / (ended_s - began_s)


def _source(root: Path, hz: float) -> PowerSource:
    source = open_power("sysfs", board=BOARD, interval_s=1 / hz, root=root).source
    assert source is not None
    return source


def sampling_cost(root: Path, hz: float, seconds: float) -> float:
    """The sampling thread's CPU time, in percent of one core."""
    source = Timed(_source(root, hz))
    with Meter(source, hz=hz):
        time.sleep(seconds)
    source.close()
    return source.cpu_percent()


def training_pairs(root: Path, hz: float, pairs: int, block: int) -> list[tuple[float, float]]:
    """Seconds a step with sampling and without, of each pair of blocks of so many steps."""
    device, _ = choose_device()
    task = Experiment().make_task()
    dataset = task.load()
    base = load_pretrained(EMBEDDED, task.resolved(dataset), SEED)
    lengths = task.encode(dataset.records, base.tokenizer, LENGTH).lengths
    # Texts of one length, so that every step is the same work.
    full = [index for index, length in enumerate(lengths) if length == LENGTH]
    steps = (2 * pairs + 1) * block  # the first block warms up
    examples = task.encode(dataset.select(full[: steps * BATCH]).records, base.tokenizer, LENGTH)
    epochs = -(-steps * BATCH // len(examples))
    precision = choose_precision("auto", device)
    model = TunedModel(base, LoRA(LoRASection()))
    model.init(SEED)
    model.install()
    model.model.to(precision.device)
    model.freeze(precision.dtype)
    trainer = Trainer(model, task, Training(batch_size=BATCH, epochs=epochs), 3e-3, precision)
    source = _source(root, hz)
    took_s: list[list[float]] = [[]]
    began_s = time.perf_counter()
    with ExitStack() as stack:

        def on_step(progress: float) -> None:
            nonlocal began_s
            took_s[-1].append(time.perf_counter() - began_s)
            if len(took_s[-1]) == block:
                stack.close()
                if len(took_s) == 2 * pairs + 1:
                    raise _Enough
                if _sampled(len(took_s)):
                    stack.enter_context(Meter(source, hz=hz))
                took_s.append([])
            began_s = time.perf_counter()

        with suppress(_Enough):
            trainer.train(examples, SEED, on_step)
    source.close()
    blocks = [statistics.mean(steps_s) for steps_s in took_s]
    found = []
    for first in range(1, 2 * pairs, 2):
        pair = (blocks[first], blocks[first + 1])
        found.append(pair if _sampled(first) else pair[::-1])
    return found


class _Enough(Exception):
    """The last block is over."""


def _sampled(block: int) -> bool:
    """Which blocks are, from 1 on: each goes first every other time."""
    return block % 4 in (1, 0)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.power", description=(__doc__ or "").split("\n")[0])
    parse.add_argument("--hz", type=float, default=10.0, help="readings a second, 0.1 to 100 (default: %(default)g)")
    parse.add_argument("--seconds", type=float, default=12.0, help="for the thread's CPU time, 5 to 3600")
    parse.add_argument("--pairs", type=int, default=20, help="of blocks, from 2 on")
    parse.add_argument("--block", type=int, default=8, help="steps in a block")
    parse.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parse.parse_args(arguments)
    if not 0.1 <= options.hz <= 100:
        raise BadInput(f"--hz: must be from 0.1 to 100, not {options.hz:g}")
    if not 5 <= options.seconds <= 3600 or options.seconds * options.hz < 20:
        raise BadInput(f"--seconds: must be from 5 to 3600, and at least 20 readings, not {options.seconds:g}")
    if options.pairs < 2 or options.block < 1:
        raise BadInput("--pairs: must be 2 or more, and --block 1 or more")
    if options.json is not None and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise BadInput(f"--json: must be a file in a folder that exists, not {options.json}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 0 where both figures hold, 3 where one does not."""
    console = Console() if sys.stdout.isatty() else Console(width=120)
    try:
        options = _arguments(arguments)
        torch.set_num_threads(1)
        console.print(f"{machine()}\n{NOTE}", highlight=False)
        with tempfile.TemporaryDirectory() as folder:
            make_tree(Path(folder))
            cpu_percent = sampling_cost(Path(folder), options.hz, options.seconds)
            pairs = training_pairs(Path(folder), options.hz, options.pairs, options.block)
    except FederaError as error:
        print(f"benchmarks.power: {error}", file=sys.stderr)
        return error.exit_code
    changes = [100 * (sampled / plain - 1) for sampled, plain in pairs]
    low, median, high = statistics.quantiles(changes, n=4, method="inclusive")
    table = Table(title=f"sampling at {options.hz:g} Hz", title_justify="left")
    for column in ("", "measured", "quartiles", "to hold"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("sampling thread, of one core", f"{cpu_percent:.2f} %", "", f"< {CPU_LIMIT_PERCENT:g} %")
    table.add_row(
        f"training time, {len(pairs)} pairs", f"{median:+.2f} %", f"{low:+.2f} to {high:+.2f} %",
        f"< {SLOWDOWN_LIMIT_PERCENT:g} %",
    )  # fmt: skip
    console.print(table)
    if options.json is not None:
        figures = {
            "note": NOTE,
            "machine": machine(),
            "hz": options.hz,
            "cpu_percent": cpu_percent,
            "training_change_percent": {"median": median, "low": low, "high": high, "pairs": changes},
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if cpu_percent < CPU_LIMIT_PERCENT and abs(median) < SLOWDOWN_LIMIT_PERCENT else 3


if __name__ == "__main__":
    sys.exit(main())
