"""Entity F1, precision and recall, over all entities together (micro), as seqeval counts them by default: an entity is
right where its type and its words are, exactly. What is not defined, such as the precision of no entity, is 0."""

from __future__ import annotations

from collections.abc import Sequence

from federa.tasks.metric import Counters, Metric
from federa.tasks.tag_scheme import Tag, entities

COUNTERS = ("correct_entities", "predicted_entities", "gold_entities", "correct_words", "words", "examples")
_AT_MOST = (
    ("correct_entities", "predicted_entities"),
    ("correct_entities", "gold_entities"),
    ("predicted_entities", "words"),
    ("gold_entities", "words"),
    ("correct_words", "words"),
    ("examples", "words"),
)
"""Of the first there can be no more than of the second."""


def _f1(found: Counters) -> float:
    return _ratio(2 * found["correct_entities"], found["predicted_entities"] + found["gold_entities"])


def _precision(found: Counters) -> float:
    return _ratio(found["correct_entities"], found["predicted_entities"])


def _recall(found: Counters) -> float:
    return _ratio(found["correct_entities"], found["gold_entities"])


def _word_accuracy(found: Counters) -> float:
    return _ratio(found["correct_words"], found["words"])


def _ratio(count: float, total: float) -> float:
    return count / total if total else 0.0


METRICS = (
    Metric(name="entity_f1", better="higher", of=_f1, target=0.8, above=0, at_most=1),
    Metric(name="entity_precision", better="higher", of=_precision, target=0.8, above=0, at_most=1),
    Metric(name="entity_recall", better="higher", of=_recall, target=0.8, above=0, at_most=1),
    Metric(name="word_accuracy", better="higher", of=_word_accuracy, target=0.95, above=0, at_most=1),
)


def count_entities(gold: Sequence[Tag[int]], predicted: Sequence[Tag[int]]) -> dict[str, int]:
    """The counters of one sentence."""
    wanted, found = entities(gold), entities(predicted)
    return {
        "correct_entities": len({*wanted} & {*found}),
        "predicted_entities": len(found),
        "gold_entities": len(wanted),
        "correct_words": sum(one == other for one, other in zip(gold, predicted, strict=True)),
        "words": len(gold),
        "examples": 1,
    }


def objection(counters: Counters) -> str:
    """What is wrong with counters that came over the network; empty where they may be."""
    for name in COUNTERS:
        if counters[name] < 0 or counters[name] != int(counters[name]):
            return f"{name} is {counters[name]:g}"
    for few, many in _AT_MOST:
        if counters[few] > counters[many]:
            return f"{counters[few]:g} {few} among {counters[many]:g} {many}"
    if counters["words"] and not counters["examples"]:
        return f"{counters['words']:g} words in no example"
    return ""
