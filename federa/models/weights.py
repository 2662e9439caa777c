"""The files that hold a checkpoint's tensors: which they are, whether they are whole, and what is in them."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from federa.errors import BadInput, one_line, shown
from federa.models.files import shards

FORMATS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which they are looked for: safetensors first, whole before shards."""
_OTHER_FORMATS = (".h5", ".msgpack", ".onnx", ".gguf", ".ckpt", ".ckpt.index", ".pt", ".pth", ".bin", ".safetensors")
_SMALL_BYTES = 1 << 10
_LFS = b"version https://git-lfs"
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
# What a loader reads beside the weights; other files of a folder may be what they like.
_READ = re.compile(
    r"(config|tokenizer|tokenizer_config|vocab|special_tokens_map|added_tokens)\.json|(vocab|merges)\.txt|.+\.model"
)
_WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")
_NO_TENSORS = (EOFError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)


def weight_paths(folder: Path) -> list[Path]:
    """The files with a checkpoint's tensors. Raises BadInput where there is none, or an index names others than lie
    beside it."""
    first = next((folder / name for name in FORMATS if (folder / name).is_file()), None)
    if first is None:
        others = sorted(path.name for path in folder.iterdir() if path.name.endswith(_OTHER_FORMATS))
        beside = f"; it holds {shown(', '.join(others), 100)}" if others else ""
        raise BadInput(
            f"it holds no weights: neither model.safetensors nor pytorch_model.bin, whole or in shards{beside}"
        )
    return shards(first) if first.name.endswith(".index.json") else [first]


def refuse_damage(folder: Path) -> None:
    """Raises BadInput for a model's folder with a file that is not what its name says: a pointer that Git LFS left, a
    web page, one that is empty or cut short. Reads beginnings and headers only."""
    for path in sorted(folder.iterdir()):
        if _READ.fullmatch(path.name) and path.is_file():
            _refuse_stand_in(path)
    if not (folder / "config.json").is_file():
        inside = sorted(path.name for path in folder.iterdir() if (path / "config.json").is_file())
        hint = f"; a model lies in its folder {shown(inside[0], 100)}" if inside else ""
        raise BadInput(f"it has no config.json, so it is no model's folder{hint}")
    for path in weight_paths(folder):
        _refuse_stand_in(path)
        for name, dtype in _contents(path):
            if dtype in _WHOLE_NUMBERS and name.endswith(".weight"):
                raise BadInput(
                    f"{path.name} holds {shown(name, 100)} in whole numbers ({dtype}): a quantised checkpoint cannot "
                    "be trained, take the one that it was made of"
                )


def tensor_names(folder: Path) -> list[str]:
    """The names of a checkpoint's tensors. Raises BadInput."""
    return [name for path in weight_paths(folder) for name, _ in _contents(path)]


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by name. They are read from their files when they are used first, as far as a format
    allows. Raises BadInput."""
    found: dict[str, torch.Tensor] = {}
    for path in weight_paths(folder):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                found.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - it is no dict
        else:
            found.update(_unpickled(path, "cpu"))
    return found


def _refuse_stand_in(path: Path) -> None:
    with path.open("rb") as file:
        beginning = file.read(_SMALL_BYTES)
    if not beginning:
        raise BadInput(f"{path.name} is empty: copy or download it anew")
    if beginning.startswith(_LFS):
        raise BadInput(
            f"{path.name} is a pointer of Git LFS in place of the file: run 'git lfs pull' where it was cloned"
        )
    if path.suffix != ".txt" and beginning.lstrip().lower().startswith(_PAGES):
        raise BadInput(f"{path.name} is a web page in place of the file: download it anew")


def _contents(path: Path) -> Iterator[tuple[str, str]]:
    """Name and dtype of each of a file's tensors."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    yield name, file.get_slice(name).get_dtype()
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path.name} is {_damage(path)} ({one_line(error)}): copy or download it anew") from None
        return
    for name, tensor in _unpickled(path, "meta").items():
        yield name, "I8" if tensor.dtype in (torch.int8, torch.uint8) else str(tensor.dtype)


def _damage(path: Path) -> str:
    """What is wrong with a file that safetensors does not read."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= size - 8 else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "damaged"
    return f"cut short: {size} of {whole} bytes" if size < whole < 1 << 50 else "damaged"


def _unpickled(path: Path, device: str) -> dict[str, torch.Tensor]:
    """A pytorch_model.bin's tensors. No code in it is run. Raises BadInput for one that holds more than tensors."""
    try:
        try:
            found: Any = torch.load(path, map_location=device, weights_only=True, mmap=True)
        except RuntimeError:  # as torch before 1.6 wrote it, it cannot be mapped
            found = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise BadInput(
            f"{path.name} is damaged, or holds more than tensors, such as code, which is never run: save the model "
            "with save_pretrained(), which writes model.safetensors"
        ) from None
    except _NO_TENSORS:
        raise BadInput(f"{path.name} is damaged or cut short: copy or download it anew") from None
    if not isinstance(found, dict) or not found or not all(isinstance(one, torch.Tensor) for one in found.values()):
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise BadInput(
            f"{path.name} holds no tensors by name ({shown(keys, 100)}): it is a training's checkpoint rather than a "
            "model's; save the model with save_pretrained() and name that folder"
        )
    return found
