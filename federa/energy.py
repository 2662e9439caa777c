"""Seconds and the energy measured in them: what a meter gives, the ledger adds up and a report shows."""

from __future__ import annotations

from dataclasses import dataclass

INTERVAL_ASSUMED = "interval assumed"
"""What the description of a source holds whose log tells no time: its joules are only as good as that assumption."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """The energy of some time. What was not measured is None, never 0. Parts add up with `+`."""

    seconds: float = 0.0
    covered_s: float = 0.0
    """How many of the seconds were measured."""
    joules: float | None = None
    """The energy of `covered_s`; None where nothing was measured."""
    largest_gap_s: float = 0.0
    """The longest time between readings that the time is a part of."""
    peak_w: float | None = None

    def __add__(self, other: Energy) -> Energy:
        return Energy(
            seconds=self.seconds + other.seconds,
            covered_s=self.covered_s + other.covered_s,
            joules=other.joules if self.joules is None else self.joules + (other.joules or 0.0),
            largest_gap_s=max(self.largest_gap_s, other.largest_gap_s),
            peak_w=max((peak for peak in (self.peak_w, other.peak_w) if peak is not None), default=None),
        )

    @property
    def coverage(self) -> float | None:
        """The measured share of the seconds; None of no time."""
        return self.covered_s / self.seconds if self.seconds else None
