"""A base model with a method installed: the state goes in and comes out, by name."""

from __future__ import annotations

import torch
from torch import nn

from federa.errors import BadInput
from federa.methods.base import Method
from federa.models.pretrained import PretrainedModel, is_head
from federa.tensors.state import Shapes, Tensors, check_shapes


class TunedModel:
    """Order of calls. Coordinator: `start`, `install`. Worker: `load` of the start state, `install`, `freeze`.
    Afterwards, on both: `load` and `dump`, once a round or once a client."""

    def __init__(self, base: PretrainedModel, method: Method) -> None:
        """Take over `base.model` and build the method into it. Raises BadInput where that cannot be done."""
        self.model = base.model
        self.method = method
        head = {name for name, _ in self.model.named_parameters() if is_head(self.model, name)}
        self.model.requires_grad_(False)
        method.build(self.model)
        self.travelling: dict[str, nn.Parameter] = {}
        for name, parameter in self.model.named_parameters():
            # PEFT moves a wrapped layer's own weight one level down.
            original = name.replace(".base_layer.", ".")
            whole = original in head or original in base.missing
            if whole and original != name:
                raise BadInput(f"adapter.targets: {original} is trained whole, so it cannot have an adapter too")
            if whole or method.trains(name):
                parameter.requires_grad_(True)
                self.travelling[name] = parameter

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of the state."""
        return {name: tuple(parameter.shape) for name, parameter in self.travelling.items()}

    @property
    def trainable_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.travelling.values())

    def start(self, seed: int) -> dict[str, torch.Tensor]:
        """Give the method's tensors their first values and return a copy of the start state (A0, B0, head)."""
        self.method.start(self.model, seed)
        return {name: parameter.detach().clone() for name, parameter in self.travelling.items()}

    def install(self) -> None:
        """Fit the frozen weights to the start state that is loaded now (FeDeRA: W_res). Once."""
        self.method.install(self.model)

    def freeze(self, dtype: torch.dtype) -> None:
        """Keep the frozen weights in the compute dtype; what is trained stays fp32."""
        for name, parameter in self.model.named_parameters():
            if name not in self.travelling:
                parameter.data = parameter.data.to(dtype)

    def load(self, state: Tensors) -> None:
        """Take over a state. Raises BadInput unless names and shapes are exactly this model's."""
        check_shapes({name: value.shape for name, value in state.items()}, self.shapes)
        with torch.no_grad():
            for name, parameter in self.travelling.items():
                parameter.copy_(torch.from_numpy(state[name]))

    def dump(self) -> Tensors:
        """The state as fp32 arrays; on the CPU they share the parameters' memory."""
        return {name: parameter.detach().cpu().numpy() for name, parameter in self.travelling.items()}
