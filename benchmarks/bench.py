"""federa-bench: methods by time and bytes to a target accuracy, on a cluster or on processes of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.arguments import credentials_from, experiment_from, parser, power_from
from coordinator.operator.client import OperatorClient
from coordinator.operator.local_cluster import LocalCluster
from coordinator.report.display import Display
from coordinator.report.terminal import joule_lines, memory_lines, setback_lines, summary
from coordinator.storage.experiment_record import ExperimentRecord, open_record
from coordinator.storage.run_folder import LEDGER, RESULT, Claim
from federa.config import DEVICES
from federa.errors import EXIT_BAD_INPUT, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, BadInput, FederaError
from protos.credentials import Credentials
from protos.federation_pb2 import Outcome, Progress

STOP_WAIT_S = 60.0
"""How long a run that was interrupted may take to end in order."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        experiment = experiment_from(options)
        power = power_from(options)
        if options.print_config:
            print(experiment.to_yaml(), end="")
            return EXIT_OK
        if experiment.data.source == DEVICES and options.coordinator is None:
            raise BadInput("--data: devices needs --coordinator: the workers that are started here have no files")
        credentials = credentials_from(options)
        out = options.out or Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
        claim = Claim(out)
        try:
            record = open_record(out, experiment)
            if (out / LEDGER).exists():
                raise BadInput(f"--out: {out} holds a run of federa-coordinator --experiment; go on with that")
            if record.finished:
                print(f"{out} holds this experiment's results already; nothing is run")
                return _conclude(_console(), record.outcome, out)
            return asyncio.run(_bench(options, credentials, record, out, power))
        finally:
            claim.release()
    except FederaError as error:
        print(f"federa-bench: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return EXIT_ERROR  # nobody reads what would be printed
    except OSError as error:
        print(f"federa-bench: {error.filename or options.out}: {error.strerror or error}", file=sys.stderr)
        return EXIT_ERROR
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED


def _console() -> Console:
    # Off a terminal rich would wrap the table at 80 columns.
    return Console() if sys.stdout.isatty() else Console(width=120)


async def _bench(
    options: argparse.Namespace, credentials: Credentials | None, record: ExperimentRecord, out: Path, power: str
) -> int:
    experiment = record.experiment
    console = _console()
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        cluster = None
        if options.coordinator is None:
            cluster = LocalCluster(out, experiment.federation.devices, power)
            stack.push_async_callback(cluster.stop)
            console.print(f"starting a coordinator and {experiment.federation.devices} workers here")
            await cluster.start()
        address = cluster.address if cluster else options.coordinator
        operator = await stack.enter_async_context(OperatorClient(address, credentials))
        experiment_id = await operator.submit(experiment, record.experiment_id)
        with Display(console, experiment.target.metric) as display:
            last, broken = await _follow(operator, experiment_id, display, cluster)
        for path in last.files:
            await operator.fetch(experiment_id, path, out / path)
    if broken:
        last.outcome.MergeFrom(Outcome(exit_code=EXIT_ERROR, message=broken))
    record.ended(last.outcome).write(out)
    return _conclude(console, last.outcome, out)


async def _follow(
    operator: OperatorClient, experiment_id: str, display: Display, cluster: LocalCluster | None
) -> tuple[Progress, str]:
    """Watch to the end. Ctrl-C, or a process of ours that dies, ends the experiment in order and keeps its results so
    far; the second value says which process died, if one did."""
    stuck: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    watching = asyncio.ensure_future(_watch(operator, experiment_id, display, stuck))
    waits: set[asyncio.Future[Any]] = {watching}
    if cluster is not None:
        # Devices of a cluster of one's own are all there: nobody comes who could bring a paused run on.
        waits |= {asyncio.ensure_future(cluster.failure()), stuck}
    broken = ""
    try:
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                return watching.result(), ""
            broken = next(str(wait.result()) for wait in waits if wait.done())
        except asyncio.CancelledError:
            pass
        await operator.cancel(experiment_id)
        return await asyncio.wait_for(watching, STOP_WAIT_S), broken
    except asyncio.TimeoutError:
        raise FederaError(f"the coordinator did not end the run within {STOP_WAIT_S:g} s") from None
    except FederaError as error:
        # The process that died was the coordinator: nobody is left to ask.
        raise FederaError(broken) if broken else error from None
    finally:
        for wait in waits:
            wait.cancel()


async def _watch(
    operator: OperatorClient, experiment_id: str, display: Display, stuck: asyncio.Future[str]
) -> Progress:
    snapshot = Progress()
    async for snapshot in operator.watch(experiment_id):
        display.show(snapshot)
        if snapshot.run.stage == "paused" and not stuck.done():
            stuck.set_result(f"the run is paused: {snapshot.run.note}")
    if not snapshot.over:
        raise FederaError("the coordinator went away before the experiment was over")
    return snapshot


def _conclude(console: Console, outcome: Outcome, out: Path) -> int:
    failed = outcome.exit_code in (EXIT_ERROR, EXIT_BAD_INPUT)
    if (out / RESULT).exists():
        try:
            result = json.loads((out / RESULT).read_text())
        except ValueError as error:
            raise FederaError(f"{out / RESULT} is damaged: {error}") from None
        if result["runs"] and not failed:
            console.print(summary(result))
            for line in (*memory_lines(result), *setback_lines(result)):
                console.print(line, style="dim", highlight=False, markup=False)
            for line in joule_lines(result):
                console.print(line, style="dim", highlight=False, markup=False)
        print(f"results: {out / RESULT}, {out / 'report.html'}")  # brackets in a path are no markup
    if outcome.message:
        print(f"federa-bench: {outcome.message}", file=sys.stderr)
    return int(outcome.exit_code)


if __name__ == "__main__":
    sys.exit(main())
