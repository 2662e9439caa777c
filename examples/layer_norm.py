"""A method of one's own: only the layer normalisations are trained (and the head, as with every method).

They are 0.1 % of a model's parameters, so a round moves a few kilobytes.

To use it, copy this file to federa/methods/layer_norm.py, add to METHODS in federa/methods/__init__.py

    "layer-norm": "federa.methods.layer_norm:LayerNorm",

and run

    federa-bench --method layer-norm,federa
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from federa.methods.base import Method
from federa.section import Section

if TYPE_CHECKING:
    from torch import nn


class LayerNorm(Method):
    """Nothing is built into the model, so `init`, `install` and `merge` have nothing to do. What is trained starts with
    the checkpoint's own values. It has no settings either, and so no section in the experiment."""

    learning_rate = 1e-3

    def __init__(self, config: Section) -> None:
        super().__init__(config)
        self._names: set[str] = set()

    def build(self, model: nn.Module) -> None:
        """Note the parameters. Names differ by architecture (LayerNorm, norm, sa_layer_norm), classes do not."""
        from torch import nn

        self._names = {
            f"{path}.{name}"
            for path, module in model.named_modules()
            if isinstance(module, nn.LayerNorm)
            for name, _ in module.named_parameters(recurse=False)
        }

    def communicated(self, name: str) -> bool:
        return name in self._names
