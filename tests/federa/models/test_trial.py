"""The trial batch: what fails in it is one line, and it leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coordinator.evaluation import reference_model
from coordinator.evaluation.reference_model import TorchReferenceModel
from edge.training import trainer as trainer_module
from edge.training.run_order import RunOrder
from edge.training.runtime import TorchRuntime
from federa.config import Experiment
from federa.errors import BadInput, FederaError
from federa.models import trial as trial_module
from federa.models.trial import longest, trial_records
from federa.tasks.text_classification import LabelledText, TextClassification
from federa.tensors.state import pack, unpack

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path, tiny_folder: Callable[[str], str]) -> Callable[..., Experiment]:
    """An experiment with a tiny model and 40 documents of 2 to 41 words."""
    rows = [{"text": "the bank " + "goal " * n, "label": "xy"[n % 2]} for n in range(40)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(method: str = "federa", precision: str = "fp32", **changes: Any) -> Experiment:
        tree = {
            "model": tiny_folder("bert"),
            "data": {"source": str(path), "max_length": 64},
            "methods": [{"name": method}],
            "lora": {"r": 4},
            "federation": {"clients": 2, "devices": 1},
            "training": {"precision": precision, "batch_size": 8},
        }
        (one,) = Experiment.model_validate({**tree, **changes}).runs()
        return one

    return make


def order_of(model: TorchReferenceModel, *, trial: bool) -> RunOrder:
    return RunOrder(
        run_id="run",
        experiment_json=model.experiment.model_dump_json(),
        base_digest=model.base_digest,
        data_digest=model.data_digest,
        shards=dict(enumerate(model.shards)),
        trial=trial,
    )


# ---- it leaves no trace


@pytest.mark.parametrize("method", ["ft", "lora", "federa"])
def test_the_coordinator_s_model_is_the_same_with_and_without_it(
    config: Callable[..., Experiment], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def run(*, trial: bool) -> tuple[bytes, object, torch.Tensor]:
        model = TorchReferenceModel(config(method))
        with monkeypatch.context() as patch:
            real = trial_module.try_model
            patch.setattr(trial_module, "try_model", lambda *given: (tried.append(1), trial and real(*given)))
            torch.manual_seed(7)
            start = model.prepare()
        numbers = torch.get_rng_state()
        assert model._model is not None
        assert all(parameter.grad is None for parameter in model._model.model.parameters())
        (tmp_path / "state").write_bytes(start)
        return start, model.evaluate(tmp_path / "state", "test"), numbers

    with_it, without = run(trial=True), run(trial=False)
    assert len(tried) == 2
    assert with_it[:2] == without[:2] and torch.equal(with_it[2], without[2])


@pytest.mark.parametrize(
    ("method", "precision"), [("ft", "fp32"), ("federa", "fp32"), ("lora", "bf16"), ("federa", "bf16")]
)
def test_a_worker_trains_the_same_bits_with_and_without_it(
    config: Callable[..., Experiment], method: str, precision: str
) -> None:
    reference = TorchReferenceModel(config(method, precision))
    start = unpack(reference.prepare())
    found = []
    for trial in (True, False):
        runtime = TorchRuntime(CPU)
        torch.manual_seed(7)
        runtime.prepare(order_of(reference, trial=trial))
        numbers = torch.get_rng_state()
        runtime.install(start)
        trained = runtime.train(1, 1, start, lambda progress: None)
        assert trained.micro_batch == 0
        found.append((pack({name: np.array(value) for name, value in trained.tensors.items()}), trained.loss, numbers))
    assert found[0][:2] == found[1][:2] and torch.equal(found[0][2], found[1][2])


def test_a_run_that_goes_on_is_not_tried_again(
    config: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = TorchReferenceModel(config()).prepare()
    monkeypatch.setattr(TextClassification, "loss", lambda *given: 1 / 0)
    assert TorchReferenceModel(config()).prepare(start) == start
    with pytest.raises(FederaError, match="ZeroDivisionError"):
        TorchReferenceModel(config()).prepare()


def test_buffers_and_the_mode_are_put_back(config: Callable[..., Experiment]) -> None:
    model = TorchReferenceModel(config())
    model.prepare()
    tuned = model._model
    assert tuned is not None
    tuned.model.register_buffer("count", torch.zeros(1))
    tuned.model.eval()
    with trial_module.trial(tuned):
        tuned.model.train()
        tuned.model.count.add_(1)
        tuned.model.register_buffer("count", torch.ones(5))
    assert not tuned.model.training and torch.equal(tuned.model.count, torch.zeros(1))


# ---- what it is made of


def test_the_longest_texts_are_tried_and_a_short_one_beside_them(config: Callable[..., Experiment]) -> None:
    task = config().make_task()
    records = [LabelledText("goal " * n, 0) for n in (3, 9, 1, 7, 5, 8)]
    assert [len(record.text.split()) for record in trial_records(records, task)] == [9, 8, 7, 5, 1]
    assert trial_records([], task) == []


@pytest.mark.parametrize(("max_length", "tokens"), [(20, 20), (30, 24)])
def test_the_devices_own_data_are_made_up_with_max_length_tokens_and_the_last_label(
    max_length: int, tokens: int, config: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_model, "MAX_MADE_UP", 24)
    seen = []
    real = TextClassification.loss

    def loss(self: Any, outputs: Any, batch: Any) -> torch.Tensor:
        seen.append((tuple(batch.inputs["input_ids"].shape), sorted(batch.targets.tolist())))
        return real(self, outputs, batch)

    monkeypatch.setattr(TextClassification, "loss", loss)
    data = {"source": "devices", "labels": ["a", "b", "c"], "max_length": max_length}
    alone = {"clients": 1, "devices": 1}
    TorchReferenceModel(config(data=data, evaluation="devices", federation=alone)).prepare()
    assert seen == [((2, tokens), [0, 2])]


def test_a_worker_tries_the_longest_of_its_own_as_many_as_it_trains_at_a_time(
    config: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = TorchReferenceModel(config())
    reference.prepare()
    tried: list[list[int]] = []
    real = longest
    monkeypatch.setattr(
        trainer_module, "longest", lambda examples, count: tried.append(real(examples, count)) or tried[-1]
    )
    runtime = TorchRuntime(CPU)
    runtime.prepare(order_of(reference, trial=True))
    (indices,) = tried
    lengths = max((examples.lengths for examples in runtime._examples.values()), key=max)
    assert [lengths[index] for index in indices] == sorted(lengths, reverse=True)[:8]


# ---- what it finds


def nan(self: Any, outputs: Any, batch: Any) -> torch.Tensor:
    return outputs.logits.sum() * float("nan")


def left_out(*given: Any) -> Any:
    raise NotImplementedError


def detached(self: Any, outputs: Any, batch: Any) -> torch.Tensor:
    return outputs.logits.detach().sum()


def wrong_shape(self: Any, outputs: Any, batch: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs.logits[:, :1, None], batch.targets[:1])


BROKEN = [
    ("loss", nan, BadInput, "a trial batch of the longest texts has the loss nan"),
    ("loss", left_out, FederaError, "a trial batch of the longest texts fails: NotImplementedError"),
    ("loss", detached, FederaError, "a trial batch of the longest texts fails: RuntimeError: element 0 of"),
    ("loss", wrong_shape, FederaError, "a trial batch of the longest texts fails: "),
    ("count", left_out, FederaError, "a trial batch of the longest texts fails: NotImplementedError"),
    ("count", lambda *given: {"right": 1.0, "examples": 2.0}, FederaError, "task: what it counts of a trial batch"),
    ("count", lambda *given: {"correct": 9.0, "examples": 2.0}, FederaError, "right ones among"),
    ("collate", left_out, FederaError, "a trial batch of the longest texts fails: NotImplementedError"),
]  # fmt: skip


@pytest.mark.parametrize("side", ["coordinator", "worker", "worker in bf16"])
@pytest.mark.parametrize(("name", "broken", "kind", "words"), BROKEN)
def test_what_is_broken_is_one_line(
    config: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch, side: str, name: str, broken: Any, kind: type,
    words: str,
) -> None:  # fmt: skip
    reference = TorchReferenceModel(config(precision="bf16" if "bf16" in side else "fp32"))
    if side != "coordinator":
        reference.prepare()
    monkeypatch.setattr(TextClassification, name, broken)
    with pytest.raises(FederaError, match=words) as caught:
        if side == "coordinator":
            reference.prepare()
        else:
            TorchRuntime(CPU).prepare(order_of(reference, trial=True))
    assert type(caught.value) is kind and "\n" not in str(caught.value) and len(str(caught.value)) < 350


def test_a_token_that_the_model_does_not_have_is_named_as_the_model_s(
    config: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TextClassification.encode

    def encode(self: Any, records: Any, tokenizer: Any, max_length: int) -> Any:
        examples = real(self, records, tokenizer, max_length)
        return replace(examples, token_ids=[[ids[0], 10_000, *ids[2:]] for ids in examples.token_ids])

    monkeypatch.setattr(TextClassification, "encode", encode)
    with pytest.raises(BadInput, match="model: a trial batch of the longest texts has a token or a position"):
        TorchReferenceModel(config(evaluation="devices")).prepare()


def test_short_memory_in_a_worker_s_trial_halves_what_it_trains_at_a_time(
    config: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = TorchReferenceModel(config())
    start = unpack(reference.prepare())
    sizes = []
    real = TextClassification.loss

    def loss(self: Any, outputs: Any, batch: Any) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, outputs, batch)

    monkeypatch.setattr(TextClassification, "loss", loss)
    runtime = TorchRuntime(CPU)
    runtime.prepare(order_of(reference, trial=True))
    assert sizes == [8, 4, 2, 2, 2, 2]
    sizes.clear()
    runtime.install(start)
    assert runtime.train(1, 0, start, lambda progress: None).micro_batch == 2
    assert max(sizes) == 2, "training begins with what the trial found"
    runtime.release()
    monkeypatch.setattr(TextClassification, "loss", real)
    runtime.prepare(order_of(reference, trial=True))
    runtime.install(start)
    assert runtime.train(1, 0, start, lambda progress: None).micro_batch == 0, "the next run begins anew"


def test_memory_too_short_for_one_example_is_said_at_set_up(
    config: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = TorchReferenceModel(config())
    reference.prepare()

    def loss(*given: Any) -> torch.Tensor:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(TextClassification, "loss", loss)
    with pytest.raises(FederaError, match="out of memory in a trial batch with one example at a time"):
        TorchRuntime(CPU).prepare(order_of(reference, trial=True))
