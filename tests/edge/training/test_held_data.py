"""What a worker holds of its clients' data: each token once, in few bytes, and no text, however many clients."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from coordinator.evaluation.reference_model import TorchReferenceModel
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.config import Experiment
from federa.data.batches import Examples
from federa.data.packed_rows import PackedRows
from federa.tasks.text_classification import LabelledText

WORDS = ("goal", "bank", "film", "music", "market")


@pytest.fixture
def prepared(tiny_folder: Callable[[str], str], tmp_path: Path) -> Callable[..., TorchRuntime]:
    def make(
        clients: int, evaluation: str = "coordinator", method: str = "federa", precision: str = "fp32"
    ) -> TorchRuntime:
        rows = [{"text": f"{WORDS[n % 5]} {WORDS[n % 4]} " * (1 + n % 6) + str(n), "label": n % 2} for n in range(200)]
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = Experiment.model_validate(
            {
                "model": tiny_folder("bert"),
                "data": {"source": str(path), "max_length": 24, "partition": {"kind": "iid"}},
                "methods": [{"name": method}],
                "evaluation": evaluation,
                "federation": {"clients": clients, "devices": 1},
                "training": {"precision": precision, "batch_size": 8},
            }
        )
        reference = TorchReferenceModel(config)
        reference.prepare()
        runtime = TorchRuntime(torch.device("cpu"))
        runtime.prepare(
            RunOrder(
                run_id="run",
                experiment_json=reference.experiment.model_dump_json(),
                base_digest=reference.base_digest,
                data_digest=reference.data_digest,
                shards=dict(enumerate(reference.shards)),
                trial=True,
            )
        )
        del reference
        gc.collect()
        return runtime

    return make


def _examples(runtime: TorchRuntime) -> list[Examples]:
    return [*runtime._examples.values(), *runtime._held_out.values()]


@pytest.mark.parametrize("evaluation", ["coordinator", "devices"])
def test_many_clients_hold_the_tokens_that_one_holds(prepared: Callable[..., TorchRuntime], evaluation: str) -> None:
    held, tokens = [], []
    for clients in (1, 50):
        runtime = prepared(clients, evaluation)
        arrays = {id(rows._values): rows._values for one in _examples(runtime) for rows in [one.token_ids]}
        held.append(sum(array.nbytes for array in arrays.values()))
        tokens.append(sum(one.tokens for one in _examples(runtime)))
        assert all(isinstance(one.token_ids, PackedRows) for one in _examples(runtime))
    assert tokens[0] == tokens[1] > 1000
    assert held == [2 * tokens[0]] * 2  # the model knows fewer than 32,768 tokens


def test_no_text_stays(prepared: Callable[..., TorchRuntime]) -> None:
    gc.collect()
    before = sum(type(found) is LabelledText for found in gc.get_objects())
    runtime = prepared(10, "devices")
    gc.collect()
    assert sum(type(found) is LabelledText for found in gc.get_objects()) <= before
    assert sum(map(len, _examples(runtime))) == 200


@pytest.mark.parametrize("method", ["ft", "lora", "federa"])
def test_a_trial_in_less_than_fp32_needs_no_second_model(
    prepared: Callable[..., TorchRuntime], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    from edge.training import runtime as module

    loads: list[int] = []
    real = module.load_base_model
    monkeypatch.setattr(module, "load_base_model", lambda *given: loads.append(1) or real(*given))
    runtime = prepared(2, method=method, precision="bf16")
    assert len(loads) == 1
    model = runtime._model
    assert model is not None
    fitted = set(map(id, model.fitted_to_start))
    assert len(fitted) == (4 if method == "federa" else 0)  # query and value of two layers
    kept = {parameter.dtype for parameter in model.model.parameters() if id(parameter) in fitted}
    assert kept <= {torch.float32}
    trained = {parameter.dtype for parameter in model.communicated.values()}
    assert trained == {torch.float32}
    if method != "ft":
        assert any(parameter.dtype is torch.bfloat16 for parameter in model.model.parameters())
