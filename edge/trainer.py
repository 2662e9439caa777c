"""A client's local training, in mixed precision."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from edge.dropout import CheapDropout
from edge.precision import Precision
from federa.config import Training
from federa.data.batches import Examples, bucketed_batches, collate
from federa.seeds import derive_seed
from federa.tuned_model import TunedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """`loss` is the mean over all examples seen; `losses` and `step_ms` have each optimizer step's mean and time."""

    loss: float
    losses: list[float]
    step_ms: list[float]


class Trainer:
    """Trains what travels of a model that sits on `precision.device`, with AdamW."""

    def __init__(self, model: TunedModel, training: Training, learning_rate: float, precision: Precision) -> None:
        self._model = model
        self._training = training
        self._learning_rate = learning_rate
        self._precision = precision

    def train(self, examples: Examples, seed: int, on_step: Callable[[float], None] = lambda progress: None) -> Trained:
        """Train from the state that is loaded. Optimizer, scaler and random numbers start afresh, from `seed` alone, so
        that the same call gives the same state. `on_step` hears the progress, 0 to 1, and may raise to end it."""
        torch.manual_seed(seed)  # dropout, on every device
        parameters = list(self._model.travelling.values())
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
            loss = self._accumulate(examples, indices, scaler)
            if self._training.max_grad_norm is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(parameters, self._training.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            loss_sum += float(loss)  # waits for the device, so the time below is the step's
            losses.append(float(loss) / len(indices))
            step_ms.append((time.perf_counter() - began) * 1e3)
            on_step(step / len(plan))
        return Trained(loss=loss_sum / sum(map(len, plan)), losses=losses, step_ms=step_ms)

    def plan(self, examples: Examples, seed: int) -> list[list[int]]:
        """The examples of every optimizer step, in order."""
        lengths = [len(ids) for ids in examples.token_ids]
        return [
            batch
            for epoch in range(self._training.epochs)
            for batch in bucketed_batches(lengths, self._training.batch_size, derive_seed(seed, "order", epoch))
        ]

    def _accumulate(self, examples: Examples, indices: list[int], scaler: torch.amp.GradScaler) -> torch.Tensor:
        """Gradients of the mean loss over a batch, a micro-batch at a time; returns the loss's sum."""
        device = self._precision.device
        size = self._training.micro_batch_size or len(indices)
        total = torch.zeros((), device=device)
        for first in range(0, len(indices), size):
            batch = collate(examples, indices[first : first + size]).to(device)
            with self._precision.autocast(), CheapDropout():
                logits = self._model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            loss = functional.cross_entropy(logits.float(), batch.labels, reduction="sum")
            scaler.scale(loss / len(indices)).backward()
            total += loss.detach()
        return total
