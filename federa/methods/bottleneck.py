"""The bottleneck layer of adapters (Houlsby et al., arXiv 1902.00751), in plain torch."""

from __future__ import annotations

from torch import Tensor, nn

NONLINEARITIES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Bottleneck(nn.Module):
    """A linear layer and what comes after it: with y = base_layer(x), y + up(f(down(y))).

    It stands in the place of the layer, so that the model's own code adds the residual stream and normalises behind it.
    The model's dropout of the layer's output comes behind it too, where Houlsby et al. have it before.
    """

    def __init__(self, base_layer: nn.Module, width: int, size: int, nonlinearity: str) -> None:
        """`width` is how many outputs `base_layer` has, `size` that of the bottleneck. Raises KeyError for a
        nonlinearity that is not in NONLINEARITIES."""
        super().__init__()
        self.base_layer = base_layer
        self.adapter_down = nn.Linear(width, size)
        self.nonlinearity = NONLINEARITIES[nonlinearity]()
        self.adapter_up = nn.Linear(size, width)

    @property
    def weight(self) -> Tensor | nn.Module:
        """The linear layer's own: some models look at its dtype."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | nn.Module:
        """The linear layer's own."""
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """... x in -> ... x width."""
        y: Tensor = self.base_layer(x)
        change: Tensor = self.adapter_up(self.nonlinearity(self.adapter_down(y)))
        return y + change
