"""federa-coordinator: serve one experiment, or stay up for those that federa-bench submits."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from coordinator.campaign import LearnerFactory
from coordinator.learner import ModelLearner
from coordinator.record import open_record
from coordinator.run_folder import Claim
from coordinator.server import Coordinator
from coordinator.web import Web
from federa import __version__
from federa.config import Experiment, parse_experiment, read_tree
from federa.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, BadInput, FederaError
from federa.memory import limit_arenas
from protos.channel import raise_file_limit

log = logging.getLogger("federa.coordinator")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="federa-coordinator", description=__doc__)
    what = parse.add_mutually_exclusive_group(required=True)
    what.add_argument("--experiment", type=Path, metavar="FILE.yaml", help="run this experiment and exit")
    what.add_argument("--serve", action="store_true", help="stay up for experiments that federa-bench submits")
    parse.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results")
    parse.add_argument("--listen", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
    parse.add_argument(
        "--http", metavar="HOST:PORT", help="serve the live report and Prometheus metrics here; default: off"
    )
    parse.add_argument("--version", action="version", version=f"federa {__version__}")
    return parse


def main(arguments: list[str] | None = None, make_learner: LearnerFactory = ModelLearner) -> int:
    """Run the command; returns the exit code. `make_learner` lets a test serve a run without a model."""
    options = parser().parse_args(arguments)
    limit_arenas()
    raise_file_limit()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        experiment = parse_experiment(read_tree(options.experiment)) if options.experiment else None
        claim = Claim(options.out)
        try:
            return asyncio.run(_serve(options.out.resolve(), options, experiment, make_learner))
        finally:
            claim.release()
    except FederaError as error:
        print(f"federa-coordinator: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"federa-coordinator: {error.filename or options.out}: {error.strerror or error}", file=sys.stderr)
        return EXIT_ERROR


async def _serve(
    path: Path, options: argparse.Namespace, experiment: Experiment | None, make_learner: LearnerFactory
) -> int:
    coordinator = Coordinator(path, make_learner)
    # Before anybody can ask: a worker that is told that its run is over drops the update that it brings.
    if experiment is None:
        coordinator.recover()
    else:
        record = open_record(path, experiment)
        if record.finished:
            print(f"federa-coordinator: {path} holds this experiment's results already", file=sys.stderr)
            if record.message:
                print(f"federa-coordinator: {record.message}", file=sys.stderr)
            return record.outcome.exit_code
        coordinator.last = coordinator.queue(record.ended(None), path)
    server, address = await coordinator.serve(options.listen)
    try:
        web = Web(coordinator, options.http) if options.http is not None else None
    except BadInput:
        await server.stop(grace=None)
        raise
    if web is not None:
        log.info("serving http on %s", web.address)
    # Whoever started this process reads the port from here.
    print(f"listening on {address}", flush=True)
    interrupted = False
    main_task = asyncio.current_task()
    assert main_task is not None

    def stop(by_keyboard: bool) -> None:
        nonlocal interrupted
        interrupted = interrupted or by_keyboard
        # The first signal ends the run in order; a second one, or one while idle, ends the process.
        if coordinator.stopping or not coordinator.stop():
            main_task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop, True)
    loop.add_signal_handler(signal.SIGTERM, stop, False)
    try:
        if experiment is None:
            await coordinator.work()
            return EXIT_INTERRUPTED if interrupted else EXIT_OK
        outcome = await coordinator.work_once()
        if outcome.message:
            print(f"federa-coordinator: {outcome.message}", file=sys.stderr)
        log.info("results are in %s", path)
        return outcome.exit_code
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED if interrupted else EXIT_OK
    finally:
        coordinator.sessions.close()
        if web is not None:
            await web.close()
        await server.stop(grace=1.0)


if __name__ == "__main__":
    sys.exit(main())
