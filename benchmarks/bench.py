"""federa-bench: methods by time and bytes to a target, on a cluster or on processes of its own."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take their time
    import sys

    from benchmarks.commands import bench

    sys.exit(bench())

import argparse
import asyncio
import itertools
import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console

from benchmarks.arguments import credentials_from, experiment_from, file_of, parser, power_from, proxy_from
from benchmarks.experiment_file import described
from coordinator.operator.experiment import check_data, claimed, run_to_end
from coordinator.report.console import open_console
from coordinator.report.display import Display
from coordinator.report.terminal import (
    comparison_lines,
    cut_record_lines,
    failure_lines,
    joule_lines,
    key_lines,
    memory_lines,
    metric_lines,
    summary,
)
from coordinator.storage.experiment_record import ExperimentRecord
from coordinator.storage.run_folder import RESULT
from federa.config import DEVICES
from federa.errors import EXIT_BAD_INPUT, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, BadInput, FederaError
from federa.output import prepare_output, print_error
from federa.result import read_result_tree
from federa.stop_signals import StopSignals
from protos.credentials import Credentials
from protos.federation_pb2 import Outcome


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    prepare_output()
    options = parser().parse_args(arguments)
    try:
        if options.list_experiments:
            _list_experiments(options.data_dir)
            return EXIT_OK
        if options.data == DEVICES and not options.print_config:
            _need_devices_with_data(options)  # before what else such an experiment must say
        experiment = experiment_from(options)
        power = power_from(options)
        if options.print_config:
            print(experiment.to_yaml(), end="")
            return EXIT_OK
        if experiment.data.source == DEVICES:
            _need_devices_with_data(options)
        credentials = credentials_from(options)
        options.proxy = proxy_from(options)
        if options.coordinator is None:
            if (file := file_of(options)) is not None:
                file.check_files(experiment, options.data_dir.expanduser())
            check_data(options.out, experiment)
        out = options.out or _fresh_folder(Path("runs"))
        with claimed(out, experiment) as record:
            if record.finished:
                print(f"{out} holds this experiment's results already; nothing is run")
                return _conclude(open_console(), record.outcome, out)
            return asyncio.run(_bench(options, credentials, record, out, power))
    except FederaError as error:
        print_error("federa-bench", error)
        return error.exit_code
    except OSError as error:
        print_error("federa-bench", f"{error.filename or options.out or Path()}: {error.strerror or error}")
        return EXIT_ERROR
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED


def _list_experiments(folder: Path) -> None:
    for name, about in described():
        print(f"{name}: {about.title}\n    licence: {about.licence}\n    source: {about.source}")
        for file in about.files:
            there = file.found(folder.expanduser())
            print(f"    {there or folder / file.names[0]}: {'there' if there else f'missing, from {file.url}'}")


def _fresh_folder(below: Path) -> Path:
    """Make a folder that is called by the date and the time. Of two that begin in one second each has its own."""
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = below / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput(f"--out: cannot make {folder}: {error.strerror}; name another folder") from None
        return folder
    raise AssertionError("numbers do not end")


def _need_devices_with_data(options: argparse.Namespace) -> None:
    if options.coordinator is None:
        raise BadInput("--data: devices needs --coordinator: the workers that are started here have no files")


async def _bench(
    options: argparse.Namespace, credentials: Credentials | None, record: ExperimentRecord, out: Path, power: str
) -> int:
    experiment = record.experiment
    console = open_console()
    task = asyncio.current_task()
    assert task is not None
    if options.coordinator is None:
        console.print(f"starting a coordinator and {experiment.federation.devices} workers here")

    def stop() -> None:
        print_error("federa-bench", "ending the run in order; Ctrl-C again ends it at once")
        assert task is not None
        task.cancel()

    with Display(console) as display:
        StopSignals(stop, terminated=EXIT_INTERRUPTED, abort=display.close)
        outcome = await run_to_end(
            record,
            out,
            coordinator=options.coordinator,
            credentials=credentials,
            proxy=options.proxy,
            power=power,
            on_progress=display.show,
        )
    return _conclude(console, outcome, out)


def _conclude(console: Console, outcome: Outcome, out: Path) -> int:
    failed = outcome.exit_code in (EXIT_ERROR, EXIT_BAD_INPUT)
    if (out / RESULT).exists():
        result = read_result_tree(out / RESULT)
        if result["runs"] and not failed:
            console.print(summary(result))
            for line in (
                *comparison_lines(result),
                *metric_lines(result),
                *cut_record_lines(result),
                *key_lines(result),
                *memory_lines(result),
                *failure_lines(result),
            ):
                console.print(line, style="dim", highlight=False, markup=False)
            for line in joule_lines(result):
                console.print(line, style="dim", highlight=False, markup=False)
        print(f"results: {out / RESULT}, {out / 'report.html'}")  # brackets in a path are no markup
    if outcome.message:
        print_error("federa-bench", outcome.message)
    return int(outcome.exit_code)
