"""Energy from readings: against exact integrals, and windows that add up."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.power.integral import MAX_GAP_INTERVALS, add_counts, integrate
from edge.power.source import CountedEnergy

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
    energy = integrate(points, 0.5, 40.5, MAX_GAP_S)
    assert energy.joules == pytest.approx(40 * 6.0, rel=0.01)
    assert energy.covered_s == pytest.approx(40.0)
    assert energy.peak_w == 10.0


@pytest.mark.parametrize("seed", range(5))
def test_a_ramp_is_exact_however_the_readings_jitter(seed):
    points = sampled(lambda at_s: 3.0 + 0.7 * at_s, 20.0, jitter=0.4, seed=seed)
    energy = integrate(points, 1.234, 17.891, MAX_GAP_S)
    exact = 3.0 * (17.891 - 1.234) + 0.35 * (17.891**2 - 1.234**2)
    assert energy.joules == pytest.approx(exact, rel=1e-12)
    assert energy.peak_w == pytest.approx(3.0 + 0.7 * 17.891)


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
    energy = integrate(points, 0.1, 19.9, MAX_GAP_S)
    error = abs(energy.joules - (exact - 0.2))
    assert error <= 49.0 * (1 + 2 * jitter) / HZ
    if intervals >= 100:
        assert error <= 0.01 * exact


def test_nothing_is_known_across_a_gap_and_its_whole_length_is_told():
    points = [(n / 10, 5.0) for n in range(21)] + [(n / 10, 5.0) for n in range(60, 101)]
    whole = integrate(points, 0.0, 10.0, MAX_GAP_S)
    assert whole.joules == pytest.approx(5.0 * 6.0)
    assert whole.covered_s == pytest.approx(6.0)
    assert whole.seconds == 10.0
    assert whole.largest_gap_s == pytest.approx(4.0)
    # A window that has only a part of it is told of all of it; one that lies within it knows nothing.
    assert integrate(points, 0.0, 2.5, MAX_GAP_S).largest_gap_s == pytest.approx(4.0)
    within = integrate(points, 3.0, 4.0, MAX_GAP_S)
    assert (within.joules, within.peak_w, within.covered_s) == (None, None, 0.0)
    assert within.largest_gap_s == pytest.approx(4.0)
    assert integrate(points, 6.0, 9.0, MAX_GAP_S).largest_gap_s == pytest.approx(0.1)


def test_three_intervals_are_bridged_and_more_are_not():
    assert integrate([(0.0, 2.0), (0.3, 4.0)], 0.0, 0.3, 0.3).joules == pytest.approx(0.9)
    assert integrate([(0.0, 2.0), (0.31, 4.0)], 0.0, 0.31, 0.3).joules is None


def test_before_the_first_reading_and_after_the_last_nothing_is_known():
    points = [(2.0, 1.0), (2.1, 1.0)]
    energy = integrate(points, 0.0, 5.0, MAX_GAP_S)
    assert energy.covered_s == pytest.approx(0.1)
    assert energy.largest_gap_s == pytest.approx(2.9)
    assert integrate([], 1.0, 5.0, MAX_GAP_S).largest_gap_s == 4.0
    assert integrate(points, 3.0, 4.0, MAX_GAP_S).largest_gap_s == pytest.approx(1.9)
    assert integrate(points, 0.0, 1.0, MAX_GAP_S).largest_gap_s == 1.0


def test_at_the_edges_the_value_is_the_one_between_the_neighbours():
    energy = integrate([(0.0, 0.0), (0.2, 2.0), (0.4, 0.0)], 0.1, 0.2, MAX_GAP_S)
    assert energy.joules == pytest.approx(0.1 * 1.5)
    assert integrate([(0.0, 0.0), (0.2, 2.0)], 0.0, 0.1, MAX_GAP_S).peak_w == pytest.approx(1.0)


times = st.lists(st.floats(0.0, 30.0), max_size=60, unique=True)


@given(times=times, cuts=times, seed=st.integers(0, 1000))
def test_windows_that_follow_one_another_add_up(times, cuts, seed):
    chance = random.Random(seed)
    points = [(at_s, chance.uniform(0, 60)) for at_s in sorted(times)]
    edges = sorted({0.0, 30.0, *cuts})
    energies = [integrate(points, *window, 1.0) for window in pairwise(edges)]
    whole = integrate(points, 0.0, 30.0, 1.0)
    assert sum(energy.joules or 0.0 for energy in energies) == pytest.approx(whole.joules or 0.0, abs=1e-9)
    assert sum(energy.covered_s for energy in energies) == pytest.approx(whole.covered_s, abs=1e-9)
    assert max((energy.peak_w for energy in energies if energy.peak_w is not None), default=0) == pytest.approx(
        whole.peak_w or 0
    )
    assert all(0 <= energy.covered_s <= energy.seconds + 1e-9 for energy in energies)
    # No energy says more of what came before the first reading, or after the last, than the whole.
    assert max(energy.largest_gap_s for energy in energies) <= whole.largest_gap_s + 1e-9


# ---- a counter's differences


def counted(moments, joules_at, lost=()):
    """Differences of a counter that was read at these moments; between those of `lost` and the next it was set back."""
    return [
        CountedEnergy(since_s=since_s, until_s=until_s, joules=joules_at(until_s) - joules_at(since_s))
        for since_s, until_s in pairwise(moments)
        if since_s not in lost
    ]


def test_a_counter_is_exact_across_a_gap_however_the_power_went():
    # 5 W, and 100 W from 3 to 4 s: while nothing was read.
    counts = counted([0.0, 0.1, 2.0, 9.0, 10.0], lambda at_s: 5.0 * at_s + 95.0 * min(max(at_s - 3.0, 0.0), 1.0))
    energy = add_counts(counts, 0.0, 10.0)
    assert energy.joules == pytest.approx(145.0, rel=1e-12)
    assert energy.covered_s == pytest.approx(10.0)
    assert energy.largest_gap_s == pytest.approx(7.0)  # how far off its share of a phase may be
    assert energy.peak_w is None


def test_a_phases_edge_between_two_readings_of_a_counter_shares_what_was_used_by_time():
    counts = counted([0.0, 4.0, 8.0], lambda at_s: at_s**2)
    assert add_counts(counts, 1.0, 5.0).joules == pytest.approx(16.0 * 3 / 4 + 48.0 * 1 / 4)
    assert add_counts(counts, 5.0, 6.0).joules == pytest.approx(12.0)
    assert add_counts(counts, 5.0, 6.0).largest_gap_s == 4.0


def test_where_a_counter_was_lost_and_before_and_after_it_nothing_is_known():
    counts = counted([2.0, 3.0, 4.0, 9.0, 10.0], lambda at_s: 5.0 * at_s, lost=(4.0,))
    energy = add_counts(counts, 0.0, 11.0)
    assert (energy.covered_s, energy.joules, energy.largest_gap_s) == (3.0, 15.0, 5.0)
    within = add_counts(counts, 5.0, 6.0)
    assert (within.covered_s, within.joules, within.largest_gap_s) == (0.0, None, 5.0)
    assert add_counts(counts, 0.0, 1.0).largest_gap_s == 1.0
    assert add_counts(counts, 10.5, 11.0).largest_gap_s == 1.0
    assert add_counts([], 1.0, 5.0) == integrate([], 1.0, 5.0, MAX_GAP_S)


@given(times=times, cuts=times, lost=st.sets(st.integers(0, 60)), seed=st.integers(0, 1000))
def test_windows_of_a_counter_add_up(times, cuts, lost, seed):
    chance = random.Random(seed)
    moments = sorted(times)
    levels = dict(zip(moments, sorted(chance.uniform(0, 600) for _ in moments), strict=True))
    counts = counted(moments, levels.__getitem__, {moments[n] for n in lost if n < len(moments)})
    energies = [add_counts(counts, *window) for window in pairwise(sorted({0.0, 30.0, *cuts}))]
    whole = add_counts(counts, 0.0, 30.0)
    assert (whole.joules or 0.0) == pytest.approx(sum(count.joules for count in counts), abs=1e-9)
    assert sum(energy.joules or 0.0 for energy in energies) == pytest.approx(whole.joules or 0.0, abs=1e-9)
    assert sum(energy.covered_s for energy in energies) == pytest.approx(whole.covered_s, abs=1e-9)
    assert all(0 <= energy.covered_s <= energy.seconds + 1e-9 for energy in energies)
    assert max(energy.largest_gap_s for energy in energies) <= whole.largest_gap_s + 1e-9
