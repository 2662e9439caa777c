"""Relation classification in one process: the coordinator's start, a round of two clients, both ways of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from relations import write_relations

from coordinator.evaluation.reference_model import TorchReferenceModel
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.bundle import BundleFacts, load_bundle, write_bundle
from federa.config import Experiment
from federa.tasks.metric import total
from federa.tensors.state import pack, unpack

ARCHITECTURES = ("bert", "roberta", "deberta-v3", "distilbert", "mpnet", "electra")
CASES = [
    (architecture, precision, ("federa", "ft", "lora")[(number + shift) % 3], ("devices", "coordinator")[shift])
    for number, architecture in enumerate(ARCHITECTURES)
    for shift, precision in enumerate(("bf16", "fp32"))
]


def _nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(("architecture", "precision", "method", "evaluation"), CASES)
def test_a_round(
    tmp_path: Path, tiny_folder: Callable[[str], str], architecture: str, precision: str, method: str, evaluation: str
) -> None:
    config = Experiment.model_validate(
        {
            "task": "relation-classification",
            "model": tiny_folder(architecture),
            "data": {"source": str(write_relations(tmp_path / "data.jsonl")), "max_length": 32},
            "methods": [{"name": method}],
            "federation": {"clients": 2, "devices": 1},
            "training": {"precision": precision, "batch_size": 4},
            "evaluation": evaluation,
        }
    )
    reference = TorchReferenceModel(config)
    start = reference.prepare()
    order = RunOrder(
        run_id="run",
        experiment_json=reference.experiment.model_dump_json(),
        base_digest=reference.base_digest,
        data_digest=reference.data_digest,
        shards=dict(enumerate(reference.shards)),
        trial=architecture == "bert",
    )
    runtime = TorchRuntime(torch.device("cpu"))
    assert runtime.prepare(order).precision == precision
    runtime.install(unpack(start))
    updates = []
    for client in order.shards:
        trained = runtime.train(1, client, unpack(start), _nothing)
        assert np.isfinite(trained.loss)
        updates.append({name: value.copy() for name, value in trained.tensors.items()})
    state = {name: np.mean([update[name] for update in updates], axis=0, dtype=np.float32) for name in updates[0]}
    (rows,) = (name for name in state if name.endswith(".added.weight"))
    assert (state[rows] != unpack(start)[rows]).any(axis=1).all(), "the four markers were trained"

    task = reference.experiment.make_task()
    for path, tensors in (("state", state), ("start", unpack(start))):
        (tmp_path / path).write_bytes(pack(tensors))
    if evaluation == "devices":
        counted = total(runtime.evaluate(client, "validation", state, _nothing) for client in order.shards)
    else:
        counted = dict(reference.evaluate(tmp_path / "state", "validation"))
    assert task.check(counted) == "" and counted["examples"] > 0
    assert reference.experiment.metric.name == "macro_f1"
    assert 0 <= (reference.experiment.metric.value(counted) or 0.0) <= 1

    facts = BundleFacts(experiment=reference.experiment, base_digest=reference.base_digest, round=1)
    (tmp_path / "final").mkdir()
    write_bundle(tmp_path / "final", state=tmp_path / "state", start=tmp_path / "start", facts=facts)
    values = load_bundle(tmp_path / "final").evaluate(config.data.source)
    assert values["examples"] == 40 and values.keys() == {"accuracy", "macro_f1", "examples"}
