"""Question answering in one process: the coordinator's start, a round of two clients, both ways of evaluation, and the
plain model that comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from questions import CONTEXTS, write_questions

from coordinator.evaluation.reference_model import TorchReferenceModel
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.bundle import BundleFacts, load_bundle, write_bundle
from federa.config import Experiment
from federa.methods import METHODS
from federa.tasks.metric import total
from federa.tensors.state import pack, unpack

ARCHITECTURES = (
    "bert", "roberta", "xlm-roberta", "deberta-v2", "deberta-v3", "distilbert", "mpnet", "electra", "modernbert",
)  # fmt: skip
_METHODS = tuple(METHODS)


def _method(architecture: str, number: int) -> str:
    method = _METHODS[number % len(_METHODS)]
    return "lora" if (architecture, method) == ("modernbert", "bitfit") else method  # it has no biases


CASES = [
    (architecture, precision, _method(architecture, 2 * number + shift), ("devices", "coordinator")[shift])
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
            "task": "question-answering",
            "model": tiny_folder(architecture),
            "data": {
                "source": str(write_questions(tmp_path / "data.jsonl", impossible=precision == "bf16")),
                "max_length": 24, "stride": 4, "validation": 0.25, "test": 0.25,
            },
            "methods": [{"name": method}],
            "federation": {"clients": 2, "devices": 1},
            "training": {"precision": precision, "batch_size": 4},
            "evaluation": evaluation,
        }
    )  # fmt: skip
    reference = TorchReferenceModel(config)
    start = reference.prepare()
    order = RunOrder(
        run_id="run",
        experiment_json=reference.experiment.model_dump_json(),
        base_digest=reference.base_digest,
        data_digest=reference.data_digest,
        shards=dict(enumerate(reference.shards)),
        trial=architecture in ("bert", "roberta"),
    )
    runtime = TorchRuntime(torch.device("cpu"))
    setup = runtime.prepare(order)
    assert setup.precision == precision
    runtime.install(unpack(start))
    updates = []
    for client in order.shards:
        trained = runtime.train(1, client, unpack(start), _nothing)
        assert np.isfinite(trained.loss) and trained.examples == setup.examples[client]
        # Records, and not their windows: of these there are more.
        assert trained.examples <= len(order.shards[client]) and len(trained.step_ms) > trained.examples / 4
        updates.append({name: value.copy() for name, value in trained.tensors.items()})
    state = {name: np.mean([update[name] for update in updates], axis=0, dtype=np.float32) for name in updates[0]}
    moved = {name for name, value in unpack(start).items() if (state[name] != value).any()}
    assert {"qa_outputs.weight", "classifier.weight"} & moved

    for path, tensors in (("state", state), ("start", unpack(start))):
        (tmp_path / path).write_bytes(pack(tensors))
    if evaluation == "devices":
        counted = total(runtime.evaluate(client, "validation", state, _nothing) for client in order.shards)
    else:
        counted = dict(reference.evaluate(tmp_path / "state", "validation"))
    assert reference.experiment.make_task().check(counted) == ""
    # All questions about a context are in one part.
    assert counted["examples"] > 0 and (evaluation == "devices" or counted["examples"] == CONTEXTS // 4 * 2)

    facts = BundleFacts(experiment=reference.experiment, base_digest=reference.base_digest, round=1)
    (tmp_path / "final").mkdir()
    write_bundle(tmp_path / "final", state=tmp_path / "state", start=tmp_path / "start", facts=facts)
    bundle = load_bundle(tmp_path / "final")
    values = bundle.evaluate(config.data.source)
    assert values["examples"] == 2 * CONTEXTS and values.keys() == {"f1", "exact_match", "examples"}
    model, tokenizer = bundle.model()
    inputs = tokenizer("the market", "a bank not bad", return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    assert outputs.start_logits.shape == outputs.end_logits.shape == inputs["input_ids"].shape
