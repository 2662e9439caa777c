"""What a checkpoint holds, compared with the model that its config describes: only a head and a pooler may differ.

A wrapper's prefix on the names (`module.` of data parallelism, `_orig_mod.` of a compiled model, or that of the object
which held the model) is taken off where all names fit without it. Anything else that is missing would be random, and
anything else that is unknown would be left out, both without a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from federa.errors import shown

_SHOWN_NAMES = 2
# Components that a wrapper inserts, wherever they stand in a name.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
# In TensorFlow's words, which loaders know: BERT's own checkpoints have them.
_FORMER_ENDS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
# What older versions kept in a checkpoint and compute today.
_COMPUTED = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias|num_batches_tracked|(attn|attention)\.bias)$"
)
_ADAPTER = re.compile(r"\.(lora_\w+|base_layer|modules_to_save|ia3_l|adapters?)\.")


def is_head(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to the task's head: all that lies outside the encoder (DeBERTa's pooler too)."""
    return not name.startswith(f"{model.base_model_prefix}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Names of tensors: those of the encoder that the checkpoint lacks (`absent`), those that it has in another shape,
    those that belong to nothing in the model, and those of other tasks' heads, which may be left out (`unused`)."""

    absent: tuple[str, ...]
    reshaped: tuple[str, ...]
    unknown: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing but a head differs."""
        return not (self.absent or self.reshaped or self.unknown)

    def objection(self, model: nn.Module) -> str:
        """What is wrong, as one line that ends in what to do."""
        config: Any = model.config
        adapted = [name for name in self.unknown if _ADAPTER.search(name)]
        if adapted:
            return (
                f"it holds an adapter that is not merged, {_counted(adapted)}: merge it into its model first "
                "(merge_and_unload() and save_pretrained() of PEFT)"
            )
        if self.reshaped:
            return f"its config.json is of another model: it says another shape for {_counted(self.reshaped)}"
        total = sum(not is_head(model, name) for name in model.state_dict())
        unknown = self.unknown + (self.unused if self.absent else ())
        found = [f"missing: {_counted(self.absent, total)}"] if self.absent else []
        if unknown:
            found.append(f"unknown: {_counted(unknown)}")
        return (
            f"its checkpoint is not that of the {config.model_type} in its config.json ({'; '.join(found)}): it is "
            "another model's, or was saved under other names; save the model with save_pretrained()"
        )


def compare(model: nn.Module, missing: Iterable[str], unexpected: Iterable[str], reshaped: Iterable[str]) -> Comparison:
    """What a loader reported, sorted out. A head that has another shape is one that is missing."""
    prefix = f"{model.base_model_prefix}."
    inside = {name.removeprefix(prefix).partition(".")[0] for name in model.state_dict() if name.startswith(prefix)}
    unknown: list[str] = []
    unused: list[str] = []
    for name in sorted(unexpected):
        # A loader may have put the encoder's prefix before all names.
        part = name.removeprefix(prefix)
        if _may_differ(part) or _COMPUTED.search(part):
            continue
        of_encoder = part.partition(".")[0] in inside or _ADAPTER.search(part)
        (unknown if of_encoder else unused).append(name)
    copy = _second_copy(model, unused)
    return Comparison(
        absent=tuple(sorted(n for n in missing if not (is_head(model, n) or _may_differ(n) or _COMPUTED.search(n)))),
        reshaped=tuple(sorted(name for name in reshaped if not is_head(model, name))),
        unknown=(*unknown, *sorted(copy)),
        unused=tuple(name for name in unused if name not in copy),
    )


def _may_differ(name: str) -> bool:
    """Whether it is of a pooler, which tasks have or have not."""
    return "pooler" in name.split(".")


def _second_copy(model: nn.Module, names: Collection[str]) -> set[str]:
    """Those of the names under which a second encoder lies in the checkpoint, such as a teacher's."""
    known = encoder_names(model)
    counts = Counter(prefix for name in names if (prefix := _wrapper(name, known)) is not None)
    prefixes = {prefix for prefix, count in counts.items() if 4 * count > len(known)}  # which has each name twice
    return {name for name in names if any(name.startswith(prefix) for prefix in prefixes)}


def encoder_names(model: nn.Module) -> frozenset[str]:
    """The names of the encoder's tensors, with its prefix and without: a checkpoint may have both."""
    prefix = f"{model.base_model_prefix}."
    names = [name for name in model.state_dict() if name.startswith(prefix) and not _may_differ(name)]
    return frozenset([*names, *(name.removeprefix(prefix) for name in names)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Renaming:
    """The model's names of a checkpoint's tensors, and what was taken off them."""

    names: Mapping[str, str]
    removed: tuple[str, ...]


def unwrapped(model: nn.Module, stored: Collection[str]) -> Renaming:
    """How a checkpoint's tensors are called without what a wrapper put before their names and into them. Nothing is
    taken off where no wrapper is found, or more than one model lies in the checkpoint."""
    known, own = encoder_names(model), model.state_dict()
    clean = {name: _clean(name) for name in stored}
    counts = Counter(wrapper for name in clean.values() if (wrapper := _wrapper(name, known)) is not None)
    (wrapper, most), *others = [*counts.most_common(), ("", 0)]
    if any(2 * count > most for _, count in others if count):
        return Renaming(names={name: name for name in stored}, removed=())
    names = {}
    for name, cleaned in clean.items():
        bare = cleaned.removeprefix(wrapper)
        names[name] = next((full for full in (bare, f"{model.base_model_prefix}.{bare}") if full in own), bare)
    inserted = [part for part in _WRAPPERS if any(part in name for name in stored)]
    return Renaming(names=names, removed=(*([wrapper] if wrapper else []), *inserted))


def _clean(name: str) -> str:
    for part in _WRAPPERS:
        name = name.replace(part, "")
    for former, today in _FORMER_ENDS.items():
        if name.endswith(former):
            name = name.removesuffix(former) + today
    return name


def _wrapper(name: str, known: Collection[str]) -> str | None:
    """What stands before the known name that a name ends in; None where it ends in none."""
    start = 0
    while True:
        if name[start:] in known:
            return name[:start]
        start = name.find(".", start) + 1
        if not start:
            return None


def _counted(names: Collection[str], total: int | None = None) -> str:
    first = ", ".join(list(names)[:_SHOWN_NAMES])
    some = shown(f"{first}, ..." if len(names) > _SHOWN_NAMES else first)
    of = "" if total is None else f" of {total}"
    return f"{len(names)}{of} {'tensor' if len(names) == 1 and total is None else 'tensors'}, {some}"
