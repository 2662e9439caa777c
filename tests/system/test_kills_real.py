"""kill -9 with the real trainer: what was trained again after a restart is what would have been trained without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_injection import RestartedProcesses
from processes import result_of
from task_data import task_experiment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KILLS = {
    "coordinator": ["after_announced:1", "before_recorded:2", "after_averaged:1"],
    "device-a": ["after_trained:1"],
    "device-b": ["before_uploaded:1"],
}


RUNS = (
    # Each task, each method and the architectures that differ most, and evaluation on both sides.
    ("text-classification", "federa", "bert", "coordinator"),
    ("relation-classification", "ft", "mpnet", "devices"),
    ("relation-classification", "lora", "roberta", "coordinator"),
    ("token-classification", "adapter", "roberta", "devices"),
    ("question-answering", "bitfit", "deberta-v3", "devices"),
)


@pytest.mark.parametrize(("task", "method", "model", "evaluation"), RUNS)
def test_a_run_of_the_real_trainer_survives_five_kills_to_the_bit(
    task: str, method: str, model: str, evaluation: str, tmp_path: Path, tiny_folder: Callable[[str], str]
) -> None:
    experiment = {
        **task_experiment(tmp_path, task, method, tiny_folder(model)),
        "federation": {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 2},
        "lora": {"r": 2, "dropout": 0.1},
        "target": {"value": 1.0},
        "wire": "bf16",
        "evaluation": evaluation,
    }
    states = []
    for name, faults in {"undisturbed": {}, "killed": KILLS}.items():
        with RestartedProcesses(
            tmp_path / name, experiment, {}, workers=("device-a", "device-b"), faults=faults, real=True,
            arguments=("--threads", "1"),
        ) as federation:  # fmt: skip
            assert federation.finish() == 3, federation.words()
            assert federation.kills == sum(map(len, faults.values()))
            (run,) = result_of(federation.folder / "out")["runs"]
            states.append((federation.final_state(), run["test"], [point["value"] for point in run["curve"]]))
    assert states[0] == states[1]
