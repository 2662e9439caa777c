"""Which tensors travel, under which names, and how a state goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from classify import classify
from tiny_models import ARCHITECTURES, make_tiny_model

from federa.config import EMBEDDED
from federa.errors import BadInput
from federa.methods import METHODS, method_class
from federa.methods.base import Method
from federa.methods.lora import LoRASection
from federa.models.pretrained import load_pretrained
from federa.models.tuned import TunedModel
from federa.tensors.state import pack, unpack

Folder = Callable[[str], str]

HEAD = ["classifier.bias", "classifier.weight"]
ENCODER = sorted(
    [
        *(f"embeddings.{part}.weight" for part in ("word_embeddings", "position_embeddings", "token_type_embeddings")),
        "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias",
        *(
            f"encoder.layer.{layer}.{part}.{kind}"
            for layer in (0, 1)
            for part in (
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            )
            for kind in ("weight", "bias")
        ),
        "pooler.dense.weight",
        "pooler.dense.bias",
    ]
)
FACTORS = [
    f"bert.encoder.layer.{layer}.attention.self.{part}.lora_{factor}.default.weight"
    for layer in (0, 1)
    for part in ("query", "value")
    for factor in ("A", "B")
]


def _method(name: str, lora: LoRASection = LoRASection(r=4)) -> Method:  # noqa: B008
    found = method_class(name)
    return found(lora if found.Config is LoRASection else found.Config())


def _tuned(folder: str, method: str, lora: LoRASection = LoRASection(r=4), labels: int = 3) -> TunedModel:  # noqa: B008
    return TunedModel(load_pretrained(folder, classify(labels)), _method(method, lora))


@pytest.fixture
def tuned(tiny_folder: Folder) -> TunedModel:
    return _tuned(tiny_folder("bert"), "federa")


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("ft", sorted([*(f"bert.{name}" for name in ENCODER), *HEAD])),
        ("lora", sorted([*FACTORS, *HEAD])),
        ("federa", sorted([*FACTORS, *HEAD])),
    ],
)
def test_the_state_of_a_bert_is_these_tensors_and_no_others(tiny_folder: Folder, method: str, names: list[str]) -> None:
    tuned = _tuned(tiny_folder("bert"), method)
    assert sorted(tuned.shapes) == names
    assert sorted(tuned.init(seed=0)) == names
    assert sorted(tuned.state()) == names
    assert {name for name, parameter in tuned.model.named_parameters() if parameter.requires_grad} == set(names)
    assert tuned.trainable_parameters == sum(value.size for value in tuned.state().values())


def test_the_shapes_of_the_state(tuned: TunedModel) -> None:
    assert {tuned.shapes[name] for name in FACTORS if "lora_A" in name} == {(4, 32)}
    assert {tuned.shapes[name] for name in FACTORS if "lora_B" in name} == {(32, 4)}
    assert tuned.shapes["classifier.weight"] == (3, 32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "bert without pooler"])
def test_all_that_the_checkpoint_lacked_travels(tiny_folder: Folder, tmp_path, architecture: str, method: str) -> None:
    if architecture == "bert without pooler":
        folder = str(make_tiny_model(tmp_path, pooler=False))
    else:
        folder = tiny_folder(architecture)
    base = load_pretrained(folder, classify(3))
    tuned = TunedModel(base, _method(method))
    assert base.missing <= set(tuned.shapes)
    of_the_method, count = {
        "ft": ("", None),
        "bitfit": ("bias", None),
        "adapter": (".adapter_", 2 * 2 * 4),  # after attention and feed-forward, down and up, weight and bias
        "lora": (".lora_", 8),
        "federa": (".lora_", 8),
    }[method]
    own = {name for name in set(tuned.shapes) - base.missing if of_the_method in name}
    assert set(tuned.shapes) - base.missing == own
    assert own and (count is None or len(own) == count)


def test_a_head_that_the_checkpoint_did_hold_travels_too(tiny_folder: Folder, tmp_path) -> None:
    base = load_pretrained(tiny_folder("bert"), classify(3))
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    base = load_pretrained(str(tmp_path), classify(3))
    assert not base.missing
    assert set(HEAD) <= set(TunedModel(base, method_class("lora")(LoRASection(r=4))).shapes)


def test_federas_state_of_the_embedded_model_is_at_most_2_percent_of_fts(tiny_folder: Folder) -> None:
    sizes = {}
    for method in ("ft", "federa"):
        # The default adapter: what `make bench` sends.
        tuned = _tuned(tiny_folder(EMBEDDED), method, LoRASection(), labels=5)
        sizes[method] = len(pack({name: value.numpy() for name, value in tuned.init(seed=0).items()}))
    assert 0 < sizes["federa"] <= 0.02 * sizes["ft"]
    assert sizes["ft"] > 90e6


def test_start_returns_copies(tuned: TunedModel) -> None:
    start = tuned.init(seed=0)
    before = {name: value.clone() for name, value in start.items()}
    with torch.no_grad():
        for parameter in tuned.communicated.values():
            parameter.add_(1)
    assert all(torch.equal(start[name], before[name]) for name in start)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_freeze_casts_what_is_frozen_and_nothing_else(tiny_folder: Folder, method: str, dtype: torch.dtype) -> None:
    tuned = _tuned(tiny_folder("bert"), method)
    tuned.init(seed=0)
    tuned.install()
    before = {name: value.copy() for name, value in tuned.state().items()}
    tuned.freeze(dtype)
    for name, parameter in tuned.model.named_parameters():
        # With a trained bias a normalisation stays in fp32 as a whole: see BitFit.keeps_fp32.
        kept = name in tuned.communicated or (method == "bitfit" and ".LayerNorm." in name)
        assert parameter.dtype == (torch.float32 if kept else dtype), name
    after = tuned.state()
    assert all(after[name].dtype == np.float32 and np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("method", METHODS)
def test_a_state_goes_through_its_blob_and_back_to_the_bit(tiny_folder: Folder, method: str) -> None:
    sender, receiver = (_tuned(tiny_folder("bert"), method) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sender.communicated.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    blob = pack(sender.state())
    receiver.load_state(unpack(blob))
    assert pack(receiver.state()) == blob
    for name, value in sender.state().items():
        assert np.array_equal(receiver.state()[name], value)


def test_loading_keeps_the_parameters_objects(tuned: TunedModel) -> None:
    # An optimizer holds on to them.
    before = {name: id(parameter) for name, parameter in tuned.model.named_parameters()}
    tuned.load_state(unpack(pack(tuned.state())))
    assert {name: id(parameter) for name, parameter in tuned.model.named_parameters()} == before


def test_a_loaded_state_shares_no_memory_with_the_model(tuned: TunedModel) -> None:
    state = {name: value.copy() for name, value in tuned.state().items()}
    tuned.load_state(state)
    state["classifier.bias"] += 1
    assert not np.array_equal(tuned.state()["classifier.bias"], state["classifier.bias"])


def test_a_state_with_other_names_or_shapes_is_refused_by_name_and_changes_nothing(tuned: TunedModel) -> None:
    good = {name: value.copy() for name, value in tuned.state().items()}
    other = {name: value + 1 for name, value in good.items()}
    factor = FACTORS[0]
    wrong = {
        f"tensor {factor} is missing": {name: value for name, value in other.items() if name != factor},
        "tensor classifier.extra is not part of this state": {**other, "classifier.extra": good["classifier.bias"]},
        f"tensor {factor} must have shape [4, 32], not [32, 4]": {**other, factor: other[factor].T},
        "tensor classifier.bias must have shape [3], not [1]": {**other, "classifier.bias": np.zeros(1, np.float32)},
        "tensor classifier.bias must have shape [3], not []": {**other, "classifier.bias": np.array(0, np.float32)},
    }
    for message, state in wrong.items():
        with pytest.raises(BadInput) as caught:
            tuned.load_state(state)
        assert str(caught.value) == message
        assert all(np.array_equal(value, good[name]) for name, value in tuned.state().items())


def test_a_model_in_bf16_takes_and_gives_fp32(tuned: TunedModel) -> None:
    tuned.init(seed=0)
    tuned.install()
    tuned.freeze(torch.bfloat16)
    state = {name: value + np.float32(1e-6) for name, value in tuned.state().items()}
    tuned.load_state(state)
    assert all(np.array_equal(value, state[name]) for name, value in tuned.state().items())
