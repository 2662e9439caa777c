"""The communicated state: named fp32 tensors as one safetensors blob, the same bytes on the wire and on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from federa.errors import BadInput
from federa.tensors.header import shown, write_header

Tensors = Mapping[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]

SCALE_SUFFIX = "::scale"
"""Ends the name of the tensor of scales that goes with one in int8 (see codec.py), and of no tensor of a state."""


def pack(tensors: Tensors) -> bytes:
    """The blob of named tensors. Equal tensors give equal bytes, in safetensors' own order.

    Raises BadInput for a name that no state may have.
    """
    check_names(tensors)
    # Not ascontiguousarray(): it makes one dimension of none.
    arrays = {name: np.asarray(value, dtype="<f4", order="C") for name, value in tensors.items()}
    header, entries = write_header({name: ("F32", value.shape) for name, value in arrays.items()})
    # safetensors' own save copies every tensor twice; the bytes are the same.
    return b"".join([header, *(arrays[name].reshape(-1).view(np.uint8).data for name in entries)])


def write_state(path: Path, shapes: Shapes, tensor: Callable[[str], NDArray[np.float32]]) -> str:
    """Write the bytes that `pack` makes of the same tensors; their digest, in hex. `tensor` is asked for one after the
    other, while the one before is hashed and written: two are held.

    The file is on the disk then; its name may not be, before its folder is synced. Raises BadInput for a name that no
    state may have, and for a tensor of another shape than announced.
    """
    check_names(shapes)
    header, entries = write_header({name: ("F32", tuple(shape)) for name, shape in shapes.items()})
    digest = hashlib.sha256(header)

    def append(value: NDArray[np.float32]) -> None:
        data = value.reshape(-1).view(np.uint8).data
        digest.update(data)
        file.write(data)

    # Hashing and writing take as long as making the tensors, and neither holds the interpreter's lock.
    with path.open("wb") as file, ThreadPoolExecutor(max_workers=1) as writer:
        file.write(header)
        before: Future[None] | None = None
        for name, entry in entries.items():
            value = np.asarray(tensor(name), dtype="<f4", order="C")
            check_shapes({name: value.shape}, {name: entry.shape})
            if before:
                before.result()
            before = writer.submit(append, value)
        if before:
            before.result()
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


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


def check_names(names: Iterable[str]) -> None:
    """Raises BadInput for a name that the file's format or the wire's dtypes keep for themselves."""
    for name in names:
        if name == "__metadata__" or name.endswith(SCALE_SUFFIX):
            raise BadInput(f"no tensor of a state may be called {shown(name)}")


def check_shapes(found: Shapes, expected: Shapes) -> None:
    """Raises BadInput naming the first tensor that is missing, unknown or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise BadInput(f"tensor {shown(name)} is missing")
        if name not in expected:
            raise BadInput(f"tensor {shown(name)} is not part of this state")
        if tuple(found[name]) != tuple(expected[name]):
            raise BadInput(f"tensor {shown(name)} must have shape {list(expected[name])}, not {list(found[name])}")


def digest_of(blob: bytes) -> str:
    """SHA-256 of a blob, in hex: the state's name on the wire and in the run folder."""
    return hashlib.sha256(blob).hexdigest()
