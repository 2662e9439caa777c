"""federa-coordinator: serve one experiment, or stay up for those that federa-bench submits."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take their time
    import sys

    from coordinator.commands import coordinator

    sys.exit(coordinator())

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from coordinator.evaluation.reference_model import TorchReferenceModel
from coordinator.experiment_runner import ReferenceModelFactory
from coordinator.service.http_server import HttpServer, read_token
from coordinator.service.server import Coordinator
from coordinator.storage.experiment_record import open_record
from coordinator.storage.run_folder import Claim
from federa import __version__
from federa.compute_threads import use_all_cores, wait_passively
from federa.config import Experiment, parse_experiment, read_tree
from federa.errors import EXIT_ERROR, EXIT_OK, BadInput, FederaError
from federa.memory import limit_arenas
from federa.output import log_to_stderr, prepare_output, print_error
from federa.stop_signals import StopSignals
from protos.address import BadAddress, host_port, is_loopback
from protos.channel import raise_file_limit
from protos.credentials import COORDINATOR, BadCredentials, Credentials
from protos.options import add_credential_options, credentials_of

log = logging.getLogger("federa.coordinator")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="federa-coordinator", description=__doc__)
    what = parse.add_mutually_exclusive_group(required=True)
    what.add_argument("--experiment", type=Path, metavar="FILE.yaml", help="run this experiment and exit")
    what.add_argument("--serve", action="store_true", help="stay up for experiments that federa-bench submits")
    parse.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results")
    parse.add_argument(
        "--listen", type=str.strip, default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s"
    )
    parse.add_argument(
        "--http",
        type=str.strip,
        metavar="HOST:PORT",
        help="serve the live report and Prometheus metrics here; default: off",
    )
    add_credential_options(parse, "the coordinator's")
    reading = parse.add_mutually_exclusive_group()
    reading.add_argument(
        "--http-token", type=Path, metavar="FILE", help="who reads the report must show what this file holds"
    )
    reading.add_argument(
        "--http-open", action="store_true", help="anybody who reaches the port may read the report, also off loopback"
    )
    parse.add_argument("--version", action="version", version=f"federa {__version__}")
    return parse


def main(arguments: list[str] | None = None, make_model: ReferenceModelFactory = TorchReferenceModel) -> int:
    """Run the command; returns the exit code. `make_model` lets a test serve a run without a model."""
    prepare_output()
    options = parser().parse_args(arguments)
    wait_passively()
    use_all_cores()
    limit_arenas()
    raise_file_limit()
    log_to_stderr()
    try:
        experiment = parse_experiment(read_tree(options.experiment)) if options.experiment else None
        credentials = _credentials(options)
        token = _token(options)
        claim = Claim(options.out)
        try:
            return asyncio.run(_serve(options, credentials, token, experiment, make_model))
        finally:
            claim.release()
    except FederaError as error:
        print_error("federa-coordinator", error)
        return error.exit_code
    except OSError as error:
        print_error("federa-coordinator", f"{error.filename or options.out}: {error.strerror or error}")
        return EXIT_ERROR


def _credentials(options: argparse.Namespace) -> Credentials | None:
    try:
        return credentials_of(options, address=options.listen, option="--listen", role=COORDINATOR, least_port=0)
    except BadCredentials as error:
        raise BadInput(str(error)) from None


def _token(options: argparse.Namespace) -> str | None:
    """What a reader of the report must show; None: nothing."""
    if options.http is None and (options.http_token is not None or options.http_open):
        raise BadInput(f"{'--http-open' if options.http_open else '--http-token'}: goes with --http HOST:PORT")
    if options.http is not None:
        try:
            host_port(options.http)
        except BadAddress as error:
            raise BadInput(f"--http: {error}") from None
    if options.http_token is not None:
        return read_token(options.http_token)
    if options.http is not None and not options.http_open and not is_loopback(options.http):
        raise BadInput(
            f"--http: {options.http} is not loopback: give --http-token FILE, or --http-open where anybody who reaches "
            "the port may read the report"
        )
    return None


async def _serve(
    options: argparse.Namespace,
    credentials: Credentials | None,
    token: str | None,
    experiment: Experiment | None,
    make_model: ReferenceModelFactory,
) -> int:
    path = options.out.resolve()
    coordinator = Coordinator(path, make_model)
    # Before anybody can ask: a worker that is told that its run is over drops the update that it brings.
    if experiment is None:
        coordinator.recover()
    else:
        record = open_record(path, experiment)
        if record.finished:
            print_error("federa-coordinator", f"{path} holds this experiment's results already")
            if record.message:
                print_error("federa-coordinator", record.message)
            return record.outcome.exit_code
        coordinator.takes_experiments = False
        coordinator.last = coordinator.queue(record.ended(None), path)
    server, address = await coordinator.serve(options.listen, credentials)
    try:
        web = HttpServer(coordinator, options.http, token) if options.http is not None else None
    except BadInput:
        await server.stop(grace=None)
        raise
    if web is not None:
        log.info("serving http on %s", web.address)
    # Whoever started this process reads the port from here.
    print(f"listening on {address}", flush=True)
    main_task = asyncio.current_task()
    assert main_task is not None

    def stop() -> None:
        if coordinator.stop():
            log.info("ending the run in order; a second signal ends it at once")
        else:
            main_task.cancel()

    signals = StopSignals(stop, terminated=EXIT_OK)
    try:
        if experiment is None:
            await coordinator.work()
            return signals.code or EXIT_OK
        outcome = await coordinator.work_once()
        if outcome.message:
            print_error("federa-coordinator", outcome.message)
        log.info("results are in %s", path)
        return outcome.exit_code
    except asyncio.CancelledError:
        return signals.code or EXIT_OK
    finally:
        coordinator.sessions.close()
        if web is not None:
            await web.close()
        await server.stop(grace=1.0)
