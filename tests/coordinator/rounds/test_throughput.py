"""How long a round may take, from how long the devices have taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rounds.throughput import MIN_DEADLINE_S, SLACK, Throughput
from coordinator.storage.ledger import Ledger


def paced(*rounds, device="ada", examples=10):
    """A device that took so many seconds in each round."""
    pace = Throughput()
    for round_, seconds in enumerate(rounds, start=1):
        pace.took(device, round_, examples, seconds)
    return pace


def test_nothing_is_expected_of_devices_that_nobody_measured():
    assert Throughput().deadline_s({"ada": 10}) is None


def test_a_deadline_is_twice_what_the_work_is_expected_to_take():
    pace = paced(5.0)
    assert pace.deadline_s({"ada": 10}) == 10.0
    assert pace.deadline_s({"ada": 40}) == 40.0


def test_the_slowest_of_the_drawn_devices_counts_and_no_other():
    pace = paced(5.0)
    pace.took("bob", 1, 10, 40.0)
    assert pace.deadline_s({"ada": 10, "bob": 10}) == 80.0
    assert pace.deadline_s({"ada": 10}) == 10.0
    # Few examples on a slow device are less than many on a fast one.
    assert pace.deadline_s({"ada": 100, "bob": 1}) == 100.0


def test_a_device_without_a_measurement_counts_as_the_slowest():
    pace = paced(5.0)
    pace.took("bob", 1, 10, 40.0)
    assert pace.deadline_s({"cyd": 10}) == 80.0


def test_a_round_lasts_until_a_devices_last_update_for_all_its_examples():
    pace = Throughput()
    for client_s in (2.0, 8.0, 6.0):  # one client after the other; the order in which they are recorded is any
        pace.took("ada", 1, 10, client_s)
    assert pace.deadline_s({"ada": 30}) == 16.0


def test_the_median_of_the_last_five_rounds_counts():
    assert paced(100.0, 100.0, 5.0, 5.0, 5.0, 1.0, 9.0).deadline_s({"ada": 10}) == 10.0
    assert paced(5.0, 5.0, 1000.0).deadline_s({"ada": 10}) == 10.0, "one bad round is no rule"
    assert paced(5.0, 7.0).deadline_s({"ada": 10}) == 12.0


def test_no_deadline_is_shorter_than_a_second():
    assert paced(0.001).deadline_s({"ada": 10}) == MIN_DEADLINE_S == 1.0
    assert paced(5.0).deadline_s({"ada": 0}) == MIN_DEADLINE_S


def test_a_device_that_has_no_examples_is_no_division_by_nothing():
    assert paced(5.0, examples=0).deadline_s({"ada": 2}) == SLACK * 10.0


def test_with_no_work_left_the_shortest_deadline_is_the_answer():
    # All that was drawn has failed, and an update of one of them comes after all.
    assert paced(5.0).deadline_s({}) == MIN_DEADLINE_S


def test_a_restart_goes_on_with_the_paces_of_the_ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    live = Throughput()
    for round_, device, client, examples, after_s in (
        (1, "ada", 0, 10, 3.0), (1, "bob", 2, 20, 9.0), (1, "ada", 1, 5, 4.5), (2, "ada", 0, 10, 30.0),
    ):  # fmt: skip
        live.took(device, round_, examples, after_s)
        ledger.accepted(
            round_=round_, client=client, device=device, examples=examples, loss=0.0, sha256="s", step_ms=[],
            distance=1.0, after_s=after_s, wire_bytes=1, state_bytes=1,
        )  # fmt: skip
    again = Throughput(ledger.paces())
    for work in ({"ada": 10}, {"bob": 7}, {"ada": 3, "bob": 1}, {"cyd": 4}):
        assert again.deadline_s(work) == live.deadline_s(work) is not None
    ledger.close()


WORK = st.dictionaries(st.sampled_from("abc"), st.integers(0, 10_000), min_size=1)


@given(rounds=st.lists(st.floats(0, 1e6), min_size=1, max_size=12), work=WORK)
def test_a_deadline_grows_with_the_work_and_is_never_short(rounds, work):
    pace = paced(*rounds, device="a")
    deadline_s = pace.deadline_s(work)
    assert deadline_s >= MIN_DEADLINE_S
    assert pace.deadline_s({name: 2 * examples for name, examples in work.items()}) >= deadline_s
    usual = sorted(rounds[-5:])
    assert deadline_s <= max(MIN_DEADLINE_S, SLACK * usual[-1] / 10 * max(work.values()) * (1 + 1e-9))
    assert deadline_s >= SLACK * usual[0] / 10 * max(work.values()) * (1 - 1e-9)


@pytest.mark.parametrize("again", [1.0, 5.0, 20.0])
def test_an_update_that_is_counted_twice_makes_no_round_shorter(again):
    pace = paced(5.0)
    pace.took("ada", 1, 0, again)
    assert pace.deadline_s({"ada": 10}) == SLACK * max(5.0, again)
