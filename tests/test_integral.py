"""Energy from readings: against exact integrals, and windows that add up."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.power.integral import MAX_GAP_INTERVALS, integrate

HZ = 10.0
MAX_GAP_S = MAX_GAP_INTERVALS / HZ


def sampled(power_at, ended_s, jitter=0.0, seed=0, hz=HZ):
    """Readings of a function of time from 0 on, each off its place by up to `jitter` intervals."""
    chance = random.Random(seed)
    moments = [max(0.0, n / hz + chance.uniform(-jitter, jitter) / hz) for n in range(int(ended_s * hz) + 1)]
    return [(at_s, power_at(at_s)) for at_s in sorted(moments)]


def square(period_s, low=2.0, high=10.0):
    return lambda at_s: high if at_s % period_s < period_s / 2 else low


@pytest.mark.parametrize("seed", range(5))
def test_a_square_wave_of_100_intervals_a_level_is_within_1_percent(seed):
    points = sampled(square(20.0), 41.0, jitter=0.4, seed=seed)
    piece = integrate(points, 0.5, 40.5, MAX_GAP_S)
    assert piece.integral == pytest.approx(40 * 6.0, rel=0.01)
    assert piece.covered_s == pytest.approx(40.0)
    assert piece.peak == 10.0


@pytest.mark.parametrize("seed", range(5))
def test_a_ramp_is_exact_however_the_readings_jitter(seed):
    points = sampled(lambda at_s: 3.0 + 0.7 * at_s, 20.0, jitter=0.4, seed=seed)
    piece = integrate(points, 1.234, 17.891, MAX_GAP_S)
    exact = 3.0 * (17.891 - 1.234) + 0.35 * (17.891**2 - 1.234**2)
    assert piece.integral == pytest.approx(exact, rel=1e-12)
    assert piece.peak == pytest.approx(3.0 + 0.7 * 17.891)


@pytest.mark.parametrize("intervals", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("seed", range(5))
def test_a_burst_is_off_by_an_interval_of_its_height_at_most(intervals, seed):
    # Each of its two edges lies somewhere between two readings, between which the trapezoid takes the mean: half of the
    # step times the spacing at most, so both together are below one spacing. With jitter a spacing is 1.8 / hz at most.
    jitter = 0.4
    length_s = intervals / HZ
    chance = random.Random(seed)
    began_s = 5.0 + chance.random() / HZ
    points = sampled(lambda at_s: 50.0 if began_s <= at_s < began_s + length_s else 1.0, 20.0, jitter, seed)
    exact = 20.0 * 1.0 + 49.0 * length_s
    piece = integrate(points, 0.1, 19.9, MAX_GAP_S)
    error = abs(piece.integral - (exact - 0.2))
    assert error <= 49.0 * (1 + 2 * jitter) / HZ
    if intervals >= 100:
        assert error <= 0.01 * exact


def test_nothing_is_known_across_a_gap_and_its_whole_length_is_told():
    points = [(n / 10, 5.0) for n in range(21)] + [(n / 10, 5.0) for n in range(60, 101)]
    whole = integrate(points, 0.0, 10.0, MAX_GAP_S)
    assert whole.integral == pytest.approx(5.0 * 6.0)
    assert whole.covered_s == pytest.approx(6.0)
    assert whole.seconds == 10.0
    assert whole.largest_gap_s == pytest.approx(4.0)
    # A window that has only a part of it is told of all of it; one that lies within it knows nothing.
    assert integrate(points, 0.0, 2.5, MAX_GAP_S).largest_gap_s == pytest.approx(4.0)
    within = integrate(points, 3.0, 4.0, MAX_GAP_S)
    assert (within.integral, within.peak, within.covered_s) == (None, None, 0.0)
    assert within.largest_gap_s == pytest.approx(4.0)
    assert integrate(points, 6.0, 9.0, MAX_GAP_S).largest_gap_s == pytest.approx(0.1)


def test_three_intervals_are_bridged_and_more_are_not():
    assert integrate([(0.0, 2.0), (0.3, 4.0)], 0.0, 0.3, 0.3).integral == pytest.approx(0.9)
    assert integrate([(0.0, 2.0), (0.31, 4.0)], 0.0, 0.31, 0.3).integral is None


def test_before_the_first_reading_and_after_the_last_nothing_is_known():
    points = [(2.0, 1.0), (2.1, 1.0)]
    piece = integrate(points, 0.0, 5.0, MAX_GAP_S)
    assert piece.covered_s == pytest.approx(0.1)
    assert piece.largest_gap_s == pytest.approx(2.9)
    assert integrate([], 1.0, 5.0, MAX_GAP_S).largest_gap_s == 4.0
    assert integrate(points, 3.0, 4.0, MAX_GAP_S).largest_gap_s == pytest.approx(1.9)
    assert integrate(points, 0.0, 1.0, MAX_GAP_S).largest_gap_s == 1.0


def test_at_the_edges_the_value_is_the_one_between_the_neighbours():
    piece = integrate([(0.0, 0.0), (0.2, 2.0), (0.4, 0.0)], 0.1, 0.2, MAX_GAP_S)
    assert piece.integral == pytest.approx(0.1 * 1.5)
    assert integrate([(0.0, 0.0), (0.2, 2.0)], 0.0, 0.1, MAX_GAP_S).peak == pytest.approx(1.0)


times = st.lists(st.floats(0.0, 30.0), max_size=60, unique=True)


@given(times=times, cuts=times, seed=st.integers(0, 1000))
def test_windows_that_follow_one_another_add_up(times, cuts, seed):
    chance = random.Random(seed)
    points = [(at_s, chance.uniform(0, 60)) for at_s in sorted(times)]
    edges = sorted({0.0, 30.0, *cuts})
    pieces = [integrate(points, *window, 1.0) for window in pairwise(edges)]
    whole = integrate(points, 0.0, 30.0, 1.0)
    assert sum(piece.integral or 0.0 for piece in pieces) == pytest.approx(whole.integral or 0.0, abs=1e-9)
    assert sum(piece.covered_s for piece in pieces) == pytest.approx(whole.covered_s, abs=1e-9)
    assert max((piece.peak for piece in pieces if piece.peak is not None), default=0) == pytest.approx(whole.peak or 0)
    assert all(0 <= piece.covered_s <= piece.seconds + 1e-9 for piece in pieces)
    # No piece says more of what came before the first reading, or after the last, than the whole.
    assert max(piece.largest_gap_s for piece in pieces) <= whole.largest_gap_s + 1e-9
