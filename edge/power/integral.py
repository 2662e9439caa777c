"""The integral of a quantity over a window of time, from readings that came when they came."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_GAP_INTERVALS = 3.0
"""Readings further apart than so many intervals of their source have nothing between them that was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What was measured in a window."""

    seconds: float
    covered_s: float
    """How much of it lies between readings that are close enough."""
    integral: float | None
    """Value times seconds over what is covered; None where nothing is."""
    largest_gap_s: float
    """The longest time between readings that the window is a part of, also where it reaches beyond the window on the
    side of a reading. Where there is no reading it ends with the window."""
    peak: float | None
    """The largest value within, between readings too."""


def integrate(points: Sequence[tuple[float, float]], began_s: float, ended_s: float, max_gap_s: float) -> Piece:
    """The window from `began_s` to `ended_s`, by trapezoids. `points` are (time in s, value) in the order of time and
    may reach beyond the window: at its edges the value is the one on the line between the neighbours. Nothing is taken
    to be known between two points that are more than `max_gap_s` apart, nor before the first and after the last.

    Windows that follow one another add up to the window over all of them.
    """
    first = max(0, bisect_right(points, began_s, key=_time) - 1)
    last = min(len(points), bisect_left(points, ended_s, key=_time) + 1)
    near = points[first:last]
    covered_s = integral = largest_gap_s = 0.0
    values = [value for at_s, value in near if began_s <= at_s <= ended_s]
    if not near or near[0][0] > began_s:
        largest_gap_s = (min(near[0][0], ended_s) if near else ended_s) - began_s
    if near and near[-1][0] < ended_s:
        largest_gap_s = max(largest_gap_s, ended_s - near[-1][0])
    for (left_s, left), (right_s, right) in pairwise(near):
        from_s, to_s = max(left_s, began_s), min(right_s, ended_s)
        if to_s <= from_s:
            continue
        largest_gap_s = max(largest_gap_s, right_s - left_s)
        if right_s - left_s > max_gap_s:
            continue
        # Parts of the way, not a slope: of two readings that are almost one it would be infinite.
        from_value = left + (right - left) * ((from_s - left_s) / (right_s - left_s))
        to_value = right - (right - left) * ((right_s - to_s) / (right_s - left_s))
        integral += (from_value + to_value) / 2 * (to_s - from_s)
        covered_s += to_s - from_s
        values += [from_value, to_value]
    return Piece(
        seconds=ended_s - began_s,
        covered_s=covered_s,
        integral=integral if covered_s > 0 else None,
        largest_gap_s=largest_gap_s,
        peak=max(values, default=None),
    )


def _time(point: tuple[float, float]) -> float:
    return point[0]
