"""Architectures by forms of a checkpoint: each runs right or is refused in one line, as docs/models.md says."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from classify import classify
from documents import ROOT
from safetensors.torch import load_file, save_file
from tiny_models import ALL_ARCHITECTURES, make_tiny_model

from federa.data.batches import collate, tokenize
from federa.errors import BadInput
from federa.methods.adapter import Adapter, AdapterSection, bottlenecks
from federa.methods.bitfit import BitFit
from federa.methods.federa import FeDeRA
from federa.methods.ft import FullFineTuning
from federa.methods.lora import LoRASection
from federa.models.checkpoint import is_head
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel

TASK = classify(3)
TEXTS = ("the match", "not a good film", "the bank and the market and a team", "")


def table() -> dict[str, dict[str, str]]:
    """The rows of docs/models.md's table, by architecture, each by column."""
    text = (ROOT / "docs/models.md").read_text()
    section = re.search(r"^## Architectures\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in re.findall(r"^\|.*\|$", section[1], re.MULTILINE)
    ]
    head, _, *body = rows
    return {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in body}


WEIGHTS = "model.safetensors"


def _rewritten(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def form(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return form


def _in_shards(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    index = {}
    for number in range(3):
        part = {name: tensors[name] for name in sorted(tensors)[number::3]}
        save_file(part, folder / f"model-{number}.safetensors", metadata={"format": "pt"})
        index.update(dict.fromkeys(part, f"model-{number}.safetensors"))
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _cut(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) * 2 // 3])


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/base"})
    )


def _other_head(folder: Path) -> None:
    """A classifier of five other classes."""
    base = load_pretrained(str(folder), classify(5))
    base.model.config.id2label = dict(enumerate("vwxyz"))
    base.model.config.label2id = {name: number for number, name in enumerate("vwxyz")}
    base.model.save_pretrained(folder)


def _renamed(folder: Path) -> None:
    """The tensors of a layer have other names, as in a model of one's own."""
    _rewritten(lambda tensors: {re.sub(r"\b0\b", "zero", name): tensor for name, tensor in tensors.items()})(folder)


FORMS: dict[str, Callable[[Path], None]] = {
    "plain": lambda folder: None,
    "16 bits": _rewritten(lambda tensors: {name: tensor.half() for name, tensor in tensors.items()}),
    "shards": _in_shards,
    "prefix": _rewritten(lambda tensors: {f"module._orig_mod.{name}": tensor for name, tensor in tensors.items()}),
    "other head": _other_head,
    "other names": _renamed,
    "cut short": _cut,
    "adapter beside": _adapter,
}
REFUSED = {
    "other names": r"missing: \d+ of \d+ tensors, .+; unknown: \d+ tensors, .*zero.*\): it is another model's",
    "cut short": r"model.safetensors is cut short: \d+ of \d+ bytes",
    "adapter beside": r"holds a PEFT adapter \(adapter_config.json, of some/base\) beside a model: merge it",
}
REASONS = {
    "no": r"^{}\.targets: auto finds no .*; it has .*: name some of these, or take the",
    "shared layers": r"^{}\.targets: the layers of this \w+ share their weights, .*take the method ft or bitfit",
}
"""Why a method that puts layers into a model is refused for an architecture."""


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
def test_every_form_of_an_architecture_runs_or_is_refused(tmp_path: Path, architecture: str) -> None:
    row = table()[architecture]
    plain = make_tiny_model(tmp_path / "plain", architecture)
    base = load_pretrained(str(plain), TASK)
    assert all(is_head(base.model, name) for name in base.missing)
    assert row["longest text"] == (
        "any" if base.max_tokens is None else f"{base.max_tokens - 80:+d}".replace("+0", "all")
    )
    _check_positions(base)
    _check_padding(base, matters=row["padding"] == "takes part")
    _check_light_methods(base, row)
    _check_training(base, re.findall(r"`(\w+)`", row["LoRA, FeDeRA"]), row["LoRA, FeDeRA"])
    for form, change in FORMS.items():
        folder = Path(shutil.copytree(plain, tmp_path / form)) if form != "plain" else plain
        change(folder)
        if form in REFUSED:
            assert row[form] == "refused"
            with pytest.raises(BadInput, match=REFUSED[form]) as refused:
                load_pretrained(str(folder), TASK)
            assert "\n" not in str(refused.value)
            continue
        assert row[form] == "runs"
        there = load_pretrained(str(folder), TASK)
        assert there.missing >= base.missing if form != "other head" else there.missing
        if form != "16 bits":
            assert form == "other head" or there.digest == base.digest
            for name, tensor in load_pretrained(str(plain), TASK).model.state_dict().items():
                assert name in base.missing or torch.equal(there.model.state_dict()[name], tensor), name


def test_the_table_has_every_architecture_and_form() -> None:
    rows = table()
    assert set(rows) == set(ALL_ARCHITECTURES)
    for row in rows.values():
        assert set(row) == {
            "architecture",
            "longest text",
            "padding",
            "LoRA, FeDeRA",
            "adapters after",
            "BitFit",
            *FORMS,
        }


def _check_positions(base: PretrainedModel) -> None:
    """The longest text runs, and one of a token more does not."""
    most = base.max_tokens or 100
    text = "a " * 200
    for tokens in (most, most + 1):
        examples = tokenize([text], [0], base.tokenizer, tokens)
        assert examples.lengths == [tokens]
        with torch.no_grad():
            if tokens == most or base.max_tokens is None:
                assert base.model(**collate(examples, [0]).inputs).logits.isfinite().all()
                continue
            with pytest.raises((IndexError, RuntimeError)):
                base.model(**collate(examples, [0]).inputs)


def _check_padding(base: PretrainedModel, *, matters: bool) -> None:
    """A text's logits in a batch are those that it has alone."""
    examples = tokenize(TEXTS, (0, 1, 2, 0), base.tokenizer, 20)
    with torch.no_grad():
        together = base.model(**collate(examples, range(4)).inputs).logits
        alone = torch.cat([base.model(**collate(examples, [index]).inputs).logits for index in range(4)])
    assert (float((together - alone).abs().max()) > 1e-4 * float(alone.abs().max())) == matters


def _check_light_methods(base: PretrainedModel, row: dict[str, str]) -> None:
    """Where bottlenecks go, and whether there are biases, on copies of the model."""
    ends = re.findall(r"`([\w.]+)`", row["adapters after"])
    adapted = copy.deepcopy(base.model)
    if ends:
        Adapter(AdapterSection(size=4)).build(adapted)
        names = [name for name, _ in bottlenecks(adapted)]
        assert all(any(name.endswith(f".{end}") for name in names) for end in ends)
        assert all(any(name.endswith(f".{end}") for end in ends) for name in names)
    else:
        with pytest.raises(BadInput, match=REASONS[row["adapters after"]].format("adapter")):
            Adapter(AdapterSection()).build(adapted)
    if row["BitFit"] == "no biases":
        with pytest.raises(BadInput, match=r"^methods: bitfit trains biases, and this \w+ has none: take "):
            BitFit(BitFit.Config()).build(base.model)
    else:
        assert row["BitFit"] == "runs"
        BitFit(BitFit.Config()).build(base.model)


def _check_training(base: PretrainedModel, targets: list[str], reason: str) -> None:
    """A step lowers the loss; with factors beside the matrices of these names, or whole where a model has none."""
    light = FeDeRA(LoRASection(r=2))
    if targets:
        assert light.targets(base.model) == targets
    else:
        with pytest.raises(BadInput, match=REASONS[reason].format("lora")):
            light.build(base.model)
    tuned = TunedModel(base, light if targets else FullFineTuning(LoRASection()))
    examples = tokenize(TEXTS, (0, 1, 2, 0), base.tokenizer, 20)
    batch = collate(examples, range(4))
    before = base.model(**batch.inputs).logits
    tuned.init(1)
    tuned.install()
    torch.testing.assert_close(base.model(**batch.inputs).logits, before, rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.AdamW(tuned.communicated.values(), lr=1e-3)
    first = TASK.loss(base.model(**batch.inputs), batch)
    first.backward()
    optimizer.step()
    assert TASK.loss(base.model(**batch.inputs), batch) < first
    assert TASK.evaluate(base.model, examples)["examples"] == 4
