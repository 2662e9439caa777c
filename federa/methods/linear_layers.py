"""The linear layers of a model by name: what methods put layers of their own beside."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from federa.errors import BadInput
from federa.methods.target_table import Targets

if TYPE_CHECKING:
    from torch import Tensor, nn


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers, by name: torch's, and those that GPT-2 brings."""
    from torch import nn as layers

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, layers.Linear) or is_transposed(module)
    }


def is_transposed(module: nn.Module) -> bool:
    """Whether it is GPT-2's linear layer, whose weight is in x out."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def weight_of(module: Any) -> Tensor:
    """A linear layer's weight, out x in; what is written into it arrives in the layer."""
    weight: Tensor = module.weight
    return weight.T if is_transposed(module) else weight


def is_in_encoder(model: nn.Module, name: str) -> bool:
    """Whether a module or parameter lies in the pre-trained encoder, and not in the task's head, which is trained
    whole."""
    return name.startswith(f"{getattr(model, 'base_model_prefix', '')}.")


def find_targets(
    model: nn.Module, chosen: Sequence[str] | str, table: Targets, *, field: str, what: str, parts: int = 1
) -> dict[str, list[str]]:
    """The linear layers that get a layer of a method's, by the end of their names: the ends that `chosen` names, or,
    where it is `auto`, those that `table` has for the architecture.

    `field` and `what` are for errors: the experiment's field, and what auto looks for. `parts` is how many parts of a
    name tell one kind of layer from another. Raises BadInput where nothing is found, where auto would put one layer
    into all layers of a model that share their weights, and where a matrix is another module's too.
    """
    kind = str(cast(Any, model.config).model_type)
    layers = linear_layers(model)
    there = ", ".join(sorted({_end(name, parts) for name in layers if is_in_encoder(model, name)})) or "none"
    if chosen == "auto":
        ends = table.ends(kind)
        found = {end: [name for name in _called(layers, end) if is_in_encoder(model, name)] for end in ends}
        if not ends or not all(found.values()):
            raise BadInput(
                f"{field}: auto finds no linear layers of {what} in {kind}; it has {there}: name some of these, or "
                "take the method ft"
            )
        if shares_layers(model):
            raise BadInput(
                f"{field}: the layers of this {kind} share their weights, so what auto would put beside one of them "
                f"acts in all of them: take the method ft or bitfit, or, where that is meant, name {', '.join(ends)}"
            )
    else:
        found = {end: _called(layers, end) for end in chosen}
        for end, names in found.items():
            if not names:
                raise BadInput(f"{field}: {kind} has no linear layer {end!r}; it has {there}")
    _refuse_tied(model, [name for names in found.values() for name in names], field)
    return found


def shares_layers(model: nn.Module) -> bool:
    """Whether the model goes through the same layers more than once, as its configuration says (ALBERT, Funnel)."""
    config: Any = model.config
    layers = getattr(config, "num_hidden_layers", 0)
    repeats: Iterable[int] = getattr(config, "block_repeats", None) or ()
    return bool(getattr(config, "num_hidden_groups", layers) < layers or any(count > 1 for count in repeats))


def _called(layers: Mapping[str, nn.Module], end: str) -> list[str]:
    return [name for name in layers if name == end or name.endswith(f".{end}")]


def _end(name: str, parts: int) -> str:
    """The last parts of a name, without the numbers of layers."""
    last = name.split(".")[-parts:]
    return ".".join(part for part in last if not part.isdigit())


def _refuse_tied(model: nn.Module, targets: Collection[str], field: str) -> None:
    """A weight that two modules share would be changed for both, where one of them is meant."""
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(path)
    for target in targets:
        for parameter in model.get_submodule(target).parameters(recurse=False):
            others = [path for path in owners[id(parameter)] if path != target]
            if others:
                raise BadInput(
                    f"{field}: {target} shares its weights with {others[0]}, so what is put beside the one does not "
                    "hold for the other: leave it out, or take the method ft or bitfit"
                )
