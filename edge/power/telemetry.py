"""Where a run's time and energy went, told to the coordinator piece by piece."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from edge.power.integral import Piece
from edge.power.meter import Meter
from edge.power.source import Reading
from edge.power.timeline import Place, Stretch, Timeline
from protos import federation_pb2 as pb

INTERVAL_S = 0.5
"""Between two batches."""

# Unix time is the monotonic clock's from here on: a wall clock that is set while a run is under way moves no sample.
_UNIX_S = time.time() - time.monotonic()


class Batches:
    """Numbers the batches of this process."""

    def __init__(self) -> None:
        self.epoch = secrets.randbits(64)
        self.sequence = 0

    def next(self, run_id: str) -> pb.Telemetry:
        """An empty one."""
        self.sequence += 1
        return pb.Telemetry(run_id=run_id, epoch=self.epoch, sequence=self.sequence)


class Telemetry:
    """Of one run: `tell` about every INTERVAL_S, and `end`."""

    def __init__(
        self, run_id: str, timeline: Timeline, meter: Meter, batches: Batches, post: Callable[[pb.WorkerMessage], None]
    ) -> None:
        self._run_id = run_id
        self._timeline = timeline
        self._meter = meter
        self._batches = batches
        self._post = post
        meter.take(time.monotonic())  # what was read before the run is no part of it

    def tell(self) -> None:
        """Post what is new, if anything is."""
        self._tell(self._meter.settled_s(time.monotonic()))

    def end(self) -> None:
        """The run is over here: post the rest. What no reading has come for yet is told as not measured."""
        self._timeline.end()
        self._tell(time.monotonic())

    def _tell(self, until_s: float) -> None:
        stretches = self._timeline.take(until_s)
        placed = [(reading, self._timeline.place_at(reading.at_s)) for reading in self._meter.take(until_s)]
        samples = [(reading, place) for reading, place in placed if place is not None]
        if not stretches and not samples:
            return
        batch = self._batches.next(self._run_id)
        batch.slices.extend(self._slices(stretches))
        batch.rails.extend(_names([reading.rails_mw for reading, _ in samples]))
        batch.sensors.extend(_names([reading.temps_c for reading, _ in samples]))
        batch.samples.extend(_sample(reading, place, batch.rails, batch.sensors) for reading, place in samples)
        self._post(pb.WorkerMessage(telemetry=batch))

    def _slices(self, stretches: Sequence[Stretch]) -> list[pb.Slice]:
        merged: dict[Place, pb.Slice] = {}
        for stretch in stretches:
            place = stretch.place
            if place not in merged:
                merged[place] = pb.Slice(round=place.round, client=place.client, phase=place.phase)
            _add(merged[place], self._meter.measured(stretch.began_s, stretch.ended_s))
        return list(merged.values())


def _add(to: pb.Slice, piece: Piece) -> None:
    to.seconds += piece.seconds
    to.covered_s += piece.covered_s
    to.largest_gap_s = max(to.largest_gap_s, piece.largest_gap_s)
    if piece.integral is not None:
        to.joules += piece.integral / 1e3
    if piece.peak is not None:
        to.peak_mw = max(to.peak_mw, piece.peak)


def _sample(reading: Reading, place: Place, rails: Sequence[str], sensors: Sequence[str]) -> pb.Sample:
    sample = pb.Sample(
        at_s=_UNIX_S + reading.at_s,
        round=place.round,
        client=place.client,
        phase=place.phase,
        total_mw=reading.total_mw,
        rails_mw=[reading.rails_mw.get(name, math.nan) for name in rails],
        gpu_load=reading.gpu_load,
        gpu_mhz=reading.gpu_mhz,
        temps_c=[reading.temps_c.get(name, math.nan) for name in sensors],
    )
    if reading.throttled is not None:
        sample.throttled = reading.throttled
    return sample


def _names(maps: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for values in maps for name in values))
