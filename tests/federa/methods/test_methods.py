"""All methods on the embedded model and on small architectures: how they start, and what they train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from classify import classify
from tiny_models import ARCHITECTURES, make_tiny_model

from federa.config import EMBEDDED
from federa.errors import BadInput
from federa.methods import METHODS, method_class
from federa.methods.base import Method
from federa.methods.federa import FeDeRA
from federa.methods.lora import LoRA, LoraLayer, LoRASection, lora_layers
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel
from federa.tensors.state import digest_of, pack

Folder = Callable[[str], str]

TEXTS = (
    "the match was good, the team won by a goal in the last minute",
    "shares fell as the market lost faith in the bank",
    "a film",
    "music and a film: not bad",
)
LORA = LoRASection(r=4, alpha=8)


def _logits(base: PretrainedModel) -> torch.Tensor:
    base.model.eval()
    batch = base.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.inference_mode():
        return base.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def _drift(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, in units of what is allowed: 1e-5 of the largest logit, or of 1."""
    return float((one - other).abs().max() / (1e-5 * max(1.0, float(one.abs().max()))))


def _tuned(folder: str, method: str, lora: LoRASection = LORA, seed: int = 0) -> tuple[PretrainedModel, TunedModel]:
    base = load_pretrained(folder, classify(5), seed=seed)
    return base, TunedModel(base, _method(method, lora))


def _method(name: str, lora: LoRASection = LORA) -> Method:
    found = method_class(name)
    return found(lora if found.section == "lora" else found.Config())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", [EMBEDDED, *ARCHITECTURES])
def test_the_start_is_the_base_models_function(tiny_folder: Folder, architecture: str, method: str) -> None:
    base = load_pretrained(tiny_folder(architecture), classify(5), seed=3)
    before = _logits(base)
    tuned = TunedModel(base, _method(method))
    tuned.init(seed=3)
    tuned.install()
    assert _drift(before, _logits(base)) <= 1


@pytest.mark.parametrize("architecture", [EMBEDDED, *ARCHITECTURES])
def test_that_check_fails_where_w_res_is_not_subtracted(
    tiny_folder: Folder, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeDeRA, "install", lambda self, model: None)
    base = load_pretrained(tiny_folder(architecture), classify(5), seed=3)
    before = _logits(base)
    tuned = TunedModel(base, FeDeRA(LORA))
    tuned.init(seed=3)
    tuned.install()
    assert _drift(before, _logits(base)) > 50


@pytest.mark.parametrize("alpha", [1, 8, 64])
def test_alpha_leaves_federas_start_and_scales_the_update(tiny_folder: Folder, alpha: float) -> None:
    lora = LoRASection(r=4, alpha=alpha)
    base, tuned = _tuned(tiny_folder("bert"), "federa", lora)
    before = _logits(base)
    weights = {layer.name: layer.weight.detach().double().numpy().copy() for layer in _named_layers(tuned)}
    tuned.init(seed=0)
    tuned.install()
    assert _drift(before, _logits(base)) <= 1
    for layer in _named_layers(tuned):
        product = lora.scale * layer.b.detach().double().numpy() @ layer.a.detach().double().numpy()
        u, s, vt = np.linalg.svd(weights[layer.name])
        np.testing.assert_allclose(product, (u[:, :4] * s[:4]) @ vt[:4], atol=1e-6)
    # The same step in B moves the function by s = alpha / r times as much.
    layer, module = _named_layers(tuned)[0], _modules(tuned)[0]
    x = torch.randn(3, layer.a.shape[1], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        start = module(x)
        layer.b.add_(0.1)
        moved = module(x) - start
        step = torch.full_like(layer.b, 0.1)
        torch.testing.assert_close(moved, alpha / 4 * (x @ layer.a.T @ step.T), rtol=1e-3, atol=1e-5)


def _named_layers(tuned: TunedModel) -> list[LoraLayer]:
    return list(lora_layers(tuned.model))


def _modules(tuned: TunedModel) -> list[torch.nn.Module]:
    modules = dict(tuned.model.named_modules())
    return [modules[layer.name] for layer in _named_layers(tuned)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_auto_takes_query_and_value_of_every_layer(tiny_folder: Folder, architecture: str) -> None:
    _, tuned = _tuned(tiny_folder(architecture), "lora")
    ends = [layer.name.rsplit(".", 1)[-1] for layer in _named_layers(tuned)]
    query_and_value = {"distilbert": ["q_lin", "v_lin"]}
    deberta = ["query_proj", "value_proj"]
    expected = deberta if "deberta" in architecture else query_and_value.get(architecture, ["query", "value"])
    assert ends == expected * 2


def test_lora_starts_with_a_random_a_and_a_zero_b_from_the_seed_alone(tiny_folder: Folder) -> None:
    states = []
    for ambient, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(ambient)
        _, tuned = _tuned(tiny_folder("bert"), "lora")
        states.append(tuned.init(seed=seed))
    factors = [name for name in states[0] if "lora_A" in name]
    assert len(factors) == 4
    for name in factors:
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[0][name], states[2][name])
        # Kaiming-uniform with a = sqrt(5), as PEFT draws it: within 1 / sqrt(in), and filling that range.
        assert 0.9 < states[0][name].abs().max() * 32**0.5 <= 1
        assert not states[0][name.replace("lora_A", "lora_B")].any()
    assert len({tuple(states[0][name].flatten().tolist()) for name in factors}) == len(factors)


def test_federas_start_needs_no_seed(tiny_folder: Folder) -> None:
    starts = []
    for seed in (1, 2):
        _, tuned = _tuned(tiny_folder("bert"), "federa")
        starts.append({name: value for name, value in tuned.init(seed=seed).items() if "lora" in name})
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


@pytest.mark.parametrize("architecture", ["bert", "deberta-v3"])
def test_a_checkpoint_in_fp16_starts_like_its_fp32_copy(tmp_path: Path, architecture: str) -> None:
    half = make_tiny_model(tmp_path / "half", architecture, dtype=torch.float16)
    base = load_pretrained(str(half), classify(5))
    assert {parameter.dtype for parameter in base.model.parameters()} == {torch.float32}
    # The encoder alone, as fp32 values that came through fp16.
    getattr(base.model, base.model.base_model_prefix).save_pretrained(tmp_path / "whole")
    base.tokenizer.save_pretrained(tmp_path / "whole")
    starts, digests = [], []
    for folder in (half, tmp_path / "whole"):
        found, tuned = _tuned(str(folder), "federa")
        digests.append(found.digest)
        starts.append(digest_of(pack({name: value.numpy() for name, value in tuned.init(seed=0).items()})))
    assert starts[0] == starts[1]
    assert digests[0] == digests[1]
    assert digests[0] != load_pretrained(str(make_tiny_model(tmp_path / "x", architecture)), classify(5)).digest


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "bert without pooler"])
def test_workers_with_other_seeds_agree_in_round_0(
    tiny_folder: Folder, tmp_path: Path, architecture: str, method: str
) -> None:
    if architecture == "bert without pooler":
        folder = str(make_tiny_model(tmp_path, pooler=False))
    else:
        folder = tiny_folder(architecture)
    torch.manual_seed(100)
    base, coordinator = _tuned(folder, method, seed=5)
    start = {name: value.numpy() for name, value in coordinator.init(seed=5).items()}
    coordinator.install()
    expected = _logits(base)
    for ambient, seed in ((1, 0), (2, 77)):
        torch.manual_seed(ambient)
        other, worker = _tuned(folder, method, seed=seed)
        assert not torch.equal(_logits(other), expected)  # else this test shows nothing
        worker.load_state(start)
        worker.install()
        assert torch.equal(_logits(other), expected)


def test_w_res_is_formed_before_the_cast(tiny_folder: Folder) -> None:
    _, tuned = _tuned(tiny_folder("bert"), "federa")
    weights = [layer.weight.detach().clone() for layer in _named_layers(tuned)]
    tuned.init(seed=0)
    tuned.install()
    exact = []
    for layer, weight in zip(_named_layers(tuned), weights, strict=True):
        assert layer.weight.dtype == torch.float32
        exact.append(weight.double() - LORA.scale * layer.b.double() @ layer.a.double())
        torch.testing.assert_close(layer.weight.double(), exact[-1], rtol=0, atol=1e-7)
    tuned.freeze(torch.bfloat16)
    for layer, left in zip(_named_layers(tuned), exact, strict=True):
        # One rounding to bf16. A residual of weights that were rounded first would be off by the weight's rounding.
        assert torch.equal(layer.weight, left.float().bfloat16())
        assert layer.a.dtype == layer.b.dtype == torch.float32


def test_installing_on_weights_that_were_cast_is_refused(tiny_folder: Folder) -> None:
    _, tuned = _tuned(tiny_folder("bert"), "federa")
    tuned.init(seed=0)
    tuned.freeze(torch.bfloat16)
    with pytest.raises(TypeError, match="before any cast"):
        tuned.install()


def test_a_cast_after_installing_moves_the_start_only_as_far_as_bf16_rounds(tiny_folder: Folder) -> None:
    base, tuned = _tuned(tiny_folder("bert"), "federa")
    before = _logits(base)
    tuned.init(seed=0)
    tuned.install()
    tuned.freeze(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        after = _logits(base).float()
    assert 0 < (after - before).abs().max() < 0.1 * before.abs().max()


@pytest.mark.parametrize("method", ["lora", "federa"])
def test_unknown_targets_are_refused_with_those_there_are(tiny_folder: Folder, method: str) -> None:
    for name in ("no_such_layer", "", "uery", "word_embeddings"):
        with pytest.raises(BadInput) as caught:
            _tuned(tiny_folder("bert"), method, LoRASection(targets=("query", name)))
        message = str(caught.value)
        assert message.startswith(f"lora.targets: bert has no linear layer {name!r}")
        assert message.endswith("it has dense, key, query, value")


def test_a_target_may_be_the_end_of_a_path(tiny_folder: Folder) -> None:
    _, tuned = _tuned(tiny_folder("bert"), "lora", LoRASection(r=2, targets=("1.attention.self.key",)))
    assert [layer.name for layer in _named_layers(tuned)] == ["bert.encoder.layer.1.attention.self.key"]


def test_a_rank_above_the_matrix_is_refused(tiny_folder: Folder) -> None:
    for method in ("lora", "federa"):
        _tuned(tiny_folder("bert"), method, LoRASection(r=32))
        with pytest.raises(BadInput, match=r"^lora\.r must be at most 32, the rank of 'query', not 33$"):
            _tuned(tiny_folder("bert"), method, LoRASection(r=33))


@pytest.mark.parametrize(
    ("architecture", "target"),
    [
        ("bert", "classifier"),
        ("roberta", "out_proj"),
        ("roberta", "classifier.dense"),
        ("distilbert", "pre_classifier"),
        ("deberta-v2", "pooler.dense"),
    ],
)
def test_a_target_in_the_head_is_refused(tiny_folder: Folder, architecture: str, target: str) -> None:
    with pytest.raises(BadInput, match=r"^lora\.targets: .* is trained whole"):
        _tuned(tiny_folder(architecture), "federa", LoRASection(r=2, targets=(target,)))


def test_a_target_that_the_checkpoint_lacked_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, pooler=False)
    with pytest.raises(BadInput, match=r"^lora\.targets: bert\.pooler\.dense\.weight is trained whole"):
        _tuned(str(folder), "federa", LoRASection(r=2, targets=("pooler.dense",)))


def test_dropout_of_the_adapter_acts_in_training_only(tiny_folder: Folder) -> None:
    _, tuned = _tuned(tiny_folder("bert"), "federa", LoRASection(r=4, dropout=0.5))
    tuned.init(seed=0)
    module = _modules(tuned)[0]
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(module.eval()(x), module(x))
        torch.manual_seed(0)
        assert not torch.equal(module.train()(x), module(x))


def test_every_method_names_a_learning_rate_of_its_own() -> None:
    for name in METHODS:
        assert 0 < method_class(name).learning_rate < 1
    assert issubclass(FeDeRA, LoRA)


def test_a_gradient_reaches_what_travels_and_nothing_else(tiny_folder: Folder) -> None:
    base, tuned = _tuned(tiny_folder("bert"), "federa")
    tuned.init(seed=0)
    tuned.install()
    ids = base.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    base.model(input_ids=ids, labels=torch.tensor([1])).loss.backward()
    with_gradient = {name for name, parameter in base.model.named_parameters() if parameter.grad is not None}
    assert with_gradient == set(tuned.communicated)
