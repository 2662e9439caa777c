"""The energy of a window of time, from readings that came when they came: of power, or of a counter of energy."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from edge.power.source import CountedEnergy
from federa.energy import Energy

MAX_GAP_INTERVALS = 3.0
"""Power readings further apart than so many intervals of their source have nothing between them that was measured."""


def integrate(points: Sequence[tuple[float, float]], began_s: float, ended_s: float, max_gap_s: float) -> Energy:
    """The window from `began_s` to `ended_s`, by trapezoids. `points` are (time in s, power in W) in the order of time
    and may reach beyond the window: at its edges the power is the one on the line between the neighbours. Nothing is
    taken to be known between two points that are more than `max_gap_s` apart, nor before the first and after the last.

    The gap reaches beyond the window on the side of a reading; where there is no reading it ends with the window. The
    peak is the largest power within, between readings too.

    Windows that follow one another add up to the window over all of them.
    """
    first = max(0, bisect_right(points, began_s, key=_time) - 1)
    last = min(len(points), bisect_left(points, ended_s, key=_time) + 1)
    near = points[first:last]
    covered_s = joules = 0.0
    largest_gap_s = _silence_s(near[0][0], near[-1][0], began_s, ended_s) if near else ended_s - began_s
    powers_w = [power_w for at_s, power_w in near if began_s <= at_s <= ended_s]
    for (left_s, left_w), (right_s, right_w) in pairwise(near):
        from_s, to_s = max(left_s, began_s), min(right_s, ended_s)
        if to_s <= from_s:
            continue
        largest_gap_s = max(largest_gap_s, right_s - left_s)
        if right_s - left_s > max_gap_s:
            continue
        # Parts of the way, not a slope: of two readings that are almost one it would be infinite.
        from_w = left_w + (right_w - left_w) * ((from_s - left_s) / (right_s - left_s))
        to_w = right_w - (right_w - left_w) * ((right_s - to_s) / (right_s - left_s))
        joules += (from_w + to_w) / 2 * (to_s - from_s)
        covered_s += to_s - from_s
        powers_w += [from_w, to_w]
    return Energy(
        seconds=ended_s - began_s,
        covered_s=covered_s,
        joules=joules if covered_s > 0 else None,
        largest_gap_s=largest_gap_s,
        peak_w=max(powers_w, default=None),
    )


def add_counts(counts: Sequence[CountedEnergy], began_s: float, ended_s: float) -> Energy:
    """The window from `began_s` to `ended_s`, from a counter's differences in the order of time. They are exact however
    far apart the counter was read; at the window's edges the counter stands on the line between its two readings.
    There is no peak: a counter tells the mean of the time between two readings.

    Windows that follow one another add up to the window over all of them.
    """
    first = max(0, bisect_right(counts, began_s, key=_until) - 1)
    last = min(len(counts), bisect_left(counts, ended_s, key=_since) + 1)
    near = counts[first:last]
    covered_s = joules = 0.0
    largest_gap_s = _silence_s(near[0].since_s, near[-1].until_s, began_s, ended_s) if near else ended_s - began_s
    for left, right in pairwise(near):  # between two that do not join the counter was lost
        if min(right.since_s, ended_s) > max(left.until_s, began_s):
            largest_gap_s = max(largest_gap_s, right.since_s - left.until_s)
    for count in near:
        from_s, to_s = max(count.since_s, began_s), min(count.until_s, ended_s)
        if to_s <= from_s:
            continue
        length_s = count.until_s - count.since_s
        largest_gap_s = max(largest_gap_s, length_s)
        joules += count.joules * ((to_s - from_s) / length_s)
        covered_s += to_s - from_s
    return Energy(
        seconds=ended_s - began_s,
        covered_s=covered_s,
        joules=joules if covered_s > 0 else None,
        largest_gap_s=largest_gap_s,
    )


def _silence_s(first_s: float, last_s: float, began_s: float, ended_s: float) -> float:
    """From the window's beginning to the first reading, or from the last one to its end: the longer of the two."""
    return max(0.0, min(first_s, ended_s) - began_s, ended_s - last_s)


def _time(point: tuple[float, float]) -> float:
    return point[0]


def _since(count: CountedEnergy) -> float:
    return count.since_s


def _until(count: CountedEnergy) -> float:
    return count.until_s
