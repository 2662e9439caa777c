"""What a model does with short texts, tried once: how many positions it has, and on which side it takes padding.

Neither can be read off a config. `max_position_embeddings` counts rows that are no positions (RoBERTa's family begins
behind its padding token's), stands beside positions that have no table (relative and rotary ones), or says -1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

log = logging.getLogger("federa.models")

Side = Literal["right", "left"]

_aten: Any = torch.ops.aten
_AGREE = 1e-3
"""Padding that is left out moves the result by rounding, some 1e-6 of it; padding that takes part, by far more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """`max_tokens` is the most tokens of a text that there are positions for; None where there is no table of them.
    `padding_side` is the one on which padding leaves a text's result as it is; None where it takes part on both."""

    max_tokens: int | None
    padding_side: Side | None


def try_out(model: nn.Module, short: Sequence[int], long: Sequence[int], pad_id: int) -> Behaviour:
    """Run the model on two texts' tokens, of which `long` has more, and look at what it reads and gives. Where it
    cannot be run so, its config's word stands, and padding goes to the right."""
    try:
        with torch.no_grad():
            alone, tables = _run(model, [short])
            _, others = _run(model, [long])
            sides: tuple[Side, ...] = ("right", "left")
            side = next((side for side in sides if _agrees(alone, _beside(model, short, long, pad_id, side))), None)
    except Exception as error:  # of a model of any make
        log.debug("the model could not be tried out: %s", error)
        return Behaviour(max_tokens=_configured(model), padding_side="right")
    # A table of relative positions grows with the text, or is not read row after row.
    found = [rows for table, rows in tables.items() if others.get(table) == rows]
    return Behaviour(max_tokens=min(found, default=None), padding_side=side)


def _run(
    model: nn.Module, rows: Sequence[Sequence[int]], mask: Sequence[Sequence[int]] | None = None
) -> tuple[Tensor, Mapping[int, int]]:
    """The first output, and the tables of positions: how many rows each has from the text's first on, by its place
    among the look-ups."""
    with _LookUps(len(rows[0])) as found:
        outputs = model(input_ids=torch.tensor(rows), attention_mask=None if mask is None else torch.tensor(mask))
    return outputs[0], found.tables


def _beside(model: nn.Module, short: Sequence[int], long: Sequence[int], pad_id: int, side: Side) -> Tensor:
    """What the short text gives in a batch with the long one; without its padding's, where each token gives
    something."""
    count = len(long) - len(short)
    pads, none, ones = [pad_id] * count, [0] * count, [1] * len(short)
    right = side == "right"
    row, mask = ([*short, *pads], [*ones, *none]) if right else ([*pads, *short], [*none, *ones])
    result = _run(model, [row, long], [mask, [1] * len(long)])[0][:1]
    if result.dim() > 1 and result.shape[1] == len(long):
        return result[:, : len(short)] if right else result[:, count:]
    return result


def _agrees(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return float((one - other).abs().max()) <= _AGREE * float(one.abs().max())


def _configured(model: nn.Module) -> int | None:
    positions = getattr(model.config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


class _LookUps(TorchDispatchMode):
    """Watches rows being taken from tables by number, and keeps those that are taken one after the other: positions."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tables: dict[int, int] = {}
        self._tokens = tokens
        self._count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        looked_up = _looked_up(func.overloadpacket, args)
        if looked_up is not None:
            self._count += 1
            rows, numbers = looked_up
            taken = numbers.flatten()[: self._tokens].tolist()
            if len(taken) == self._tokens and taken == list(range(taken[0], taken[0] + len(taken))):
                self.tables[self._count] = rows - taken[0]
        return func(*args, **(kwargs or {}))


def _looked_up(operation: Any, args: Any) -> tuple[int, Tensor] | None:
    """How many rows the table of a look-up has, and the numbers of those that are taken, a text's first; None for
    another operation."""
    if operation is _aten.embedding:
        return args[0].shape[0], args[1]
    if operation is _aten.index_select:
        return args[0].shape[args[1]], args[2]
    if operation is _aten.index:
        places = [place for place, numbers in enumerate(args[1]) if numbers is not None]
        if len(places) == 1 and args[1][places[0]].dtype == torch.int64:
            return args[0].shape[places[0]], args[1][places[0]]
    # One table a text, each value's row by its number: GPT-J's. Along the last dimension no rows are taken.
    if operation is _aten.gather and args[1] % args[0].dim() < args[0].dim() - 1 and args[0].dim() > 2:
        return args[0].shape[args[1]], args[2][..., 0]
    return None
