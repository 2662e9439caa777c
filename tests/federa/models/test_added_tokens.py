"""Tokens that a task adds: rows of their own beside the table, trained with every method, a plain table in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from relations import SENTENCES, relations
from tiny_models import ALL_ARCHITECTURES, make_tiny_model
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from edge.training.precision import Precision
from edge.training.trainer import Trainer
from federa.config import Training
from federa.errors import BadInput
from federa.methods import METHODS, method_class
from federa.models.added_tokens import ExtendedEmbedding
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel

TASK = relations()
ARCHITECTURES = ("bert", "roberta", "deberta-v3", "distilbert", "mpnet", "electra", "modernbert", "albert")
SCALED_TABLE = {"bart", "gemma"}
"""In some versions of transformers their tables multiply what they look up."""
REFUSED = {("albert", "lora"), ("albert", "federa"), ("modernbert", "bitfit")}
"""Shared layers, and no biases."""
MERGED = [
    (architecture, method)
    for architecture in ARCHITECTURES
    for method in METHODS
    if method_class(method).mergeable and (architecture, method) not in REFUSED
]
RECORDS = [(text, number) for number, (text, _) in enumerate(SENTENCES)]


def _tuned(folder: str, method: str, seed: int = 1) -> tuple[PretrainedModel, TunedModel]:
    base = load_pretrained(folder, TASK, seed=seed)
    found = method_class(method)
    tuned = TunedModel(base, found(found.Config()))
    tuned.init(seed=seed)
    tuned.install()
    return base, tuned


def _rows(tuned: TunedModel) -> list[str]:
    return [name for name in tuned.communicated if name.endswith(".added.weight")]


def _logits(model: nn.Module, tokenizer: object) -> torch.Tensor:
    model.eval()
    examples = TASK.encode(RECORDS, tokenizer, 64)  # type: ignore[arg-type]
    with torch.inference_mode():
        return model(**TASK.collate(examples, range(len(RECORDS))).inputs).logits


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-5 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_rows_are_drawn_from_the_seed_trained_with_every_method_and_no_part_of_the_base(
    tiny_folder: Callable[[str], str], architecture: str
) -> None:
    folder = tiny_folder(architecture)
    plain = load_pretrained(folder, TASK, as_stored=True)
    for method in ("ft", "bitfit" if architecture == "albert" else "lora"):
        base, tuned = _tuned(folder, method)
        (name,) = _rows(tuned)
        table = base.model.get_input_embeddings().weight  # type: ignore[operator, union-attr]
        assert name in base.missing and base.digest == plain.digest
        assert tuned.shapes[name] == (4, table.shape[1])
        assert base.tokenizer.convert_tokens_to_ids("<e1>") == len(plain.tokenizer)
        rows = tuned.communicated[name].detach()
        assert (rows - table.detach().mean(0)).std() == pytest.approx(float(table.detach().std()), rel=0.5)
        assert torch.equal(rows, _tuned(folder, method)[1].communicated[name])
        assert not torch.equal(rows, _tuned(folder, method, seed=2)[1].communicated[name])


@pytest.mark.parametrize(("architecture", "method"), MERGED)
def test_merged_it_is_a_plain_model_that_can_be_saved(
    tmp_path: Path, tiny_folder: Callable[[str], str], architecture: str, method: str
) -> None:
    base, tuned = _tuned(tiny_folder(architecture), method)
    with torch.no_grad():
        for parameter in tuned.communicated.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    before = _logits(tuned.model, base.tokenizer)
    merged = tuned.merge()
    assert _same(before, _logits(merged, base.tokenizer))
    assert not any(isinstance(module, ExtendedEmbedding) for module in merged.modules())
    merged.save_pretrained(tmp_path)  # type: ignore[operator]
    base.tokenizer.save_pretrained(tmp_path)
    theirs, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    assert (
        theirs.config.vocab_size
        == len(tokenizer)
        == len(load_pretrained(tiny_folder(architecture), TASK, as_stored=True).tokenizer) + 4
    )
    assert _same(before, _logits(theirs, tokenizer))
    again = load_pretrained(str(tmp_path), TASK)
    assert _same(before, _logits(again.model, again.tokenizer)), "it is a base model that knows the markers"
    assert not [name for name in again.missing if "embed" in name]


@pytest.mark.parametrize("architecture", [name for name in ALL_ARCHITECTURES if name not in ARCHITECTURES])
def test_every_other_architecture_takes_them_or_says_that_it_does_not(tmp_path: Path, architecture: str) -> None:
    folder = str(make_tiny_model(tmp_path, architecture))
    try:
        base, tuned = _tuned(folder, "ft")
    except BadInput as error:
        assert architecture in SCALED_TABLE
        assert f"the task adds tokens, and {architecture} has no plain table of tokens" in str(error)
        return
    before = _logits(tuned.model, base.tokenizer)
    assert len(_rows(tuned)) == 1 and _same(before, _logits(tuned.merge(), base.tokenizer))


def test_spare_rows_of_a_table_are_not_those_of_the_new_tokens(tmp_path: Path) -> None:
    # DeBERTaV3's table has more rows than its tokenizer has tokens.
    folder = make_tiny_model(tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    rows = model.config.vocab_size + 2
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.bert.save_pretrained(folder)
    base, tuned = _tuned(str(folder), "lora")
    (name,) = _rows(tuned)
    table = base.model.get_input_embeddings()  # type: ignore[operator]
    assert len(table.weight) == rows and tuned.shapes[name][0] == 4
    first = base.tokenizer.convert_tokens_to_ids("<e1>")
    assert first == rows - 2
    ids = torch.arange(first, first + 4)
    assert torch.equal(table(ids), tuned.communicated[name])
    before = _logits(tuned.model, base.tokenizer)
    merged = tuned.merge()
    assert len(merged.get_input_embeddings().weight) == rows + 2  # type: ignore[operator]
    assert _same(before, _logits(merged, base.tokenizer))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES[:6])
def test_the_rows_are_trained_in_fp32_beside_a_frozen_table_in_the_compute_dtype(
    tiny_folder: Callable[[str], str], architecture: str, precision: str
) -> None:
    chosen = Precision(name=precision, device=torch.device("cpu"))
    base, tuned = _tuned(tiny_folder(architecture), "lora")
    examples = TASK.encode(RECORDS * 2, base.tokenizer, 64)
    tuned.freeze(chosen.dtype)
    (name,) = _rows(tuned)
    table = base.model.get_input_embeddings()  # type: ignore[operator]
    assert table.weight.dtype == chosen.dtype and not table.weight.requires_grad
    before = tuned.communicated[name].detach().clone()
    Trainer(tuned, TASK, Training(batch_size=5), 1e-2, chosen).train(examples, 1)
    after = tuned.communicated[name].detach()
    assert after.dtype == torch.float32 and bool((after != before).any(dim=1).all()), "each of the four moved"


def test_a_padding_row_gets_no_gradient(tiny_folder: Callable[[str], str]) -> None:
    base, tuned = _tuned(tiny_folder("roberta"), "ft")
    examples = TASK.encode(RECORDS, base.tokenizer, 64)
    batch = TASK.collate(examples, range(len(RECORDS)))
    TASK.loss(tuned.model(**batch.inputs), batch).backward()
    table = base.model.get_input_embeddings()  # type: ignore[operator]
    assert base.tokenizer.pad_token_id == table.padding_idx == 1
    assert not table.weight.grad[1].any() and table.weight.grad.any() and table.added.weight.grad.any(dim=1).all()


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v3", "distilbert", "electra"])
def test_pefts_own_model_with_the_adapter_computes_the_same(
    tmp_path: Path, tiny_folder: Callable[[str], str], architecture: str
) -> None:
    from peft import PeftModel

    base, tuned = _tuned(tiny_folder(architecture), "federa")
    start = {name: value.copy() for name, value in tuned.state().items()}
    with torch.no_grad():
        for parameter in tuned.communicated.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    adapter = tuned.peft_adapter(start)
    assert adapter is not None
    adapter.save(tmp_path, tiny_folder(architecture))
    untouched = AutoModelForSequenceClassification.from_pretrained(tiny_folder(architecture), num_labels=5)
    untouched.resize_token_embeddings(len(base.tokenizer))
    theirs = PeftModel.from_pretrained(untouched, str(tmp_path))
    assert _same(_logits(tuned.model, base.tokenizer), _logits(theirs, base.tokenizer))
