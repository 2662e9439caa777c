"""The wire's dtypes: right on average, at most a step off."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from federa.errors import BadInput
from federa.tensors import codec
from federa.tensors.codec import WIRES, Encoded, check_update, decode, distance, encode
from federa.tensors.quantization import stochastically_rounded
from federa.tensors.state import pack

LOSSY = ("bf16", "fp16", "int8")
MAX_VALUE = {"bf16": 3.3895313892515355e38, "fp16": 65504.0, "int8": float(np.finfo(np.float32).max)}
REFERENCE = "ab" * 32
values = st.floats(allow_nan=False, allow_infinity=False, width=32)
states = st.dictionaries(
    st.sampled_from(["a", "layer.0.weight", "ü", 'a "quoted"\nline']),
    arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9), elements=values),
    max_size=3,
)


def zeros(state):
    return {name: np.zeros_like(value) for name, value in state.items()}


def one(values, wire, seed=0):
    """A tensor that goes over the wire as the difference from zero."""
    tensors = {"x": np.asarray(values, np.float32)}
    return decode(encode(tensors, wire, reference=zeros(tensors), seed=seed), zeros(tensors))["x"]


def step(values, wire):
    """The distance of neighbours that the format has around each value: one unit in the last place, or the scale."""
    if wire == "int8":
        blocks = np.zeros(-(-values.size // 128) * 128)
        blocks[: values.size] = np.abs(values.reshape(-1))
        # A scale is rounded to fp32, and so is its product with a value.
        scales = blocks.reshape(-1, 128).max(axis=1) / 127 * (1 + 2**-15) + 2**-149
        return np.repeat(scales, 128)[: values.size].reshape(values.shape)
    exponent, bits = {"bf16": (-126, 7), "fp16": (-14, 10)}[wire]
    found = np.floor(np.log2(np.maximum(np.abs(values.astype(np.float64)), 2.0**exponent)))
    return 2.0 ** (found - bits)


@pytest.mark.parametrize("wire", LOSSY)
@settings(max_examples=150)
@given(state=states, seed=st.integers(0, 2**63 - 1))
def test_a_decoded_difference_is_at_most_one_step_off(wire, state, seed):
    found = decode(encode(state, wire, reference=zeros(state), seed=seed), zeros(state))
    assert list(found) == sorted(state)
    for name, value in state.items():
        assert found[name].dtype == np.float32 and found[name].shape == value.shape
        expected = np.clip(value.astype(np.float64), -MAX_VALUE[wire], MAX_VALUE[wire])
        assert (np.abs(found[name] - expected) <= step(expected, wire)).all()


@given(state=states)
def test_fp32_is_the_plain_blob(state):
    blob = encode(state, "fp32", reference=zeros(state), reference_sha256=REFERENCE, seed=3)
    assert blob == pack(state)
    for name, value in decode(blob).items():
        assert value.tobytes() == state[name].tobytes()


@pytest.mark.parametrize("wire", LOSSY)
@pytest.mark.parametrize("magnitude", [1e-42, 3e-6, 0.02, 1.0, 900.0])
def test_rounding_is_right_on_average(wire, magnitude):
    generator = np.random.default_rng(7)
    value = (generator.uniform(0.5, 1, 256) * generator.choice([-1, 1], 256) * magnitude).astype(np.float32)
    seeds = 400
    found = np.mean([one(value, wire, seed) for seed in range(seeds)], axis=0, dtype=np.float64)
    # The deviation of a coin between two neighbours is at most half their distance. And fp32's own rounding.
    error = 5 * 0.5 * step(value, wire) / math.sqrt(seeds) + np.abs(value.astype(np.float64)) * 2.0**-22 + 2.0**-149
    assert (np.abs(found - value) <= error).all()
    # All together are a sharper look: this is what rounding to the nearest, or always down, does not pass.
    drift = np.sum((found - value) * np.sign(value) / step(value, wire)) / math.sqrt(256 / seeds)
    assert abs(drift) < 5 * 0.5


@pytest.mark.parametrize("wire", LOSSY)
def test_a_value_close_to_a_neighbour_sometimes_goes_to_the_other(wire):
    # 1.02 and its like in every format: to the nearest it would be 1 each time, and a small step would never add up.
    base = 127.0 if wire == "int8" else 1.0
    small = {"bf16": 2**-7, "fp16": 2**-10, "int8": 1.0}[wire] * 0.1
    tensor = np.full(128 * 50, 1 + small, np.float32)
    tensor[::128] = base
    found = one(tensor, wire)
    above = np.delete(found, np.s_[::128]) > 1 + small
    assert 0.07 < above.mean() < 0.13


@pytest.mark.parametrize("wire", LOSSY)
def test_equal_arguments_give_equal_bytes_whatever_the_order(wire):
    generator = np.random.default_rng(1)
    state = {name: generator.standard_normal((3, 50)).astype(np.float32) for name in "abc"}
    blob = encode(state, wire, reference=zeros(state), reference_sha256=REFERENCE, seed=5)
    turned = dict(reversed(state.items()))
    assert encode(turned, wire, reference=zeros(turned), reference_sha256=REFERENCE, seed=5) == blob
    assert encode(state, wire, reference=zeros(state), reference_sha256=REFERENCE, seed=6) != blob
    # A tensor's rounding is its own: the others may come and go.
    alone = encode({"b": state["b"]}, wire, reference={"b": np.zeros((3, 50), np.float32)}, seed=5)
    assert (Encoded(alone).values("b") == Encoded(blob).values("b")).all()
    # And two tensors of the same values do not share their coins.
    twins = dict.fromkeys("ab", state["a"])
    found = Encoded(encode(twins, wire, reference=zeros(twins), seed=5))
    assert (found.values("a") != found.values("b")).any()


def test_the_coins_of_a_seed_stay_the_same_over_versions():
    # A run goes on after an update of numpy: these bytes must not change.
    tensor = np.linspace(-1, 1, 7, dtype=np.float32)
    assert {wire: one(tensor, wire, seed=1).tobytes().hex() for wire in LOSSY} == {
        "bf16": "000080bf00002bbf0000abbe000000000000ab3e00002b3f0000803f",
        "fp16": "000080bf00a02abf00a0aabe0000000000c0aa3e00a02a3f0000803f",
        "int8": "000080bfad562bbfa552a9be00000000b55aad3ead562b3f0000803f",
    }


@given(bits=arrays(np.uint16, 40))
def test_what_bf16_has_stays(bits):
    value = (bits.astype(np.uint32) << 16).view(np.float32)
    value = value[np.isfinite(value)]
    np.testing.assert_array_equal(one(value, "bf16"), value)


@given(bits=arrays(np.uint16, 40))
def test_what_fp16_has_stays(bits):
    value = bits.view(np.float16).astype(np.float32)
    value = value[np.isfinite(value)]
    np.testing.assert_array_equal(one(value, "fp16"), value)


class AlwaysUp:
    """Coins that take whatever lies above a neighbour to the next one, were it by a rounding error."""

    def random(self, shape, dtype):
        return np.zeros(shape, dtype)


def test_what_int8_has_stays():
    generator = np.random.default_rng(5)
    kept = 0
    for scale in generator.uniform(1e-6, 1, 20).astype(np.float32):
        whole = generator.integers(-127, 128, 128 * 50)
        whole[::128] = 127  # the largest of each block, so that its scale is this one
        value = whole.astype(np.float32) * scale
        found, scales = stochastically_rounded(value, "int8", AlwaysUp())
        if (scales == scale).all():
            np.testing.assert_array_equal(found, whole)
            kept += 1
    assert kept > 10  # of the others the scale is the next in fp32


def test_the_smallest_block_of_int8_is_not_lost():
    for value in (2.0**-149, 190 * 2.0**-149):
        assert one([value, 0.0, -value], "int8").tolist() == [value, 0.0, -value]


@pytest.mark.parametrize("wire", LOSSY)
def test_values_at_the_ends_of_fp32(wire):
    largest = np.finfo(np.float32).max
    for value in (0.0, -0.0, 2.0**-149, -(2.0**-149), 1e-40, 65504.0, 65535.0, 1e38, -1e38, largest, -largest):
        found = float(one(np.full(3, value, np.float32), wire)[1])
        assert math.isfinite(found)
        expected = math.copysign(min(abs(value), MAX_VALUE[wire]), value)
        assert abs(found - expected) <= step(np.array([expected]), wire)[0]
    # A block of the largest and the smallest.
    assert np.isfinite(one([largest, -largest, 2.0**-149], wire)).all()


@pytest.mark.parametrize("wire", LOSSY)
def test_a_difference_that_no_fp32_holds_is_clipped(wire):
    largest = np.finfo(np.float32).max
    state, reference = {"x": np.array([largest], np.float32)}, {"x": np.array([-largest], np.float32)}
    (found,) = Encoded(encode(state, wire, reference=reference)).values("x")
    assert found == pytest.approx(MAX_VALUE[wire], rel=1e-6)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_whoever_receives_it(wire, value):
    state = {"a": np.ones(5, np.float32), "x": np.array([1, 2, value, 4], np.float32)}
    encoded = Encoded(encode(state, wire, reference=zeros(state)))
    with pytest.raises(BadInput, match=r"^tensor x holds values that are not finite$"):
        distance(encoded, zeros(state).__getitem__)


def test_int8_takes_about_a_quarter():
    state = {f"t{index}": np.ones((500, 300), np.float32) for index in range(5)}
    size = {wire: len(encode(state, wire, reference=zeros(state))) for wire in WIRES}
    assert size["int8"] <= 0.27 * size["fp32"]
    assert size["bf16"] == size["fp16"] <= 0.501 * size["fp32"]


@pytest.mark.parametrize("wire", WIRES)
def test_absolute_values_and_differences(tmp_path: Path, wire):
    generator = np.random.default_rng(4)
    # More than a slice, and no whole number of blocks.
    shape = (3, codec.SLICE_VALUES // 2 + 77)
    reference = {"b": generator.standard_normal(shape).astype(np.float32), "s": np.array(2, np.float32)}
    state = {name: value + np.float32(0.001) for name, value in reference.items()}
    blob = encode(state, wire, reference=reference, reference_sha256=REFERENCE)
    (tmp_path / "blob").write_bytes(blob)
    encoded = Encoded(tmp_path / "blob")
    assert encoded.wire == wire and encoded.reference_sha256 == ("" if wire == "fp32" else REFERENCE)
    assert encoded.shapes == {"b": shape, "s": ()}
    for name, base in reference.items():
        value = encoded.values(name)
        np.testing.assert_array_equal(encoded.absolute(name, base), value if wire == "fp32" else base + value)
        np.testing.assert_array_equal(encoded.difference(name, base), value - base if wire == "fp32" else value)
        np.testing.assert_array_equal(decode(blob, reference)[name], encoded.absolute(name, base))
    np.testing.assert_allclose(encoded.difference("b", reference["b"]), 0.001, atol=1e-5)
    exact = math.sqrt(
        sum(np.sum(encoded.difference(name, base).astype(np.float64) ** 2) for name, base in reference.items())
    )
    assert distance(encoded, reference.__getitem__) == pytest.approx(exact, rel=1e-6)
    assert distance(encoded, Encoded(pack(reference))) == distance(encoded, reference.__getitem__)


def test_the_distance_of_huge_differences_is_not_infinite():
    value = np.full(1000, 3e38, np.float32)
    found = distance(Encoded(pack({"x": value})), lambda name: -value)
    assert found == pytest.approx(6e38 * math.sqrt(1000), rel=1e-6)


def test_a_reference_that_does_not_fit_is_refused():
    state = {"x": np.ones(3, np.float32)}
    blob = encode(state, "int8", reference=zeros(state))
    with pytest.raises(BadInput, match=r"^int8 needs the reference that the differences are taken from$"):
        decode(blob)
    with pytest.raises(BadInput, match=r"^tensor x is not part of this state$"):
        decode(blob, {})
    with pytest.raises(BadInput, match=r"^tensor x must have shape \[4\], not \[3\]$"):
        decode(blob, {"x": np.ones(4, np.float32)})
    with pytest.raises(BadInput, match=r"^tensor y is missing$"):
        decode(blob, {**state, "y": np.ones(4, np.float32)})
    with pytest.raises(BadInput, match=r"^int8 needs the reference"):
        encode(state, "int8")
    with pytest.raises(BadInput, match=r"^tensor x is not part of this state$"):
        encode(state, "int8", reference={})
    with pytest.raises(BadInput, match=r"^the wire must be one of fp32, bf16, fp16, int8, not fp8$"):
        encode(state, "fp8", reference=zeros(state))
    with pytest.raises(BadInput, match=r"^no tensor of a state may be called x::scale$"):
        encode({"x::scale": np.ones(3, np.float32)}, "bf16", reference={"x::scale": np.ones(3, np.float32)})


def test_check_names_the_first_thing_that_differs():
    state = {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)}
    shapes = {name: value.shape for name, value in state.items()}
    encoded = Encoded(encode(state, "int8", reference=zeros(state), reference_sha256=REFERENCE))
    check_update(encoded, wire="int8", shapes=shapes, reference_sha256=REFERENCE)
    check_update(Encoded(pack(state)), wire="fp32", shapes=shapes, reference_sha256=REFERENCE)
    for asked, message in (
        ({"wire": "fp32"}, "the wire must be fp32, not int8"),
        ({"reference_sha256": "cd" * 32}, f"the reference must be {'cd' * 32}, not {REFERENCE}"),
        ({"shapes": {**shapes, "c": ()}}, "tensor c is missing"),
        ({"shapes": {"a": (2, 3)}}, "tensor b is not part of this state"),
        ({"shapes": {**shapes, "a": (3, 2)}}, "tensor a must have shape [3, 2], not [2, 3]"),
    ):
        with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
            check_update(encoded, **{"wire": "int8", "shapes": shapes, "reference_sha256": REFERENCE, **asked})
