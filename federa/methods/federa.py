"""FeDeRA (arXiv 2404.18848): LoRA whose factors start as the principal part of the pre-trained matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federa.methods.lora import NAME, LoRA, lora_layers

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

        from federa.decomposition import principal_factors

        for _, layer in lora_layers(model):
            a, b = principal_factors(layer.get_base_layer().weight, self.adapter.r, self.adapter.scale)
            with torch.no_grad():
                layer.lora_A[NAME].weight.copy_(a)
                layer.lora_B[NAME].weight.copy_(b)

    def install(self, model: nn.Module) -> None:
        import torch

        from federa.decomposition import residual

        for _, layer in lora_layers(model):
            weight = layer.get_base_layer().weight
            a, b = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
            with torch.no_grad():
                weight.copy_(residual(weight, a, b, self.adapter.scale))
