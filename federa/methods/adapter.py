"""Adapters (Houlsby et al., arXiv 1902.00751): a bottleneck after attention and one after the feed-forward, in each
layer, before what they give is added to the residual stream and normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from federa.errors import BadInput
from federa.methods.base import Method
from federa.methods.linear_layers import find_targets, weight_of
from federa.methods.target_table import OUTPUTS
from federa.section import Count, Section
from federa.seeds import derive_seed

if TYPE_CHECKING:
    from torch import nn

    from federa.methods.bottleneck import Bottleneck


class AdapterSection(Section):
    """The bottleneck's shape."""

    size: Count = 32
    """The width of the bottleneck. 32 is 1 % of RoBERTa-base."""
    nonlinearity: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """What is computed between the two projections."""
    targets: Literal["auto"] | tuple[str, ...] = "auto"
    """The ends of the names of the linear layers that a bottleneck comes after. `auto` takes the last ones of attention
    and of the feed-forward of the architecture."""

    @field_validator("targets")
    @classmethod
    def _some(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not targets:
            raise ValueError("must name at least one module, or be auto")
        return targets


class Adapter(Method):
    """y + up(f(down(y))) in the place of y, the output of a linear layer (see federa.methods.bottleneck).

    `up` starts at zero, so that the model starts as the pre-trained one, exactly; `down` is drawn once, on the
    coordinator, and sent. (Houlsby et al. draw both near zero, which comes near it.) What f makes of y is no product
    of matrices, so it is merged into none: the model that a run results in has these layers in it.
    """

    section = "adapter"
    Config = AdapterSection
    learning_rate = 3e-3
    mergeable = False

    config: AdapterSection

    def build(self, model: nn.Module) -> None:
        from federa.methods.bottleneck import Bottleneck

        found = find_targets(
            model,
            self.config.targets,
            OUTPUTS,
            field="adapter.targets",
            what="the outputs of attention and feed-forward",
            parts=2,
        )
        for name in dict.fromkeys(name for names in found.values() for name in names):
            layer = model.get_submodule(name)
            parent, _, child = name.rpartition(".")
            wrapped = Bottleneck(layer, weight_of(layer).shape[0], self.config.size, self.config.nonlinearity)
            setattr(model.get_submodule(parent), child, wrapped)

    def communicated(self, name: str) -> bool:
        return ".adapter_down." in name or ".adapter_up." in name

    def init(self, model: nn.Module, seed: int) -> None:
        import torch

        for name, bottleneck in bottlenecks(model):
            generator = torch.Generator().manual_seed(derive_seed(seed, "adapter", name))
            down: Any = bottleneck.adapter_down
            bound = down.in_features**-0.5  # torch's own for a linear layer
            with torch.no_grad():
                down.weight.uniform_(-bound, bound, generator=generator)
                down.bias.zero_()
                bottleneck.adapter_up.weight.zero_()
                bottleneck.adapter_up.bias.zero_()

    def merge(self, model: nn.Module) -> None:
        """The layers stay. The model's `save_pretrained` refuses from then on: loaded from there, a plain model would
        be taken to lack the layers beneath the bottlenecks, and these would be drawn at random."""

        def refuse(*_: Any, **__: Any) -> None:
            raise BadInput(
                "a model with adapters is no plain checkpoint, since nonlinear layers cannot be merged into weights: "
                "keep the run's final/ and load it with federa.load_bundle"
            )

        model.save_pretrained = refuse  # type: ignore[assignment]


def bottlenecks(model: nn.Module) -> list[tuple[str, Bottleneck]]:
    """The model's bottlenecks by name, in the model's order."""
    from federa.methods.bottleneck import Bottleneck

    return [(name, module) for name, module in model.named_modules() if isinstance(module, Bottleneck)]
