"""The meter: what a source's readings come to, at their own pace and with their own gaps."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest
from fake_source import FakeSource
from sysfs_trees import fake_packages

from edge.power.meter import COUNT_WAIT_S, KEEP_S, Meter
from edge.power.rapl import Rapl
from edge.power.source import CountedEnergy, Reading


def fed(readings, hz=10.0):
    """A meter whose thread was never started, with these (at_s, mW)."""
    meter = Meter(FakeSource(), hz=hz)
    for at_s, total_mw in readings:
        meter.record(Reading(at_s=at_s, total_mw=total_mw))
    return meter


def test_without_a_source_there_is_no_thread_and_nothing_is_measured():
    before = threading.active_count()
    with Meter(detail="nothing was found") as meter:
        assert threading.active_count() == before
        energy = meter.measured(1.0, 3.0)
        assert (energy.seconds, energy.covered_s, energy.joules, energy.peak_w, energy.largest_gap_s) == (
            2.0,
            0,
            None,
            None,
            0,
        )
        assert meter.settled_s(3.0) == 3.0
        assert (meter.source, meter.scope, meter.interval_s, meter.detail) == ("", "", 0.0, "nothing was found")


def test_a_source_is_read_on_one_thread_until_the_end():
    source = FakeSource()
    with Meter(source, hz=100.0) as meter:
        while len(source.calls) < 40:
            time.sleep(0.01)
        energy = meter.measured(source.calls[5], source.calls[30])
    assert source.threads == {"power"}
    assert energy.joules == pytest.approx(5.0 * energy.covered_s)
    assert not meter._thread.is_alive()


class Turns:
    """A clock that goes on while a source is read, for so long each time, and while the meter waits: in the place of
    the event that ends it, after the last one of `busy_s`."""

    def __init__(self, busy_s):
        self.now_s = 1000.0
        self.began_s = []
        self._busy_s = list(busy_s)

    def read(self):
        self.began_s.append(self.now_s)
        self.now_s += self._busy_s.pop(0)
        return []

    def wait(self, timeout):
        self.now_s += max(0.0, timeout)

    def is_set(self):
        return not self._busy_s


def test_every_reading_has_a_moment_of_its_own_and_none_is_made_up_for():
    # At 10 Hz, and one takes longer than three intervals.
    turns = Turns([0.01, 0.03, 0.35, 0.02, 0.08, 0.0, 0.0])
    meter = Meter(FakeSource(turns.read), hz=10.0, clock=lambda: turns.now_s)
    meter._over = turns
    meter._sample()
    moments = [round((began_s - 1000.0) * 10, 6) for began_s in turns.began_s]
    assert moments == [0, 1, 2, 6, 7, 8, 9]


def test_a_slow_source_is_not_all_gaps():
    meter = fed([(float(second), 1000.0) for second in range(10)])
    assert meter.interval_s == 1.0
    energy = meter.measured(2.5, 8.5)
    assert energy.joules == pytest.approx(6.0)
    assert energy.covered_s == 6.0


def test_a_slow_sources_own_gaps_are_gaps():
    meter = fed([(float(second), 1000.0) for second in (0, 1, 2, 3, 4, 9, 10, 11, 12)])
    energy = meter.measured(0.0, 12.0)
    assert energy.covered_s == pytest.approx(7.0)
    assert energy.largest_gap_s == 5.0


def test_settled_is_what_the_newest_total_reached_or_now_when_none_comes():
    meter = fed([(0.0, 1.0), (0.1, 1.0), (0.2, 1.0)])
    assert meter.settled_s(0.25) == 0.2
    assert meter.settled_s(0.45) == 0.2
    assert meter.settled_s(0.6) == 0.6
    assert meter.settled_s(0.15) == 0.15
    meter.record(Reading(at_s=0.7, rails_mw={"VDD_IN": 1.0}))  # no total: nothing is learned
    assert meter.settled_s(0.75) == 0.75


def test_a_silence_from_the_start_is_told_in_its_whole_length():
    meter = fed([])
    meter._began_s = 100.0
    assert meter.measured(107.0, 108.0).largest_gap_s == 8.0
    meter.record(Reading(at_s=109.5, total_mw=1.0))
    assert meter.measured(109.0, 110.0).largest_gap_s == 9.5


def counter_fed(moments, joules_at):
    """The same, of a source that counts energy and was read at these moments."""
    meter = Meter(FakeSource(), hz=10.0)
    for since_s, until_s in pairwise(moments):
        joules = joules_at(until_s) - joules_at(since_s)
        counted = CountedEnergy(since_s=since_s, until_s=until_s, joules=joules)
        meter.record(Reading(at_s=until_s, total_mw=1e3 * joules / (until_s - since_s), counted=counted))
    return meter


def test_what_a_counter_says_is_the_energy_and_not_the_integral_of_its_power():
    # Idle at 2 W but for half a second at 50 W, in the middle of four seconds in which a busy machine read nothing.
    moments = [n / 10 for n in range(21)] + [n / 10 for n in range(60, 101)]
    meter = counter_fed(moments, lambda at_s: 2.0 * at_s + 48.0 * min(max(at_s - 3.5, 0.0), 0.5))
    meter._began_s = 0.0
    whole = meter.measured(0.0, 10.0)
    assert whole.joules == pytest.approx(44.0, rel=1e-12)
    assert (whole.covered_s, whole.seconds) == (pytest.approx(10.0), 10.0)
    assert whole.largest_gap_s == pytest.approx(4.0)
    assert whole.peak_w == pytest.approx(8.0)  # a mean of the gap: more than that nobody saw
    # What is told while a run goes on adds up to the same.
    parts = [meter.measured(*window) for window in pairwise([0.0, 1.7, 3.3, 4.0, 8.25, 10.0])]
    assert sum(part.joules for part in parts) == pytest.approx(whole.joules)


def test_a_counters_next_reading_is_waited_for_since_it_tells_of_the_time_before():
    meter = counter_fed([0.0, 0.1, 0.2], lambda at_s: at_s)
    assert meter.settled_s(5.0) == 0.2
    assert meter.settled_s(0.3 + COUNT_WAIT_S) == 0.3 + COUNT_WAIT_S


def test_rapls_joules_are_its_counters_also_where_readings_are_missing(tmp_path):
    (counter,) = fake_packages(tmp_path, [262143328850 - 3_000_000])
    now_s = 100.0
    source = Rapl(tmp_path, lambda: now_s)
    meter = Meter(source)
    meter._began_s = 100.0
    for at_s, energy_uj in ((100.1, 262143328850 - 2_000_000), (100.2, None), (104.0, 40_000_000), (104.1, 41_000_000)):
        now_s = at_s
        counter.write_text("busy" if energy_uj is None else str(energy_uj))
        for reading in source.readings():
            meter.record(reading)
    energy = meter.measured(100.0, 104.1)
    assert energy.joules == pytest.approx(44.0)  # 3 J to its end, where it begins again, and 41 J
    assert (energy.covered_s, energy.largest_gap_s) == (pytest.approx(4.1), pytest.approx(3.9))


def test_readings_out_of_order_are_left_out():
    meter = fed([(1.0, 1.0), (0.5, 99.0), (1.0, 99.0), (1.1, 1.0)])
    assert [reading.at_s for reading in meter.drain(2.0)] == [1.0, 1.1]
    assert meter.measured(0.0, 2.0).peak_w == 0.001


def test_readings_are_taken_once_and_forgotten_in_time():
    meter = fed([(float(second), 1.0) for second in range(2000)], hz=1.0)
    taken = meter.drain(1999.0)
    assert taken[0].at_s == 1999.0 - KEEP_S
    assert taken[-1].at_s == 1999.0
    assert meter.drain(1999.0) == []
    assert len(meter._points) == KEEP_S + 1


def test_a_wall_clock_that_jumps_moves_nothing(monkeypatch):
    source = FakeSource()
    monkeypatch.setattr(time, "time", lambda: -1e9 * len(source.calls))
    with Meter(source, hz=100.0) as meter:
        while len(source.calls) < 20:
            time.sleep(0.01)
        began_s, ended_s = source.calls[2], source.calls[-1]
    energy = meter.measured(began_s, ended_s)
    assert energy.joules == pytest.approx(energy.covered_s * 5.0)
    assert energy.covered_s > 0


def test_a_problem_is_logged_when_it_comes_and_when_it_goes(caplog):
    source = FakeSource()
    source.problems = [None, "the sensor is gone", "the sensor is gone", None, None]
    with Meter(source, hz=100.0), caplog.at_level("INFO"):
        while len(source.calls) < 8:
            time.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == ["power: the sensor is gone", "power: read again"]


def test_a_source_that_breaks_its_word_ends_the_measuring_and_nothing_else(caplog):
    def fail():
        raise RuntimeError("out of order")

    with Meter(FakeSource(fail), hz=100.0) as meter:
        meter._thread.join(5)
    assert "nothing more is measured" in caplog.text
