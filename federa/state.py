"""The state that travels: named fp32 tensors as one safetensors blob, the same bytes on the wire and on disk."""

from __future__ import annotations

import hashlib
import json
import struct
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
    # Not ascontiguousarray(): it makes one dimension of none.
    return save({name: np.asarray(value, order="C") for name, value in tensors.items()})


def unpack(blob: bytes) -> dict[str, NDArray[np.float32]]:
    """The tensors of a blob. Raises BadInput for bytes that are none, or for another dtype."""
    try:
        tensors = load(blob)
    except SafetensorError as error:
        raise BadInput(f"not a safetensors state: {error}") from None
    except KeyError as error:
        # numpy has no such dtype.
        raise BadInput(f"every tensor must be F32, not {error.args[0]}") from None
    for name, value in tensors.items():
        if value.dtype != np.float32:
            raise BadInput(f"tensor {name} must be float32, not {value.dtype}")
    return tensors


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


class StateFile:
    """Reads a state file tensor by tensor. The file must have passed `shapes_of`.

    It reads, where safetensors would map: pages of a map stay resident, and a round's fold would come to hold every
    client's update. It keeps no file open: a round may have more clients than a process may have files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        self._data = 8 + length
        self._tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}

    @property
    def names(self) -> list[str]:
        return sorted(self._tensors)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor's values, little-endian fp32 as safetensors lays them out."""
        entry = self._tensors[name]
        begin, end = entry["data_offsets"]
        with self._path.open("rb") as file:
            file.seek(self._data + begin)
            return np.frombuffer(file.read(end - begin), dtype="<f4").reshape(entry["shape"])


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
