"""The meter: what a source's readings come to, at their own pace and with their own gaps."""

from __future__ import annotations

import threading
import time

import pytest

from edge.power.meter import KEEP_S, Meter
from edge.power.source import Reading


class FakeSource:
    """No sensor: a constant of 5 W, read now; or what `script` returns."""

    name, scope, detail = "fake", "module", "no sensor at all"

    def __init__(self, script=None):
        self.calls = []
        self.threads = set()
        self.troubles = []
        self._script = script or (lambda: [Reading(at_s=time.monotonic(), total_mw=5000.0)])

    def readings(self):
        self.calls.append(time.monotonic())
        self.threads.add(threading.current_thread().name)
        return self._script()

    def trouble(self):
        return self.troubles[min(len(self.calls), len(self.troubles)) - 1] if self.troubles else None

    def close(self):
        pass


def fed(readings, hz=10.0):
    """A meter whose thread was never started, with these (at_s, mW)."""
    meter = Meter(FakeSource(), hz=hz)
    for at_s, total_mw in readings:
        meter.add(Reading(at_s=at_s, total_mw=total_mw))
    return meter


def test_without_a_source_there_is_no_thread_and_nothing_is_measured():
    before = threading.active_count()
    with Meter(detail="nothing was found") as meter:
        assert threading.active_count() == before
        piece = meter.measured(1.0, 3.0)
        assert (piece.seconds, piece.covered_s, piece.integral, piece.peak, piece.largest_gap_s) == (
            2.0,
            0,
            None,
            None,
            0,
        )
        assert meter.settled_s(3.0) == 3.0
        assert (meter.source, meter.scope, meter.interval_s, meter.detail) == ("", "", 0.0, "nothing was found")


def test_a_source_is_read_at_its_pace_on_one_thread_until_the_end():
    source = FakeSource()
    with Meter(source, hz=100.0) as meter:
        began_s = time.monotonic()
        while len(source.calls) < 40:
            time.sleep(0.01)
        piece = meter.measured(began_s + 0.05, began_s + 0.25)
    assert source.threads == {"power"}
    assert piece.integral == pytest.approx(1000.0, rel=0.3)  # a busy machine may leave a gap
    # Every call has its own moment: late ones are not made up for, and none drifts.
    offsets = [(at_s - source.calls[0]) * 100 % 1 for at_s in source.calls]
    assert len(source.calls) <= (source.calls[-1] - source.calls[0]) * 100 + 2
    assert sorted(offsets)[len(offsets) // 2] < 0.9
    count = len(source.calls)
    time.sleep(0.05)
    assert len(source.calls) == count


def test_a_slow_source_is_not_all_gaps():
    meter = fed([(float(second), 1000.0) for second in range(10)])
    assert meter.interval_s == 1.0
    piece = meter.measured(2.5, 8.5)
    assert piece.integral == pytest.approx(6000.0)
    assert piece.covered_s == 6.0


def test_a_slow_sources_own_gaps_are_gaps():
    meter = fed([(float(second), 1000.0) for second in (0, 1, 2, 3, 4, 9, 10, 11, 12)])
    piece = meter.measured(0.0, 12.0)
    assert piece.covered_s == pytest.approx(7.0)
    assert piece.largest_gap_s == 5.0


def test_settled_is_what_the_newest_total_reached_or_now_when_none_comes():
    meter = fed([(0.0, 1.0), (0.1, 1.0), (0.2, 1.0)])
    assert meter.settled_s(0.25) == 0.2
    assert meter.settled_s(0.45) == 0.2
    assert meter.settled_s(0.6) == 0.6
    assert meter.settled_s(0.15) == 0.15
    meter.add(Reading(at_s=0.7, rails_mw={"VDD_IN": 1.0}))  # no total: nothing is learned
    assert meter.settled_s(0.75) == 0.75


def test_a_silence_from_the_start_is_told_in_its_whole_length():
    meter = fed([])
    meter._began_s = 100.0
    assert meter.measured(107.0, 108.0).largest_gap_s == 8.0
    meter.add(Reading(at_s=109.5, total_mw=1.0))
    assert meter.measured(109.0, 110.0).largest_gap_s == 9.5


def test_readings_out_of_order_are_left_out():
    meter = fed([(1.0, 1.0), (0.5, 99.0), (1.0, 99.0), (1.1, 1.0)])
    assert [reading.at_s for reading in meter.take(2.0)] == [1.0, 1.1]
    assert meter.measured(0.0, 2.0).peak == 1.0


def test_readings_are_taken_once_and_forgotten_in_time():
    meter = fed([(float(second), 1.0) for second in range(2000)], hz=1.0)
    taken = meter.take(1999.0)
    assert taken[0].at_s == 1999.0 - KEEP_S
    assert taken[-1].at_s == 1999.0
    assert meter.take(1999.0) == []
    assert len(meter._points) == KEEP_S + 1


def test_a_wall_clock_that_jumps_moves_nothing(monkeypatch):
    source = FakeSource()
    monkeypatch.setattr(time, "time", lambda: -1e9 * len(source.calls))
    with Meter(source, hz=100.0) as meter:
        while len(source.calls) < 20:
            time.sleep(0.01)
        began_s, ended_s = source.calls[2], source.calls[-1]
    piece = meter.measured(began_s, ended_s)
    assert piece.integral == pytest.approx(piece.covered_s * 5000.0)
    assert piece.covered_s > 0


def test_trouble_is_told_when_it_comes_and_when_it_goes(caplog):
    source = FakeSource()
    source.troubles = [None, "the sensor is gone", "the sensor is gone", None, None]
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
