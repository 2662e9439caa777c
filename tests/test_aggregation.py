"""FedAvg: the weighted mean, exactly, in any order of arrival, in memory that does not grow with the clients."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coordinator.aggregation import Update, average
from coordinator.ledger import Ledger
from federa.state import pack, unpack

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
    # As a run does it: updates are recorded as they come and folded as the ledger returns them, by client.
    folder = tmp_path_factory.mktemp("arrival")
    rng = np.random.default_rng(2)
    # Magnitudes far apart, so that float64 itself would give away another order of sums.
    states = [{"x": (rng.standard_normal(50) * 10.0 ** rng.integers(-12, 12, 50)).astype(np.float32)} for _ in order]
    updates = write(folder, states, [client + 1 for client in range(6)])
    ledger = Ledger(folder / "ledger.sqlite")
    for client in order:
        ledger.accepted(
            round_=1, client=client, device="d", examples=client + 1, loss=0.0, sha256=str(client), step_ms=[],
            wire_bytes=0, state_bytes=0,
        )  # fmt: skip
    rows = ledger.contributions(1)
    ledger.close()
    assert [row["client"] for row in rows] == list(range(6))
    assert average([updates[row["client"]] for row in rows]) == average(updates)


def peak_bytes(updates):
    tracemalloc.start()
    try:
        average(updates)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_clients(tmp_path):
    # Eight tensors of a megabyte. The same two files stand for fifty clients: what is mapped is not what is held.
    states = [{f"t{index}": np.full(MEGABYTE // 4, index + one, np.float32) for index in range(8)} for one in (0, 1)]
    two = write(tmp_path, states, [1, 2])
    few, many = peak_bytes(two), peak_bytes(two * 25)
    assert many < few + MEGABYTE
    # The result, its bytes and the blob that these become, and a tensor in float64 with its temporaries.
    assert many < 4 * 8 * MEGABYTE
