"""Windows beside those that a tokenizer makes itself, and the places of answers in them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from tiny_models import tiny_tokenizer
from transformers import AutoTokenizer

from federa.data.section import EMBEDDED
from federa.errors import BadInput
from federa.models.location import model_folder
from federa.tasks.windows import Question, make_windows

_WORDS = ("the", "match", "bank", "Market's", "film,", "music.", "unheard", "x-y", "(42)", "\u00e9", "not")


def _questions(seed: int, count: int = 30) -> list[Question]:
    rng, made = random.Random(seed), []
    for _ in range(count):
        words = [rng.choice(_WORDS) for _ in range(rng.randint(1, 40))]
        first = rng.randrange(len(words))
        last = rng.randint(first, min(len(words) - 1, first + 3))
        context = rng.choice(["", " ", "\n"]) + rng.choice([" ", "  "]).join(words)
        start = len(context) - len(context.lstrip())
        for word in words[:first]:
            start = context.index(word, start) + len(word)
        start = context.index(words[first], start)
        end = start
        for word in words[first : last + 1]:
            end = context.index(word, end) + len(word)
        asked = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 5)))
        made.append(Question(asked, context, (context[start:end],), (start,)))
    return made


def _their_own(question: Question, tokenizer: Any, max_length: int, stride: int) -> list[dict[str, Any]]:
    """The windows as the tokenizer makes them, each with the answer's places."""
    found = tokenizer(
        question.text, question.context, truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
    )  # fmt: skip
    start, end = question.starts[0], question.starts[0] + len(question.answers[0])
    windows = []
    for number, ids in enumerate(found["input_ids"]):
        none = ids.index(tokenizer.cls_token_id)
        offsets, sides = found["offset_mapping"][number], found.sequence_ids(number)
        context = [place for place, side in enumerate(sides) if side == 1]
        places = none, none
        if offsets[context[0]][0] <= start and offsets[context[-1]][1] >= end:
            touched = [place for place in context if offsets[place][0] < end and offsets[place][1] > start]
            places = touched[0], touched[-1]
        windows.append({"ids": ids, "segments": found["token_type_ids"][number], "places": places})
    return windows


@pytest.mark.parametrize("name", ["bert", "roberta", EMBEDDED])
@pytest.mark.parametrize(("max_length", "stride"), [(24, 6), (30, 0), (200, 60)])
def test_windows_are_those_of_the_tokenizer(
    tiny_folder: Callable[[str], str], name: str, max_length: int, stride: int
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder(tiny_folder(name)))
    tokenizer.model_input_names = [*tokenizer.model_input_names, "token_type_ids"]  # as beside a model with segments
    # Words are many tokens to a tiny model: a longer question would leave no room.
    questions = [question._replace(text="the bank") for question in _questions(max_length)]
    found = make_windows(questions, tokenizer, max_length, stride=stride, max_question_length=99)
    right = [window for question in questions for window in _their_own(question, tokenizer, max_length, stride)]
    assert list(found.token_ids) == [window["ids"] for window in right]
    assert found.segments is not None and list(found.segments) == [window["segments"] for window in right]
    assert [(window.start, window.end) for window in found.targets] == [window["places"] for window in right]
    assert found.cut == 0 and len(found) >= 30


@pytest.mark.parametrize("name", ["bert", EMBEDDED])
def test_an_answer_is_read_back_from_its_tokens(tiny_folder: Callable[[str], str], name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder(tiny_folder(name)))
    questions = _questions(1)
    found = make_windows(questions, tokenizer, 400, stride=10, max_question_length=99)
    for question, window in zip(questions, found.targets, strict=True):
        first = window.first + window.start - window.begin
        text = window.question.context.text_of(first, first + window.end - window.start)
        assert text == question.answers[0]


def test_tokens_that_touch_an_answer_are_no_part_of_it() -> None:
    question = Question("a", "x-y,z", ("y",), (2,))
    (window,) = make_windows([question], tiny_tokenizer("bert"), 16, stride=4, max_question_length=4).targets
    assert (window.start, window.end) == (window.begin + 2, window.begin + 2)


def test_a_long_question_is_cut_and_counted() -> None:
    tokenizer = tiny_tokenizer("bert")
    short, long = Question("bank", "the goal", (), ()), Question("the bank " * 9, "the goal", (), ())
    found = make_windows([short, long, long], tokenizer, 32, stride=4, max_question_length=5)
    assert found.cut == 2 and found.lengths == [6, 10, 10]


def test_a_window_without_the_answer_points_at_its_cls_token() -> None:
    question = Question("bank", "a " * 20 + "goal", ("goal",), (40,))
    found = make_windows([question], tiny_tokenizer("bert"), 14, stride=2, max_question_length=5)
    assert [(window.start, window.end) for window in found.targets] == [(0, 0), (0, 0), (7, 7)]
    impossible = make_windows([question._replace(answers=(), starts=())], tiny_tokenizer("bert"), 14, stride=2,
                              max_question_length=5)  # fmt: skip
    assert [(window.start, window.end) for window in impossible.targets] == [(0, 0)] * 3


def test_a_cls_token_at_the_end_is_found_there() -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer("bert")
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP] [CLS]:2", pair="$A [SEP] $B:1 [SEP]:1 [CLS]:2", special_tokens=special
    )
    tokenizer.padding_side, tokenizer.model_input_names = "left", ["input_ids", "token_type_ids"]
    (window,) = (found := make_windows([Question("a", "the bank", (), ())], tokenizer, 32, stride=4,
                                       max_question_length=5)).targets  # fmt: skip
    assert (window.begin, window.tokens, window.none) == (2, 2, 5) and found.pad_left
    assert list(found.segments or ()) == [[0, 0, 1, 1, 1, 2]]


def test_a_context_without_tokens_is_one_window() -> None:
    found = make_windows([Question("a", "\u200d", (), ())], tiny_tokenizer("bert"), 16, stride=4, max_question_length=4)
    (window,) = found.targets
    assert (window.tokens, window.start) == (0, window.none)


def test_windows_of_a_context_share_it() -> None:
    one, other = Question("a", "the bank " * 20, (), ()), Question("not", "the bank " * 20, (), ())
    found = make_windows([one, other], tiny_tokenizer("bert"), 16, stride=4, max_question_length=4)
    assert len({id(window.question.context) for window in found.targets}) == 1
    assert len({id(window.question) for window in found.targets}) == 2 < len(found)


def test_no_room_for_a_context_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer("bert")
    with pytest.raises(BadInput, match=r"data\.max_length must be more than 6"):
        make_windows([Question("a a a", "the bank", (), ())], tokenizer, 6, stride=4, max_question_length=3)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(BadInput, match=r"take a model with a tokenizer\.json"):
        make_windows([Question("a", "the bank", (), ())], tokenizer, 16, stride=4, max_question_length=3)
