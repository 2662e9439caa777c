"""Processes that kill themselves with SIGKILL at a named step, to be started again by a test.

    FAULT=before_recorded:2 python tests/faults.py coordinator|worker ARGS...    the torch-free one (benchmarks.noop)
    FAULT=... python tests/faults.py real-coordinator|real-worker ARGS...        the real one

The number says at which call of that step, counted in that process, it dies. Without FAULT nothing is done.
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


class Step(Enum):
    """Steps of a round, each with the function that takes it."""

    # of the coordinator
    STARTED = "coordinator.run_folder:RunFolder.keep_state"
    HOSTED = "coordinator.ledger:Ledger.hosted"
    SELECTED = "coordinator.ledger:Ledger.selected"
    ANNOUNCED = "coordinator.crew:Crew.announce"
    HALF_AN_UPLOAD = "protos.streams:Assembler.feed"
    SPOOLED = "coordinator.intake:sync"
    MOVED = "coordinator.run_folder:os.replace"
    RECORDED = "coordinator.ledger:Ledger.accepted"
    ACKNOWLEDGED = "coordinator.federation:FederationService.Upload"
    AVERAGED = "coordinator.conductor:fold"
    FOLDED = "coordinator.ledger:Ledger.folded"
    TIDIED = "coordinator.run_folder:RunFolder.tidy"
    EVALUATED = "coordinator.evaluation:Evaluation.of"
    JUDGED = "coordinator.ledger:Ledger.evaluated"
    CHECKPOINTED = "coordinator.run_folder:RunFolder.publish_final"
    FINISHED = "coordinator.campaign:Campaign._write"
    ASKED = "coordinator.crew:Crew.evaluate"
    COUNTED = "coordinator.ledger:Ledger.counted"
    # of a worker
    PREPARED = "edge.assignment:Assignment.prepare"
    DOWNLOADED = "edge.transfer:Download.attempt"
    INSTALLED = "edge.assignment:Assignment._install"
    TRAINED = "edge.assignment:Assignment._train_client"
    CARRIED_A_CHUNK = "edge.transfer:Link.carry"  # down or up
    UPLOADED = "edge.transfer:Upload.attempt"
    RELEASED = "edge.worker:Worker._release"
    SCORED = "edge.evaluation:Evaluation.count"
    SAID = "edge.evaluation:Evaluation.say"


EVALUATIONS = [Step.ASKED, Step.COUNTED, Step.SCORED, Step.SAID]
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
    if os.environ.get("FAULT"):
        arm(os.environ["FAULT"])
    if side.startswith("real-"):
        module = importlib.import_module({"real-coordinator": "coordinator.main", "real-worker": "edge.main"}[side])
        return int(module.main(rest))
    from benchmarks.noop import main as noop

    return noop(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
