"""A checkpoint as a model of transformers: loaded in fp32, with what it lacks and what it has too much."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from federa.errors import BadInput, one_line, shown
from federa.models.checkpoint import Comparison, compare, unwrapped
from federa.models.location import local_folder
from federa.models.weights import read_tensors, tensor_names

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# What a config that checks its fields says of one with a value of another type.
_INVALID_FIELD = re.compile(r"Validation error for field '(\w+)'")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedCheckpoint:
    """A model with a checkpoint's weights. `missing` are the parameters that the checkpoint lacks, or has for another
    number of labels. `notes` are to be said: each goes on from the model's name."""

    model: nn.Module
    missing: frozenset[str]
    notes: Sequence[str]


def load_config(folder: str) -> PretrainedConfig:
    """The config in a folder, or of a hub name. Raises BadInput for one that no model can be made of."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # of a folder of any make
        raise BadInput(_config_objection(Path(folder) / "config.json") or _objection(error)) from None
    if getattr(config, "quantization_config", None):
        raise BadInput(
            "its config.json says that it is quantised: such a checkpoint cannot be trained, take the one that it was "
            "made of"
        )
    return config


def column_names(config: PretrainedConfig) -> list[str]:
    """What a config calls the columns of its checkpoint's head; none where it numbers them with gaps."""
    named: Mapping[Any, str] = config.id2label or {}
    return [str(named[number]) for number in range(len(named))] if set(named) == set(range(len(named))) else []


def load_checkpoint(folder: str, auto_model: str, options: Mapping[str, Any], seed: int) -> LoadedCheckpoint:
    """Load what lies in a folder, or under a hub name, as that class of transformers. What the checkpoint lacks is
    drawn from the seed. Raises BadInput where more than a head and a pooler is missing or unknown."""
    import transformers

    auto, notes = getattr(transformers, auto_model), []
    try:
        model, report = _read(auto, folder, seed, **options)
    except _MixedNames:
        model, report = _blank(auto, folder, options), None
    comparison = _compared(model, report)
    if (comparison is None or not comparison.fits) and (stored := local_folder(folder)) is not None:
        renaming = unwrapped(model, tensor_names(stored))
        if renaming.removed or report is None:
            kind, config = type(model), model.config
            del model  # before it is there a second time
            tensors = {renaming.names[name]: tensor for name, tensor in read_tensors(stored).items()}
            model, report = _read(kind, None, seed, config=config, state_dict=tensors)
            comparison = _compared(model, report)
        if renaming.removed:
            notes.append(f"has {' and '.join(map(shown, renaming.removed))} in the names of its tensors: read without")
    if report is None or comparison is None or not comparison.fits:
        raise BadInput(comparison.objection(model) if comparison else "it holds tensors of more than one model")
    reshaped = _reshaped(report)
    parameters = {name for name, _ in model.named_parameters()}
    if reshaped:
        notes.append(f"has another number of rows in its head ({', '.join(sorted(reshaped))}): they are drawn anew")
    if unused := comparison.unused:
        notes.append(f"has {len(unused)} tensors that this task does not use, such as {shown(unused[0], 80)}")
    return LoadedCheckpoint(
        model=model, missing=frozenset(parameters & {*report["missing_keys"], *reshaped}), notes=notes
    )


class _MixedNames(Exception):
    """Some of a checkpoint's names have the encoder's prefix and some lack it, which older versions do not read."""


def _read(kind: Any, folder: str | None, seed: int, **options: Any) -> tuple[nn.Module, Mapping[str, Any]]:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return kind.from_pretrained(
                folder,
                **options,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
            )
    except MemoryError:
        raise
    except Exception as error:  # of a folder of any make
        if "Are you sure it was properly saved?" in str(error):
            raise _MixedNames from None
        raise BadInput(_objection(error)) from None


def _blank(auto: Any, folder: str, options: Mapping[str, Any]) -> nn.Module:
    """The model of a config, without weights."""
    from transformers import AutoConfig

    with torch.device("meta"):
        return auto.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=False, **options))


def _compared(model: nn.Module, report: Mapping[str, Any] | None) -> Comparison | None:
    if report is None:
        return None
    return compare(model, report["missing_keys"], report["unexpected_keys"], _reshaped(report))


def _reshaped(report: Mapping[str, Any]) -> set[str]:
    # Up to transformers 4.56 at least names alone, in 5 each with both shapes.
    return {entry if isinstance(entry, str) else str(entry[0]) for entry in report["mismatched_keys"]}


def _objection(error: Exception) -> str:
    text = str(error)
    if "Unrecognized configuration class" in text:
        return "its architecture has no model for this task"
    if "adding_idx must be within num_embeddings" in text:
        return (
            "its config.json has a pad_token_id that the model has no row for: set it to the number of the tokenizer's "
            "padding token, or to null"
        )
    if (field := _INVALID_FIELD.match(text)) is not None:
        return f"its config.json has a value for {shown(field[1], 60)} that cannot be used: copy or download it anew"
    if isinstance(error, KeyError):
        return f"its config.json says {shown(text, 60)}, which the installed transformers does not know"
    return one_line(error)


def _config_objection(config: Path) -> str:
    """What is wrong with a config file that no model can be made of; empty where that is not seen."""
    import transformers

    try:
        tree = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return "its config.json is no JSON: copy or download it anew"
    except OSError:
        return ""
    kind = tree.get("model_type") if isinstance(tree, dict) else None
    if kind is None:
        return "its config.json names no architecture (model_type), so it is no language model's"
    if isinstance(tree.get("auto_map"), dict):
        return f"the architecture {shown(kind, 60)} is code of its own, and such code is never run"
    if kind not in transformers.CONFIG_MAPPING:
        version = transformers.__version__
        return f"the architecture {shown(kind, 60)} is none that the installed transformers {version} has"
    return ""
