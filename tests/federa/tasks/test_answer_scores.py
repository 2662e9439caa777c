"""Answers' scores beside SQuAD's official rules, which are written down here a second time, and slowly."""

from __future__ import annotations

import re
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federa.tasks.answer_scores import normalized, score_answer


def _words(text: str) -> list[str]:
    """Lower case, no punctuation, no article that stands for itself, words between blanks."""
    kept = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    pieces = re.findall(r"\w+|\W+", kept)
    return "".join(" " if piece in ("a", "an", "the") else piece for piece in pieces).split()


def _f1(found: list[str], right: list[str]) -> float:
    left, common = list(right), 0
    for word in found:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(right)
    return 2 * precision * recall / (precision + recall)


def _version_1(answer: str, gold: list[str]) -> tuple[float, float]:
    found = _words(answer)
    return (
        max(float(" ".join(found) == " ".join(_words(text))) for text in gold),
        max(_f1(found, _words(text)) for text in gold),
    )


def _version_2(answer: str, gold: list[str]) -> tuple[float, float]:
    right = [text for text in gold if _words(text)] or [""]
    found, scores = _words(answer), []
    for text in right:
        one = _words(text)
        scores.append(_f1(found, one) if found and one else float(found == one))
    return max(float(found == _words(text)) for text in right), max(scores)


_TEXTS = st.lists(
    st.sampled_from(
        ["the", "The", "a", "an", "AN", "cat", "Cat's", "cat", "x-ray", "3.5", "U.S.", "!", "", "\u2013", "a\u2013b",
         "\u00a0", "\u0130stanbul", "na\u00efve", "the_end", "\u00e9", "(a)", "\u4e2d\u6587"]
    ),
    max_size=6,
).flatmap(lambda words: st.sampled_from([" ", "  ", "-", ""]).map(lambda between: between.join(words)))  # fmt: skip


@given(_TEXTS, st.lists(_TEXTS, min_size=1, max_size=4))
def test_scores_are_those_of_version_1(answer: str, gold: list[str]) -> None:
    assert tuple(score_answer(answer, gold, may_be_none=False)) == pytest.approx(_version_1(answer, gold))


@given(st.one_of(st.just(""), _TEXTS), st.lists(_TEXTS, max_size=4))
def test_scores_are_those_of_version_2(answer: str, gold: list[str]) -> None:
    assert tuple(score_answer(answer, gold, may_be_none=True)) == pytest.approx(_version_2(answer, gold))


@given(_TEXTS, _TEXTS)
def test_scores_are_those_of_transformers(answer: str, gold: str) -> None:
    metrics = pytest.importorskip("transformers.data.metrics.squad_metrics")
    assert normalized(answer) == metrics.normalize_answer(answer)
    if not normalized(gold):
        return  # it compares with one text, and leaves it to its caller which
    right = metrics.compute_exact(gold, answer), metrics.compute_f1(gold, answer)
    assert tuple(score_answer(answer, [gold], may_be_none=True)) == pytest.approx(right)


@pytest.mark.parametrize("official", [_version_1, _version_2])
def test_known_answers(official: Callable[[str, list[str]], tuple[float, float]]) -> None:
    may_be_none = official is _version_2
    for answer, gold, exact, f1 in (
        ("the Denver Broncos!", ["Denver Broncos", "The Broncos"], 1, 1),
        ("Denver", ["Denver Broncos"], 0, 2 / 3),
        ("to be or to do", ["to be to be"], 0, 2 * 3 / 5 * 3 / 4 / (3 / 5 + 3 / 4)),
        ("", ["Denver"], 0, 0),
    ):
        found = score_answer(answer, gold, may_be_none=may_be_none)
        assert tuple(found) == pytest.approx((exact, f1)) == official(answer, gold)


def test_versions_differ_in_an_answer_of_articles() -> None:
    assert score_answer("a", ["The"], may_be_none=False) == (1, 0)
    assert score_answer("a", ["The"], may_be_none=True) == (1, 1)
    assert score_answer("a cat", ["The", "dog"], may_be_none=True) == (0, 0)
    assert score_answer("", [], may_be_none=True) == (1, 1)
    assert score_answer("cat", [], may_be_none=True) == (0, 0)
