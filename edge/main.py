"""federa-worker: join a coordinator and train on this device."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take their time
    import sys

    from edge.commands import worker

    sys.exit(worker())

import argparse
import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from edge.board import device_identity
from edge.board_names import check_board
from edge.power.choice import check_spec, open_power
from edge.power.meter import DEFAULT_HZ, Meter
from edge.training.runtime import ClientRuntime, TorchRuntime
from edge.worker.health import HealthServer, check_address
from edge.worker.identity import Identity, default_state_folder
from edge.worker.model_cache import ModelCache, default_cache_folder
from edge.worker.run_threads import RunThreads, parse_threads
from edge.worker.worker import Worker
from federa import __version__
from federa.compute_threads import wait_passively
from federa.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, BadInput, FederaError, shown
from federa.memory import limit_arenas
from federa.output import log_to_stderr, prepare_output, print_error
from federa.regular_file import open_regular
from federa.stop_signals import StopSignals
from protos.address import BadAddress, host_port
from protos.channel import valid_name
from protos.credentials import DEVICE, BadCredentials, Credentials
from protos.options import add_credential_options, add_proxy_option, credentials_of, proxy_of

EngineFactory = Callable[[argparse.Namespace, RunThreads], ClientRuntime]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="federa-worker", description=__doc__)
    parse.add_argument("--coordinator", type=str.strip, metavar="HOST:PORT", help="where the coordinator listens")
    parse.add_argument("--name", help="this device's name in the run and in reports (default: its certificate's)")
    add_credential_options(parse, "this device's")
    add_proxy_option(parse)
    parse.add_argument("--clients", metavar="0-4", help="host just these clients (such as 0-4 or 1,3,5)")
    parse.add_argument(
        "--data", type=lambda text: Path(text) if text else None, metavar="FILE",
        help="the device's own data, in place of a shard",
    )  # fmt: skip
    parse.add_argument(
        "--state", type=Path, metavar="DIR",
        help="keeps the key by which the coordinator knows this worker again (default: $XDG_STATE_HOME/federa, "
        "or ~/.local/state/federa)",
    )  # fmt: skip
    parse.add_argument(
        "--cache", type=Path, metavar="DIR",
        help="keeps base models that came from the coordinator (default: $XDG_CACHE_HOME/federa, or ~/.cache/federa)",
    )  # fmt: skip
    parse.add_argument(
        "--give-up-after", type=float, default=600.0, metavar="S",
        help="end with exit code 1 when the coordinator is away for so many seconds (default: %(default)g)",
    )  # fmt: skip
    parse.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA if it works")
    parse.add_argument(
        "--threads", default="auto", metavar="N",
        help="CPU threads for torch: auto (this machine's cores, shared with its other workers), or a number "
        "(default: %(default)s)",
    )  # fmt: skip
    parse.add_argument(
        "--power", default="auto", metavar="SOURCE",
        help="what to measure power with: auto (the first that gives a total), sysfs, tegrastats, jtop, nvml, rapl, "
        "replay:FILE (a tegrastats log at its own pace), or none (default: %(default)s)",
    )  # fmt: skip
    parse.add_argument(
        "--power-hz", type=float, default=DEFAULT_HZ, metavar="HZ", help="readings a second (default: %(default)g)"
    )
    parse.add_argument("--board", metavar="NAME", help="the board's model, where the machine does not tell or is wrong")
    parse.add_argument(
        "--health", type=str.strip, metavar="HOST:PORT",
        help="a port of this machine's loopback on which grpc.health.v1 tells whether the worker is connected",
    )  # fmt: skip
    parse.add_argument(
        "--check", action="store_true",
        help="look at this device, and at the coordinator if one is given, say what to do about what is not in order, "
        "and end: exit code 1 if something failed",
    )  # fmt: skip
    parse.add_argument("--version", action="version", version=f"federa {__version__}")
    return parse


def parse_clients(text: str) -> tuple[int, ...]:
    """The clients of '0-4' or '1,3,5-7', ascending. Raises BadInput."""
    chosen: set[int] = set()
    for part in text.split(","):
        named = re.fullmatch(r"(\d{1,20})(?:-(\d{1,20}))?", part.strip(), re.ASCII)
        first, last = (0, -1) if named is None else (int(named[1]), int(named[2] or named[1]))
        if last < first:
            raise BadInput(f"--clients: must be numbers and ranges such as 0-4 or 1,3,5-7, not '{shown(text)}'")
        if last >= 1 << 20:
            raise BadInput(f"--clients: client numbers must be below {1 << 20}, not '{shown(text)}'")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


def torch_runtime(options: argparse.Namespace, threads: RunThreads) -> ClientRuntime:
    """The real runtime on the device that works."""
    # Read when CUDA starts: without it cuBLAS may choose another order of sums from one run to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from edge.training.device import choose_device, device_name

    count, chosen = threads.now()
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=True)
    device, why = choose_device(options.device)
    log = logging.getLogger("federa.worker")
    log.info("computing on %s (%s)", device_name(device), why)
    log.info("CPU threads: %d (%s)", count, chosen)
    return TorchRuntime(device, options.data, threads.of)


def main(arguments: list[str] | None = None, make_runtime: EngineFactory = torch_runtime) -> int:
    """Run the command; returns the exit code. `make_runtime` lets a test join without torch."""
    prepare_output()
    parse = parser()
    options = parse.parse_args(arguments)
    # A compose file passes variables on that may be empty: those say nothing.
    options.name, options.board = options.name or None, options.board or None
    if options.coordinator is None and not options.check:
        parse.error("the following arguments are required: --coordinator")
    wait_passively()
    limit_arenas()
    log_to_stderr()
    try:
        clients = _check(options)
        if options.check:
            return _look(options)
        credentials = _credentials(options)
        key = credentials.worker_key if credentials is not None else ""
        asked, state = parse_threads(options.threads), options.state or default_state_folder()
        with (
            Identity(state, options.name, key) as identity,
            RunThreads(asked, state, options.name) as threads,
        ):
            power = open_power(options.power, board=options.board, interval_s=1.0 / options.power_hz)
            logging.getLogger("federa.worker").info("power: %s", power.detail)
            try:
                with Meter(power.source, hz=options.power_hz, detail=power.detail) as meter:
                    return asyncio.run(
                        _serve(options, credentials, identity.key, clients, make_runtime(options, threads), meter)
                    )
            finally:
                if power.source is not None:
                    power.source.close()
    except FederaError as error:
        print_error("federa-worker", error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _credentials(options: argparse.Namespace) -> Credentials | None:
    """What --certs says, None for plaintext; it also names a worker that has no --name. Raises BadInput."""
    try:
        credentials = credentials_of(options, address=options.coordinator, option="--coordinator", role=DEVICE)
    except BadCredentials as error:
        raise BadInput(str(error)) from None
    if credentials is None:
        if options.name is None:
            raise BadInput("--name: must be given, unless a certificate (--certs) says it")
        return None
    if options.name not in (None, credentials.name):
        raise BadInput(
            f"--name: must be what the certificate in {options.certs} says, {credentials.name!r}, or left out"
        )
    options.name = credentials.name
    return credentials


def _look(options: argparse.Namespace) -> int:
    """--check. What is wrong with a certificate is a finding of it."""
    from rich.console import Console

    from edge.check.run import check_device
    from edge.check.table import show

    return EXIT_OK if show(check_device(options), Console()) else EXIT_ERROR


def _check(options: argparse.Namespace) -> tuple[int, ...]:
    """Refuse bad arguments, of a worker and of its --check alike (which needs no --name: it does not join). Returns the
    clients that --clients names. Raises BadInput."""
    if options.coordinator is not None:
        try:
            host_port(options.coordinator, least_port=1)
        except BadAddress as error:
            raise BadInput(f"--coordinator: {error}") from None
        try:
            options.proxy = proxy_of(options)
        except BadAddress as error:
            raise BadInput(str(error)) from None
    if options.certs is not None and options.insecure:
        raise BadInput("--insecure: is for plaintext; with --certs there is none")
    if options.name is not None and not valid_name(options.name):
        raise BadInput("--name: must be 1 to 100 printable characters")
    if not options.give_up_after > 0:  # nan too
        raise BadInput(f"--give-up-after: must be above 0 seconds, not {options.give_up_after:g}")
    parse_threads(options.threads)
    if options.data is not None:
        try:
            open_regular(options.data).close()
        except FileNotFoundError:
            raise BadInput(f"--data: no such file: {shown(options.data)}") from None
        except OSError as error:
            raise BadInput(f"--data: cannot read {shown(options.data)}: {error.strerror}") from None
    if not 0.1 <= options.power_hz <= 100:  # nan too
        raise BadInput(f"--power-hz: must be from 0.1 to 100 readings a second, not {options.power_hz:g}")
    check_spec(options.power)
    if options.board is not None:
        check_board(options.board)
    if options.health is not None:
        check_address(options.health)
    return parse_clients(options.clients) if options.clients else ()


async def _serve(
    options: argparse.Namespace,
    credentials: Credentials | None,
    key: str,
    clients: tuple[int, ...],
    runtime: ClientRuntime,
    meter: Meter,
) -> int:
    async with HealthServer(options.health) as health:
        worker = Worker(
            runtime=runtime,
            address=options.coordinator,
            credentials=credentials,
            proxy=options.proxy,
            name=options.name,
            key=key,
            clients=clients,
            own_data=options.data is not None,
            give_up_after_s=options.give_up_after,
            meter=meter,
            facts=device_identity(options.board),
            cache=ModelCache(options.cache or default_cache_folder()),
            on_connection=health.set_serving,
        )
        task = asyncio.ensure_future(worker.run())
        signals = StopSignals(task.cancel, terminated=EXIT_OK)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return signals.code or EXIT_OK
