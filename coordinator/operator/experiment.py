"""One experiment from its submission to its files: on a cluster that runs already, or on processes of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from coordinator.operator.client import OperatorClient
from coordinator.operator.local_cluster import COORDINATOR_FOLDER, LocalCluster
from coordinator.storage.experiment_record import RECORD, ExperimentRecord, open_record, read_record
from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.run_folder import LEDGER, REPORT, RESULT, Claim
from federa.bundle import FINAL
from federa.config import Experiment
from federa.durable import sync
from federa.errors import EXIT_BAD_INPUT, EXIT_ERROR, BadInput, FederaError
from protos.credentials import Credentials
from protos.federation_pb2 import Outcome, Progress
from protos.proxy import Proxy

STOP_WAIT_S = 60.0
"""How long a run that was interrupted may take to end in order."""

_FAILED = (EXIT_ERROR, EXIT_BAD_INPUT)
OnProgress = Callable[[Progress], object]


def check_data(out: Path | None, experiment: Experiment) -> None:
    """Look at the data that a coordinator of this machine will read, before anything is started and `out`, if there is
    a folder already, is the experiment's. Raises BadInput. Of an experiment that is finished nobody needs the data any
    more."""
    record = read_record(out) if out is not None else None
    if record is None or not record.finished:
        experiment.make_task().check_data()


@contextmanager
def claimed(out: Path, experiment: Experiment) -> Iterator[ExperimentRecord]:
    """The record of a folder that is this process's while the context lasts. Raises BadInput where the folder is in use
    or holds something else."""
    claim = Claim(out)
    try:
        _clear_what_never_began(out, experiment)
        record = open_record(out, experiment)
        if (out / LEDGER).exists():
            raise BadInput(f"--out: {out} holds a run of federa-coordinator --experiment; go on with that")
        yield record
    finally:
        claim.release()


def _clear_what_never_began(out: Path, experiment: Experiment) -> None:
    """Give the folder up for this experiment where another one failed in it before its first round was announced. Only
    where its own coordinator's ledgers are here to say so, and only the record and the empty result go."""
    record = read_record(out)
    if record is None or record.experiment == experiment or record.exit_code not in _FAILED:
        return
    folder = out / COORDINATOR_FOLDER / record.experiment_id
    there = read_record(folder)
    # One that did not end there would be gone on with when that coordinator starts again.
    if there is None or there.exit_code not in _FAILED or (out / FINAL).exists():
        return
    if any(_has_a_round(path) for path in (*folder.rglob(LEDGER), *out.glob(LEDGER))):
        return
    # The record goes last: killed before that, this is done again.
    for name in (RESULT, REPORT, RECORD):
        (out / name).unlink(missing_ok=True)
    sync(out)


def _has_a_round(path: Path) -> bool:
    """Whether a ledger has one; one that cannot be read may."""
    try:
        with closing(LedgerReader(path)) as ledger:
            return ledger.last_round() is not None
    except FederaError:
        return True


async def run_to_end(
    record: ExperimentRecord,
    out: Path,
    *,
    coordinator: str | None = None,
    credentials: Credentials | None = None,
    proxy: Proxy | None = None,
    power: str = "auto",
    on_progress: OnProgress = lambda progress: None,
) -> Outcome:
    """Submit the experiment or go on with it, wait for its end, bring its files into `out`, record how it ended.

    Without a `coordinator` one and its workers are started here, which measure with `power`, and ended afterwards. When
    this task is cancelled, the experiment ends in order and its results so far are kept: the outcome says so.
    """
    devices = record.experiment.federation.devices
    async with AsyncExitStack() as stack:
        cluster = None
        if coordinator is None:
            cluster = LocalCluster(out, devices, power)
            stack.push_async_callback(cluster.stop)
            await cluster.start()
        operator = await stack.enter_async_context(
            OperatorClient(cluster.address if cluster else coordinator or "", credentials, proxy)
        )
        experiment_id = await operator.submit(record.experiment, record.experiment_id)
        last, broken = await _follow(operator, experiment_id, on_progress, cluster)
        for path in last.files:
            await operator.fetch(experiment_id, path, out / path)
    if broken:
        last.outcome.MergeFrom(Outcome(exit_code=EXIT_ERROR, message=broken))
    record.ended(last.outcome).write(out)
    return last.outcome


async def _follow(
    operator: OperatorClient, experiment_id: str, on_progress: OnProgress, cluster: LocalCluster | None
) -> tuple[Progress, str]:
    """Watch to the end. Ctrl-C, or a process of ours that dies, ends the experiment in order and keeps its results so
    far; the second value says which process died, if one did."""
    stuck: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    watching = asyncio.ensure_future(_watch(operator, experiment_id, on_progress, stuck))
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
    operator: OperatorClient, experiment_id: str, on_progress: OnProgress, stuck: asyncio.Future[str]
) -> Progress:
    snapshot = Progress()
    async for snapshot in operator.watch(experiment_id):
        on_progress(snapshot)
        if snapshot.run.stage == "paused" and not stuck.done():
            stuck.set_result(f"the run is paused: {snapshot.run.note}")
    if not snapshot.over:
        raise FederaError("the coordinator went away before the experiment was over")
    return snapshot
