"""kill -9 with the real trainer: what was trained again after a restart is what would have been trained without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_injection import RestartedProcesses
from processes import result_of

pytestmark = pytest.mark.slow

KILLS = {
    "coordinator": ["after_announced:1", "before_recorded:2", "after_averaged:1"],
    "device-a": ["after_trained:1"],
    "device-b": ["before_uploaded:1"],
}


def _experiment(folder: Path, model: str) -> dict[str, object]:
    data = folder / "documents.jsonl"
    words = {"sport": ("match", "team", "goal"), "money": ("bank", "market", "shares")}
    rows = [
        {"text": f"the {words[label][index % 3]} is not a {'good' if index % 2 else 'bad'} one {index}", "label": label}
        for index in range(40)
        for label in words
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": model,
        "data": {"source": str(data), "max_length": 16},
        "federation": {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 2},
        "lora": {"r": 2, "dropout": 0.1},
        "training": {"batch_size": 4},
        "target": {"value": 1.0},
        "wire": "bf16",
    }


def test_a_run_of_the_real_trainer_survives_five_kills_to_the_bit(
    tmp_path: Path, tiny_folder: Callable[[str], str]
) -> None:
    experiment = _experiment(tmp_path, tiny_folder("bert"))
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
