"""What an aggregator remembers from round to round is as durable as the states: kill -9 changes no bit of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fault_injection import RestartedProcesses
from momentum import BETA

from federa.tensors.state import pack
from tests.doubles.noop import equal_shapes, start_state, trained_state

CLIENTS, ROUNDS = 4, 3
EXPERIMENT = {
    "federation": {"devices": 2, "clients": CLIENTS, "clients_per_round": CLIENTS, "rounds": ROUNDS},
    "target": {"value": 1.0},
    "aggregator": "momentum",
}
ENV = {
    "NOOP_SCORES": "0",
    "AGGREGATOR": "momentum=momentum:Momentum",
    "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(Path(__file__).parents[1] / "support")]),
}
KILLS = {
    "undisturbed": [],
    "around the aggregation": ["before_aggregated:2", "before_aggregated:1", "after_aggregated:1"],
    "after a round": ["before_tidied:1", "after_tidied:1", "before_evaluation_recorded:2"],
}


def expected() -> bytes:
    """The last state, written down once more."""
    state = start_state(equal_shapes())
    velocity = {name: np.zeros_like(value) for name, value in state.items()}
    for round_ in range(1, ROUNDS + 1):
        trained = [trained_state(state, round_, client) for client in range(CLIENTS)]
        total = sum(range(1, CLIENTS + 1))
        for name in state:
            mean = sum((client + 1) * trained[client][name].astype(np.float64) for client in range(CLIENTS)) / total
            velocity[name] = BETA * velocity[name] + (mean.astype(np.float32) - state[name])
            state[name] = state[name] + velocity[name]
    return pack(state)


@pytest.mark.parametrize("kills", KILLS)
def test_server_momentum_ends_with_the_same_state_whenever_the_coordinator_is_killed(
    tmp_path: Path, kills: str
) -> None:
    faults = {"coordinator": KILLS[kills]}
    with RestartedProcesses(tmp_path, EXPERIMENT, ENV, faults=faults) as federation:
        assert federation.finish() == 3, federation.words()
        assert federation.final_state() == expected()
        assert federation.kills == len(KILLS[kills])
