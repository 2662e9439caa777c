"""BitFit (arXiv 2106.10199): the biases alone are trained and communicated, and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from federa.errors import BadInput
from federa.methods.base import Method
from federa.methods.linear_layers import is_in_encoder, is_transposed

if TYPE_CHECKING:
    from torch import nn


class BitFit(Method):
    """Every parameter that is called a bias: of linear layers, convolutions and normalisations, and those of attention
    that lie in no layer of their own (`q_bias` and `v_bias` of DeBERTa). They start as the checkpoint has them.

    0.08 % of RoBERTa-base. There is nothing to build, and nothing to merge.
    """

    learning_rate = 1e-2

    def build(self, model: nn.Module) -> None:
        """Raises BadInput for a model without biases: then nothing but the head would be trained."""
        if not any(is_in_encoder(model, name) and self.communicated(name) for name, _ in model.named_parameters()):
            kind = str(cast(Any, model.config).model_type)
            raise BadInput(
                f"methods: bitfit trains biases, and this {kind} has none: take the method lora, federa, adapter or ft"
            )

    def communicated(self, name: str) -> bool:
        # A table of relative positions may be called a bias too, but its parameter is called `weight`.
        last = name.rpartition(".")[2]
        return last == "bias" or last.endswith("_bias")

    def keeps_fp32(self, module: nn.Module) -> bool:
        """All but matrix products and convolutions: autocast casts each argument of these, so that the weight may be
        kept in the compute dtype beside a bias in fp32. It does so on a GPU for layer_norm, and on a CPU not."""
        from torch import nn as layers

        products = (layers.Linear, layers.Conv1d, layers.Conv2d)
        return super().keeps_fp32(module) and not (isinstance(module, products) or is_transposed(module))
