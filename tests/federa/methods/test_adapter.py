"""Adapters: where they stand, how they start, and what becomes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classify import classify

from edge.training.precision import Precision
from edge.training.trainer import Trainer
from federa.config import Training
from federa.errors import BadInput
from federa.methods.adapter import Adapter, AdapterSection, bottlenecks
from federa.methods.bottleneck import NONLINEARITIES, Bottleneck
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel

Folder = Callable[[str], str]
TASK = classify(3)
SMALL = AdapterSection(size=4)
RECORDS = [("the match was good", 0), ("the bank and the market", 1), ("a film", 2)] * 4
PLACES = {
    "bert": ("attention.output.dense", "output.dense"),
    "roberta": ("attention.output.dense", "output.dense"),
    "xlm-roberta": ("attention.output.dense", "output.dense"),
    "electra": ("attention.output.dense", "output.dense"),
    "deberta-v2": ("attention.output.dense", "output.dense"),
    "deberta-v3": ("attention.output.dense", "output.dense"),
    "distilbert": ("attention.out_lin", "ffn.lin2"),
    "mpnet": ("attention.attn.o", "output.dense"),
    "modernbert": ("attn.Wo", "mlp.Wo"),
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
}


def _tuned(folder: str, section: AdapterSection = SMALL) -> tuple[PretrainedModel, TunedModel]:
    base = load_pretrained(folder, TASK)
    return base, TunedModel(base, Adapter(section))


def _logits(base: PretrainedModel, model: torch.nn.Module) -> torch.Tensor:
    batch = base.tokenizer("the match was good", return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(input_ids=batch["input_ids"]).logits


def _moved(tuned: TunedModel) -> None:
    """As after some rounds."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tuned.communicated.values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("architecture", PLACES)
def test_two_bottlenecks_a_layer_stand_after_attention_and_feed_forward(tiny_folder: Folder, architecture: str) -> None:
    base, tuned = _tuned(tiny_folder(architecture))
    names = [name for name, _ in bottlenecks(base.model)]
    assert len(names) == 4, "of two layers"
    for first, end in zip(names, PLACES[architecture] * 2, strict=True):
        assert first.endswith(f".{end}"), names
    inside = {name for name in tuned.communicated if "adapter_" in name}
    assert len(inside) == 16 and all(tuned.shapes[name] in ((4, 32), (32, 4), (4,), (32,)) for name in inside)


@pytest.mark.parametrize("architecture", PLACES)
def test_the_start_is_exactly_the_base_models_function_and_training_moves_it(
    tiny_folder: Folder, architecture: str
) -> None:
    base = load_pretrained(tiny_folder(architecture), TASK)
    before = _logits(base, base.model)
    tuned = TunedModel(base, Adapter(SMALL))
    tuned.init(seed=3)
    tuned.install()
    assert torch.equal(_logits(base, base.model), before)
    _moved(tuned)
    assert not torch.allclose(_logits(base, base.model), before, atol=1e-3)


def test_what_is_drawn_depends_on_the_seed_alone(tiny_folder: Folder) -> None:
    states = []
    for ambient, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(ambient)
        _, tuned = _tuned(tiny_folder("bert"))
        states.append(tuned.init(seed=seed))
    downs = [name for name in states[0] if name.endswith("adapter_down.weight")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(torch.equal(states[0][name], states[2][name]) for name in downs)
    assert len({tuple(states[0][name].flatten().tolist()) for name in downs}) == len(downs) == 4
    for name in downs:
        # Nothing is lost where the second projection is zero: its gradient is not.
        assert 0.8 < states[0][name].abs().max() * 32**0.5 <= 1
        assert not states[0][name.replace("down", "up")].any()


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_a_bottleneck_computes_what_the_paper_says(nonlinearity: str) -> None:
    torch.manual_seed(0)
    layer = Bottleneck(torch.nn.Linear(6, 5), 5, 3, nonlinearity)
    x = torch.randn(2, 4, 6)
    y = x @ layer.base_layer.weight.T + layer.base_layer.bias
    function = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu,
                "tanh": torch.tanh}[nonlinearity]  # fmt: skip
    inner = function(y @ layer.adapter_down.weight.T + layer.adapter_down.bias)
    torch.testing.assert_close(layer(x), y + inner @ layer.adapter_up.weight.T + layer.adapter_up.bias)
    assert layer.weight is layer.base_layer.weight and layer.bias is layer.base_layer.bias


@pytest.mark.parametrize("architecture", ["bert", "deberta-v3", "distilbert", "mpnet", "gpt2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_client_trains_bottlenecks_and_head_in_mixed_precision_and_twice_alike(
    tiny_folder: Folder, architecture: str, precision: str
) -> None:
    chosen = Precision(name=precision, device=torch.device("cpu"))
    states = []
    for _ in range(2):
        base, tuned = _tuned(tiny_folder(architecture))
        start = {name: value.numpy().copy() for name, value in tuned.init(seed=0).items()}
        tuned.install()
        tuned.freeze(chosen.dtype)
        for name, parameter in tuned.model.named_parameters():
            assert parameter.dtype == (torch.float32 if name in start else chosen.dtype), name
        examples = TASK.encode(RECORDS, base.tokenizer, 16)
        Trainer(tuned, TASK, Training(epochs=2, batch_size=4), 1e-2, chosen).train(examples, 1)
        states.append({name: value.copy() for name, value in tuned.state().items()})
    assert all((states[0][name] == states[1][name]).all() for name in start)
    moved = {name for name in start if (states[0][name] != start[name]).any()}
    assert {name for name in start if "adapter_" in name and name.endswith("weight")} <= moved


def test_the_resulting_model_keeps_its_layers_and_is_not_saved_as_a_plain_one(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    base, tuned = _tuned(tiny_folder("bert"))
    tuned.init(seed=0)
    _moved(tuned)
    before = _logits(base, tuned.model)
    model = tuned.merge()
    assert torch.equal(_logits(base, model), before) and not model.training
    assert len(bottlenecks(model)) == 4
    with pytest.raises(BadInput, match=r"^a model with adapters is no plain checkpoint, .* federa\.load_bundle$"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_resulting_model_can_be_copied_and_traced(tiny_folder: Folder) -> None:
    base, tuned = _tuned(tiny_folder("bert"))
    tuned.init(seed=0)
    _moved(tuned)
    model = copy.deepcopy(tuned.merge())
    ids = base.tokenizer("the match was good", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        traced = torch.jit.trace(lambda x: model(input_ids=x).logits, ids, check_trace=False)
        torch.testing.assert_close(traced(ids), model(input_ids=ids).logits)


def test_unknown_places_are_refused_with_those_there_are(tiny_folder: Folder) -> None:
    with pytest.raises(BadInput) as refused:
        _tuned(tiny_folder("xlnet"))
    assert str(refused.value) == (
        "adapter.targets: auto finds no linear layers of the outputs of attention and feed-forward in xlnet; it has "
        "ff.layer_1, ff.layer_2: name some of these, or take the method ft"
    )
    base, _ = _tuned(tiny_folder("xlnet"), AdapterSection(size=4, targets=("ff.layer_2",)))
    assert len(bottlenecks(base.model)) == 2
    with pytest.raises(BadInput, match=r"^adapter\.targets: bert has no linear layer 'outputs'; it has .*self\.key"):
        _tuned(tiny_folder("bert"), AdapterSection(targets=("outputs",)))
    with pytest.raises(BadInput, match=r"^adapter\.targets: classifier.weight is trained whole"):
        _tuned(tiny_folder("bert"), AdapterSection(targets=("classifier",)))
