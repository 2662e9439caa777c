"""FeDeRA (arXiv 2404.18848): LoRA whose factors start as the principal part of the pre-trained matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federa.compute_threads import in_single_threads
from federa.errors import BadInput
from federa.methods.base import LowRankChange
from federa.methods.lora import LoRA, adapted_weights, lora_layers

if TYPE_CHECKING:
    from torch import nn

    from federa.tensors.state import Tensors


_AT_ONCE = 4
"""Matrices that are decomposed at the same time: each needs several copies of itself in double precision."""


class FeDeRA(LoRA):
    """The coordinator decomposes once and sends A0 and B0; every side forms W_res = W - s B0 A0 from them.

    A worker never runs an SVD of its own: two machines may disagree about the signs of its columns, and the average of
    such factors is wrong.
    """

    learning_rate = 1e-2
    needs_start = True

    def init(self, model: nn.Module, seed: int) -> None:
        import torch

        from federa.methods.decomposition import principal_factors

        layers = list(lora_layers(model))
        factors = in_single_threads(
            lambda layer: principal_factors(layer.weight, self.config.r, self.config.scale), layers, _AT_ONCE
        )
        for layer, (a, b) in zip(layers, factors, strict=True):
            if not (a.isfinite().all() and b.isfinite().all()):
                alpha = self.config.alpha
                raise BadInput(
                    f"lora.alpha: {alpha:g} makes the factors of {layer.name} start with values that are not finite"
                )
            with torch.no_grad():
                layer.a.copy_(a)
                layer.b.copy_(b)

    def install(self, model: nn.Module) -> None:
        import torch

        from federa.methods.decomposition import residual

        for layer in lora_layers(model):
            with torch.no_grad():
                layer.weight.copy_(residual(layer.weight, layer.a, layer.b, self.config.scale))

    def fitted_to_start(self, model: nn.Module) -> list[nn.Parameter]:
        return adapted_weights(model)

    def low_rank_change(self, model: nn.Module, start: Tensors) -> LowRankChange:
        """The change of W, not of W_res: s (B A - B0 A0), which is [B, -B0] [A; A0] at twice the rank."""
        import torch

        learned = super().low_rank_change(model, start)
        factors = {}
        for layer in lora_layers(model):
            a, b = learned.factors[layer.name]
            a0, b0 = (torch.from_numpy(start[name]) for name in (layer.a_name, layer.b_name))
            factors[layer.name] = (torch.cat([a, a0]), torch.cat([b, -b0], dim=1))
        return LowRankChange(rank=2 * learned.rank, alpha=2 * learned.alpha, factors=factors)
