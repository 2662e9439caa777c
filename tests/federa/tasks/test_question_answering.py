"""Questions as they are read, and what is counted of the answers of a model that knows them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_models import tiny_tokenizer
from torch import nn

from federa.data.batches import Examples
from federa.data.dataset import Dataset
from federa.data.readers import open_file
from federa.errors import BadInput
from federa.tasks.metric import total
from federa.tasks.question_answering import QuestionAnswering, QuestionData
from federa.tasks.windows import Question

CONTEXT = "The team of the bank won a good match."
ROW = {"question": "Who won?", "context": CONTEXT, "answers": {"text": ["The team", "team"], "answer_start": [0, 4]}}
NONE = {"text": [], "answer_start": []}


def _read(path: Path, *rows: Mapping[str, Any], private: bool = False, **fields: Any) -> Dataset:
    path /= "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return QuestionAnswering(QuestionData(**fields)).read(open_file(path, private=private))


def test_questions_with_several_answers_are_read(tmp_path: Path) -> None:
    listed = {**ROW, "answers": [{"text": "bank", "answer_start": 16}]}  # as some loaders give them
    found = _read(tmp_path, {**ROW, "question": "  Who won?\n"}, listed)
    first = Question("Who won?", CONTEXT, ("The team", "team"), (0, 4))
    assert found.records == (first, Question("Who won?", CONTEXT, ("bank",), (16,)))
    assert found.found == {"impossible_questions": False}
    assert found.records[0].context is found.records[1].context


@pytest.mark.parametrize("row", [{**ROW, "answers": NONE, "is_impossible": True}, {**ROW, "answers": None}])
def test_impossible_questions_are_declared(tmp_path: Path, row: dict[str, Any]) -> None:
    for impossible in (True, None) if row.get("is_impossible") else (True,):
        found = _read(tmp_path, ROW, row, impossible_questions=impossible)
        assert found.records[1] == Question("Who won?", CONTEXT, (), ())
        assert found.found == {"impossible_questions": True}
    assert _read(tmp_path, ROW, {**ROW, "is_impossible": False}, impossible_questions=True).found == {
        "impossible_questions": True
    }


_REFUSED = [
    ({"answers": NONE}, "has no answer: data.impossible_questions must be true"),
    ({"is_impossible": True}, "is declared impossible and has answers: take the one or the other out"),
    ({"answers": {"text": ["secret"], "answer_start": [99]}}, "has an answer_start outside its context: it counts"),
    ({"answers": {"text": ["team"], "answer_start": [-4]}}, "has an answer_start outside its context: it counts"),
    ({"answers": {"text": ["match."], "answer_start": [33]}}, "has an answer_start outside its context: it counts"),
    ({"answers": {"text": ["team"], "answer_start": [5]}}, "has an answer that its context does not have at its"),
    ({"answers": {"text": ["Team"], "answer_start": [4]}}, "has an answer that its context does not have at its"),
    ({"answers": {"text": ["team", " "], "answer_start": [4, 8]}}, "has an answer without text: leave that answer out"),
    ({"answers": {"text": ["team"], "answer_start": ["4"]}}, "has an answer whose answer_start is no whole number"),
    ({"answers": {"text": ["team"], "answer_start": []}}, "has no answers with their places: they must be"),
    ({"answers": ["secret"]}, "has no answers with their places: they must be"),
    ({"answers": "secret"}, "has no answers with their places: they must be"),
    ({"question": " "}, "has no question in column 'question'"),
    ({"context": ""}, "has no context in column 'context'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), _REFUSED)
@pytest.mark.parametrize("private", [False, True])
def test_a_bad_question_is_refused_by_its_place(
    tmp_path: Path, change: dict[str, Any], words: str, private: bool
) -> None:
    with pytest.raises(BadInput) as caught:
        _read(tmp_path, ROW, {**ROW, **change}, private=private)
    message = str(caught.value)
    assert message.startswith(f"data: {tmp_path}/questions.jsonl line 2 {words}"), message
    assert "secret" not in message and len(message.splitlines()) == 1


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no column 'replies' \(data.answers_column\)"):
        _read(tmp_path, ROW, answers_column="replies")
    with pytest.raises(BadInput, match=r"has no column 'text' \(data.context_column\)"):
        _read(tmp_path, ROW, context_column="text")


def test_an_impossible_question_is_refused_where_there_are_to_be_none(tmp_path: Path) -> None:
    row = {**ROW, "answers": NONE, "is_impossible": True}
    for fields in ({"impossible_questions": False}, {"source": "devices"}):
        with pytest.raises(BadInput, match=r"line 2 is declared impossible .* must be true where there are such"):
            _read(tmp_path, ROW, row, **fields)


def test_lengths_follow_from_the_longest() -> None:
    data = QuestionData(max_length=96)
    assert (data.window_stride, data.window_question_length) == (32, 16)
    assert QuestionData().max_length == 384
    with pytest.raises(ValidationError, match=r"max_length must be more than stride, max_question_length and 4 tokens"):
        QuestionData(max_length=96, stride=80)


def test_what_a_record_is_known_by() -> None:
    task = QuestionAnswering(QuestionData())
    record = Question("Who won?", CONTEXT, ("The team", "team"), (0, 4))
    assert task.identity(record) == CONTEXT
    assert task.embedded_text(record) == "Who won? The team"
    assert task.embedded_text(record._replace(answers=(), starts=())) == "Who won?"
    records = (record, record._replace(text="What?"), Question("Who?", "bank", (), ()))
    assert task.describe(records) == ("3 questions about 2 contexts, 1 of them without an answer", "")
    assert task.class_names() is None and task.class_counts(records) is None
    long, _ = made_up = task.made_up(40)
    assert task.encode(made_up, tiny_tokenizer("bert"), 32).lengths[0] == 32 and len(long.context) >= 40


class Oracle(nn.Module):
    """Gives the places in `wanted` of a window, by its token ids, the largest logits."""

    def __init__(self, examples: Examples, wanted: Callable[[Any], tuple[int, int]]) -> None:
        super().__init__()
        self.wanted = {
            tuple(ids): wanted(window) for ids, window in zip(examples.token_ids, examples.targets, strict=True)
        }

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, **_: Any) -> SimpleNamespace:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits = torch.zeros(2, *input_ids.shape)
        for row, (ids, kept) in enumerate(zip(input_ids, mask.bool(), strict=True)):
            before = int(kept.int().argmax())
            for side, place in enumerate(self.wanted[tuple(ids[kept].tolist())]):
                logits[side, row, before + place] = 9.0 - 0.1 * (place == 0)
        return SimpleNamespace(start_logits=logits[0], end_logits=logits[1])


LONG = "a bank " * 12 + "the team " + "a film " * 9
QUESTIONS = (
    Question("who", LONG, ("the team", "team"), (84, 88)),
    Question("the goal", "good music of the match", ("the match",), (14,)),
    Question("not the goal", "good music of the match", (), ()),
)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_model_that_knows_the_answers_scores_all(side: str, batch_size: int) -> None:
    task = QuestionAnswering(QuestionData(max_length=24, stride=6, max_question_length=5, impossible_questions=True))
    tokenizer = tiny_tokenizer("bert")
    tokenizer.padding_side = side
    examples = task.encode(QUESTIONS, tokenizer, 24)
    assert len(examples) > 3
    model = Oracle(examples, lambda window: (window.start, window.end))
    assert task.evaluate(model, examples, batch_size=batch_size) == {"exact": 3, "f1": 3, "examples": 3}
    # It says "no answer" of every window, and is right once.
    model = Oracle(examples, lambda window: (window.none, window.none))
    assert task.evaluate(model, examples, batch_size=batch_size) == {"exact": 1, "f1": 1, "examples": 3}
    # Where every question has an answer, it must give one: the first token of a context.
    answered = replace(examples, targets=examples.targets).select(range(len(examples) - 1))
    possible = QuestionAnswering(QuestionData(max_length=24, stride=6, max_question_length=5))
    assert possible.evaluate(model, answered, batch_size=batch_size)["examples"] == 2


def test_counters_of_parts_add_up_to_those_of_all() -> None:
    task = QuestionAnswering(QuestionData(max_length=24, stride=6, max_question_length=5, impossible_questions=True))
    examples = task.encode(QUESTIONS, tiny_tokenizer("bert"), 24)
    model = Oracle(examples, lambda window: (window.begin, window.begin + window.tokens - 1))
    parts = [task.encode([question], tiny_tokenizer("bert"), 24) for question in QUESTIONS]
    together = task.evaluate(model, examples)
    assert total(task.evaluate(model, part) for part in parts) == together
    assert 0 < together["f1"] < 2
    values = {metric.name: metric.value(together) for metric in task.metrics}
    assert values == {"f1": together["f1"] / 3, "exact_match": together["exact"] / 3}


def test_targets_of_a_batch_move_with_its_padding() -> None:
    task = QuestionAnswering(QuestionData(max_length=32, stride=6, max_question_length=5))
    tokenizer = tiny_tokenizer("bert")
    for side in ("right", "left"):
        tokenizer.padding_side = side
        examples = task.encode(QUESTIONS[:2], tokenizer, 32)
        batch = task.collate(examples, range(len(examples)))
        for ids, (start, end), window in zip(
            batch.inputs["input_ids"].tolist(), batch.targets.tolist(), examples.targets, strict=True
        ):
            if window.start != window.none:
                assert tokenizer.decode(ids[start : end + 1]) == window.question.answers[0]
            else:
                assert start == end and ids[start] == tokenizer.cls_token_id


@pytest.mark.parametrize(
    ("counters", "words"),
    [
        ({"exact": 1.0, "f1": 1.5, "examples": 2.0}, ""),
        ({"exact": 0.0, "f1": 0.0, "examples": 0.0}, ""),
        ({"exact": 3.0, "f1": 1.5, "examples": 2.0}, "3 exact answers to 2 questions"),
        ({"exact": 0.5, "f1": 1.5, "examples": 2.0}, "0.5 exact answers to 2 questions"),
        ({"exact": 1.0, "f1": 2.5, "examples": 2.0}, "a sum of 2.5 for the F1 of 2 questions"),
        ({"exact": 1.0, "f1": -0.5, "examples": 2.0}, "a sum of -0.5 for the F1 of 2 questions"),
        ({"exact": 1.0, "examples": 2.0}, "the counters must be exact, f1, examples, not exact, examples"),
        ({"exact": 1.0, "f1": float("nan"), "examples": 2.0}, "f1 is nan"),
    ],
)
def test_counters_that_cannot_be_are_refused(counters: dict[str, float], words: str) -> None:
    assert QuestionAnswering(QuestionData()).check(counters) == words
