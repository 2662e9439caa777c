"""A checkpoint's head beside the experiment's labels: its columns are matched by name, or drawn anew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from federa.errors import shown
from federa.models.checkpoint import is_head

_GENERIC = re.compile(r"(?:(?:label|class)[_ -]?)?(0|[1-9]\d*)", re.IGNORECASE)
"""What a config calls classes without names: LABEL_0, LABEL_1, ..., or their numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadMatch:
    """What becomes of a checkpoint's head. `output` are the parameters with a row for each label, with the dimension of
    those rows, and `order` is for each label the row that the checkpoint has for it: None where they are drawn anew.
    `said` is what is to be said of it, if anything."""

    output: Mapping[str, int] = field(default_factory=dict)
    order: Sequence[int] | None = None
    said: str = ""

    @property
    def drawn(self) -> frozenset[str]:
        """The parameters that are drawn anew."""
        return frozenset(self.output if self.order is None else ())

    def apply(self, model: nn.Module, seed: int) -> None:
        """Change the head, in place."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, dimension in self.output.items():
                parameter = model.get_parameter(name)
                if self.order is not None:
                    parameter.copy_(parameter.index_select(dimension, torch.tensor(self.order)))
                elif parameter.dim() > 1:
                    parameter.normal_(
                        0.0, getattr(model.config, "initializer_range", None) or 0.02, generator=generator
                    )
                else:
                    parameter.zero_()


def match_head(model: nn.Module, names: Sequence[str], labels: Sequence[str], missing: frozenset[str]) -> HeadMatch:
    """How the head of a checkpoint, whose columns are called `names`, serves the experiment's labels. `missing` are the
    parameters that the checkpoint lacks, or has for another number of labels: those are drawn already."""
    held = [name for name, _ in model.named_parameters() if is_head(model, name) and name not in missing]
    if list(names) == list(labels) or not held:
        return HeadMatch()
    output = output_layer(model)
    if not output.keys() - missing:
        return HeadMatch()
    order, said = column_order(names, labels)
    return HeadMatch(output=output, order=order, said=said)


def column_order(names: Sequence[str], labels: Sequence[str]) -> tuple[list[int] | None, str]:
    """For each label the column of a head with these names, and as many columns as labels; None where it is for other
    labels. And what is to be said, if anything."""
    order = _by_name(names, labels) or _by_name(list(map(_folded, names)), list(map(_folded, labels)))
    if order is not None:
        if order == sorted(order):
            return order, ""
        return order, f"has the columns of its head in another order ({_listed(names)}): they are taken by name"
    numbers, wanted = _numbers(names), _numbers(labels)
    if numbers is not None:
        # Its config names none, and perhaps not even their number.
        columns = numbers if len(numbers) == len(labels) else list(range(len(labels)))
        order = [columns.index(number) for number in wanted or range(len(labels))]
        return order, f"gives the columns of its head no names: they are taken in order, for {_listed(labels)}"
    if wanted is not None and len(names) == len(labels):
        # A file with the numbers of classes: a config's list is what they are numbers of.
        return wanted, f"has a head for {_listed(names)}: the labels {_listed(labels)} are taken for their numbers"
    return None, f"has a head for other labels ({_listed(names)}): its last layer is drawn anew for {_listed(labels)}"


def output_layer(model: nn.Module) -> Mapping[str, int]:
    """The parameters with one row a label, by name, and the dimension of those rows."""
    config: Any = deepcopy(model.config)
    config.num_labels += 1
    with torch.device("meta"):
        other = cast(Any, type(model))(config)
    shapes = {name: parameter.shape for name, parameter in other.named_parameters()}
    found = {}
    for name, parameter in model.named_parameters():
        differing = [
            d for d, (size, more) in enumerate(zip(parameter.shape, shapes[name], strict=True)) if size != more
        ]
        if differing:
            found[name] = differing[0]
    return found


def _by_name(names: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    if len(set(names)) != len(names) or len(set(labels)) != len(labels) or set(names) != set(labels):
        return None
    return [names.index(label) for label in labels]


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The numbers of classes without names; None where some have one, or a number is not there."""
    found = [int(match[1]) for name in names if (match := _GENERIC.fullmatch(name))]
    return found if names and sorted(found) == list(range(len(names))) else None


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(shown(name, 30) for name in names[:8])
    return f"{first}, ..." if len(names) > 8 else first
