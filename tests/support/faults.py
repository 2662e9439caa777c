"""Processes that kill themselves with SIGKILL at a named step, to be started again by a test.

    FAULT=before_recorded:2 python tests/support/faults.py coordinator|worker ARGS...    without torch (doubles)
    FAULT=... python tests/support/faults.py real-coordinator|real-worker ARGS...        the real one

The number says at which call of that step, counted in that process, it dies. Without FAULT nothing is done.
AGGREGATOR=name=module:Class registers an aggregator of the tests' own.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any

from federa.aggregation import AGGREGATORS


class Step(Enum):
    """Steps of a round, each with the function that takes it."""

    # of the coordinator
    STARTED = "coordinator.storage.run_folder:RunFolder.keep_state"
    HOSTED = "coordinator.storage.ledger:Ledger.hosted"
    SELECTED = "coordinator.storage.ledger:Ledger.selected"
    ANNOUNCED = "coordinator.clients.cohort:GrpcCohort.announce"
    HALF_AN_UPLOAD = "protos.streams:Assembler.feed"
    SPOOLED = "coordinator.clients.update_spool:sync"
    MOVED = "federa.durable:os.replace"
    RECORDED = "coordinator.storage.ledger:Ledger.accepted"
    ACKNOWLEDGED = "coordinator.service.worker_service:WorkerService.Upload"
    AVERAGED = "federa.aggregation.fedavg:FedAvg.aggregate"
    AGGREGATED = "coordinator.storage.ledger:Ledger.aggregated"
    TIDIED = "coordinator.storage.run_folder:RunFolder.tidy"
    EVALUATED = "coordinator.evaluation.evaluator:TimedEvaluator.evaluate"
    EVALUATION_RECORDED = "coordinator.storage.ledger:Ledger.evaluated"
    CHECKPOINTED = "coordinator.storage.run_folder:RunFolder.publish_final"
    FINISHED = "coordinator.experiment_runner:ExperimentRunner._write"
    ASKED = "coordinator.clients.cohort:GrpcCohort.evaluate"
    COUNTED = "coordinator.storage.ledger:Ledger.counted"
    # of a worker
    PREPARED = "edge.worker.worker_run:WorkerRun.prepare"
    DOWNLOADED = "edge.worker.transfer:Download.attempt"
    INSTALLED = "edge.worker.received_states:ReceivedStates._install"
    TRAINED = "edge.worker.worker_run:WorkerRun._train_client"
    CARRIED_A_CHUNK = "edge.worker.transfer:Link.carry"  # down or up
    UPLOADED = "edge.worker.transfer:Upload.attempt"
    RELEASED = "edge.worker.worker:Worker._release"
    SCORED = "edge.worker.evaluation:LocalEvaluation.count"
    REPORTED = "edge.worker.evaluation:LocalEvaluation.report"


EVALUATIONS = [Step.ASKED, Step.COUNTED, Step.SCORED, Step.REPORTED]
"""Steps that are taken where the devices evaluate."""
COORDINATORS = [step for step in Step if not step.value.startswith("edge.") and step not in EVALUATIONS]
WORKERS = [step for step in Step if step.value.startswith("edge.") and step not in EVALUATIONS]
AFTER_REPLY_S = 0.02
"""A reply is on its way some time after its handler returned."""


def arm(fault: str) -> None:
    """Let this process die as `fault` says: before_STEP:N or after_STEP:N."""
    word, _, count = fault.partition(":")
    when, _, name = word.partition("_")
    module_name, _, path = Step[name.upper()].value.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, last = path.split(".")
    for attribute in outer:
        owner = getattr(owner, attribute)
    calls = 0
    original = getattr(owner, last)

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == int(count or 1)

    setattr(owner, last, _dying(original, when, due, late=name == "acknowledged"))


def _dying(original: Callable[..., Any], when: str, due: Callable[[], bool], late: bool) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def waits(*arguments: Any, **named: Any) -> Any:
            now = due()
            if now and when == "before":
                die()
            result = await original(*arguments, **named)
            if now and late:
                asyncio.get_running_loop().call_later(AFTER_REPLY_S, die)
            elif now:
                die()
            return result

        return waits

    @functools.wraps(original)
    def calls(*arguments: Any, **named: Any) -> Any:
        now = due()
        if now and when == "before":
            die()
        result = original(*arguments, **named)
        if now:
            die()
        return result

    return calls


def die() -> None:
    """What kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> int:
    side, *rest = arguments
    name, _, entry = os.environ.get("AGGREGATOR", "").partition("=")
    if entry:
        AGGREGATORS[name] = entry
    if os.environ.get("FAULT"):
        arm(os.environ["FAULT"])
    if side.startswith("real-"):
        module = importlib.import_module({"real-coordinator": "coordinator.main", "real-worker": "edge.main"}[side])
        return int(module.main(rest))
    from tests.doubles.noop import main as noop

    return noop(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
