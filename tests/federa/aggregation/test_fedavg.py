"""FedAvg: the weighted mean, exactly, in any order of arrival, in memory that does not grow with the clients."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coordinator.storage.ledger import Ledger
from federa.aggregation.base import AggregateFiles, RoundUpdates, Update
from federa.aggregation.fedavg import FedAvg
from federa.errors import BadInput
from federa.tensors.codec import SLICE_VALUES, WIRES, Encoded, encode
from federa.tensors.state import digest_of, pack, unpack

MEGABYTE = 1 << 20
fp32 = st.floats(-1e6, 1e6, width=32)
weights = st.integers(1, 10**6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("updates")


def write(folder, states, examples):
    updates = []
    for index, (state, count) in enumerate(zip(states, examples, strict=True)):
        path = folder / f"{index}.safetensors"
        path.write_bytes(pack(state))
        updates.append(Update(path=path, examples=count))
    return updates


def unasked(name):
    raise AssertionError(f"fp32 needs no base of {name}")


def aggregate(updates, base, target):
    """Write the average; its digest."""
    files = AggregateFiles(state=target, server_state=target.with_name("unused"))
    made = FedAvg(FedAvg.Config()).aggregate(RoundUpdates(updates, base), files)
    assert made.server_state is None and not files.server_state.exists()
    return made.state


def average(updates):
    """The blob that fp32 updates are aggregated into."""
    target = updates[0].path.parent / "aggregated"
    digest = aggregate(updates, unasked, target)
    blob = target.read_bytes()
    assert digest == digest_of(blob)
    return blob


@st.composite
def clients_and_weights(draw):
    """One to five clients' states of the same one to three tensors, and a weight for each."""
    shapes = draw(st.lists(array_shapes(max_dims=3, max_side=4), min_size=1, max_size=3))
    count = draw(st.integers(1, 5))
    states = [
        {f"t{index}": draw(arrays(np.float32, shape, elements=fp32)) for index, shape in enumerate(shapes)}
        for _ in range(count)
    ]
    return states, draw(st.lists(weights, min_size=count, max_size=count))


@settings(max_examples=60)
@given(given_=clients_and_weights())
def test_it_is_the_mean_weighted_by_examples(folder, given_):
    states, examples = given_
    averaged = unpack(average(write(folder, states, examples)))
    assert averaged.keys() == states[0].keys()
    for name, found in averaged.items():
        stacked = np.stack([state[name] for state in states])
        exact = np.average(stacked.astype(np.float64), axis=0, weights=np.asarray(examples, np.float64))
        assert found.shape == exact.shape
        # Half a unit in the last place of fp32, and what float64 itself loses where terms cancel.
        np.testing.assert_allclose(found, exact, rtol=2**-23, atol=1e-9)


@settings(max_examples=60)
@given(values=st.lists(fp32, min_size=1, max_size=8), data=st.data())
def test_it_is_within_one_rounding_of_the_exact_rational_mean(folder, values, data):
    examples = data.draw(st.lists(weights, min_size=len(values), max_size=len(values)))
    states = [{"x": np.array([value], np.float32)} for value in values]
    exact = sum(Fraction(value) * count for value, count in zip(values, examples, strict=True)) / sum(examples)
    (found,) = unpack(average(write(folder, states, examples)))["x"]
    largest = max(map(abs, values))
    assert abs(Fraction(float(found)) - exact) <= abs(exact) * Fraction(1, 2**23) + Fraction(largest) / 2**45 + (
        Fraction(1, 2**149)
    )


@settings(max_examples=30)
@given(state=arrays(np.float32, (2, 3), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)), n=weights)
def test_one_update_is_its_own_mean(folder, state, n):
    averaged = unpack(average(write(folder, [{"x": state}], [n])))
    np.testing.assert_array_equal(averaged["x"], state)


def test_a_client_with_more_examples_weighs_more(folder):
    states = [{"x": np.zeros(2, np.float32)}, {"x": np.ones(2, np.float32)}]
    assert unpack(average(write(folder, states, [3, 1])))["x"].tolist() == [0.25, 0.25]
    assert unpack(average(write(folder, states, [1, 3])))["x"].tolist() == [0.75, 0.75]


def test_the_sum_is_taken_in_float64(folder):
    # In fp32 the small one would vanish beside the large ones before these cancel.
    states = [{"x": np.array([value], np.float32)} for value in (1e8, 1.0, -1e8)]
    assert unpack(average(write(folder, states, [1, 1, 1])))["x"][0] == np.float32(1 / 3)


def test_the_result_is_fp32_and_equal_inputs_give_equal_bytes(folder):
    rng = np.random.default_rng(1)
    states = [{name: rng.standard_normal((5, 3)).astype(np.float32) for name in ("b", "a")} for _ in range(3)]
    updates = write(folder, states, [2, 3, 5])
    blob = average(updates)
    assert all(value.dtype == np.float32 for value in unpack(blob).values())
    assert average(updates) == blob
    # The order of names in the files does not matter either.
    turned = [dict(reversed(list(state.items()))) for state in states]
    assert average(write(folder, turned, [2, 3, 5])) == blob


@settings(max_examples=20)
@given(order=st.permutations(range(6)))
def test_the_order_of_arrival_does_not_matter(tmp_path_factory, order):
    # As a run does it: updates are recorded as they come and aggregated as the ledger returns them, by client.
    folder = tmp_path_factory.mktemp("arrival")
    rng = np.random.default_rng(2)
    # Magnitudes far apart, so that float64 itself would give away another order of sums.
    states = [{"x": (rng.standard_normal(50) * 10.0 ** rng.integers(-12, 12, 50)).astype(np.float32)} for _ in order]
    updates = write(folder, states, [client + 1 for client in range(6)])
    ledger = Ledger(folder / "ledger.sqlite")
    for client in order:
        ledger.accepted(
            round_=1, client=client, device="d", examples=client + 1, loss=0.0, sha256=str(client), step_ms=[],
            distance=0.0, after_s=0.0, wire_bytes=0, state_bytes=0,
        )  # fmt: skip
    rows = ledger.contributions(1)
    ledger.close()
    assert [row["client"] for row in rows] == list(range(6))
    assert average([updates[row["client"]] for row in rows]) == average(updates)


def differences(folder, states, examples, wire, reference):
    updates = []
    for index, (state, count) in enumerate(zip(states, examples, strict=True)):
        path = folder / f"{index}.{wire}"
        path.write_bytes(encode(state, wire, reference=reference, reference_sha256="ab" * 32, seed=index))
        updates.append(Update(path=path, examples=count))
    return updates


@pytest.mark.parametrize("wire", WIRES)
def test_it_is_the_sum_that_numpy_finds(tmp_path, wire):
    # A slice and a bit of it, so that what comes after the first slice is looked at too.
    rng = np.random.default_rng(3)
    shapes = {"big": (2, SLICE_VALUES // 2 + 133), "small": (7,), "scalar": (), "empty": (0, 3)}
    reference = {name: np.asarray(rng.standard_normal(shape), np.float32) for name, shape in shapes.items()}
    states = [
        {name: np.asarray(value + 0.01 * rng.standard_normal(value.shape), np.float32)
         for name, value in reference.items()} for _ in range(3)
    ]  # fmt: skip
    examples = [3, 11, 5]
    updates = differences(tmp_path, states, examples, wire, reference)
    digest = aggregate(updates, reference.__getitem__, tmp_path / "aggregated")
    blob = (tmp_path / "aggregated").read_bytes()
    assert digest == digest_of(blob)
    files = [Encoded(update.path) for update in updates]
    expected = {}
    for name, base in reference.items():
        weighted = [file.values(name).astype(np.float64) * count for file, count in zip(files, examples, strict=True)]
        mean = (weighted[0] + weighted[1] + weighted[2]) / 19.0
        expected[name] = np.asarray(mean if wire == "fp32" else mean + base, np.float32)
    assert blob == pack(expected)
    for name, value in unpack(blob).items():
        mean = np.average([state[name] for state in states], axis=0, weights=examples)
        np.testing.assert_allclose(value, mean, rtol=0, atol={"fp32": 1e-6}.get(wire, 5e-4))


def test_the_base_is_added_in_float64(tmp_path):
    # In fp32 each small difference would vanish beside the base.
    base = {"x": np.array([1.0], np.float32)}
    for index, difference in enumerate((2**-25, 2**-25 + 2**-30)):
        blob = encode({"x": np.array([difference], np.float32)}, "bf16", reference={"x": np.zeros(1, np.float32)})
        (tmp_path / str(index)).write_bytes(blob)
    updates = [Update(path=tmp_path / str(index), examples=1) for index in range(2)]
    aggregate([updates[0], updates[1]], lambda name: base[name] + np.float32(2**-23), tmp_path / "aggregated")
    mean = np.mean([Encoded(update.path).values("x").astype(np.float64) for update in updates], axis=0)
    expected = np.float32(1 + 2**-23 + mean[0])
    assert unpack((tmp_path / "aggregated").read_bytes())["x"][0] == expected


def test_the_sign_of_zero_stays(tmp_path):
    found = unpack(average(write(tmp_path, [{"x": np.array([-0.0], np.float32)}] * 2, [1, 2])))["x"]
    assert np.signbit(found[0])


def test_updates_that_do_not_belong_together_are_refused(tmp_path):
    state = {"x": np.ones(3, np.float32)}
    reference = {"x": np.zeros(3, np.float32)}
    updates = [differences(tmp_path, [state], [1], wire, reference)[0] for wire in ("fp32", "int8")]
    other = write(tmp_path, [{"y": np.ones(3, np.float32)}], [1])
    for pair in (updates, [updates[0], *other]):
        with pytest.raises(BadInput, match=r"^the updates of a round differ in wire, reference or shapes$"):
            aggregate(pair, reference.__getitem__, tmp_path / "aggregated")


def peak_bytes(updates, base=unasked):
    tracemalloc.start()
    try:
        aggregate(updates, base, updates[0].path.parent / "aggregated")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("wire", WIRES)
def test_memory_grows_with_neither_clients_nor_tensors(tmp_path, wire):
    # Sixteen tensors of two megabytes. The same two files stand for fifty clients.
    reference = {f"t{index:02}": np.full(MEGABYTE // 2, index, np.float32) for index in range(16)}
    states = [{name: value + np.float32(one) for name, value in reference.items()} for one in (0, 1)]
    two = differences(tmp_path, states, [1, 2], wire, reference)
    few, many = (peak_bytes(updates, lambda name: reference[name].copy()) for updates in (two, two * 25))
    assert many < few + MEGABYTE
    # Two tensors on their way, the reference's, and the slices: two in float64, those read and decoded.
    assert many < 3 * 2 * MEGABYTE + 4 * 8 * SLICE_VALUES
