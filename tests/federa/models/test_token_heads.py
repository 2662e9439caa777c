"""Heads of token classifiers: of base checkpoints, of checkpoints for the same tags in another order or without names,
and of what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tagged import tagger
from tiny_models import make_tiny_model

from edge.training.precision import Precision
from edge.training.trainer import Trainer
from federa.config import Experiment, Training
from federa.errors import BadInput
from federa.methods import METHODS
from federa.models.pretrained import PretrainedModel, load_pretrained
from federa.models.tuned import TunedModel
from federa.tasks.tagged_sentences import TaggedSentence
from federa.tasks.token_classification import TokenClassification

# The paper's, and those that a checkpoint's head, pooler or positions are otherwise in.
ARCHITECTURES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "deberta-v2",
    "deberta-v3",
    "mpnet",
    "electra",
    "modernbert",
)
RECORDS = (
    TaggedSentence(("the", "match", "bank"), (0, 0, 3)),
    TaggedSentence(("good", "team", "goal"), (1, 2, 0)),
    TaggedSentence(("bank", "market", "team"), (3, 4, 1)),
)
"""Of the types team and place."""
SWAPPED = tuple(TaggedSentence(words, tuple((0, 3, 4, 1, 2)[tag] for tag in tags)) for words, tags in RECORDS)


def f1(base: PretrainedModel, task: TokenClassification, records: tuple[TaggedSentence, ...]) -> float:
    counters = task.evaluate(base.model, task.encode(records, base.tokenizer, 16))
    assert not task.check(counters)
    value = task.metrics[0].value(counters)
    assert value is not None
    return value


def trained(folder: Path, architecture: str, names: tuple[str, ...] | None = None) -> Path:
    """A checkpoint that was fine-tuned until it is right about RECORDS. Its columns may have other `names`."""
    task = tagger("team", "place")
    base = load_pretrained(str(make_tiny_model(folder / "encoder", architecture)), task)
    assert base.missing and all(base.model.get_parameter(name) is not None for name in base.missing)
    examples = task.encode(RECORDS, base.tokenizer, 16)
    batch = task.collate(examples, range(3))
    optimizer = torch.optim.AdamW(base.model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = task.loss(base.model(**batch.inputs), batch)
        loss.backward()
        optimizer.step()
        if float(loss.detach()) < 0.05:
            break
    assert f1(base, task, RECORDS) == 1
    if names is not None:
        base.model.config.id2label = dict(enumerate(names))
        base.model.config.label2id = {name: number for number, name in enumerate(names)}
    base.model.save_pretrained(folder / "tagger")
    base.tokenizer.save_pretrained(folder / "tagger")
    return folder / "tagger"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_columns_are_matched_by_their_tags_so_that_a_trained_head_is_right_at_once(
    tmp_path: Path, architecture: str
) -> None:
    folder = trained(tmp_path, architecture)
    in_order = load_pretrained(str(folder), tagger("team", "place"))
    assert f1(in_order, tagger("team", "place"), RECORDS) == 1 and in_order.missing == frozenset()
    base = load_pretrained(str(folder), tagger("place", "team"))
    assert f1(base, tagger("place", "team"), SWAPPED) == 1
    assert base.missing == frozenset() and base.digest == in_order.digest
    assert any("(O, B-team, I-team, B-place, I-place): they are taken by name" in note for note in base.notes)


def test_columns_without_names_are_taken_in_order_and_said(tmp_path: Path) -> None:
    folder = trained(tmp_path, "bert", tuple(f"LABEL_{number}" for number in range(5)))
    base = load_pretrained(str(folder), tagger("team", "place"))
    assert f1(base, tagger("team", "place"), RECORDS) == 1
    assert any("gives the columns of its head no names: they are taken in order" in note for note in base.notes)


def test_a_head_for_other_tags_is_drawn_anew_and_said(tmp_path: Path) -> None:
    folder = trained(tmp_path, "roberta")
    base = load_pretrained(str(folder), tagger("x", "y"))
    assert base.missing == {"classifier.weight", "classifier.bias"}
    assert any("has a head for other labels (O, B-team" in note for note in base.notes)
    assert len(load_pretrained(str(folder), tagger("x")).missing) == 2


# tests/system/test_every_cell.py has the others.
@pytest.mark.parametrize("architecture", ["xlm-roberta", "deberta-v2", "modernbert"])
def test_every_method_trains_it_in_fp32_and_bf16(tiny_folder: Callable[[str], str], architecture: str) -> None:
    task, cpu = tagger("team", "place"), torch.device("cpu")
    for method in METHODS:
        config = Experiment.model_validate({"methods": [{"name": method}], "lora": {"r": 2}})
        for precision in ("fp32", "bf16"):
            base = load_pretrained(tiny_folder(architecture), task)
            examples = task.encode(RECORDS, base.tokenizer, 16)
            if (architecture, method) == ("modernbert", "bitfit"):
                with pytest.raises(BadInput, match="bitfit trains biases, and this modernbert has none"):
                    TunedModel(base, config.make_method())
                continue
            model = TunedModel(base, config.make_method())
            start = model.init(0)
            model.install()
            chosen = Precision(name=precision, device=cpu)
            model.freeze(chosen.dtype)
            trained = Trainer(model, task, Training(), 1e-3, chosen).train(examples, 1)
            assert math.isfinite(trained.loss)
            state = model.state()
            assert any((state[name] != value.numpy()).any() for name, value in start.items()), method
            assert {"classifier.weight", "classifier.bias"} <= set(state)


@pytest.mark.parametrize("architecture", ["bart", "gptj"])
def test_an_architecture_without_token_classification_is_refused_in_words(tmp_path: Path, architecture: str) -> None:
    folder = make_tiny_model(tmp_path, architecture)
    with pytest.raises(BadInput, match="its architecture has no model for this task"):
        load_pretrained(str(folder), tagger("x"))
