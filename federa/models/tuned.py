"""A pre-trained model with a method installed: the state goes in and comes out, by name."""

from __future__ import annotations

import torch
from torch import nn

from federa.errors import BadInput
from federa.methods.base import Method
from federa.models.added_tokens import ADDED, added_rows, merge_added_tokens
from federa.models.checkpoint import is_head
from federa.models.peft_adapter import PeftAdapter
from federa.models.pretrained import PretrainedModel
from federa.tensors.state import Shapes, Tensors, check_shapes


class TunedModel:
    """Order of calls. Coordinator: `init`, `install`. Worker: `load_state` of the start state, `install`, `freeze`.
    Afterwards, on both: `load_state` and `state`, once a round or once a client. `merge`, if at all, ends it."""

    def __init__(self, base: PretrainedModel, method: Method) -> None:
        """Take over `base.model` and build the method into it. Raises BadInput where that cannot be done."""
        self.model = base.model
        self.method = method
        head = {name for name, _ in self.model.named_parameters() if is_head(self.model, name)}
        self.model.requires_grad_(False)
        method.build(self.model)
        self.communicated: dict[str, nn.Parameter] = {}
        self._whole: list[str] = []
        for name, parameter in self.model.named_parameters():
            # PEFT moves a wrapped layer's own weight one level down.
            original = name.replace(".base_layer.", ".")
            whole = original in head or original in base.missing
            if whole and original != name:
                raise BadInput(
                    f"{method.section}.targets: {original} is trained whole, so it cannot have an adapter too"
                )
            if whole:
                self._whole.append(name)
            if whole or method.communicated(name):
                parameter.requires_grad_(True)
                self.communicated[name] = parameter

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of the state."""
        return {name: tuple(parameter.shape) for name, parameter in self.communicated.items()}

    @property
    def trainable_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.communicated.values())

    def init(self, seed: int) -> dict[str, torch.Tensor]:
        """Give the method's tensors their first values and return a copy of the start state (A0, B0, head)."""
        self.method.init(self.model, seed)
        return {name: parameter.detach().clone() for name, parameter in self.communicated.items()}

    def install(self) -> None:
        """Fit the frozen weights to the start state that is loaded now (FeDeRA: W_res). Once."""
        self.method.install(self.model)

    @property
    def fitted_to_start(self) -> list[nn.Parameter]:
        """The frozen weights that `install` will change."""
        return list(self.method.fitted_to_start(self.model))

    def freeze(self, dtype: torch.dtype) -> None:
        """Keep the frozen weights in the compute dtype; what is trained stays fp32, and so does what has to beside it
        in its module (see Method.keeps_fp32)."""
        kept: set[int] = set()
        for module in self.model.modules():
            if self.method.keeps_fp32(module):
                kept.update(map(id, module.parameters(recurse=False)))
        for parameter in self.model.parameters():
            if (
                not parameter.requires_grad and id(parameter) not in kept
            ):  # by object: a parameter may belong to two modules
                parameter.data = parameter.data.to(dtype)

    def load_state(self, state: Tensors) -> None:
        """Take over a state. Raises BadInput unless names and shapes are exactly this model's."""
        check_shapes({name: value.shape for name, value in state.items()}, self.shapes)
        with torch.no_grad():
            for name, parameter in self.communicated.items():
                parameter.copy_(torch.from_numpy(state[name]))

    def state(self) -> Tensors:
        """The state as fp32 arrays; on the CPU they share the parameters' memory."""
        return {name: parameter.detach().cpu().numpy() for name, parameter in self.communicated.items()}

    def merge(self) -> nn.Module:
        """The plain Hugging Face model that computes the same, in evaluation mode. The method's layers are gone (but
        for those that cannot be merged, see Method.mergeable), and this object with them."""
        self.method.merge(self.model)
        merge_added_tokens(self.model)
        return self.model.requires_grad_(False).eval()

    def peft_adapter(self, start: Tensors) -> PeftAdapter | None:
        """What was learned since the run's `start`, as a PEFT adapter of the untouched base model; None where it is
        none (full fine-tuning). Before `merge`."""
        change = self.method.low_rank_change(self.model, start)
        if change is None:
            return None
        tokens = added_rows(self.model)
        of_tokens = {f"{table}.{ADDED}.weight" for table in tokens}
        whole = {name: self.communicated[name].detach().clone() for name in self._whole if name not in of_tokens}
        return PeftAdapter(change=change, whole=whole, tokens=tokens)
