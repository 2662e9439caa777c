"""Accuracy of a model on labelled examples, as counts: counts can be added, rates cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from federa.data.batches import Examples, collate


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """`correct` of `total` examples."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


def score(
    model: nn.Module,
    examples: Examples,
    *,
    batch_size: int = 64,
    device: torch.device | None = None,
    before_batch: Callable[[], object] = lambda: None,
) -> Score:
    """Count the right answers. The model is left in evaluation mode; `before_batch` may raise to end it early."""
    model.eval()
    device = device or torch.device("cpu")
    order = sorted(range(len(examples)), key=lambda index: len(examples.token_ids[index]))
    correct = 0
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            before_batch()
            batch = collate(examples, order[first : first + batch_size]).to(device)
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            correct += int((logits.argmax(dim=-1) == batch.labels).sum())
    return Score(correct=correct, total=len(order))
