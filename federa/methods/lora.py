"""LoRA (arXiv 2106.09685) in federated averaging: factors A and B beside frozen weights, B = 0 at the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from federa.errors import BadInput
from federa.methods.base import LowRankChange, Method
from federa.methods.linear_layers import find_targets, is_transposed, linear_layers, weight_of
from federa.methods.target_table import QUERY_AND_VALUE
from federa.section import Count, Section
from federa.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from federa.tensors.state import Tensors

NAME = "default"
"""PEFT keeps adapters by name; a model here has one, under PEFT's own default name."""


class LoRASection(Section):
    """LoRA's shape."""

    r: Count = 8
    """The rank."""
    alpha: Annotated[float, Field(gt=0)] = 8.0
    """What is learned is scaled by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The dropout of the adapter's input, in training."""
    targets: Literal["auto"] | tuple[str, ...] = "auto"
    """The ends of the names of the matrices that get an adapter. `auto` takes query and value of the architecture, or
    the matrix that they are parts of."""

    @field_validator("targets")
    @classmethod
    def _some(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not targets:
            raise ValueError("must name at least one module, or be auto")
        return targets

    @property
    def scale(self) -> float:
        """s = alpha / r, the factor on B A (LoRA, arXiv 2106.09685)."""
        return self.alpha / self.r


class LoRA(Method):
    """PEFT's LoRA layers on the target matrices. A is drawn once, on the coordinator, and sent."""

    section = "lora"
    Config = LoRASection
    learning_rate = 1e-2

    config: LoRASection

    def build(self, model: nn.Module) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        targets = self.targets(model)
        config = LoraConfig(
            r=self.config.r,
            lora_alpha=self.config.alpha,  # type: ignore[arg-type]  # PEFT says int and computes with any number
            lora_dropout=self.config.dropout,
            target_modules=targets,
            fan_in_fan_out=any(map(is_transposed, linear_layers(model).values())),
            bias="none",
        )
        inject_adapter_in_model(config, model, adapter_name=NAME)
        for _, module in _modules(model):
            # The frozen matrix and the factors meet under autocast; PEFT's own cast of the input to the factors'
            # fp32 would be undone there at once, at the price of two passes over the activations.
            module.cast_input_dtype_enabled = False

    def communicated(self, name: str) -> bool:
        return ".lora_A." in name or ".lora_B." in name

    def init(self, model: nn.Module, seed: int) -> None:
        import torch

        for layer in lora_layers(model):
            generator = torch.Generator().manual_seed(derive_seed(seed, "lora", layer.name))
            # PEFT's Kaiming-uniform with a = sqrt(5): bound 1 / sqrt(in_features).
            bound = layer.a.shape[1] ** -0.5
            with torch.no_grad():
                layer.a.uniform_(-bound, bound, generator=generator)
                layer.b.zero_()

    def merge(self, model: nn.Module) -> None:
        import torch

        for name, module in list(_modules(model)):
            base = module.get_base_layer()
            weight, a, b = weight_of(base), module.lora_A[NAME].weight, module.lora_B[NAME].weight
            with torch.no_grad():
                # In double precision, as FeDeRA's residual is formed: one rounding to fp32.
                weight.copy_(weight.double() + self.config.scale * (b.double() @ a.double()))
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, base)

    def low_rank_change(self, model: nn.Module, start: Tensors) -> LowRankChange:
        factors = {layer.name: (layer.a.detach().clone(), layer.b.detach().clone()) for layer in lora_layers(model)}
        return LowRankChange(rank=self.config.r, alpha=self.config.alpha, factors=factors)

    def targets(self, model: nn.Module) -> list[str]:
        """The ends of the target modules' names. Raises BadInput where the model has none, or one is too small."""
        found = find_targets(model, self.config.targets, QUERY_AND_VALUE, field="lora.targets", what="query and value")
        for end, names in found.items():
            rank = min(min(weight_of(model.get_submodule(name)).shape) for name in names)
            if self.config.r > rank:
                raise BadInput(f"lora.r must be at most {rank}, the rank of {end!r}, not {self.config.r}")
        return list(found)


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """One adapted matrix: the frozen `weight` (out x in), where a model keeps it the other way round a view of it, and
    the factors `a` (r x in) and `b` (out x r)."""

    name: str
    weight: Tensor
    a: nn.Parameter
    b: nn.Parameter

    @property
    def a_name(self) -> str:
        """The name of `a` in a state."""
        return f"{self.name}.lora_A.{NAME}.weight"

    @property
    def b_name(self) -> str:
        """The name of `b` in a state."""
        return f"{self.name}.lora_B.{NAME}.weight"


def lora_layers(model: nn.Module) -> Iterator[LoraLayer]:
    """The model's adapted matrices, in the model's order."""
    for name, module in _modules(model):
        yield LoraLayer(
            name, weight_of(module.get_base_layer()), module.lora_A[NAME].weight, module.lora_B[NAME].weight
        )


def adapted_weights(model: nn.Module) -> list[nn.Parameter]:
    """The frozen weights of the adapted matrices, as the model holds them."""
    return [module.get_base_layer().weight for _, module in _modules(model)]


def _modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer as PeftLayer

    for name, module in model.named_modules():
        if isinstance(module, PeftLayer):
            yield name, module
