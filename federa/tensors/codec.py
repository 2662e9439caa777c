"""The wire's dtypes: a blob of absolute fp32 values, or one of differences in fewer bits.

Below fp32 differences from a reference state travel, since a round changes values by less than fp16 tells apart around
1. Rounding is stochastic: what is decoded is what was encoded on average, so that errors cancel over clients and rounds
and nobody keeps the rest of one round for the next (as Gupta et al., arXiv 1502.02551, for weights).

int8 has a scale for each block of 128 values in the tensor's row-major order, the last one maybe shorter: the largest
magnitude / 127, in a tensor of its own beside the tensor's.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from federa.errors import BadInput
from federa.seeds import derive_seed
from federa.tensors.header import Entry, read_header, shown, write_header
from federa.tensors.quantization import BLOCK, blocks_of, difference_of, stochastically_rounded
from federa.tensors.state import SCALE_SUFFIX, Shapes, Tensors, check_names, check_shapes, pack

Blob = bytes | bytearray | memoryview
WIRES: tuple[str, ...] = ("fp32", "bf16", "fp16", "int8")
SLICE_VALUES = 1 << 18
"""Values that are worked on at a time: whole blocks, and little enough to stay in a core's cache."""

_DTYPES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16", "int8": "I8"}
_STORED = {"F32": "<f4", "BF16": "<u2", "F16": "<u2", "I8": "i1"}
_FP16: NDArray[np.float32] = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""The value of each pattern of bits: looking it up is eight times as fast as numpy's conversion."""


def encode(
    tensors: Tensors, wire: str, *, reference: Tensors | None = None, reference_sha256: str = "", seed: int = 0
) -> bytes:
    """The blob of `tensors`: themselves in fp32, otherwise their differences from `reference`, rounded by `seed`.

    Equal arguments give equal bytes, whatever the order of names. Differences beyond the dtype's range are clipped to
    it. What is not finite is so after decoding too, for whoever receives it to refuse. Raises BadInput for an unknown
    wire, a name that no state may have, and a reference that is missing or has other tensors.
    """
    if wire == "fp32":
        return pack(tensors)
    if wire not in WIRES:
        raise BadInput(f"the wire must be one of {', '.join(WIRES)}, not {shown(wire)}")
    if reference is None:
        raise BadInput(f"{wire} needs the reference that the differences are taken from")
    check_names(tensors)
    shapes = {name: value.shape for name, value in tensors.items()}
    check_shapes(shapes, {name: value.shape for name, value in reference.items()})
    metadata = {"wire": wire, "reference": reference_sha256}
    stored = {name: (_DTYPES[wire], shape) for name, shape in shapes.items()}
    if wire == "int8":
        metadata["block"] = str(BLOCK)
        stored |= {name + SCALE_SUFFIX: ("F32", (blocks_of(value.size),)) for name, value in tensors.items()}
    header, entries = write_header(stored, metadata)
    # BytesIO hands its bytes over where joining parts would hold all of them twice.
    blob = io.BytesIO(header)
    for name in sorted(shapes):
        generator = np.random.Generator(np.random.PCG64(derive_seed(seed, name)))
        value, base = tensors[name].reshape(-1), reference[name].reshape(-1)
        for begin, end in slices(value.size):
            parts = stochastically_rounded(difference_of(value[begin:end], base[begin:end], wire), wire, generator)
            blob.seek(entries[name].begin + begin * parts[0].itemsize)
            blob.write(parts[0].data)
            if wire == "int8":
                blob.seek(entries[name + SCALE_SUFFIX].begin + 4 * (begin // BLOCK))
                blob.write(parts[1].data)
    return blob.getvalue()


class Encoded:
    """A blob, read tensor by tensor from its file or from memory.

    It reads where safetensors would map: pages of a map stay resident, and a round's aggregation would come to hold
    every client's update. It keeps no file open: a round may have more clients than a process may have files.
    """

    wire: str
    reference_sha256: str
    """The digest (hex) of the blob that the differences are taken from; empty for fp32."""
    shapes: dict[str, tuple[int, ...]]
    """The shapes of the decoded tensors, in the order of their names."""

    def __init__(self, source: Path | Blob) -> None:
        """Read the header. Raises BadInput for anything but a well-formed blob."""
        self._source = source
        with self._open() as file:
            self._entries, metadata = read_header(file)
        self.wire = metadata.get("wire", "fp32")
        self.reference_sha256 = ""
        if "wire" in metadata:
            self._check_metadata(metadata)
            self.reference_sha256 = metadata["reference"]
        names = [name for name in self._entries if self.wire != "int8" or not name.endswith(SCALE_SUFFIX)]
        self.shapes = {name: self._entries[name].shape for name in names}
        for name in names:
            found = self._entries[name].dtype
            if found != _DTYPES[self.wire]:
                raise BadInput(f"tensor {shown(name)} must be {_DTYPES[self.wire]}, not {found}")
        if self.wire == "int8":
            self._check_scales()

    def values(self, name: str) -> NDArray[np.float32]:
        """One tensor as it is sent: absolute in fp32, the difference otherwise."""
        return self.part(name, 0, self.size(name)).reshape(self.shapes[name])

    def difference(self, name: str, base: NDArray[np.float32]) -> NDArray[np.float32]:
        """One tensor's difference from `base`, which must be the reference's tensor."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.values(name) - base if self.wire == "fp32" else self.values(name)

    def absolute(self, name: str, base: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """One tensor's own values, in fp32 arithmetic. `base` is the reference's tensor; fp32 needs none."""
        if self.wire == "fp32":
            return self.values(name)
        if base is None:
            raise BadInput(f"{self.wire} needs the reference that the differences are taken from")
        with np.errstate(over="ignore", invalid="ignore"):
            return np.add(base, self.values(name), dtype=np.float32)

    def size(self, name: str) -> int:
        """How many values a tensor has."""
        return self._entries[name].values

    def part(self, name: str, begin: int, end: int) -> NDArray[np.float32]:
        """Values [begin, end) of `values(name)` in row-major order. `begin` is a multiple of BLOCK."""
        entry = self._entries[name]
        with self._open() as file:
            stored = _read(file, entry, begin, end)
            if self.wire == "int8":
                first, last = begin // BLOCK, blocks_of(end)
                scales = _read(file, self._entries[name + SCALE_SUFFIX], first, last)
        match self.wire:
            case "bf16":
                return (stored.astype(np.uint32) << 16).view(np.float32)
            case "int8":
                if (scales < 0).any():
                    raise BadInput(f"tensor {shown(name)} has a negative scale")
                return _scaled(stored, scales)
            case "fp16":
                return _FP16.take(stored)
            case _:
                return stored

    def _open(self) -> BinaryIO:
        if isinstance(self._source, Path):
            return self._source.open("rb", buffering=0)
        return cast(BinaryIO, _Memory(self._source))

    def view(self, name: str) -> NDArray[np.float32]:
        """One fp32 tensor of a blob that is in memory, without a copy: it can be written to where the blob can."""
        entry = self._entries[name]
        assert self.wire == "fp32" and not isinstance(self._source, Path)
        flat = np.frombuffer(self._source, dtype="<f4", count=entry.values, offset=entry.begin)
        return flat.reshape(entry.shape)

    def _check_metadata(self, metadata: dict[str, str]) -> None:
        expected = {"wire", "reference"} | ({"block"} if self.wire == "int8" else set())
        if self.wire not in WIRES[1:]:
            raise BadInput(f"the wire of a blob of differences must be {', '.join(WIRES[1:])}, not {shown(self.wire)}")
        if metadata.keys() != expected:
            raise BadInput(f"the metadata of {self.wire} must be {', '.join(sorted(expected))}")
        if metadata.get("block", str(BLOCK)) != str(BLOCK):
            raise BadInput(f"the block of int8 must be {BLOCK}, not {shown(metadata['block'])}")

    def _check_scales(self) -> None:
        for name in self.shapes:
            scale = self._entries.get(name + SCALE_SUFFIX)
            if scale is None:
                raise BadInput(f"tensor {shown(name)} has no scales")
            expected = (blocks_of(self._entries[name].values),)
            if scale.dtype != "F32" or scale.shape != expected:
                raise BadInput(f"the scales of tensor {shown(name)} must be F32 of shape {list(expected)}")
        if len(self._entries) != 2 * len(self.shapes):
            raise BadInput("there are scales of tensors that are missing")


def decode(blob: Blob, reference: Tensors | None = None) -> dict[str, NDArray[np.float32]]:
    """The absolute tensors of a blob. fp32 needs no reference and looks at none; its tensors are views of the blob.

    Raises BadInput for a damaged blob, and for a reference that is needed and missing or has other tensors.
    """
    encoded = Encoded(blob)
    if encoded.wire == "fp32":
        return {name: encoded.view(name) for name in encoded.shapes}
    if reference is None:
        raise BadInput(f"{encoded.wire} needs the reference that the differences are taken from")
    check_shapes(encoded.shapes, {name: value.shape for name, value in reference.items()})
    return {name: encoded.absolute(name, reference[name]) for name in encoded.shapes}


def check_update(encoded: Encoded, *, wire: str, shapes: Shapes, reference_sha256: str) -> None:
    """Raises BadInput naming the first thing that differs from what was asked for. Looks at the header alone."""
    if encoded.wire != wire:
        raise BadInput(f"the wire must be {wire}, not {encoded.wire}")
    if wire != "fp32" and encoded.reference_sha256 != reference_sha256:
        raise BadInput(f"the reference must be {reference_sha256}, not {shown(encoded.reference_sha256)}")
    check_shapes(encoded.shapes, shapes)


def distance(encoded: Encoded, base: Callable[[str], NDArray[np.float32]] | Encoded) -> float:
    """The L2 norm of the difference from the reference, all tensors together. `base` gives the reference's, or is its
    fp32 blob, which is faster since it is read by slices too.

    Reads the file once, and `base` only for fp32. Raises BadInput naming a tensor that holds what is not finite.
    """
    total = 0.0
    buffer = np.empty(SLICE_VALUES, np.float64)
    sliced = base if isinstance(base, Encoded) else None
    for name in encoded.shapes:
        whole = None if encoded.wire != "fp32" or isinstance(base, Encoded) else base(name).reshape(-1)
        for begin, end in slices(encoded.size(name)):
            values, difference = encoded.part(name, begin, end), buffer[: end - begin]
            reference: NDArray[np.float32] | int = 0
            if whole is not None:
                reference = whole[begin:end]
            elif sliced is not None and encoded.wire == "fp32":
                reference = sliced.part(name, begin, end)
            with np.errstate(invalid="ignore"):
                np.subtract(values, reference, out=difference, dtype=np.float64)
                # In float64 no square of finite fp32 values overflows: the sum is finite exactly where all values are.
                # Not np.dot: BLAS would start a thread a core for every slice, and two updates at once then fight.
                square = float(np.einsum("i,i->", difference, difference))
            if not np.isfinite(square):
                raise BadInput(f"tensor {shown(name)} holds values that are not finite")
            total += square
    return float(np.sqrt(total))


def slices(values: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of each slice of a tensor of so many values."""
    for begin in range(0, values, SLICE_VALUES):
        yield begin, min(begin + SLICE_VALUES, values)


class _Memory(io.RawIOBase):
    """A blob as a file. io.BytesIO would copy one that is no bytes."""

    def __init__(self, blob: Blob) -> None:
        self._view = memoryview(blob).cast("B")
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, len(self._view))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, room: Any) -> int:
        chunk = self._view[self._at : self._at + len(room)]
        room[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)


def _read(file: BinaryIO, entry: Entry, begin: int, end: int) -> NDArray:
    found = np.empty(end - begin, _STORED[entry.dtype])
    room = found.view(np.uint8).data
    file.seek(entry.begin + begin * found.itemsize)
    position = 0
    while position < len(room):
        # Linux reads at most 2 GiB at once.
        count = file.readinto(room[position:])  # type: ignore[attr-defined]
        if not count:
            raise BadInput("the file ends before its tensors do")
        position += count
    return found


def _scaled(stored: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    found = stored.astype(np.float32)
    whole = stored.size // BLOCK * BLOCK
    with np.errstate(over="ignore", invalid="ignore"):
        # By the tail and not by a padded copy: the decoded tensor is the only one of its size.
        found[:whole].reshape(-1, BLOCK)[:] *= scales[: whole // BLOCK, None]
        found[whole:] *= scales[whole // BLOCK :]
    return found
