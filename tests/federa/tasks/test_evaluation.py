"""Accuracy as counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from classify import classify
from torch import nn

from federa.config import Experiment
from federa.data.batches import Examples
from federa.tasks.metric import overall

TASK = classify(4)


class FirstToken(nn.Module):
    """Answers with the first token's id; keeps the sizes of its batches, and whether it was in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> SimpleNamespace:
        self.sizes.append(tuple(input_ids.shape))
        self.modes.add((self.training, torch.is_grad_enabled()))
        return SimpleNamespace(logits=nn.functional.one_hot(input_ids[:, 0], 4).float())


def _examples() -> Examples:
    # Every third answer is wrong, whatever the length.
    rows = [[number % 4] + [1] * (number * 7 % 5) for number in range(30)]
    labels = [(row[0] + (number % 3 == 0)) % 4 for number, row in enumerate(rows)]
    return Examples(token_ids=tuple(rows), targets=tuple(labels), pad_id=0)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_right_answers_are_counted_whatever_the_batches(batch_size: int) -> None:
    model = FirstToken().train()
    found = TASK.evaluate(model, _examples(), batch_size=batch_size)
    assert overall(found) == {"correct": 20, "examples": 30}
    assert Experiment().metric.value(found) == pytest.approx(2 / 3)
    assert sum(rows for rows, _ in model.sizes) == 30 and max(rows for rows, _ in model.sizes) <= batch_size
    assert model.modes == {(False, False)}
    assert not model.training


def test_like_lengths_go_together() -> None:
    model = FirstToken()
    TASK.evaluate(model, _examples(), batch_size=6)
    assert [longest for _, longest in model.sizes] == [1, 2, 3, 4, 5]


def test_scoring_can_be_ended_before_any_batch() -> None:
    model, calls = FirstToken(), []

    def before_batch() -> None:
        # What was scored when it was called.
        calls.append(len(model.sizes))
        if len(calls) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        TASK.evaluate(model, _examples(), batch_size=6, before_batch=before_batch)
    assert calls == [0, 1, 2] and len(model.sizes) == 2
