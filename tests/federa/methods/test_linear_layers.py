"""Which layers a method's targets are, and which must not be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from classify import classify

from federa.errors import BadInput
from federa.methods import method_class
from federa.methods.adapter import AdapterSection
from federa.methods.linear_layers import linear_layers, shares_layers
from federa.methods.lora import LoRASection
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel
from federa.section import Section

Folder = Callable[[str], str]
TASK = classify(3)
NAMED: dict[str, Section] = {
    "lora": LoRASection(r=2, targets=("query", "value")),
    "federa": LoRASection(r=2, targets=("query", "value")),
    "adapter": AdapterSection(size=4, targets=("attention.dense", "ffn_output")),
}


def _logits(base: PretrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return base.model.eval()(**base.tokenizer("the match was good", return_tensors="pt")).logits


@pytest.mark.parametrize("method", NAMED)
def test_auto_refuses_a_model_whose_layers_share_their_weights(tiny_folder: Folder, method: str) -> None:
    found = method_class(method)
    base = load_pretrained(tiny_folder("albert"), TASK)
    assert shares_layers(base.model) and not shares_layers(load_pretrained(tiny_folder("bert"), TASK).model)
    names = ", ".join(NAMED[method].targets)
    with pytest.raises(BadInput) as refused:
        TunedModel(base, found(found.Config()))
    assert str(refused.value) == (
        f"{found.section}.targets: the layers of this albert share their weights, so what auto would put beside one of "
        f"them acts in all of them: take the method ft or bitfit, or, where that is meant, name {names}"
    )


@pytest.mark.parametrize("method", NAMED)
def test_whoever_names_a_shared_layer_gets_one_for_all_and_the_right_start(tiny_folder: Folder, method: str) -> None:
    base = load_pretrained(tiny_folder("albert"), TASK)
    before = _logits(base)
    tuned = TunedModel(base, method_class(method)(NAMED[method]))
    tuned.init(seed=0)
    tuned.install()
    torch.testing.assert_close(_logits(base), before, rtol=0, atol=1e-5)


def test_an_albert_with_a_group_for_each_layer_shares_nothing(tiny_folder: Folder) -> None:
    model = load_pretrained(tiny_folder("albert"), TASK).model
    model.config.num_hidden_groups = model.config.num_hidden_layers
    assert not shares_layers(model)


@pytest.mark.parametrize("method", ["lora", "federa", "adapter"])
def test_a_matrix_that_two_modules_share_is_refused(tiny_folder: Folder, method: str) -> None:
    base = load_pretrained(tiny_folder("bert"), TASK)
    first, second = base.model.bert.encoder.layer
    first.attention.self.key.weight = second.attention.self.query.weight
    first.intermediate.tied = torch.nn.Linear(32, 32)
    first.intermediate.tied.weight = second.attention.output.dense.weight
    found = method_class(method)
    with pytest.raises(BadInput, match=rf"^{found.section}\.targets: bert\.encoder\S+ shares its weights with bert\."):
        TunedModel(base, found(found.Config()))


def test_gpt2s_own_linear_layers_are_among_them(tiny_folder: Folder) -> None:
    ends = {name.rsplit(".", 1)[-1] for name in linear_layers(load_pretrained(tiny_folder("gpt2"), TASK).model)}
    assert ends == {"c_attn", "c_proj", "c_fc", "score"}
