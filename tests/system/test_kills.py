"""kill -9 of every process at every step of a round: the run goes on, and ends with the very same state."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from fault_injection import RestartedProcesses
from faults import COORDINATORS, WORKERS, Step
from processes import result_of

# Quorum: all of four clients; no deadline. 3 MB a state, so that an upload has several chunks.
EXPERIMENT = {
    "federation": {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 3},
    "target": {"value": 1.0},
}
ENV = {"NOOP_SCORES": "0", "NOOP_TENSORS": "4", "NOOP_TENSOR_VALUES": "200000"}

SOAK_KILLS = int(os.environ.get("SOAK_KILLS", "0"))
"""Set by `make soak`."""

# At which call a step is struck, so that it is in the middle of the run: three rounds of four updates, of five chunks.
_CALLS = {
    Step.STARTED: 1,
    Step.HOSTED: 1,
    Step.ANNOUNCED: 3,
    Step.HALF_AN_UPLOAD: 23,
    Step.SPOOLED: 5,
    Step.MOVED: 12,
    Step.RECORDED: 6,
    Step.ACKNOWLEDGED: 5,
    Step.CHECKPOINTED: 1,
    Step.FINISHED: 1,
    Step.PREPARED: 1,
    Step.INSTALLED: 1,
    Step.TRAINED: 3,
    Step.CARRIED_A_CHUNK: 13,  # a download of five, an upload of five, and then half of the next
    Step.UPLOADED: 3,
    Step.RELEASED: 1,
}


def _fault(when: str, step: Step) -> str:
    return f"{when}_{step.name.lower()}:{_CALLS.get(step, 2)}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The final state of a run that nothing happens to."""
    with RestartedProcesses(tmp_path_factory.mktemp("undisturbed"), EXPERIMENT, ENV) as federation:
        assert federation.finish() == 3, federation.words()
        return federation.final_state()


def _check(federation: RestartedProcesses, undisturbed: bytes, rounds: int = 3) -> None:
    assert federation.final_state() == undisturbed
    (run,) = result_of(federation.folder / "out")["runs"]
    assert run["state"] == "finished" and run["rounds"] == rounds and run["setbacks"] == []
    assert list((federation.folder / "out" / "spool").iterdir()) == []


@pytest.mark.parametrize("step", COORDINATORS, ids=lambda step: step.name.lower())
def test_a_coordinator_killed_before_and_after_a_step(tmp_path: Path, undisturbed: bytes, step: Step) -> None:
    faults = {"coordinator": [_fault("before", step), _fault("after", step)]}
    if _CALLS.get(step, 2) > 1:
        # Again where the run is by then: its first call of that step.
        faults["coordinator"] = [
            _fault("before", step),
            f"after_{step.name.lower()}:1",
            f"before_{step.name.lower()}:2",
        ]
    with RestartedProcesses(tmp_path, EXPERIMENT, ENV, faults=faults) as federation:
        assert federation.finish() == 3, federation.words()
        _check(federation, undisturbed)
        assert federation.kills >= 2


@pytest.mark.parametrize("step", WORKERS, ids=lambda step: step.name.lower())
def test_a_worker_killed_before_and_after_a_step(tmp_path: Path, undisturbed: bytes, step: Step) -> None:
    faults = {"a": [_fault("before", step), _fault("after", step)]}
    if step is Step.RELEASED:
        # The run is over by then and does not wait for a worker that is gone.
        faults = {"a": [_fault("before", step)], "b": [_fault("after", step)]}
    with RestartedProcesses(tmp_path, EXPERIMENT, ENV, faults=faults) as federation:
        assert federation.finish() == 3, federation.words()
        _check(federation, undisturbed)


def test_coordinator_and_workers_killed_at_random_moments(tmp_path: Path, undisturbed: bytes) -> None:
    draw = random.Random(7)
    # Slowed down, so that there are moments to strike in.
    with RestartedProcesses(
        tmp_path, EXPERIMENT, {**ENV, "NOOP_TRAIN_S": "0.4", "NOOP_EVALUATE_S": "0.3"}
    ) as federation:
        for _ in range(8):
            _strike(federation, draw)
        assert federation.finish() == 3, federation.words()
        _check(federation, undisturbed)


@pytest.mark.skipif(not SOAK_KILLS, reason="make soak")
def test_soak(tmp_path: Path, undisturbed: bytes) -> None:
    """Run after run, until so many processes were killed."""
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    kills = runs = 0
    while kills < SOAK_KILLS:
        env = {**ENV, "NOOP_TRAIN_S": f"{draw.uniform(0, 0.5):.2f}", "NOOP_EVALUATE_S": f"{draw.uniform(0, 0.3):.2f}"}
        with RestartedProcesses(tmp_path / str(runs), EXPERIMENT, env) as federation:
            while federation.processes["coordinator"].popen.poll() in (None, -signal.SIGKILL) and federation.kills < 25:
                _strike(federation, draw)
            assert federation.finish() == 3, f"seed {seed}\n{federation.words()}"
            _check(federation, undisturbed)
            kills, runs = kills + federation.kills, runs + 1
        shutil.rmtree(tmp_path / str(runs - 1))
        print(f"{kills} kills, {runs} runs, all with the same final state (seed {seed})", flush=True)


def _strike(federation: RestartedProcesses, draw: random.Random) -> None:
    """Let it run for a moment, then kill one of its processes, and start that again."""
    time.sleep(draw.uniform(0.3, 1.5))
    victim = draw.choice(["coordinator", "coordinator", "a", "b"])
    if federation.processes[victim].popen.poll() is None:
        federation.kill(victim)
    federation.revive()
