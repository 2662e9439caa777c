"""FeDeRA (arXiv 2404.18848): LoRA whose factors start as the principal part of the pre-trained matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federa.methods.lora import LoRA, lora_layers

if TYPE_CHECKING:
    from torch import nn


class FeDeRA(LoRA):
    """The coordinator decomposes once and sends A0 and B0; every side forms W_res = W - s B0 A0 from them.

    A worker never runs an SVD of its own: two machines may disagree about the signs of its columns, and the average of
    such factors is wrong.
    """

    learning_rate = 1e-2

    def start(self, model: nn.Module, seed: int) -> None:
        import torch

        from federa.methods.decomposition import principal_factors

        for layer in lora_layers(model):
            a, b = principal_factors(layer.weight, self.adapter.r, self.adapter.scale)
            with torch.no_grad():
                layer.a.copy_(a)
                layer.b.copy_(b)

    def install(self, model: nn.Module) -> None:
        import torch

        from federa.methods.decomposition import residual

        for layer in lora_layers(model):
            with torch.no_grad():
                layer.weight.copy_(residual(layer.weight, layer.a, layer.b, self.adapter.scale))
