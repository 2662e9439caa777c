"""How many records a worker and the coordinator cut at data.max_length."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from coordinator.evaluation.reference_model import TorchReferenceModel
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.config import Experiment
from federa.tasks.composition import CutRecords


@pytest.mark.parametrize("evaluation", ["coordinator", "devices"])
def test_every_record_that_loses_tokens_is_counted_once(
    tmp_path: Path, tiny_folder: Callable[[str], str], evaluation: str
) -> None:
    rows = [{"text": "goal " * (n + 1), "label": "xy"[n % 2]} for n in range(40)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "model": tiny_folder("bert"),
        "data": {"source": str(path), "max_length": 32},
        "methods": [{"name": "ft"}],
        "federation": {"clients": 2, "devices": 1},
        "evaluation": evaluation,
    }
    model = TorchReferenceModel(Experiment.model_validate(tree))
    model.prepare()
    order = RunOrder(
        run_id="run",
        experiment_json=model.experiment.model_dump_json(),
        base_digest=model.base_digest,
        data_digest=model.data_digest,
        shards=dict(enumerate(model.shards)),
    )
    cut = TorchRuntime(torch.device("cpu")).prepare(order).cut
    assert {client: counted.records for client, counted in cut.items()} == {
        client: len(shard) for client, shard in enumerate(model.shards)
    }
    # 30 words fit beside the two tokens that begin and end a text.
    assert [counted.cut for counted in cut.values()] == [sum(n > 29 for n in shard) for shard in model.shards]
    everywhere = CutRecords.summed([*cut.values(), *([model.cut] if model.cut else [])])
    assert everywhere == CutRecords(40, 10)
    assert (model.cut is None) == (evaluation == "devices")
