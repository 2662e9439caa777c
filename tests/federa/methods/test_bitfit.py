"""BitFit: which parameters are biases, and that training them moves nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from classify import classify

from federa.errors import BadInput
from federa.methods.bitfit import BitFit
from federa.models.checkpoint import is_head
from federa.models.pretrained import load_pretrained
from federa.models.tuned import TunedModel

Folder = Callable[[str], str]
TASK = classify(3)
WITH_BIASES = ("bert", "roberta", "distilbert", "deberta-v2", "deberta-v3", "electra", "mpnet", "xlm-roberta", "albert")


def _tuned(folder: str) -> TunedModel:
    return TunedModel(load_pretrained(folder, TASK), BitFit(BitFit.Config()))


@pytest.mark.parametrize("architecture", WITH_BIASES)
def test_biases_and_the_head_are_trained_and_no_other(tiny_folder: Folder, architecture: str) -> None:
    tuned = _tuned(tiny_folder(architecture))
    for name, parameter in tuned.model.named_parameters():
        bias = name.endswith("bias") and parameter.dim() == 1
        assert (name in tuned.communicated) == (bias or is_head(tuned.model, name)), name
        assert parameter.requires_grad == (name in tuned.communicated)
    encoder = [name for name in tuned.communicated if not is_head(tuned.model, name)]
    assert any("norm" in name.lower() for name in encoder), "those of normalisations too"


def test_biases_that_lie_in_no_layer_are_trained(tiny_folder: Folder) -> None:
    names = set(_tuned(tiny_folder("deberta")).communicated)
    assert {
        f"deberta.encoder.layer.{layer}.attention.self.{part}_bias" for layer in (0, 1) for part in ("q", "v")
    } <= names


def test_a_table_of_relative_positions_is_no_bias(tiny_folder: Folder) -> None:
    tuned = _tuned(tiny_folder("mpnet"))
    assert "mpnet.encoder.relative_attention_bias.weight" in dict(tuned.model.named_parameters())
    assert "mpnet.encoder.relative_attention_bias.weight" not in tuned.communicated


@pytest.mark.parametrize("architecture", ["modernbert", "llama", "t5"])
def test_a_model_without_biases_is_refused_in_words(tiny_folder: Folder, architecture: str) -> None:
    with pytest.raises(BadInput) as refused:
        _tuned(tiny_folder(architecture))
    assert str(refused.value) == (
        f"methods: bitfit trains biases, and this {architecture} has none: take the method lora, federa, adapter or ft"
    )


def test_the_start_is_the_checkpoints_own(tiny_folder: Folder) -> None:
    plain = dict(load_pretrained(tiny_folder("bert"), TASK).model.named_parameters())
    tuned = _tuned(tiny_folder("bert"))
    for name, value in tuned.init(seed=5).items():
        assert torch.equal(value, plain[name])
