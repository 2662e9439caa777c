"""Evaluation of a model on examples, as counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from federa.data.batches import Examples
from federa.tasks.metric import Counters, total

if TYPE_CHECKING:
    from federa.tasks.base import Task


def count_batches(
    task: Task,
    model: nn.Module,
    examples: Examples,
    *,
    batch_size: int,
    device: torch.device | None,
    before_batch: Callable[[], object],
) -> Counters:
    """Add up the task's counters over batches of like lengths. The model is left in evaluation mode; `before_batch` may
    raise to end it early."""
    model.eval()
    device = device or torch.device("cpu")
    order = sorted(range(len(examples)), key=lambda index: examples.lengths[index])
    counted = []
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            before_batch()
            batch = task.collate(examples, order[first : first + batch_size]).to(device)
            counted.append(task.count(model(**batch.inputs), batch))
    return total(counted)
