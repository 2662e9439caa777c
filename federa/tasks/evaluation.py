"""Evaluation of a model on examples, as counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from federa.data.batches import Batch, Examples
from federa.tasks.metric import Counters, total


def count_batches(
    model: nn.Module,
    examples: Examples,
    *,
    collate: Callable[[Examples, Sequence[int]], Batch],
    count: Callable[[Any, Batch], Counters],
    batch_size: int,
    device: torch.device | None,
    before_batch: Callable[[], object],
) -> Counters:
    """Add up what a task's `count` gives for batches of like lengths, which its `collate` makes. The model is left in
    evaluation mode; `before_batch` may raise to end it early."""
    model.eval()
    device = device or torch.device("cpu")
    order = sorted(range(len(examples)), key=lambda index: examples.lengths[index])
    counted = []
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            before_batch()
            batch = collate(examples, order[first : first + batch_size]).to(device)
            counted.append(count(model(**batch.inputs), batch))
    return total(counted)
