"""Evaluation of a model on examples, as counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from federa.data.batches import Batch, Examples
from federa.tasks.metric import Counters, total


def run_batches(
    model: nn.Module,
    examples: Examples,
    use: Callable[[Sequence[int], Any, Batch], None],
    *,
    collate: Callable[[Examples, Sequence[int]], Batch],
    batch_size: int,
    device: torch.device | None,
    before_batch: Callable[[], object],
) -> None:
    """Run the model on all examples, in batches of like lengths, which a task's `collate` makes. `use` gets each
    batch's indices, the model's outputs and the batch. The model is left in evaluation mode; `before_batch` may raise
    to end it early."""
    model.eval()
    device = device or torch.device("cpu")
    lengths = examples.lengths
    order = sorted(range(len(examples)), key=lengths.__getitem__)
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            before_batch()
            indices = order[first : first + batch_size]
            batch = collate(examples, indices).to(device)
            use(indices, model(**batch.inputs), batch)


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
    """Add up what a task's `count` gives for each batch."""
    counted: list[Counters] = []
    run_batches(
        model,
        examples,
        lambda indices, outputs, batch: counted.append(count(outputs, batch)),
        collate=collate,
        batch_size=batch_size,
        device=device,
        before_batch=before_batch,
    )
    return total(counted)
