"""A safetensors file's header: written as safetensors itself writes it, and read as if an enemy had written it.

The format is a page long: eight bytes of the header's length, the header in JSON, the tensors' bytes without a gap.
safetensors reads it too, but maps the file, and takes what a run never sends: unknown dtypes, keys that come twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from federa.errors import BadInput

DTYPE_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1}
"""The dtypes of a state on the wire."""

HEADER_LIMIT_BYTES = 4 << 20
"""Some 40,000 tensors. JSON of this size never becomes more than about 100 MiB of Python objects."""

MAX_DIMENSIONS = 32
"""numpy 1.26 knows no more."""

MAX_VALUES = 1 << 48
"""The most values of one tensor, dimensions of length 0 left out, so that no size computed from a shape overflows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One tensor: what it is and where its bytes lie, counted from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def values(self) -> int:
        return math.prod(self.shape)


def write_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, Entry]]:
    """The bytes before the first tensor, and the tensors in the order of their bytes, of dtypes and shapes by name."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    placed, position = {}, 0
    # Wide dtypes first, as safetensors has it: so every tensor is aligned.
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: (-DTYPE_BYTES[item[1][0]], item[0])):
        end = position + DTYPE_BYTES[dtype] * math.prod(shape)
        placed[name] = (dtype, shape, position, end)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    entries = {
        name: Entry(dtype=dtype, shape=shape, begin=start + begin, end=start + end)
        for name, (dtype, shape, begin, end) in placed.items()
    }
    return len(text).to_bytes(8, "little") + text, entries


def read_header(file: BinaryIO) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors, in the order of their names, and the metadata. Reads nothing behind the header.

    Raises BadInput for whatever is not exactly a file of this format.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise _bad("its header is longer than the file")
    if length > HEADER_LIMIT_BYTES:
        raise _bad(f"its header has {length} bytes, more than {HEADER_LIMIT_BYTES}")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_once, parse_int=_number)
    # RecursionError: nesting.
    except (ValueError, RecursionError):
        raise _bad("its header is no JSON") from None
    if not isinstance(header, dict):
        raise _bad("its header is no map")
    metadata = header.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise _bad("its metadata is no map of strings")
    entries = {name: _entry(name, header[name], 8 + length) for name in sorted(header)}
    position = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise _bad(f"tensor {shown(name)} does not begin where the one before it ends")
        position = entry.end
    if position != size:
        raise _bad(f"its tensors end at byte {position}, the file at {size}")
    return entries, metadata


def shown(name: str) -> str:
    """A tensor's name as a message may hold it: somebody else chose it, line breaks and length included."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _entry(name: str, found: Any, start: int) -> Entry:
    if not (isinstance(found, dict) and found.keys() == {"dtype", "shape", "data_offsets"}):
        raise _bad(f"tensor {shown(name)} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = found["dtype"], found["shape"], found["data_offsets"]
    if not (isinstance(dtype, str) and dtype in DTYPE_BYTES):
        raise _bad(f"tensor {shown(name)} has a dtype that is none of {', '.join(DTYPE_BYTES)}")
    if not (_counts(shape) and len(shape) <= MAX_DIMENSIONS):
        raise _bad(f"tensor {shown(name)} has a shape that is none")
    if not (_counts(offsets) and len(offsets) == 2):
        raise _bad(f"tensor {shown(name)} has data_offsets that are none")
    if any(side > MAX_VALUES for side in shape) or math.prod(side or 1 for side in shape) > MAX_VALUES:
        raise _bad(f"tensor {shown(name)} has a shape that is too large")
    begin, end = offsets
    if end - begin != DTYPE_BYTES[dtype] * math.prod(shape):
        raise _bad(f"tensor {shown(name)} has another number of bytes than its shape needs")
    return Entry(dtype=dtype, shape=tuple(shape), begin=start + begin, end=start + end)


def _counts(value: object) -> bool:
    # type(), since a bool is an int too.
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _number(text: str) -> int:
    # A million digits would take minutes, in a Python that takes them.
    if len(text) > 20:
        raise ValueError("more digits than any size has")
    return int(text)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("its header has a key twice")
    return found


def _bad(why: str) -> BadInput:
    return BadInput(f"not a safetensors state: {why}")
