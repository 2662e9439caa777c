"""The blob: equal tensors give equal bytes, and bytes that are no state are refused."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from federa.errors import BadInput
from federa.tensors.state import check_shapes, digest_of, pack, unpack, write_state

STATES = st.dictionaries(
    st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda name: name != "__metadata__"),
    arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    max_size=5,
)


@given(state=STATES)
def test_pack_and_unpack_keep_every_bit(state: dict[str, np.ndarray]) -> None:
    found = unpack(pack(state))
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == np.float32 and found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes()  # NaN too


@given(state=STATES, order=st.randoms())
def test_the_order_of_names_does_not_change_the_bytes(state: dict[str, np.ndarray], order) -> None:
    names = list(state)
    order.shuffle(names)
    assert pack({name: state[name] for name in names}) == pack(state)


def test_views_are_packed_by_what_they_show() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (matrix.T, matrix[:, ::2], matrix[::-1]):
        np.testing.assert_array_equal(unpack(pack({"x": view}))["x"], view)


def _blob(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _tensor(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


GOOD = pack({"x": np.ones((2, 3), np.float32)})
HOSTILE = {
    "empty": b"",
    "short": b"\x08",
    "text": b"not a state at all, but a line of text",
    "header longer than the file": (2**40).to_bytes(8, "little") + b"{}",
    "header length overflows": b"\xff" * 8 + b"{}",
    "header is no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "header is a list": _blob([]),
    "cut in the data": GOOD[:-1],
    "bytes after the data": GOOD + b"\0",
    "offsets outside": _blob(_tensor(offsets=(0, 800)), b"\0" * 8),
    "offsets backwards": _blob(_tensor(offsets=(8, 0)), b"\0" * 8),
    "offsets negative": _blob(_tensor(offsets=(-8, 0)), b"\0" * 8),
    "size is not the shape's": _blob(_tensor(shape=(3,)), b"\0" * 8),
    "shape overflows": _blob(_tensor(shape=(2**62, 2**62)), b"\0" * 8),
    "unknown dtype": _blob(_tensor(dtype="F99"), b"\0" * 8),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_bytes_that_are_no_state_are_refused(kind: str) -> None:
    with pytest.raises(BadInput, match=r"^not a safetensors state: "):
        unpack(HOSTILE[kind])


@given(blob=st.binary(max_size=64))
def test_arbitrary_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(BadInput):
        unpack(blob)


@pytest.mark.parametrize(
    ("dtype", "size"), [("F16", 2), ("BF16", 2), ("F64", 8), ("I8", 1), ("F8_E4M3", 1), ("BOOL", 1)]
)
def test_another_dtype_than_fp32_is_refused(dtype: str, size: int) -> None:
    blob = _blob(_tensor(dtype, (4,), (0, 4 * size)), b"\0" * 4 * size)
    with pytest.raises(BadInput):
        unpack(blob)


@given(state=STATES)
def test_a_state_written_tensor_by_tensor_has_the_same_bytes(tmp_path_factory, state: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("state") / "state"
    digest = write_state(path, {name: value.shape for name, value in state.items()}, state.__getitem__)
    assert path.read_bytes() == pack(state)
    assert digest == digest_of(pack(state))


def test_a_written_view_is_what_it_shows(tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_state(tmp_path / "state", {"x": (4, 3)}, lambda name: matrix.T)
    assert (tmp_path / "state").read_bytes() == pack({"x": matrix.T})


def test_a_written_tensor_must_have_the_announced_shape(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^tensor x must have shape \[3\], not \[2\]$"):
        write_state(tmp_path / "state", {"x": (3,)}, lambda name: np.zeros(2, np.float32))


def test_an_error_of_writing_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, header: bytes) -> None:
            pass

        def update(self, data: memoryview) -> None:
            raise OSError("the disk is gone")

    monkeypatch.setattr(hashlib, "sha256", Broken)
    with pytest.raises(OSError, match="the disk is gone"):
        write_state(tmp_path / "state", {"x": (3,)}, lambda name: np.zeros(3, np.float32))


def test_writing_holds_two_tensors(tmp_path: Path) -> None:
    count, size = 20, 1 << 18
    tracemalloc.start()
    try:
        shapes = {f"t{index}": (size,) for index in range(count)}
        write_state(tmp_path / "state", shapes, lambda name: np.ones(size, np.float32))
        # And the one that is being made.
        assert tracemalloc.get_traced_memory()[1] < 3.5 * 4 * size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["__metadata__", "x::scale", "::scale"])
def test_names_that_the_format_needs_are_refused(tmp_path: Path, name: str) -> None:
    state = {name: np.zeros(2, np.float32)}
    with pytest.raises(BadInput, match=f"^no tensor of a state may be called {name}$"):
        pack(state)
    with pytest.raises(BadInput, match=f"^no tensor of a state may be called {name}$"):
        write_state(tmp_path / "state", {name: (2,)}, state.__getitem__)


def test_check_shapes_names_the_first_difference() -> None:
    expected = {"a": (2, 3), "b": (4,)}
    check_shapes({"b": (4,), "a": (2, 3)}, expected)
    for found, message in (
        ({"b": (4,)}, "tensor a is missing"),
        ({}, "tensor a is missing"),
        ({**expected, "c": (1,)}, "tensor c is not part of this state"),
        ({**expected, "a": (3, 2)}, r"tensor a must have shape \[2, 3\], not \[3, 2\]"),
        ({**expected, "a\nb": (1,)}, r"tensor 'a\\nb' is not part of this state"),
        ({**expected, "b": (4, 1)}, r"tensor b must have shape \[4\], not \[4, 1\]"),
    ):
        with pytest.raises(BadInput, match=f"^{message}$"):
            check_shapes(found, expected)


def test_the_digest_is_sha256() -> None:
    assert digest_of(b"state") == hashlib.sha256(b"state").hexdigest()
