"""What stays fp32 is decided by module: a method may train one parameter of a layer and leave the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from classify import classify
from tiny_models import ARCHITECTURES

from edge.training.precision import Precision
from edge.training.trainer import Trainer
from federa.config import Training
from federa.methods.base import Method
from federa.models.pretrained import load_pretrained
from federa.models.tuned import TunedModel

TASK = classify(3)


class BiasOnly(Method):
    """BitFit (arXiv 2106.10199), as far as this test needs it."""

    learning_rate = 1e-2

    def communicated(self, name: str) -> bool:
        return name.endswith(".bias")


def _frozen(folder: str, dtype: torch.dtype) -> TunedModel:
    tuned = TunedModel(load_pretrained(folder, TASK), BiasOnly(BiasOnly.Config()))
    tuned.init(seed=0)
    tuned.install()
    tuned.freeze(dtype)
    return tuned


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_biases_alone_are_trained_in_mixed_precision(
    tiny_folder: Callable[[str], str], architecture: str, precision: str
) -> None:
    chosen = Precision(name=precision, device=torch.device("cpu"))
    base = load_pretrained(tiny_folder(architecture), TASK)
    records = [("the match was good", 0), ("the bank and the market", 1), ("a film", 2)] * 4
    examples = TASK.encode(records, base.tokenizer, 16)
    tuned = _frozen(tiny_folder(architecture), chosen.dtype)
    before = {name: value.copy() for name, value in tuned.state().items()}
    Trainer(tuned, TASK, Training(epochs=2, batch_size=4), 1e-2, chosen).train(examples, 1)
    moved = [name for name, value in tuned.state().items() if (value != before[name]).any()]
    assert any("query" in name or "q_lin" in name for name in moved) and any("norm" in name.lower() for name in moved)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_module_has_one_dtype_and_what_has_nothing_to_train_has_the_compute_dtype(
    tiny_folder: Callable[[str], str], architecture: str
) -> None:
    tuned = _frozen(tiny_folder(architecture), torch.bfloat16)
    cast = 0
    for name, module in tuned.model.named_modules():
        own = list(module.parameters(recurse=False))
        trained = any(parameter.requires_grad for parameter in own)
        assert {parameter.dtype for parameter in own} <= {torch.float32 if trained else torch.bfloat16}, name
        cast += bool(own) and not trained
    assert cast, "embeddings have no bias"


def test_a_parameter_of_two_modules_stays_fp32_where_one_of_them_needs_it(tiny_folder: Callable[[str], str]) -> None:
    base = load_pretrained(tiny_folder("bert"), TASK)
    layer = base.model.bert.encoder.layer[0].attention.self
    layer.tied = torch.nn.Linear(32, 32, bias=False)
    layer.tied.weight = layer.query.weight  # the query's bias is trained, the tied layer has none
    tuned = TunedModel(base, BiasOnly(BiasOnly.Config()))
    tuned.freeze(torch.bfloat16)
    assert layer.query.weight.dtype == layer.tied.weight.dtype == torch.float32
