"""The Python API's `run_experiment`: what federa-bench does, as a function."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coordinator.operator.experiment import OnProgress, check_data, claimed, run_to_end
from federa.config import DEVICES, Experiment, parse_experiment, read_tree
from federa.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, EXIT_TARGET_MISSED, BadInput, FederaError
from federa.local_path import absolute
from federa.result import Result, read_result
from protos.address import BadAddress, host_port
from protos.credentials import OPERATOR, BadCredentials, Credentials, credentials_for
from protos.federation_pb2 import Outcome

PathLike = str | os.PathLike[str]


def run_experiment(
    experiment: Experiment | Mapping[str, Any] | PathLike,
    *,
    out: PathLike,
    coordinator: str | None = None,
    certs: PathLike | None = None,
    insecure: bool = False,
    power: str = "auto",
    on_progress: OnProgress = lambda progress: None,
) -> Result:
    """Run an experiment to its end and return its result.

    `experiment` is an Experiment, a mapping of its fields, or the path of a YAML file. `out` is the folder for results:
    with the same experiment an interrupted one goes on, and a finished one is only read. `coordinator` is HOST:PORT of
    a cluster, with the operator's certificate in the folder `certs`, or `insecure`. Without it a coordinator and
    workers are started on this machine, which measure with `power`, and ended afterwards. `on_progress` is given every
    snapshot.

    A target that was missed is no error. Raises BadInput for bad arguments and data, FederaError for anything else that
    ends the experiment; KeyboardInterrupt after Ctrl-C, when the results so far are in `out`.
    """
    described = _experiment(experiment)
    if described.data.source == DEVICES and coordinator is None:
        raise BadInput("data.source: devices needs a coordinator: the workers that are started here have no files")
    credentials = _credentials(coordinator, certs, insecure)
    folder = Path(out)
    if coordinator is None:
        check_data(folder, described)
    with claimed(folder, described) as record:
        outcome = record.outcome
        if not record.finished:
            running = run_to_end(
                record, folder, coordinator=coordinator, credentials=credentials, power=power, on_progress=on_progress
            )
            outcome = _wait_for(running)
    if outcome.exit_code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if outcome.exit_code not in (EXIT_OK, EXIT_TARGET_MISSED):
        raise (BadInput if outcome.exit_code == EXIT_BAD_INPUT else FederaError)(outcome.message)
    return read_result(folder)


def _experiment(given: Experiment | Mapping[str, Any] | PathLike) -> Experiment:
    if not isinstance(given, Experiment):
        given = parse_experiment(given if isinstance(given, Mapping) else read_tree(Path(given)))
    named = {
        "source": given.data.source,
        "validation_file": given.data.validation_file,
        "test_file": given.data.test_file,
    }
    found = {field: absolute(f"data.{field}", path) for field, path in named.items() if path is not None}
    data = given.data.model_copy(update=found)
    return given.model_copy(update={"model": absolute("model", given.model), "data": data})


def _credentials(coordinator: str | None, certs: PathLike | None, insecure: bool) -> Credentials | None:
    if coordinator is None:
        if certs is not None or insecure:
            raise BadInput(f"{'certs' if certs is not None else 'insecure'}: goes with coordinator")
        return None
    try:
        host_port(coordinator, least_port=1)
        return credentials_for(
            None if certs is None else Path(certs),
            insecure=insecure, address=coordinator, option="coordinator", role=OPERATOR,
        )  # fmt: skip
    except BadAddress as error:
        raise BadInput(f"coordinator: {error}") from None
    except BadCredentials as error:
        raise BadInput(str(error)) from None


def _wait_for(running: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run it on an event loop of its own: in a notebook, where one runs already, on a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(running)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

    async def announced() -> Outcome:
        task = asyncio.current_task()
        assert task is not None
        started.set_result((asyncio.get_running_loop(), task))
        return await running

    with ThreadPoolExecutor(max_workers=1) as pool:
        done = pool.submit(asyncio.run, announced())
        try:
            return done.result()
        except KeyboardInterrupt:
            # The pool's end waits for the run's, which is in order.
            loop, task = started.result()
            loop.call_soon_threadsafe(task.cancel)
            raise
