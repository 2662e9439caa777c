"""The files of a base model, for devices that have neither the model nor a hub: which there are, and their digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from federa.errors import BadInput, shown

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
_SHARDS = "model.safetensors.index.json"
MAX_FILES = 1_000
MAX_BYTES = 64 << 30
# What a tokenizer and a config are made of, and tensors: nothing that could hold code. No dot in front, no folder.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. +-]{0,199}\.(json|txt|model|safetensors)", re.ASCII)
# It would have another model loaded, by a name of its own.
_NEVER = {"adapter_config.json"}
_READ_BYTES = 1 << 20


class ModelNotFound(BadInput):
    """A base model is not on this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """`size` in bytes, `sha256` as 32 bytes."""

    name: str
    size: int
    sha256: bytes


def check_files(files: Iterable[ModelFile]) -> tuple[ModelFile, ...]:
    """Such a list as it came from the network, by name. Raises BadInput for one that no coordinator of ours makes."""
    checked = sorted(files, key=lambda file: file.name)
    if not 1 <= len(checked) <= MAX_FILES:
        raise BadInput(f"model: 1 to {MAX_FILES} files can be served, not {len(checked)}")
    for file in checked:
        if not may_be_served(file.name):
            raise BadInput(
                f"model: a file of a base model cannot be called {file.name[:100]!r}; "
                "it must be a plain name that ends in .json, .txt, .model or .safetensors"
            )
        if len(file.sha256) != 32:
            raise BadInput(f"model: {file.name} must come with a SHA-256 of 32 bytes, not of {len(file.sha256)}")
    for file, following in pairwise(checked):
        if file.name == following.name:
            raise BadInput(f"model: {file.name} is listed twice")
    total = sum(file.size for file in checked)
    if total > MAX_BYTES or any(file.size < 0 for file in checked):
        raise BadInput(f"model: its files may have {MAX_BYTES >> 30} GiB in all, not {total} bytes")
    return tuple(checked)


def may_be_served(name: str) -> bool:
    """Whether a file of that name is served, and taken."""
    return _NAME.fullmatch(name) is not None and name not in _NEVER


def files_digest(files: Iterable[ModelFile]) -> str:
    """SHA-256, in hex, over all names, sizes and digests: the name under which a device keeps them."""
    sha = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        sha.update(f"{file.name} {file.size} {file.sha256.hex()}\n".encode())
    return sha.hexdigest()


def describe(path: Path) -> ModelFile:
    """A file as it is listed. Reads all of it; raises OSError."""
    return ModelFile(name=path.name, size=path.stat().st_size, sha256=file_sha256(path))


def file_sha256(path: Path) -> bytes:
    """SHA-256 of a file, read in chunks. Raises OSError."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            sha.update(chunk)
    return sha.digest()


def is_whole(path: Path, file: ModelFile) -> bool:
    """Whether that file lies there, to the byte. Reads all of it: a disk may forget."""
    try:
        return path.stat().st_size == file.size and file_sha256(path) == file.sha256
    except OSError:
        return False


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a loader would read from a model's folder, with the index of their tensors where they
    are several; none where it has another format. Raises BadInput for an index that cannot be read."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / _SHARDS
    if not index.is_file():
        return []
    parts = shards(index)
    if not all(may_be_served(part.name) and part.parent == folder for part in parts):
        raise BadInput(f"model: {index} names files that cannot be served: they must end in .safetensors")
    return [index, *parts]


def shards(index: Path) -> list[Path]:
    """The files that the index of a checkpoint in several files names. Raises BadInput where it cannot be read, or one
    is not there."""
    try:
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        parts = [index.parent / name for name in named]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"cannot read {index}: {type(error).__name__}; copy or download it anew") from None
    absent = [part.name for part in parts if not part.is_file()]
    if absent or not parts:
        raise BadInput(
            f"{index} names {len(parts)} files of weights; not there: {len(absent)}"
            f"{f', such as {shown(absent[0], 100)}' if absent else ''}: copy or download them too"
        )
    return parts


def metadata_files(folder: Path) -> list[Path]:
    """Config, tokenizer and the like: the files of a model's folder that are served beside its weights."""
    return sorted(
        path
        for path in folder.iterdir()
        # No index: of the weights' own apart, it is of a format that is not served.
        if path.is_file() and may_be_served(path.name) and not path.name.endswith((".safetensors", ".index.json"))
    )
