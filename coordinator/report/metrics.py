"""Prometheus' metrics of a coordinator: base units, and what was not measured has no sample.

They are about the run under way, or the last one. Counters begin at zero with each run, which Prometheus takes for a
restart.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FACTS = ("board", "l4t", "power_mode", "device", "precision")
"""The facts of a device that are shown, by their names."""


class LatestSample(Protocol):
    """A device's newest sample, which came at `received_s` of time.monotonic() and is the present for `valid_s`."""

    @property
    def received_s(self) -> float: ...
    @property
    def valid_s(self) -> float: ...
    @property
    def total_w(self) -> float | None: ...
    @property
    def gpu_load(self) -> float | None: ...
    @property
    def gpu_mhz(self) -> float | None: ...
    @property
    def throttled(self) -> bool | None: ...
    @property
    def temps_c(self) -> Mapping[str, float]: ...


class MetricsStatus(Protocol):
    """What the coordinator is doing at one moment, in copies."""

    @property
    def experiment_id(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def round(self) -> int: ...
    @property
    def rounds(self) -> int: ...
    @property
    def connected(self) -> int: ...
    @property
    def latest(self) -> Mapping[str, LatestSample]: ...


def exposition(status: MetricsStatus, result: Mapping[str, Any], now_s: float | None = None) -> bytes:
    """The text that Prometheus reads, of a result in the schema of result.json; `now_s` is time.monotonic()'s."""
    registry = CollectorRegistry()
    registry.register(_Collector(status, result, time.monotonic() if now_s is None else now_s))
    return bytes(generate_latest(registry))


class _Collector:
    def __init__(self, status: MetricsStatus, result: Mapping[str, Any], now_s: float) -> None:
        self._status = status
        runs = result.get("runs") or []
        self._run: Mapping[str, Any] = runs[-1] if runs else {}
        self._now_s = now_s

    def collect(self) -> Iterator[Metric]:
        status, run = self._status, self._run
        yield _gauge("federa_devices_connected", "Workers with an open control stream.", [((), status.connected)])
        if status.experiment_id:
            yield _gauge("federa_round", "The round under way, 0 before the first.", [((), status.round)])
            yield _gauge("federa_rounds_planned", "The most rounds that the run may take.", [((), status.rounds)])
        if not run:
            return
        run_info = InfoMetricFamily("federa_run", "The run that these metrics are about.")
        text = {key: str(run.get(key) or "") for key in ("run_id", "method", "state")}
        run_info.add_metric([], {**text, "stage": status.stage})
        yield run_info
        metric = str(run["metric"])
        for point in run["curve"][-1:]:
            for name, value in {**(point.get("metrics") or {}), metric: point["value"]}.items():
                yield _gauge(
                    _metric_name(name), "A validation metric of the newest state.", [((name,), value)], "metric"
                )
        yield _gauge("federa_target", "The value of the metric that the run is to reach.", [((metric,), run["target"])],
                     "metric")  # fmt: skip
        yield _gauge("federa_target_reached", "Whether a state reached it.", [((), int(run["reached"]))])
        elapsed = [((), point["elapsed_s"]) for point in run["curve"][-1:]]
        yield _gauge("federa_rounds_duration_seconds", "All rounds that are over, evaluation apart.", elapsed)
        moved = [((way,), run[f"bytes_{way}"]) for way in ("down", "up")]
        yield _counter("federa_bytes", "Wire bytes of states.", moved, "direction")
        kinds = Counter(row["kind"] for row in run["setbacks"])
        yield _counter(
            "federa_setbacks", "What went wrong with a client.", [((k,), n) for k, n in kinds.items()], "kind"
        )
        yield from self._devices(run["devices"])
        yield from self._now()

    def _devices(self, devices: list[Mapping[str, Any]]) -> Iterator[Metric]:
        info = InfoMetricFamily("federa_device", "What a device is.", labels=["device"])
        for device in devices:
            facts = {"device" if key == "device" else key: str(device["facts"].get(key) or "") for key in _FACTS}
            # The label `device` is the device's name, so what it computes on has another label.
            about = {"accelerator" if key == "device" else key: value for key, value in facts.items()}
            about |= {"source": device["power_source"] or "", "scope": device["scope"] or ""}
            info.add_metric([device["name"]], about)
        yield info
        updates = [((device["name"],), device["updates"]) for device in devices]
        yield _counter("federa_updates_accepted", "Updates that were accepted.", updates, "device")
        seconds = [((d["name"], phase), value) for d in devices for phase, value in d["seconds"].items()]
        help_ = "Seconds of a device's rounds, by phase."
        yield _counter("federa_device_phase_seconds", help_, seconds, "device", "phase")
        joules = [
            ((device["name"], phase, device["scope"] or "", device["power_source"] or ""), value)
            for device in devices
            for phase, value in device["joules"].items()
        ]
        help_ = "Measured energy of a device's rounds, by phase."
        yield _counter("federa_device_energy_joules", help_, joules, "device", "phase", "scope", "source")

    def _now(self) -> Iterator[Metric]:
        """What devices measure now: a reading that is older than a few intervals is nobody's present."""
        known = {device["name"]: device for device in self._run["devices"]}
        latest = {
            name: sample
            for name, sample in sorted(self._status.latest.items())
            if self._now_s - sample.received_s <= sample.valid_s and name in known
        }
        power = [
            ((name, known[name]["scope"] or "", known[name]["power_source"] or ""), sample.total_w)
            for name, sample in latest.items()
        ]
        yield _gauge("federa_device_power_watts", "Power now.", power, "device", "scope", "source")
        temps = [((name, sensor), temp) for name, sample in latest.items() for sensor, temp in sample.temps_c.items()]
        yield _gauge("federa_device_temperature_celsius", "Temperature now.", temps, "device", "sensor")
        loads = [((name,), None if s.gpu_load is None else s.gpu_load / 100) for name, s in latest.items()]
        yield _gauge("federa_device_gpu_load_ratio", "GPU load now, 0 to 1.", loads, "device")
        clocks = [((name,), None if s.gpu_mhz is None else s.gpu_mhz * 1e6) for name, s in latest.items()]
        yield _gauge("federa_device_gpu_frequency_hertz", "GPU clock now.", clocks, "device")
        throttled = [((name,), None if s.throttled is None else int(s.throttled)) for name, s in latest.items()]
        yield _gauge("federa_device_throttled", "Whether the device slows itself down now.", throttled, "device")


def _metric_name(metric: str) -> str:
    """Prometheus' name of the experiment's metric: federa_ and what it is called there."""
    return "federa_" + re.sub(r"[^a-z0-9_]+", "_", metric.lower())


_Samples = Iterable[tuple[tuple[str, ...], float | None]]


def _gauge(name: str, help_: str, samples: _Samples, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(name, help_, labels=labels), samples)


def _counter(name: str, help_: str, samples: _Samples, *labels: str) -> Metric:
    """Its name is without the _total that is added to it."""
    return _filled(CounterMetricFamily(name, help_, labels=labels), samples)


def _filled(family: Any, samples: _Samples) -> Any:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, value)
    return family
