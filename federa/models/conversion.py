"""Files of a base model that were made from another format: weights as safetensors, a tokenizer as tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import save_file

from federa.durable import replacement, write_file
from federa.errors import FederaError, one_line
from federa.models.pretrained import PretrainedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, path: Path) -> list[Path]:
    """Write a tokenizer that was made from another format as the file that holds all of it; nothing where it is of a
    kind that knows no such file. Raises FederaError where it cannot be written."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        return []
    core.no_padding()
    core.no_truncation()
    text: str = core.to_str(pretty=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text.encode())
    except OSError as error:
        raise FederaError(f"cannot write {path}, the tokenizer for the devices: {one_line(error)}") from None
    return [path]


def save_weights(base: PretrainedModel, path: Path) -> None:
    """Write what a checkpoint held as safetensors in fp32, whole or not at all: loaded from there it has the same base
    digest. Raises FederaError where it cannot be written."""
    # Clones: of tied tensors, which safetensors refuses, each is written.
    tensors = {
        name: tensor.detach().clone().contiguous()
        for name, tensor in base.model.state_dict().items()
        if name not in base.missing
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(path) as fresh:
            save_file(tensors, fresh, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise FederaError(f"cannot write {path}, the base model for the devices: {one_line(error)}") from None
