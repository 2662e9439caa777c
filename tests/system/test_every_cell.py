"""Every task with every method on every architecture: one round, in fp32 and bf16, on both sides of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark.structures import ParameterSet
from one_process import one_round
from task_data import DATA, task_experiment

from federa.config import parse_experiment
from federa.methods import METHODS
from federa.tasks import TASKS

MODELS = ("bert", "roberta", "deberta-v3", "distilbert", "mpnet", "electra")
CELLS = list(product(DATA, METHODS, MODELS))
WAYS = (("fp32", "coordinator"), ("bf16", "devices"), ("fp32", "devices"), ("bf16", "coordinator"))


def _cells() -> list[ParameterSet]:
    """Each cell in one way, the ways by turns; the other three are slow."""
    cells = []
    for number, cell in enumerate(CELLS):
        turn = number + number // len(MODELS) + number // len(MODELS) // len(METHODS)
        for place, way in enumerate(WAYS):
            slow = place != turn % len(WAYS)
            cells.append(pytest.param(*cell, *way, marks=[pytest.mark.slow] if slow else []))
    return cells


def test_no_task_is_left_out() -> None:
    assert list(DATA) == list(TASKS)


@pytest.mark.parametrize(("task", "method", "model", "precision", "evaluation"), _cells())
def test_a_round_of_every_cell(
    task: str,
    method: str,
    model: str,
    precision: str,
    evaluation: str,
    tmp_path: Path,
    tiny_folder: Callable[[str], str],
) -> None:
    tree = task_experiment(tmp_path, task, method, tiny_folder(model))
    tree["training"]["precision"] = precision
    experiment = parse_experiment({**tree, "evaluation": evaluation})
    (found,) = (one_round(run, tmp_path) for run in experiment.runs())
    assert found.start.keys() == found.state.keys()
    moved = [name for name in found.start if not np.array_equal(found.start[name], found.state[name])]
    # Not all of it: a segment's embedding may be unused, and a dropped unit's weights have no gradient.
    assert len(moved) > len(found.state) / 2
    assert all(np.isfinite(value).all() for value in found.state.values())
    assert found.counters["examples"] > 0
    for metric in experiment.make_task().metrics:
        value = metric.value(found.counters)
        assert value is not None and 0 <= value <= 1
