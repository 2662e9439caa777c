"""A run's result as a plain model, and as a PEFT adapter of the untouched base model: the same function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classify import classify
from tiny_models import ARCHITECTURES, make_tiny_model

from federa.methods import METHODS, method_class
from federa.methods.lora import LoRASection
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel
from federa.tensors.state import Tensors

TASK = classify(3)
TEXTS = ["the match was good, the team won", "shares fell", "music and a film: not bad"]
# alpha is not r: the scale has to survive the rank's doubling.
SECTIONS = {"lora": LoRASection(r=3, alpha=5.0)}


def _trained(folder: str, method: str) -> tuple[PretrainedModel, TunedModel, Tensors]:
    """As it is after a few rounds: everything that is trained has moved. And the start."""
    base = load_pretrained(folder, TASK, seed=1)
    found = method_class(method)
    section = SECTIONS.get(found.section or "")
    tuned = TunedModel(base, found(section or found.Config()))
    start = {name: value.numpy() for name, value in tuned.init(seed=1).items()}
    tuned.install()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tuned.communicated.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return base, tuned, start


def _logits(base: PretrainedModel, model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    batch = base.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-5 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("method", [name for name in METHODS if method_class(name).mergeable])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_merged_model_computes_the_same_and_is_plain(
    tiny_folder: Callable[[str], str], architecture: str, method: str
) -> None:
    base, tuned, _ = _trained(tiny_folder(architecture), method)
    before = _logits(base, tuned.model)
    merged = tuned.merge()
    assert _same(before, _logits(base, merged))
    fresh = load_pretrained(tiny_folder(architecture), TASK).model
    assert list(merged.state_dict()) == list(fresh.state_dict()), "no layer of the method's is left"
    assert not merged.training and not any(parameter.requires_grad for parameter in merged.parameters())
    assert not _same(before, _logits(base, fresh)), "else this test shows nothing"


@pytest.mark.parametrize("method", ["lora", "federa"])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "bert without pooler"])
def test_pefts_own_model_with_the_adapter_on_the_untouched_base_computes_the_same(
    tmp_path: Path, tiny_folder: Callable[[str], str], architecture: str, method: str
) -> None:
    from peft import PeftModel

    if architecture == "bert without pooler":
        folder = str(make_tiny_model(tmp_path / "model", pooler=False))
    else:
        folder = tiny_folder(architecture)
    base, tuned, start = _trained(folder, method)
    expected = _logits(base, tuned.model)
    adapter = tuned.peft_adapter(start)
    assert adapter is not None
    assert adapter.change.rank == (6 if method == "federa" else 3)
    adapter.save(tmp_path / "adapter", folder)
    # Another seed: what the checkpoint lacks comes from the adapter, not from chance.
    untouched = load_pretrained(folder, TASK, seed=77)
    theirs = PeftModel.from_pretrained(untouched.model, str(tmp_path / "adapter"))
    assert _same(expected, _logits(base, theirs))


@pytest.mark.parametrize("method", ["ft", "bitfit", "adapter"])
def test_what_is_no_low_rank_change_is_no_lora_adapter(tiny_folder: Callable[[str], str], method: str) -> None:
    _, tuned, start = _trained(tiny_folder("bert"), method)
    assert tuned.peft_adapter(start) is None
