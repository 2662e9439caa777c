"""A client's local training, in mixed precision."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from edge.training.dropout import CheapDropout
from edge.training.memory import free, halve_batch_on_oom, is_out_of_memory
from edge.training.precision import Precision
from federa.config import Training
from federa.data.batches import Examples, bucketed_batches
from federa.errors import FederaError, one_line
from federa.models.trial import check_counters, check_loss, longest, trial
from federa.models.tuned import TunedModel
from federa.seeds import derive_seed
from federa.tasks.base import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """`loss` is the mean over all examples seen; `losses` and `step_ms` have each optimizer step's mean and time;
    `micro_batch` is how many examples were trained at a time, where memory was too short for what the experiment says,
    else 0."""

    loss: float
    losses: list[float]
    step_ms: list[float]
    micro_batch: int


class Trainer:
    """Trains what is communicated of a model on `precision.device`, with AdamW. A step for which memory is too short is
    done again with half the micro-batch, which stays so for the trainer's life."""

    def __init__(
        self,
        model: TunedModel,
        task: Task,
        training: Training,
        learning_rate: float,
        precision: Precision,
        micro_batch: int | None = None,
    ) -> None:
        """`micro_batch` is how many examples at a time memory was found to suffice for."""
        self._model = model
        self._task = task
        self._training = training
        self._learning_rate = learning_rate
        self._precision = precision
        self._wanted_size = training.micro_batch_size or training.batch_size
        self._size = min(self._wanted_size, micro_batch or self._wanted_size)

    def train(self, examples: Examples, seed: int, on_step: Callable[[float], None] = lambda progress: None) -> Trained:
        """Train from the state that is loaded. Optimizer, scaler and random numbers start afresh, from `seed` alone, so
        that the same call with the same micro-batch gives the same state. `on_step` gets the progress, 0 to 1, and may
        raise to end it. Raises FederaError where memory is too short for a single example."""
        torch.manual_seed(seed)  # dropout, on every device
        parameters = list(self._model.communicated.values())
        optimizer = torch.optim.AdamW(
            parameters, lr=self._learning_rate, weight_decay=self._training.weight_decay, fused=True
        )
        scaler = torch.amp.GradScaler(self._precision.device.type, enabled=self._precision.scaled)
        plan = self.plan(examples, seed)
        self._model.model.train()
        loss_sum = 0.0
        losses, step_ms = [], []
        for step, indices in enumerate(plan, start=1):
            began = time.perf_counter()
            most = min(self._size, len(indices))
            beginning = _Beginning(self._precision.device, optimizer, scaler)
            attempt = functools.partial(self._attempt, examples, indices, optimizer, scaler, beginning)
            loss, size = halve_batch_on_oom(attempt, most, "training")
            if size < most:
                self._size = size
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            loss_sum += float(loss)  # waits for the device, so the time below is the step's
            losses.append(float(loss) / len(indices))
            step_ms.append((time.perf_counter() - began) * 1e3)
            on_step(step / len(plan))
        lowered = self._size if self._size < self._wanted_size else 0
        return Trained(loss=loss_sum / sum(map(len, plan)), losses=losses, step_ms=step_ms, micro_batch=lowered)

    def try_longest(self, examples: Examples) -> int:
        """Try a step with the examples that have the most tokens, and an evaluation of them, and change nothing.
        Returns how many examples at a time there is memory for, which stays so: with fewer than the experiment says,
        that is what training begins with. Raises FederaError."""
        indices = longest(examples, self._size)
        device = self._precision.device
        scaler = torch.amp.GradScaler(device.type, enabled=self._precision.scaled)

        def attempt(size: int) -> float:
            for parameter in self._model.communicated.values():
                parameter.grad = None
            self._model.model.train()
            loss = float(self._accumulate(examples, indices, scaler, size))
            with self._precision.autocast():
                counters = self._task.evaluate(
                    self._model.model, examples.select(indices), batch_size=size, device=device
                )
            check_counters(self._task, counters)
            return loss

        with trial(self._model, device):
            loss, size = halve_batch_on_oom(attempt, len(indices), "a trial batch")
            name = self._precision.name
            check_loss(loss, f"the model does not compute in {name} here: set --precision, or training.precision")
        free()
        if size < len(indices):
            self._size = size
        return self._size

    def plan(self, examples: Examples, seed: int) -> list[list[int]]:
        """The examples of every optimizer step, in order."""
        lengths = examples.lengths
        return [
            batch
            for epoch in range(self._training.epochs)
            for batch in bucketed_batches(lengths, self._training.batch_size, derive_seed(seed, "order", epoch))
        ]

    def _attempt(
        self,
        examples: Examples,
        indices: list[int],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        beginning: _Beginning,
        size: int,
    ) -> torch.Tensor:
        """One optimizer step with so many examples at a time, wherever an attempt before it ended; returns the loss's
        sum."""
        beginning.restore()
        loss = self._accumulate(examples, indices, scaler, size)
        if self._training.max_grad_norm is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(list(self._model.communicated.values()), self._training.max_grad_norm)
        try:
            scaler.step(optimizer)
        except Exception as error:
            # The first step allocates the moments before it changes anything. A later one may have changed a part.
            if is_out_of_memory(error) and not beginning.is_first:
                raise FederaError(f"out of memory in the optimizer's step: {one_line(error)}") from None
            raise
        return loss

    def _accumulate(
        self, examples: Examples, indices: list[int], scaler: torch.amp.GradScaler, size: int
    ) -> torch.Tensor:
        """Gradients of the mean loss over a batch, `size` examples at a time; returns the loss's sum."""
        device = self._precision.device
        total = torch.zeros((), device=device)
        for first in range(0, len(indices), size):
            batch = self._task.collate(examples, indices[first : first + size]).to(device)
            with self._precision.autocast(), CheapDropout():
                outputs = self._model.model(**batch.inputs)
            loss = self._task.loss(outputs, batch)
            scaler.scale(loss / len(indices)).backward()
            total += loss.detach()
        return total


class _Beginning:
    """The state before an optimizer step of all that an attempt changes before it moves the parameters, to be put
    back."""

    def __init__(self, device: torch.device, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.is_first = not optimizer.state
        self._device = device
        self._optimizer = optimizer
        self._scaler = scaler
        # Dropout's random numbers: on the CPU and, for a model there, on the GPU. Neither read waits for the device.
        self._cpu_numbers = torch.get_rng_state()
        self._cuda_numbers = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._attempts = 0

    def restore(self) -> None:
        """Call at the beginning of each attempt."""
        self._attempts += 1
        if self._attempts == 1:
            return
        torch.set_rng_state(self._cpu_numbers)
        if self._cuda_numbers is not None:
            torch.cuda.set_rng_state(self._cuda_numbers, self._device)
        self._optimizer.zero_grad(set_to_none=True)
        if self.is_first:
            self._optimizer.state.clear()
        # An update to the scale that it has anyway: it forgets that this step's gradients were unscaled.
        if self._scaler.is_enabled():
            self._scaler.scale(torch.zeros((), device=self._device))  # before its first use it has none
            self._scaler.update(self._scaler.get_scale())
