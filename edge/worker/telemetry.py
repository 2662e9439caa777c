"""Where a run's time and energy went, sent to the coordinator in batches."""

from __future__ import annotations

import math
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from edge.power.meter import Meter
from edge.power.source import Reading
from edge.power.timeline import Timeline
from federa.energy import Energy
from federa.phases import Activity
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


class TelemetrySender:
    """Sends one run's telemetry: `send` about every INTERVAL_S, and `close`."""

    def __init__(
        self, run_id: str, timeline: Timeline, meter: Meter, batches: Batches, post: Callable[[pb.WorkerMessage], None]
    ) -> None:
        self._run_id = run_id
        self._timeline = timeline
        self._meter = meter
        self._batches = batches
        self._post = post
        meter.drain(time.monotonic())  # what was read before the run is no part of it

    def send(self) -> None:
        """Post what is new, if anything is."""
        self._send(self._meter.settled_s(time.monotonic()))

    def close(self) -> None:
        """The run is over here: post the rest. What no reading has come for yet is sent as not measured."""
        self._timeline.close()
        self._send(time.monotonic())

    def _send(self, until_s: float) -> None:
        intervals = self._timeline.drain(until_s)
        placed = [(reading, self._timeline.activity_at(reading.at_s)) for reading in self._meter.drain(until_s)]
        samples = [(reading, activity) for reading, activity in placed if activity is not None]
        if not intervals and not samples:
            return
        batch = self._batches.next(self._run_id)
        energies: dict[Activity, Energy] = defaultdict(Energy)
        for interval in intervals:
            energies[interval.activity] += self._meter.measured(interval.began_s, interval.ended_s)
        batch.phases.extend(_phase_energy(activity, energy) for activity, energy in energies.items())
        batch.rails.extend(_names([reading.rails_mw for reading, _ in samples]))
        batch.sensors.extend(_names([reading.temps_c for reading, _ in samples]))
        batch.samples.extend(_sample(reading, activity, batch.rails, batch.sensors) for reading, activity in samples)
        self._post(pb.WorkerMessage(telemetry=batch))


def _phase_energy(activity: Activity, energy: Energy) -> pb.PhaseEnergy:
    return pb.PhaseEnergy(
        round=activity.round,
        client=activity.client,
        phase=activity.phase,
        seconds=energy.seconds,
        joules=energy.joules,
        covered_s=energy.covered_s,
        largest_gap_s=energy.largest_gap_s,
        peak_mw=None if energy.peak_w is None else 1e3 * energy.peak_w,
    )


def _sample(reading: Reading, activity: Activity, rails: Sequence[str], sensors: Sequence[str]) -> pb.Sample:
    sample = pb.Sample(
        at_s=_UNIX_S + reading.at_s,
        round=activity.round,
        client=activity.client,
        phase=activity.phase,
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
