"""Counters by class, and the macro-F1 that is made of them.

A counter by class is called KIND/NUMBER, such as `gold/3`: how many records are of class 3 by their labels, were
`predicted` to be, and are both (`correct`). One that is 0 is left out: of 1,000 classes a client with ten records sends
thirty counters at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from federa.tasks.metric import BY_CLASS, Counters

PREDICTED, GOLD, CORRECT = "predicted", "gold", "correct"
_KINDS = (PREDICTED, GOLD, CORRECT)


def counter_names(classes: int) -> frozenset[str]:
    """The names of all counters of so many classes."""
    return frozenset(f"{kind}{BY_CLASS}{number}" for kind in _KINDS for number in range(classes))


def count_classes(records: Iterable[tuple[int | None, int | None, bool]]) -> dict[str, float]:
    """The counters of records: the class predicted, the class by the label, and whether the prediction is right. None
    stands for what belongs to no class that is counted."""
    found: Counter[str] = Counter()
    for predicted, gold, right in records:
        for kind, number in ((PREDICTED, predicted), (GOLD, gold), (CORRECT, gold if right else None)):
            if number is not None:
                found[f"{kind}{BY_CLASS}{number}"] += 1
    return {name: float(count) for name, count in found.items()}


def macro_f1(counters: Counters, among: Literal["gold", "any"] = "any") -> float:
    """The mean of the classes' F1, 2 x correct / (predicted + gold): 0 where nothing of a class is right. The mean is
    over the classes among the labels (`gold`), or among labels or predictions (`any`). Raises ValueError where there
    are none."""
    by_kind: dict[str, dict[str, float]] = {kind: {} for kind in _KINDS}
    for name, value in counters.items():
        kind, separator, number = name.partition(BY_CLASS)
        if separator and value:
            by_kind[kind][number] = value
    predicted, gold, correct = (by_kind[kind] for kind in _KINDS)
    numbers = sorted(gold if among == GOLD else {*gold, *predicted}, key=int)
    if not numbers:
        raise ValueError("no class was counted")
    each = (2 * correct.get(number, 0) / (predicted.get(number, 0) + gold.get(number, 0)) for number in numbers)
    return sum(each) / len(numbers)


def objection(counters: Counters, whole: bool) -> str:
    """What is wrong with counters by class, beside `correct` and `examples`; empty where they may be. `whole`: each
    record belongs to a class that is counted. Their names are checked elsewhere."""
    sums = dict.fromkeys(_KINDS, 0.0)
    for name, value in counters.items():
        kind, separator, number = name.partition(BY_CLASS)
        if not separator:
            continue
        if value < 0 or value != int(value):
            return f"{name} is {value:g}"
        sums[kind] += value
        if kind == CORRECT:
            for most in (PREDICTED, GOLD):
                if value > counters.get(f"{most}{BY_CLASS}{number}", 0):
                    return f"{value:g} right ones of class {number}, more than {most}"
    examples, right = counters["examples"], counters[CORRECT]
    for kind in (PREDICTED, GOLD):
        if sums[kind] > examples or (whole and sums[kind] != examples):
            return f"{sums[kind]:g} {kind} in all classes, of {examples:g} examples"
        # Whoever is of no class that is counted may be right too.
        if not 0 <= right - sums[CORRECT] <= examples - sums[kind]:
            return f"{right:g} right ones, {sums[CORRECT]:g} of them in the classes, where {sums[kind]:g} are {kind}"
    return ""
