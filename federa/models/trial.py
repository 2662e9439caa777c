"""A trial: the longest texts through a model before a run depends on it, forward, backward and in an evaluation.

What would fail in every client's first batch fails here, once. A trial changes nothing: not the values, not the random
numbers, not the memory in use.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from federa.data.batches import Examples
from federa.errors import BadInput, FederaError, described
from federa.memory import return_freed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from federa.data.dataset import Record
    from federa.models.tuned import TunedModel
    from federa.tasks.base import Task

log = logging.getLogger("federa")

_LONGEST = 4
"""So many records with the most characters are encoded to find the one with the most tokens."""


def trial_records(records: Sequence[Record], task: Task) -> list[Record]:
    """Some records for a trial: the longest ones, and the shortest, which has to be padded beside them."""

    def length(record: Record) -> int:
        return len(task.identity(record))

    return [*heapq.nlargest(_LONGEST, records, key=length), *heapq.nsmallest(1, records, key=length)]


def longest(examples: Examples, count: int) -> list[int]:
    """The indices of that many examples with the most tokens."""
    lengths = examples.lengths
    return sorted(range(len(examples)), key=lambda index: -lengths[index])[:count]


def try_model(
    model: TunedModel, task: Task, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    """Try a model as it is, in fp32 where it is, with two of these records: the longest and the shortest. Raises
    FederaError, of the class BadInput where it is the user's to mend."""
    with trial(model):
        said = logging.getLogger("federa.tasks")
        before, said.disabled = said.disabled, True  # what a task says of all records, it would say of these few again
        try:
            examples = task.encode(records, tokenizer, max_length)
        finally:
            said.disabled = before
        order = longest(examples, len(examples))
        two = sorted({order[0], order[-1]})
        model.model.train()
        batch = task.collate(examples, two)
        loss = task.loss(model.model(**batch.inputs), batch)
        check_loss(float(loss.detach()), "the model's weights, or what the method makes of them, are not finite")
        loss.backward()
        check_counters(task, task.evaluate(model.model, examples.select(two)))


@contextmanager
def trial(model: TunedModel, device: torch.device | None = None) -> Iterator[None]:
    """Leave the model and the random numbers as they are, and free what was made inside. An error there that is none
    of ours becomes one line."""
    module = model.model
    was_training = module.training
    buffers = [
        (owner, name, buffer, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]
    cuda = [device] if device is not None and device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    except FederaError:
        raise
    except Exception as error:
        log.exception("a trial batch fails")
        raise _failure(error) from None
    finally:
        for parameter in module.parameters():
            parameter.grad = None
        for owner, name, buffer, value in buffers:
            setattr(owner, name, buffer.copy_(value))
        module.train(was_training)
        return_freed()


def check_loss(loss: float, why: str) -> None:
    """Raises BadInput for a loss that is no number."""
    if not math.isfinite(loss):
        raise BadInput(f"a trial batch of the longest texts has the loss {loss}: {why}")


def check_counters(task: Task, counters: object) -> None:
    """Raises FederaError for what a task may not count."""
    objection = task.check(counters)  # type: ignore[arg-type]  # whatever a task of somebody's own gave
    if objection:
        raise FederaError(f"task: what it counts of a trial batch cannot be: {objection}")


def _failure(error: Exception) -> FederaError:
    if isinstance(error, IndexError) and "out of range in self" in str(error):
        # An embedding's words on a CPU.
        return BadInput(
            "model: a trial batch of the longest texts has a token or a position that the model does not have: its "
            "tokenizer must be its own, and data.max_length at most its positions"
        )
    return FederaError(f"a trial batch of the longest texts fails: {described(error)}")
