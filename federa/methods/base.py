"""What a federated fine-tuning method is: which tensors are trained and travel, and how they start."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import nn

    from federa.config import Adapter


class Method:
    """The whole difference between FT, LoRA and FeDeRA.

    The coordinator calls `build`, `start`, `install`; a worker calls `build`, takes the start tensors that were sent,
    and calls `install`. All three change the model in place.
    """

    learning_rate: ClassVar[float]
    """Used where the experiment gives none. Tuned on the embedded task, benchmarks/results says how."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def build(self, model: nn.Module) -> None:
        """Put the method's layers into the model, without deciding their values."""

    def trains(self, name: str) -> bool:
        """Whether the parameter of that name (after `build`) is trained and travels. The head and what the checkpoint
        lacked do so for every method and are not asked about."""
        raise NotImplementedError

    def start(self, model: nn.Module, seed: int) -> None:
        """On the coordinator, once a run: give the method's tensors their first values, in fp32."""

    def install(self, model: nn.Module) -> None:
        """On every side, once a run, after the start tensors are in place and before any cast."""
