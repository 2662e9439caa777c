"""The state that travels: named fp32 tensors as one safetensors blob, the same bytes on the wire and on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from federa.errors import BadInput

Tensors = Mapping[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]


def pack(tensors: Tensors) -> bytes:
    """The blob of named tensors. Equal tensors give equal bytes: safetensors orders them itself."""
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


def unpack(blob: bytes) -> dict[str, NDArray[np.float32]]:
    """The tensors of a blob. Raises BadInput for bytes that are none."""
    try:
        return load(blob)
    except SafetensorError as error:
        raise BadInput(f"not a safetensors state: {error}") from None


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state file, read from its header alone. Raises BadInput for another file or dtype."""
    try:
        with safe_open(path, framework="numpy") as file:
            found = {}
            for name in file.keys():  # noqa: SIM118  # not a dict: it has keys() and no iteration
                part = file.get_slice(name)
                if part.get_dtype() != "F32":
                    raise BadInput(f"tensor {name} must be F32, not {part.get_dtype()}")
                found[name] = tuple(part.get_shape())
            return found
    except SafetensorError as error:
        raise BadInput(f"not a safetensors state: {error}") from None


def check_shapes(found: Shapes, expected: Shapes) -> None:
    """Raises BadInput naming the first tensor that is missing, unknown or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise BadInput(f"tensor {name} is missing")
        if name not in expected:
            raise BadInput(f"tensor {name} is not part of this state")
        if tuple(found[name]) != tuple(expected[name]):
            raise BadInput(f"tensor {name} must have shape {list(expected[name])}, not {list(found[name])}")


def digest_of(blob: bytes) -> str:
    """SHA-256 of a blob, in hex: the state's name on the wire and in the run folder."""
    return hashlib.sha256(blob).hexdigest()
