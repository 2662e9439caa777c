"""What stays fp32 is decided by module: a method may train one parameter of a layer and leave the other frozen."""

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
from federa.methods.bitfit import BitFit
from federa.models.pretrained import load_pretrained
from federa.models.tuned import TunedModel

TASK = classify(3)


def _frozen(folder: str, dtype: torch.dtype) -> TunedModel:
    tuned = TunedModel(load_pretrained(folder, TASK), BitFit(BitFit.Config()))
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
def test_what_is_trained_stays_fp32_and_of_the_rest_what_has_to(
    tiny_folder: Callable[[str], str], architecture: str
) -> None:
    tuned = _frozen(tiny_folder(architecture), torch.bfloat16)
    cast = 0
    for name, module in tuned.model.named_modules():
        own = list(module.parameters(recurse=False))
        assert {parameter.dtype for parameter in own if parameter.requires_grad} <= {torch.float32}, name
        trained = any(parameter.requires_grad for parameter in own)
        # A matrix product takes a weight in bf16 beside a bias in fp32, a normalisation does not.
        whole = trained and not isinstance(module, torch.nn.Linear | torch.nn.Conv1d)
        frozen = {parameter.dtype for parameter in own if not parameter.requires_grad}
        assert frozen <= {torch.float32 if whole else torch.bfloat16}, name
        cast += isinstance(module, torch.nn.Linear) and frozen == {torch.bfloat16}
    assert cast >= 12, "the linear layers of two layers"


class BiasOnly(BitFit):
    """Without BitFit's knowledge of kernels: by module, as for any method."""

    def keeps_fp32(self, module: torch.nn.Module) -> bool:
        return Method.keeps_fp32(self, module)


def test_a_parameter_of_two_modules_stays_fp32_where_one_of_them_needs_it(tiny_folder: Callable[[str], str]) -> None:
    base = load_pretrained(tiny_folder("bert"), TASK)
    layer = base.model.bert.encoder.layer[0].attention.self
    layer.tied = torch.nn.Linear(32, 32, bias=False)
    layer.tied.weight = layer.query.weight  # the query's bias is trained, the tied layer has none
    tuned = TunedModel(base, BiasOnly(BiasOnly.Config()))
    tuned.freeze(torch.bfloat16)
    assert layer.query.weight.dtype == layer.tied.weight.dtype == torch.float32
