"""Which way a metric is better, and what counters may be."""

from __future__ import annotations

import math

import pytest
from classify import classify

from federa.tasks.metric import best_of, is_reached, total


@pytest.mark.parametrize(
    ("better", "value", "target", "reached"),
    [
        ("higher", 0.9, 0.9, True), ("higher", 0.95, 0.9, True), ("higher", 0.89, 0.9, False),
        ("lower", 0.9, 0.9, True), ("lower", 0.95, 0.9, False), ("lower", 0.89, 0.9, True),
    ],
)  # fmt: skip
def test_a_target_is_reached_from_the_right_side(better, value, target, reached):
    assert is_reached(better, value, target) is reached


def test_the_best_is_the_highest_or_the_lowest():
    assert best_of("higher", [1.0, 3.0, 2.0]) == 3.0
    assert best_of("lower", [1.0, 3.0, 0.5]) == 0.5
    assert best_of("lower", []) is None


def test_counters_are_added_by_name_in_order():
    # In floats the order matters: it is the caller's.
    counted = [{"loss": 1e16, "examples": 1.0}, {"loss": 1.0, "examples": 2.0}, {"loss": -1e16, "examples": 0.0}]
    assert total(counted) == {"loss": 0.0, "examples": 3.0}
    assert total([]) == {"examples": 0.0}


def test_without_an_example_there_is_no_metric():
    metric = classify().metrics[0]
    assert metric.value({"correct": 0.0, "examples": 0.0}) is None
    assert metric.value({"correct": 3.0, "examples": 4.0}) == 0.75


@pytest.mark.parametrize(
    ("counters", "words"),
    [
        (
            {"correct": 1.0, "examples": 2.0, "gold/0": 2.0, "predicted/0": 1.0, "predicted/1": 1.0, "correct/0": 1.0},
            "",
        ),
        ({"correct": 1.0, "examples": 2.0}, "0 predicted in all classes, of 2 examples"),
        ({"correct": 0.0, "examples": 0.0}, ""),
        ({"correct": 3.0, "examples": 2.0}, "3 right ones among 2"),
        ({"correct": -1.0, "examples": 2.0}, "-1 right ones among 2"),
        ({"correct": math.nan, "examples": 2.0}, "correct is nan"),
        ({"correct": 1.0, "examples": math.inf}, "examples is inf"),
        ({"correct": 1.0, "examples": 1.5}, "1.5 examples"),
        ({"correct": 0.0, "examples": -1.0}, "-1 examples"),
        ({"examples": 2.0}, "the counters must be correct, examples, not examples"),
        ({}, "the counters must be correct, examples, not none"),
        ({"correct": 1.0, "examples": 2.0, "x" * 1000: 1.0}, "the counters must be correct, examples, not"),
    ],
)
def test_counters_from_the_network_that_cannot_be_are_objected_to(counters, words):
    objection = classify().check(counters)
    assert objection.startswith(words) and bool(objection) == bool(words) and len(objection) < 200
