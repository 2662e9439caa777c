"""The phases of a worker: one after the other, without a hole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.power.timeline import HISTORY_S, Timeline


class Clock:
    """Says what a test sets."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def timeline():
    clock = Clock()
    return Timeline(clock), clock


def recorded(intervals):
    return [(interval.activity.phase, interval.began_s, interval.ended_s) for interval in intervals]


def test_a_phase_ends_where_the_next_begins():
    line, clock = timeline()
    line.enter(0, 0, "load")
    clock.now_s = 103.0
    line.enter(0, 0, "idle")
    clock.now_s = 104.0
    line.enter(1, 2, "train")
    assert recorded(line.drain(105.0)) == [("load", 100.0, 103.0), ("idle", 103.0, 104.0), ("train", 104.0, 105.0)]
    assert line.drain(105.0) == []
    clock.now_s = 107.0
    line.close()
    line.enter(1, 0, "idle")
    (last,) = line.drain(110.0)
    assert (last.began_s, last.ended_s, last.activity.round, last.activity.client) == (105.0, 107.0, 1, 2)
    assert line.drain(120.0) == []


def test_a_moment_that_has_just_been_counts_unless_its_piece_was_taken():
    line, clock = timeline()
    line.enter(1, 0, "load")
    clock.now_s = 102.0
    line.enter(1, 0, "train", at_s=101.0)
    assert recorded(line.drain(101.5)) == [("load", 100.0, 101.0), ("train", 101.0, 101.5)]
    line.enter(1, 0, "upload", at_s=101.2)
    assert recorded(line.drain(102.0)) == [("upload", 101.5, 102.0)]


def test_before_the_first_phase_and_after_the_end_there_is_nothing():
    line, clock = timeline()
    assert line.drain(200.0) == []
    line.enter(0, 0, "load")
    assert recorded(line.drain(99.0)) == []
    assert line.activity_at(99.9) is None
    assert line.activity_at(100.0).phase == "load"
    clock.now_s = 101.0
    line.close()
    assert line.activity_at(101.1) is None
    assert recorded(line.drain(500.0)) == [("load", 100.0, 101.0)]


def test_what_was_long_ago_is_forgotten():
    line, clock = timeline()
    for round_ in range(1000):
        clock.now_s += 10.0
        line.enter(round_, 0, "train")
        line.drain(clock.now_s)
    assert len(line._activities) < HISTORY_S / 10 + 3
    assert line.activity_at(clock.now_s).round == 999


moves = st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["idle", "train", "upload", "drain", "late"])), max_size=50)


@given(moves=moves)
def test_whatever_comes_the_pieces_have_no_hole_and_no_overlap(moves):
    line, clock = timeline()
    line.enter(0, 0, "load")
    intervals = []
    for index, (step_s, what) in enumerate(moves):
        clock.now_s += step_s
        if what == "drain":
            intervals += line.drain(clock.now_s - 0.1)
        elif what == "late":
            line.enter(index, 0, "train", at_s=clock.now_s - 1.0)
        else:
            line.enter(index, 1, what)
    line.close()
    intervals += line.drain(float("inf"))
    edges = [100.0, *(interval.ended_s for interval in intervals)]
    assert [interval.began_s for interval in intervals] == edges[:-1]
    assert edges[-1] == pytest.approx(max(clock.now_s, 100.0))
    assert all(interval.ended_s > interval.began_s for interval in intervals)
