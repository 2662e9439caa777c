"""Counters by class: what they count, that they add up, and that macro-F1 is scikit-learn's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from classify import classify
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from federa.data.batches import Batch
from federa.tasks.metric import Counters, Metric, overall, total

CLASSES = 5
TASK = classify(CLASSES)
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40)
METRICS: dict[str, Metric] = {metric.name: metric for metric in TASK.metrics}


def _counted(pairs: list[tuple[int, int]]) -> Counters:
    """What the task counts of these (predicted, gold) pairs."""
    predicted, gold = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    logits = torch.nn.functional.one_hot(predicted, CLASSES).float()
    return TASK.count(SimpleNamespace(logits=logits), Batch(inputs={}, targets=gold))


@settings(deadline=None, max_examples=200)
@given(PAIRS)
def test_the_metrics_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    counters = _counted(pairs)
    predicted, gold = zip(*pairs, strict=True)
    assert METRICS["accuracy"].of(counters) == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)
    assert METRICS["macro_f1"].of(counters) == pytest.approx(f1_score(gold, predicted, average="macro"), abs=1e-12)
    assert TASK.check(counters) == ""


@settings(deadline=None, max_examples=100)
@given(st.lists(PAIRS, min_size=1, max_size=5))
def test_the_sum_over_devices_is_what_one_pool_counts(devices: list[list[tuple[int, int]]]) -> None:
    assert total(map(_counted, devices)) == _counted([pair for device in devices for pair in device])


def test_a_counter_that_is_0_is_left_out_and_people_see_those_of_all_classes_together() -> None:
    counters = _counted([(0, 0), (1, 0)])
    assert counters == {"correct": 1, "examples": 2, "gold/0": 2, "predicted/0": 1, "predicted/1": 1, "correct/0": 1}
    assert overall(counters) == {"correct": 1, "examples": 2}


FOUR = _counted([(0, 0), (1, 1), (1, 2), (3, 4)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"correct/1": 2.0, "correct": 3.0}, "2 right ones of class 1, more than gold"),
        ({"predicted/1": 0.0, "predicted/3": 3.0}, "1 right ones of class 1, more than predicted"),
        ({"gold/0": 2.0}, "5 gold in all classes, of 4 examples"),
        ({"gold/2": 0.0}, "3 gold in all classes, of 4 examples"),
        ({"predicted/4": 1.0}, "5 predicted in all classes"),
        ({"correct": 3.0}, "3 right ones, 2 of them in the classes"),
        ({"correct": 5.0}, "5 right ones among 4"),
        ({"gold/2": -1.0, "gold/0": 3.0}, "gold/2 is -1"),
        ({"gold/2": 0.5, "gold/0": 1.5}, "gold/0 is 1.5"),
        ({"gold/5": 1.0}, "the counters must be correct, examples, not correct, examples, gold/5"),
        ({"gold/2": float("nan")}, "gold/2 is nan"),
    ],
)
def test_counters_that_cannot_be_are_refused(change: dict[str, float], words: str) -> None:
    assert TASK.check(FOUR) == ""
    assert words in TASK.check({**FOUR, **change})


def test_counters_without_classes_are_no_macro_f1() -> None:
    """Those that an older version recorded."""
    with pytest.raises(ValueError, match="no class"):
        METRICS["macro_f1"].of({"correct": 1.0, "examples": 2.0})
