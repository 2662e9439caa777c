"""LoRA (arXiv 2106.09685) in federated averaging: factors A and B beside frozen weights, B = 0 at the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, field_validator

from federa.errors import BadInput
from federa.methods.base import LowRankChange, Method
from federa.section import Count, Section
from federa.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from federa.tensors.state import Tensors

NAME = "default"
"""PEFT keeps adapters by name; a model here has one, under PEFT's own default name."""

QUERY_AND_VALUE = (
    ("query", "value"),
    ("query_proj", "value_proj"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("q_head", "v_head"),
    ("Wq", "Wv"),
    ("q", "v"),
    # Query, key and value in one matrix: GPT-2, GPT-NeoX and BLOOM, ModernBERT and MPT, DeBERTa (the first), Phi-3.
    ("c_attn",),
    ("query_key_value",),
    ("Wqkv",),
    ("in_proj",),
    ("qkv_proj",),
)
"""What architectures call the matrices of query and value; `auto` takes the first that a model has all of."""


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
            fan_in_fan_out=any(map(_is_transposed, _matrices(model).values())),
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
            weight, a, b = _weight(base), module.lora_A[NAME].weight, module.lora_B[NAME].weight
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
        kind = str(cast(Any, model.config).model_type)
        matrices = _matrices(model)

        def called(end: str) -> list[Tensor]:
            return [_weight(found) for name, found in matrices.items() if name == end or name.endswith(f".{end}")]

        prefix = f"{getattr(model, 'base_model_prefix', '')}."
        # A head is trained whole.
        ends = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in matrices if name.startswith(prefix)})) or "none"
        chosen = self.config.targets
        if chosen == "auto":
            chosen = next((names for names in QUERY_AND_VALUE if all(map(called, names))), ())
            if not chosen:
                raise BadInput(
                    f"lora.targets: auto finds no linear layers of query and value in {kind}; it has {ends}: name some "
                    "of these, or take the method ft"
                )
        for target in chosen:
            found = called(target)
            if not found:
                raise BadInput(f"lora.targets: {kind} has no linear layer {target!r}; it has {ends}")
            rank = min(min(weight.shape) for weight in found)
            if self.config.r > rank:
                raise BadInput(f"lora.r must be at most {rank}, the rank of {target!r}, not {self.config.r}")
        return list(chosen)


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
        yield LoraLayer(name, _weight(module.get_base_layer()), module.lora_A[NAME].weight, module.lora_B[NAME].weight)


def _modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer as PeftLayer

    for name, module in model.named_modules():
        if isinstance(module, PeftLayer):
            yield name, module


def _matrices(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers, by name: torch's, and those that GPT-2 brings."""
    from torch import nn as layers

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, layers.Linear) or _is_transposed(module)
    }


def _is_transposed(module: nn.Module) -> bool:
    """Whether it is GPT-2's linear layer, whose weight is in x out."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def _weight(module: Any) -> Tensor:
    """A linear layer's weight, out x in; what is written into it arrives in the layer."""
    weight: Tensor = module.weight
    return weight.T if _is_transposed(module) else weight
