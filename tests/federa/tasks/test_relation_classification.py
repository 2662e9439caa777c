"""Relation classification: what is read, how a sentence is cut, and the official score of SemEval-2010 Task 8."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from relations import LABELS, SENTENCES, relations, write_relations
from sklearn.metrics import accuracy_score, f1_score
from tiny_models import tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from federa.config import parse_experiment
from federa.data.batches import Batch
from federa.data.readers import open_file
from federa.errors import BadInput
from federa.models.added_tokens import teach_tokens
from federa.tasks.metric import Counters, total
from federa.tasks.relation_classification import RelationClassification, RelationData

NUMBERS = st.integers(0, len(LABELS) - 1)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40)


def _counted(task: RelationClassification, pairs: list[tuple[int, int]]) -> Counters:
    predicted, gold = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    logits = torch.nn.functional.one_hot(predicted, len(task.class_names())).float()
    return task.count(SimpleNamespace(logits=logits), Batch(inputs={}, targets=gold))


def _values(task: RelationClassification, counters: Counters) -> dict[str, float]:
    return {metric.name: metric.of(counters) for metric in task.metrics}


def _scored(pairs: list[tuple[str, str]]) -> float:
    """The official score, computed from a confusion matrix as the scorer's description says: what has the right
    relation and the wrong direction leaves the matrix, and counts beside the column of its relation."""
    cells: Counter[tuple[str, str]] = Counter()
    wrong_direction: Counter[str] = Counter()
    for predicted, gold in pairs:
        one, other = predicted.partition("(")[0], gold.partition("(")[0]
        if one == other and predicted != gold:
            wrong_direction[other] += 1
        else:
            cells[one, other] += 1
    relations = {gold.partition("(")[0] for _, gold in pairs} - {"Other"}
    scores = []
    for relation in relations:
        column = sum(count for (one, _), count in cells.items() if one == relation)
        row = sum(gold.partition("(")[0] == relation for _, gold in pairs)
        right = cells[relation, relation]
        precision, recall = (right / (column + wrong_direction[relation]) if column else 0.0), right / row
        scores.append(2 * precision * recall / (precision + recall) if right else 0.0)
    return sum(scores) / len(scores) if scores else 0.0


@settings(deadline=None, max_examples=200)
@given(PAIRS)
def test_the_score_is_the_official_one(pairs: list[tuple[int, int]]) -> None:
    task = relations()
    counters = _counted(task, pairs)
    assert task.check(counters) == ""
    values = _values(task, counters)
    assert values["macro_f1"] == pytest.approx(
        _scored([(LABELS[one], LABELS[other]) for one, other in pairs]), abs=1e-12
    )
    predicted, gold = zip(*pairs, strict=True)
    assert values["accuracy"] == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)
    half = len(pairs) // 2
    assert total(_counted(task, part) for part in (pairs[:half], pairs[half:]) if part) == counters


def test_a_wrong_direction_is_wrong_twice() -> None:
    # Cause-Effect: one right, one with the wrong direction, and an Other taken for it. Entity-Origin: taken for Other.
    counters = _counted(relations(), [(0, 0), (1, 0), (0, 4), (4, 2)])
    assert _values(relations(), counters) == {"macro_f1": pytest.approx((2 / 5 + 0) / 2), "accuracy": 0.25}


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_labels_without_direction_and_without_other_are_relations(pairs: list[tuple[int, int]]) -> None:
    task = relations(labels=("born_in", "lives_in", "works_for", "owns", "leads"))
    counters = _counted(task, pairs)
    predicted, gold = zip(*pairs, strict=True)
    expected = f1_score(gold, predicted, average="macro", labels=sorted(set(gold)), zero_division=0)
    assert _values(task, counters)["macro_f1"] == pytest.approx(expected, abs=1e-12)
    assert task.check(counters) == ""
    assert task.check({**counters, "gold/0": counters.get("gold/0", 0) + 1})


def test_pairs_without_relation_alone_score_nothing() -> None:
    task = relations()
    counters = _counted(task, [(4, 4), (4, 4)])
    assert counters == {"correct": 2, "examples": 2} and task.check(counters) == ""
    assert _values(task, counters) == {"macro_f1": 0.0, "accuracy": 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gold/0": 3.0}, "4 gold in all classes, of 3 examples"),
        ({"correct/0": 3.0}, "3 right ones of class 0, more than predicted"),
        ({"correct": 3.0}, "3 right ones, 2 of them in the classes"),
        ({"gold/2": 1.0}, "the counters must be"),
    ],
)
def test_counters_that_cannot_be_are_refused(change: dict[str, float], words: str) -> None:
    counters = _counted(relations(), [(0, 0), (1, 0), (2, 2), (4, 4)][:3])
    assert relations().check(counters) == ""
    assert words in relations().check({**counters, **change})


def test_what_is_read(tmp_path: Path) -> None:
    task = RelationClassification(RelationData())
    dataset = task.read(open_file(write_relations(tmp_path / "r.jsonl")))
    assert dataset.found["labels"] == tuple(sorted(LABELS)) and len(dataset) == 40
    other = tmp_path / "other.jsonl"
    row = {"sentence": "the [S]goal[/S] and the [O]team[/O]", "relation": "x"}
    other.write_text("".join(json.dumps({**row, "relation": relation}) + "\n" for relation in "xyxy"))
    section = {"text_column": "sentence", "label_column": "relation", "markers": ["[S]", "[/S]", "[O]", "[/O]"]}
    named = RelationClassification(RelationData.model_validate(section))
    assert len(named.read(open_file(other))) == 4 and named.added_tokens == ("[S]", "[/S]", "[O]", "[/O]")


@pytest.mark.parametrize("private", [False, True])
def test_a_sentence_with_wrong_markers_is_refused_with_its_line_and_without_its_text(
    tmp_path: Path, private: bool
) -> None:
    path = write_relations(tmp_path / "r.jsonl", 1)
    path.write_text(path.read_text() + json.dumps({"text": "secret <e1>a</e1> b", "label": "Other"}) + "\n")
    with pytest.raises(BadInput) as caught:
        RelationClassification(RelationData()).read(open_file(path, private=private))
    message = str(caught.value)
    assert message.startswith(
        f"data: {path} line 6 has no marker <e2>: a sentence must have one entity in <e1>...</e1>"
    )
    assert "secret" not in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "markers",
    [["<e1>", "</e1>", "<e2>"], ["<e1>", "<e1>", "<e2>", "</e2>"], ["a", "ab", "c", "d"], [" a", "b", "c", "d"]],
)
def test_markers_that_cannot_be_told_apart_are_refused(markers: list[str]) -> None:
    with pytest.raises(BadInput, match=r"^data\.markers"):
        parse_experiment({"task": "relation-classification", "data": {"markers": markers}})


def test_blanks_in_a_direction_make_no_other_relation() -> None:
    task = relations(labels=("owns(e1, e2)", "owns (e2,e1)", "likes"))
    assert task.class_counters == {f"{kind}/{number}" for kind in ("gold", "predicted", "correct") for number in (0, 1)}


def test_what_a_sentence_is_about_has_no_markers() -> None:
    assert relations().embedded_text(("<e1>music</e1> from a <e2>film</e2>", 0)) == "music from a film"


def test_a_long_sentence_is_cut_around_its_entities_and_counted() -> None:
    tokenizer = tiny_tokenizer("bert")
    teach_tokens(tokenizer, relations().added_tokens)
    long = f"{'good ' * 30}the <e1>goal</e1> {'bad ' * 40}<e2>team</e2> {'good ' * 30}"
    records = [("the <e1>bank</e1> and the <e2>market</e2>", 0), (long, 1), (SENTENCES[2][0], 2)]
    examples = relations().encode(records, tokenizer, 16)
    assert examples.cut == 1 and examples.targets == (0, 1, 2)
    assert len(examples.token_ids[1]) == 16
    kept = f"[CLS] <e1> goal </e1> {'bad ' * 8}<e2> team </e2> [SEP]"
    assert tokenizer.decode(examples.token_ids[1]).split() == kept.split()
    assert examples.token_ids[0] == tokenizer(records[0][0])["input_ids"]
    assert relations().encode(records, tokenizer, 200).cut == 0


def test_markers_are_never_split_and_leave_the_words_tokens_as_they_are() -> None:
    # A tokenizer whose tokens begin with their blanks, as RoBERTa's do.
    words = ["the", "Ġthe", "goal", "Ġgoal", "team", "Ġteam", "Ġ", ",", "."]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(["<s>", *words, *letters]))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<s>", pad_token="<s>")
    teach_tokens(tokenizer, relations().added_tokens)
    records = [("the <e1>goal</e1>, the <e2>team</e2>.", 0), ("the <e1> goal </e1>, the <e2> team </e2>.", 0)]
    for row in relations().encode(records, tokenizer, 64).token_ids:
        assert tokenizer.convert_ids_to_tokens(row) == (
            ["the", "<e1>", "Ġgoal", "</e1>", ",", "Ġthe", "<e2>", "Ġteam", "</e2>", "."]
        )
