"""The pre-trained model: loaded in fp32, with what its checkpoint lacked named, and a digest of what it held."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from federa.data.section import EMBEDDED
from federa.errors import BadInput, shown
from federa.models.added_tokens import add_tokens
from federa.models.files import ModelNotFound
from federa.models.head import HeadMatch, match_head
from federa.models.loading import column_names, load_checkpoint, load_config
from federa.models.location import local_folder, model_folder, refuse_adapter
from federa.models.positions import Behaviour, try_out
from federa.models.tokenizer import fit_tokenizer, load_tokenizer
from federa.models.weights import refuse_damage
from federa.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from federa.tasks.base import Task

log = logging.getLogger("federa.models")


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainedModel:
    """A task's model before any method touched it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    missing: frozenset[str]
    """Parameters that the checkpoint does not hold, or holds for other labels, and the rows of tokens that the task
    adds; their values here are drawn from the run's seed."""
    digest: str
    """SHA-256 over names, shapes and fp32 bytes of the checkpoint's tensors; the missing ones do not enter."""
    max_tokens: int | None = None
    """The most tokens of a text that the model has positions for; None where it has no table of them."""
    notes: tuple[str, ...] = ()
    """What was not as usual with the checkpoint, and what was done: each goes on from the model's name."""


def load_local_model(source: str, task: Task) -> PretrainedModel:
    """The same as load_pretrained, of a model that is on this machine. Raises ModelNotFound where it is not, or not
    whole, and BadInput where it is no such model."""
    folder = local_folder(source)
    if folder is None:
        raise ModelNotFound(f"model: {source} is not on this machine")
    try:
        return load_pretrained(str(folder), task)
    except BadInput as error:
        if not os.path.isdir(os.path.expanduser(source)) and source != EMBEDDED:
            # The hub's cache holds what somebody needed: perhaps a config and no weights.
            raise ModelNotFound(str(error)) from None
        raise


def load_pretrained(source: str, task: Task, seed: int = 0, *, as_stored: bool = False) -> PretrainedModel:
    """Load a checkpoint as the task's model, in fp32 whatever dtype it is stored in.

    Only safetensors or tensors-only checkpoints are read, and no code of the checkpoint's is run. `as_stored` leaves a
    head as it is stored, whatever labels the task has, and adds no tokens. Raises BadInput when there is no such model,
    it is none for this task, or more than a head is missing or unknown.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = model_folder(source)
    refuse_adapter(folder, source)
    try:
        if os.path.isdir(folder):
            refuse_damage(Path(folder))
        columns = column_names(load_config(folder))
        loaded = load_checkpoint(folder, task.auto_model, task.model_options(), derive_seed(seed, "missing"))
        tokenizer = load_tokenizer(folder)
        padding = fit_tokenizer(tokenizer, loaded.model)
        _refuse_broken_values(loaded.model, loaded.missing)
    except BadInput as error:
        raise BadInput(f"model: cannot load {source}: {error}") from None
    model, match = loaded.model, HeadMatch()
    labels = task.model_options().get("id2label")
    if labels and not as_stored:
        match = match_head(model, columns, list(map(str, labels.values())), loaded.missing)
    missing = loaded.missing | match.drawn
    digest = _digest(model, missing)  # of the rows as they are stored, whatever the order of the labels
    match.apply(model, derive_seed(seed, "head"))
    if task.added_tokens and not as_stored:
        try:
            missing |= add_tokens(model, tokenizer, task.added_tokens, derive_seed(seed, "added tokens"))
        except BadInput as error:
            raise BadInput(f"model: cannot use {source}: {error}") from None
    if getattr(model.config, "use_cache", False):
        cast(Any, model.config).use_cache = False  # keys and values for a text that nobody goes on with
    behaviour = _behaviour(model, tokenizer)
    tokenizer.padding_side = behaviour.padding_side or "right"
    lets_padding_in = "" if behaviour.padding_side else "gives a text another result where padding stands beside it"
    notes = tuple(filter(None, [*loaded.notes, match.said, padding, lets_padding_in]))
    for note in notes:
        log.info("model: %s %s", source, note)
    return PretrainedModel(
        model=model,
        tokenizer=tokenizer,
        missing=missing,
        digest=digest,
        max_tokens=behaviour.max_tokens,
        notes=notes,
    )


def _behaviour(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Behaviour:
    short, long = (list(tokenizer(" ".join(["a"] * count))["input_ids"]) for count in (3, 7))
    return try_out(model, short, long, int(tokenizer.pad_token_id or 0))


def _refuse_broken_values(model: nn.Module, missing: Collection[str]) -> None:
    broken = [
        name
        for name, parameter in model.named_parameters()
        if name not in missing and not bool(parameter.isfinite().all())
    ]
    if broken:
        raise BadInput(
            f"values that are not finite are in {len(broken)} of its tensors, such as {shown(broken[0], 100)}: it was "
            "saved from a training that failed, or in a dtype that is too small for it"
        )


def _digest(model: nn.Module, missing: Collection[str]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name not in missing:
            value = tensor.float() if tensor.is_floating_point() else tensor
            sha.update(f"{name} {list(tensor.shape)} {value.dtype}\n".encode())
            sha.update(value.contiguous().numpy())
    return sha.hexdigest()
