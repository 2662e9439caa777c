"""Files that somebody else wrote: each lie is refused in a line that names it, and none costs more than it should."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federa.errors import BadInput
from federa.tensors.codec import WIRES, Encoded, decode, distance, encode
from federa.tensors.header import HEADER_LIMIT_BYTES
from federa.tensors.state import pack


def zeros(state):
    return {name: np.zeros_like(value) for name, value in state.items()}


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), **more: object) -> dict[str, object]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


def blob8(shape=(2,), scales=(1,), more=None, **metadata) -> bytes:
    """An int8 blob of one tensor, with lies where they are asked for."""
    count, blocks = math.prod(shape), math.prod(scales)
    return raw(
        {
            "__metadata__": {"wire": "int8", "reference": "", "block": "128", **metadata},
            "x::scale": {"dtype": "F32", "shape": scales, "data_offsets": [0, 4 * blocks]},
            "x": {"dtype": "I8", "shape": shape, "data_offsets": [4 * blocks, 4 * blocks + count]},
            **(more or {}),
        },
        b"\0" * (4 * blocks + count),
    )


GOOD = pack({"x": np.ones((2, 3), np.float32)})


def pair(second: tuple[int, int]) -> dict[str, object]:
    """Two tensors of eight bytes, the first of them at the start."""
    return {**tensor(), "y": {"dtype": "F32", "shape": [2], "data_offsets": second}}


EIGHT = b"\0" * 8
HOSTILE = {
    "empty": (b"", "its header is longer than the file"),
    "short": (b"\x08", "its header is longer than the file"),
    "text": (b"not a state at all, but a line of text", "its header is longer than the file"),
    "header longer than the file": ((2**40).to_bytes(8, "little") + b"{}", "its header is longer than the file"),
    "header length overflows": (b"\xff" * 8 + b"{}", "its header is longer than the file"),
    "header of many megabytes": (raw(b" " * (HEADER_LIMIT_BYTES + 1)), "its header has 4194305 bytes"),
    "header is empty": (raw(b""), "its header is no JSON"),
    "header is no JSON": (raw(b"{{{{"), "its header is no JSON"),
    "header is no UTF-8": (raw(b'{"\xff": 1}'), "its header is no JSON"),
    "header with something behind": (raw(b"{} {}"), "its header is no JSON"),
    "header of deep nesting": (raw(b"[" * 1_000_000), "its header is no JSON"),
    "nested maps": (raw(b'{"x":' * 500_000), "its header is no JSON"),
    "header is a list": (raw([]), "its header is no map"),
    "header is a number": (raw(b"1"), "its header is no map"),
    "a name twice": (raw(b'{"x": 1, "x": 2}'), "its header has a key twice"),
    "a field twice": (raw(b'{"x": {"dtype": "F32", "dtype": "F32"}}'), "its header has a key twice"),
    "metadata twice": (raw(b'{"__metadata__": {"a": "1", "a": "2"}}'), "its header has a key twice"),
    "metadata is a list": (raw({"__metadata__": []}), "its metadata is no map of strings"),
    "metadata is null": (raw({"__metadata__": None}), "its metadata is no map of strings"),
    "metadata of numbers": (raw({"__metadata__": {"wire": 1}}), "its metadata is no map of strings"),
    "tensor is a list": (raw({"x": []}), "tensor x needs dtype, shape and data_offsets"),
    "tensor without a shape": (raw({"x": {"dtype": "F32", "data_offsets": [0, 8]}}, EIGHT), "tensor x needs dtype"),
    "a field too many": (raw(tensor(more=1), EIGHT), "tensor x needs dtype, shape and data_offsets, and nothing else"),
    "unknown dtype": (raw(tensor(dtype="F99"), EIGHT), "tensor x has a dtype that is none of F32, BF16, F16, I8"),
    "dtype is a list": (raw(tensor(dtype=["F32"]), EIGHT), "tensor x has a dtype that is none of"),
    "dtype that does not travel": (raw(tensor(dtype="F64", shape=(1,)), EIGHT), "tensor x has a dtype that is none of"),
    "shape is a number": (raw(tensor(shape=2), EIGHT), "tensor x has a shape that is none"),
    "shape of fractions": (raw(tensor(shape=(2.0,)), EIGHT), "tensor x has a shape that is none"),
    "shape of booleans": (raw(tensor(shape=(2, True)), EIGHT), "tensor x has a shape that is none"),
    "shape of texts": (raw(tensor(shape=("2",)), EIGHT), "tensor x has a shape that is none"),
    "shape is negative": (raw(tensor(shape=(-1, -2)), EIGHT), "tensor x has a shape that is none"),
    "shape of many dimensions": (raw(tensor(shape=[1] * 50 + [2]), EIGHT), "tensor x has a shape that is none"),
    "shape overflows": (raw(tensor(shape=(2**32, 2**32)), EIGHT), "tensor x has a shape that is too large"),
    "empty shape overflows": (raw(tensor(shape=(0, 2**62), offsets=(0, 0))), "tensor x has a shape that is too large"),
    "number of a million digits": (raw(b'{"x": ' + b"9" * 1_000_000 + b"}"), "its header is no JSON"),
    "offsets of one": (raw(tensor(offsets=(0,)), EIGHT), "tensor x has data_offsets that are none"),
    "offsets of three": (raw(tensor(offsets=(0, 8, 8)), EIGHT), "tensor x has data_offsets that are none"),
    "offsets negative": (raw(tensor(offsets=(-8, 0)), EIGHT), "tensor x has data_offsets that are none"),
    "offsets not a number": (raw(tensor(offsets=(0, math.nan)), EIGHT), "tensor x has data_offsets that are none"),
    "offsets backwards": (raw(tensor(offsets=(8, 0)), EIGHT), "tensor x has another number of bytes"),
    "size is not the shape's": (raw(tensor(shape=(3,)), EIGHT), "tensor x has another number of bytes"),
    "size is not the dtype's": (raw(tensor(dtype="F16"), EIGHT), "tensor x has another number of bytes"),
    "offsets outside": (raw(tensor(offsets=(800, 808)), EIGHT), "tensor x does not begin where"),
    "offsets beyond the file": (raw(tensor(shape=(200,), offsets=(0, 800)), EIGHT), "its tensors end at byte"),
    "a hole at the start": (raw(tensor(offsets=(8, 16)), EIGHT * 2), "tensor x does not begin where"),
    "a hole between tensors": (raw(pair((12, 20)), b"\0" * 20), "tensor y does not begin where"),
    "tensors overlap": (raw(pair((4, 12)), b"\0" * 12), "tensor y does not begin where"),
    "tensors share bytes": (raw(pair((0, 8)), EIGHT), "tensor y does not begin where"),
    "cut in the data": (GOOD[:-1], "its tensors end at byte"),
    "bytes after the data": (GOOD + b"\0", "its tensors end at byte"),
    "name of two lines": (raw({"x\ny": 1}), r"tensor 'x\ny' needs dtype"),
    "name that no text holds": (raw(b'{"\\ud800": 1}'), r"tensor '\ud800' needs dtype"),
}
MISUSED = {
    "fp32 of another dtype": (raw(tensor("F16", (4,)), EIGHT), "tensor x must be F32, not F16"),
    "bf16 of another dtype": (
        raw({"__metadata__": {"wire": "bf16", "reference": ""}, **tensor("F16", (4,))}, EIGHT),
        "tensor x must be BF16, not F16",
    ),
    "unknown wire": (raw({"__metadata__": {"wire": "fp8"}}), "the wire of a blob of differences must be"),
    "fp32 of differences": (raw({"__metadata__": {"wire": "fp32"}}), "the wire of a blob of differences must be"),
    "no reference": (raw({"__metadata__": {"wire": "fp16"}}), "the metadata of fp16 must be reference, wire"),
    "a block of fp16": (
        raw({"__metadata__": {"wire": "fp16", "reference": "", "block": "128"}}),
        "the metadata of fp16 must be reference, wire",
    ),
    "no block": (
        raw({"__metadata__": {"wire": "int8", "reference": ""}}),
        "the metadata of int8 must be block, reference, wire",
    ),
    "another block": (blob8(block="64"), "the block of int8 must be 128, not 64"),
    "no scales": (
        raw({"__metadata__": {"wire": "int8", "reference": "", "block": "128"}, **tensor("I8", (8,))}, EIGHT),
        "tensor x has no scales",
    ),
    "scales alone": (
        raw(
            {"__metadata__": {"wire": "int8", "reference": "", "block": "128"}, "x::scale": tensor()["x"]},
            EIGHT,
        ),
        "there are scales of tensors that are missing",
    ),
    "too few scales": (blob8(shape=(129,)), "the scales of tensor x must be F32 of shape [2]"),
    "too many scales": (blob8(scales=(2,)), "the scales of tensor x must be F32 of shape [1]"),
    "scales of two dimensions": (blob8(scales=(1, 1)), "the scales of tensor x must be F32 of shape [1]"),
}


@pytest.mark.parametrize("kind", [*HOSTILE, *MISUSED])
def test_a_file_that_lies_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    blob, words = HOSTILE[kind] if kind in HOSTILE else MISUSED[kind]
    expected = f"not a safetensors state: {words}" if kind in HOSTILE else words
    (tmp_path / "blob").write_bytes(blob)
    for source in (blob, tmp_path / "blob"):
        with pytest.raises(BadInput) as caught:
            Encoded(source)
        message = str(caught.value)
        assert message.startswith(expected)
        assert "\n" not in message and len(message) < 400
        message.encode()


@pytest.mark.parametrize(
    "header",
    [b"[" + b"[],[0]," * 590_000 + b"0]", b'{"x":{"dtype":"' + b"A" * 4_000_000 + b'"}}', b'{"a":0,' * 590_000],
    ids=["lists", "a long text", "maps"],
)
def test_a_large_header_takes_little_memory(header: bytes) -> None:
    blob = raw(header)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput):
            Encoded(blob)
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf, -np.inf, 3e38])
def test_scales_that_no_encoder_writes_are_refused(scale) -> None:
    state = {"x": np.full(300, 127, np.float32)}
    blob = bytearray(encode(state, "int8", reference=zeros(state)))
    assert blob[-312:-300] == np.ones(3, "<f4").tobytes()
    blob[-308:-304] = np.float32(scale).tobytes()
    with pytest.raises(BadInput, match=r"^tensor x (has a negative scale|holds values that are not finite)$"):
        distance(Encoded(bytes(blob)), zeros(state).__getitem__)


def test_a_file_that_was_cut_after_its_header_was_read(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(GOOD)
    encoded = Encoded(tmp_path / "blob")
    (tmp_path / "blob").write_bytes(GOOD[:-4])
    with pytest.raises(BadInput, match=r"^the file ends before its tensors do$"):
        encoded.values("x")


FUZZED = {"a": np.linspace(-1, 1, 140, dtype=np.float32), "b": np.ones((2, 2), np.float32)}


@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=150)
@given(data=st.data())
def test_a_blob_with_wrong_bytes_decodes_or_is_refused(wire, data):
    blob = bytearray(encode(FUZZED, wire, reference=zeros(FUZZED), reference_sha256="ab" * 32))
    header = 8 + int.from_bytes(blob[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        # Mostly in the header: that is where the harm would be.
        position = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(blob) - 1)))
        end = position + data.draw(st.integers(0, 2))
        blob[position:end] = data.draw(st.binary(max_size=2) | st.sampled_from([b"0", b"9", b"-", b"}", b'"']))
    try:
        encoded = Encoded(bytes(blob))
        distance(encoded, lambda name: np.zeros(encoded.shapes[name], np.float32))
        for found in decode(bytes(blob), FUZZED).values():
            assert found.dtype == np.float32
    except BadInput as error:
        assert "\n" not in str(error)


@given(blob=st.binary(max_size=64))
def test_arbitrary_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(BadInput):
        Encoded(blob)
