"""What the devices' meters report: checked number by number, counted once, and on its way into ledger and samples."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import Readings
from coordinator.storage.samples import Columns, Samples
from federa.energy import Energy
from federa.phases import PHASES, Activity
from protos import federation_pb2 as pb

log = logging.getLogger("federa.coordinator")

SCOPES = ("module", "board", "package", "gpu")
MAX_TEXT_CHARS = 1_000
"""Characters of a text of a worker's."""
MAX_NAME_CHARS = 40
MAX_PHASES, MAX_SAMPLES = 2_000, 10_000
"""In one message; a worker sends one a second, with some dozens of either."""
MAX_RAILS, MAX_SENSORS = 32, 64
"""On one device: a Jetson has some six rails and a dozen thermal zones."""
MAX_EPOCHS = 10_000
"""Lives of one worker in a run."""
MAX_MESSAGES_A_SECOND, MAX_SAMPLES_A_SECOND = 50, 120
"""From one device, on the mean since the run began: a meter reads at most 100 times a second. More would only fill the
ledger and the disk. What a link held back comes at once and is within the mean."""
SLACK_S = 600.0
"""A device's time line may be so much longer than the run: its clock is another one."""
MAX_W = 100_000.0
CLOCK_OFF_S = 3_600.0
"""A device without a clock of its own, or without a network when it started, tells times of another year: from here on
its samples are moved to when they came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceSample:
    """A device's newest sample, which came at `received_s` of this process's monotonic clock. `valid_s` is how long it
    may stand for the present."""

    received_s: float
    valid_s: float
    phase: str
    total_w: float | None
    gpu_load: float | None
    gpu_mhz: float | None
    throttled: bool | None
    temps_c: Mapping[str, float]


@dataclass(slots=True)
class _Device:
    """What is known of one device in this process."""

    power: dict[str, Any] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    sensors: set[str] = field(default_factory=set)
    rails: set[str] = field(default_factory=set)
    offsets_s: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    messages: int = 0
    samples: int = 0
    warned: bool = False


class TelemetryReceiver:
    """Takes in what the meters of one run's devices report. `elapsed_s` says how long the run has been under way,
    restarts and downtime included.

    A phase's energy or a sample with a number that no meter gives is dropped; a batch that is too large, or beyond what
    a device can send since the run began, is dropped as a whole."""

    def __init__(self, ledger: Ledger, samples: Samples, rounds: int, elapsed_s: Callable[[], float]) -> None:
        self.latest: dict[str, DeviceSample] = {}
        self._ledger = ledger
        self._samples = samples
        self._rounds = rounds
        self._elapsed_s = elapsed_s
        self._devices: dict[str, _Device] = defaultdict(_Device)
        for name, power in ledger.powers().items():
            self._devices[name].power = power
        for name, sequences in ledger.sequences().items():
            self._devices[name].sequences = sequences
        for name, sensors in ledger.sensors().items():
            self._devices[name].sensors = set(sensors)

    def receive_power(self, name: str, reported: pb.Power) -> None:
        """What a device measures with. Its first idle power stays: a later life may begin on a warm board. So do source
        and scope where a later life measures nothing: they are those of the joules that there are."""
        known = self._devices[name].power
        source, scope = _one_line(reported.source, 200), reported.scope if reported.scope in SCOPES else ""
        idle_w = reported.idle_w if reported.HasField("idle_w") and abs(reported.idle_w) <= MAX_W else None
        replays = source.startswith("replay of")
        power = {
            "source": source or known.get("source"),
            "scope": scope or known.get("scope"),
            # Whoever shows it says that first.
            "detail": _one_line(reported.detail, MAX_TEXT_CHARS).removeprefix("not measured: ") or None,
            "interval_s": reported.interval_s if 0 < reported.interval_s <= CLOCK_OFF_S else known.get("interval_s"),
            "idle_w": idle_w if known.get("idle_w") is None else known["idle_w"],
            # All that it measured in this run: figures of two scopes, or of a replay, are not to be taken for one.
            "scopes": sorted({*known.get("scopes", ()), *([scope] if scope else ())})[: len(SCOPES)],
            "replayed": bool(known.get("replayed")) or replays,
            "measured": bool(known.get("measured")) or (bool(scope) and not replays),
        }
        if power != known:
            self._devices[name].power = power
            self._ledger.powered(name, power)

    def receive(self, name: str, clients: Collection[int], batch: pb.Telemetry) -> None:
        """A batch of a device that hosts these clients."""
        device, epoch = self._devices[name], f"{batch.epoch:016x}"
        if batch.sequence <= device.sequences.get(epoch, 0):
            return  # sent again: it is in
        device.messages += 1
        elapsed_s, hosted = self._elapsed_s() + SLACK_S, {0, *clients}
        why = self._refusal(device, epoch, batch, elapsed_s)
        energies = {} if why else self._energies(batch.phases, hosted)
        seconds = device.seconds + sum(energy.seconds for energy in energies.values())
        if seconds > 2 * elapsed_s:
            why = "it reports more time than has passed"
        if why:
            if not device.warned:
                device.warned = True
                log.warning("telemetry of worker %s is dropped: %s", name, why)
            return
        device.seconds = seconds
        device.samples += len(batch.samples)
        sensors = list(batch.sensors)
        samples = [sample for sample in batch.samples if self._is_sample(sample, hosted, batch)]
        device.sequences[epoch] = batch.sequence
        self._ledger.measured(name, epoch, batch.sequence, energies, _tallies(samples, sensors))
        if samples:
            self._keep(name, device, epoch, samples, Columns(rails=tuple(batch.rails), sensors=tuple(sensors)))

    def _refusal(self, device: _Device, epoch: str, batch: pb.Telemetry, elapsed_s: float) -> str | None:
        """Why a batch is dropped as a whole."""
        if len(batch.phases) > MAX_PHASES or len(batch.samples) > MAX_SAMPLES:
            return f"a batch has {len(batch.phases)} phases and {len(batch.samples)} samples"
        if epoch not in device.sequences and len(device.sequences) >= MAX_EPOCHS:
            return f"it has had {MAX_EPOCHS} lives"
        for what, names, known, most in (
            ("rails", batch.rails, device.rails, MAX_RAILS),
            ("sensors", batch.sensors, {name[5:] for name in device.sensors if name.startswith("temp ")}, MAX_SENSORS),
        ):
            if len(names) > most or len(known.union(names)) > most:
                return f"it has more than {most} {what}"
            if len(set(names)) != len(names) or not all(
                0 < len(n) <= MAX_NAME_CHARS and n.isprintable() for n in names
            ):
                return f"its {what} need names, each of its own, of 1 to {MAX_NAME_CHARS} printable characters"
        if device.messages > MAX_MESSAGES_A_SECOND * elapsed_s:
            return "it sends too many batches"
        if device.samples + len(batch.samples) > MAX_SAMPLES_A_SECOND * elapsed_s:
            return "it sends too many samples"
        device.rails.update(batch.rails)
        device.sensors.update(f"temp {name}" for name in batch.sensors)
        return None

    def _energies(self, reports: Iterable[pb.PhaseEnergy], hosted: set[int]) -> dict[Activity, Energy]:
        energies: dict[Activity, Energy] = defaultdict(Energy)
        for reported in reports:
            if (energy := self._energy(reported, hosted)) is not None:
                energies[Activity(round=reported.round, client=reported.client, phase=reported.phase)] += energy
        return energies

    def _energy(self, reported: pb.PhaseEnergy, hosted: set[int]) -> Energy | None:
        """What the ledger adds up, or None for what no meter says: JSON has no word for it, and sums no way back."""
        if reported.phase not in PHASES or not 0 <= reported.round <= self._rounds or reported.client not in hosted:
            return None
        covered_s, joules = reported.covered_s, reported.joules if reported.HasField("joules") else None
        peak_mw = reported.peak_mw if reported.HasField("peak_mw") else None
        numbers = (reported.seconds, covered_s, reported.largest_gap_s)
        if not all(0 <= number < math.inf for number in numbers):
            return None
        if covered_s > reported.seconds * 1.001 + 0.01 or reported.largest_gap_s > 2 * (self._elapsed_s() + SLACK_S):
            return None
        # Below zero is a meter's number, too: a sensor that rests may read one step below.
        if not (abs(joules or 0.0) <= MAX_W * covered_s and abs(peak_mw or 0.0) <= 1e3 * MAX_W):
            return None
        return Energy(
            seconds=reported.seconds,
            # No joules of no time: nothing was measured, which is not 0.
            joules=joules if covered_s > 0 else None,
            covered_s=min(covered_s, reported.seconds),
            largest_gap_s=reported.largest_gap_s,
            peak_w=None if peak_mw is None else peak_mw / 1e3,
        )

    def _is_sample(self, sample: pb.Sample, hosted: set[int], batch: pb.Telemetry) -> bool:
        if sample.phase not in PHASES or not 0 <= sample.round <= self._rounds or sample.client not in hosted:
            return False
        if len(sample.rails_mw) != len(batch.rails) or len(sample.temps_c) != len(batch.sensors):
            return False
        return (
            0 <= sample.at_s < 1e11
            and abs(sample.total_mw) <= 1e3 * MAX_W
            and 0 <= sample.gpu_load <= 100
            and 0 <= sample.gpu_mhz <= 1e5
            and all(math.isnan(rail) or -1e3 * MAX_W <= rail <= 1e3 * MAX_W for rail in sample.rails_mw)
            and all(math.isnan(temp) or -300 <= temp <= 1000 for temp in sample.temps_c)
        )

    def _keep(self, name: str, device: _Device, epoch: str, samples: list[pb.Sample], columns: Columns) -> None:
        now = time.time()
        newest = max(sample.at_s for sample in samples)
        if epoch not in device.offsets_s:
            device.offsets_s[epoch] = now - newest if abs(now - newest) > CLOCK_OFF_S else 0.0
        offset_s = device.offsets_s[epoch]
        within = [s for s in samples if abs(s.at_s + offset_s - now) <= CLOCK_OFF_S + self._elapsed_s() + SLACK_S]
        interval_s = device.power.get("interval_s") or 0.0
        self._samples.add(name, columns, (_row(sample, offset_s) for sample in within), interval_s)
        last = samples[-1]
        self.latest[name] = DeviceSample(
            received_s=time.monotonic(),
            valid_s=max(10.0, 3 * interval_s),
            phase=last.phase,
            total_w=last.total_mw / 1e3 if last.HasField("total_mw") else None,
            gpu_load=last.gpu_load if last.HasField("gpu_load") else None,
            gpu_mhz=last.gpu_mhz if last.HasField("gpu_mhz") else None,
            throttled=last.throttled if last.HasField("throttled") else None,
            temps_c={
                sensor: temp for sensor, temp in zip(columns.sensors, last.temps_c, strict=True) if not math.isnan(temp)
            },
        )


def _one_line(text: str, most: int) -> str:
    """The text on one line, cut to `most` characters."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())[:most]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.7g}"


def _row(sample: pb.Sample, offset_s: float) -> Sequence[str]:
    """A sample as a line of its table; what is missing is empty."""
    return (
        f"{sample.at_s + offset_s:.3f}",
        str(sample.round),
        str(sample.client),
        sample.phase,
        _number(sample.total_mw) if sample.HasField("total_mw") else "",
        *map(_number, sample.rails_mw),
        _number(sample.gpu_load) if sample.HasField("gpu_load") else "",
        _number(sample.gpu_mhz) if sample.HasField("gpu_mhz") else "",
        *map(_number, sample.temps_c),
        str(int(sample.throttled)) if sample.HasField("throttled") else "",
    )


def _tallies(samples: Sequence[pb.Sample], sensors: Sequence[str]) -> dict[str, Readings]:
    """The sensors' readings in a batch, by the names of the ledger."""
    found: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        for name, value in _values(sample, sensors):
            found[name].append(value)
    return {name: Readings(count=len(each), sum=sum(each), high=max(each)) for name, each in found.items()}


def _values(sample: pb.Sample, sensors: Sequence[str]) -> Iterator[tuple[str, float]]:
    for name in ("gpu_load", "gpu_mhz", "throttled"):
        if sample.HasField(name):
            yield name, float(getattr(sample, name))
    for sensor, temp in zip(sensors, sample.temps_c, strict=True):
        if not math.isnan(temp):
            yield f"temp {sensor}", temp
