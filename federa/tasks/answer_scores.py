"""How right an answer is, by the rules of SQuAD's official evaluation: exact match, and F1 of the words.

Version 1.1 (arXiv 1606.05250) and version 2.0 (arXiv 1806.03822), whose questions may have no answer, differ in what
they do with an answer of which nothing is left, such as "the".
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_NO_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))
_ARTICLES = re.compile(r"\b(?:an?|the)\b")


class AnswerScore(NamedTuple):
    """Both from 0 to 1; `exact` is either."""

    exact: float
    f1: float


def normalized(text: str) -> str:
    """An answer as it is compared: in lower case, without ASCII's punctuation and the articles a, an and the, with one
    blank between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def score_answer(answer: str, gold: Sequence[str], *, may_be_none: bool) -> AnswerScore:
    """The best that an answer, empty for none, scores against any of the right ones; of a question without an answer
    there is none in `gold`. `may_be_none`: whether questions may have none, so that version 2.0's rules hold."""
    found, right = normalized(answer), list(map(normalized, gold))
    if may_be_none:
        right = [text for text in right if text] or [""]
    return AnswerScore(
        exact=float(found in right),
        f1=max((_f1(found.split(), text.split(), none_is_right=may_be_none) for text in right), default=0.0),
    )


def _f1(found: list[str], right: list[str], *, none_is_right: bool) -> float:
    if none_is_right and not (found and right):
        return float(found == right)
    common = sum((Counter(found) & Counter(right)).values())
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(right)
    return 2 * precision * recall / (precision + recall)
