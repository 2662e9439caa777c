"""result.json: the ledger's content in the schema that people and scripts read."""

from __future__ import annotations

import os
import platform
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.report.run_data import HELD_OUT, cut_records, data_read, shard_sizes, skew_of
from coordinator.report.run_energy import RunEnergy, run_energy, total_energy, why_no_sum
from coordinator.report.run_metrics import all_metrics, held_out
from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.ledger_types import Readings, Rows, reading
from coordinator.storage.run_folder import RESULT, write_json
from coordinator.storage.samples import Samples
from federa.energy import INTERVAL_ASSUMED
from federa.result import SCHEMA
from federa.tasks.metric import best_of, is_reached
from federa.versions import versions


def environment() -> dict[str, Any]:
    """The coordinator's machine, as it stands in result.json."""
    return {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count(), **versions()}


def write_results(folder: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Write result.json of these runs into a folder, and return it."""
    result = make_result(runs)
    write_json(folder / RESULT, result)
    return result


def make_result(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of result.json, of these runs."""
    described = [run.pop("environment", None) for run in runs]
    return {"schema": SCHEMA, "environment": next(filter(None, described), environment()), "runs": runs}


def run_result(ledger: LedgerReader, samples: Samples | None = None) -> dict[str, Any]:
    """A run's entry. What was not reached or not measured is null; power over time is drawn from the samples."""
    with reading(ledger.path):
        return _run_result(ledger, samples)


def _run_result(ledger: LedgerReader, samples: Samples | None) -> dict[str, Any]:
    facts = ledger.facts()
    phases, powers, devices = ledger.phases(), ledger.powers(), ledger.devices()
    energy = run_energy(phases, powers, devices)
    config = facts["config"]
    (method,) = config["methods"]
    target = config["target"]["value"]
    curve = _curve(ledger, energy, config["task"])
    better = facts.get("better", "higher")
    best = best_of(better, (point["value"] for point in curve))
    hit = next((point for point in curve if is_reached(better, point["value"], target)), None)
    down, up = ledger.bytes_down, ledger.bytes_up
    sizes = shard_sizes(ledger, facts)
    return {
        "method": method["name"],
        "seed": config["seed"],
        "learning_rate": facts.get("learning_rate") or _rate(method, config["task"]),
        "bandwidth": config["bandwidth_mbps"],
        "metric": config["target"]["metric"],
        "target": target,
        "reached": hit is not None,
        "time_to_target_s": hit and hit["elapsed_s"],
        "rounds": len(curve),
        "rounds_to_target": hit and hit["round"],
        "bytes_to_target": hit and hit["bytes_down"] + hit["bytes_up"],
        "joules_to_target": hit and hit["energy_j"],
        "best": best,
        "test": facts.get("test"),
        "trainable_parameters": facts.get("trainable_parameters"),
        "state_bytes": facts.get("state_bytes"),
        "bytes_down": down,
        "bytes_up": up,
        "curve": curve,
        "devices": _devices(ledger, phases, _traces(samples, powers)),
        "config": config,
        # Beyond the fixed schema.
        "better": better,
        "run_id": facts["run_id"],
        "state": facts["state"],
        "failure": facts.get("failure"),
        "setup_s": facts.get("setup_s"),
        "start_s": facts.get("start_s"),
        "evaluation_s": facts.get("evaluation_s"),
        "downtime_s": facts.get("downtime_s"),
        "restarts": facts.get("restarts"),
        "wire": config["wire"],
        "setbacks": ledger.client_failures(),
        "copied_keys": facts.get("copied_keys", []),
        "control_bytes": facts.get("control_bytes"),
        "model_bytes": facts.get("model_bytes"),
        "model_notes": facts.get("model_notes"),
        "shard_sizes": sizes,
        "cut": cut_records(ledger, facts),
        "skew": skew_of(facts.get("data"), sizes),
        "data_digest": facts.get("data_digest"),
        "data": data_read(ledger, facts, curve[-1]["round"] if curve else 0),
        "energy_scope": energy.scope,
        "energy_coverage": energy.coverage,
        "energy_note": energy.note,
        "energy_is_replay": energy.is_replay,
        "evaluation": config.get("evaluation", "coordinator"),
        "test_examples": facts.get("test_examples"),
        "test_metrics": all_metrics(config["task"], facts.get("test_counters")),
        "best_metrics": next((point["metrics"] for point in curve if point["value"] == best), None),
        "held_out": {
            part: held_out(ledger, curve[-1]["round"], part, config["task"]) if curve else [] for part in HELD_OUT
        },
        "environment": facts["environment"],
    }


def _rate(method: dict[str, Any], task: str) -> float:
    """The rate of a run that did not note it yet; for the method's own its class is needed."""
    from federa.config import MethodChoice

    return MethodChoice.model_validate(method).rate(task)


def _curve(ledger: LedgerReader, energy: RunEnergy, task: str) -> list[dict[str, Any]]:
    points = []
    counters = ledger.round_counters()
    energy_j: float | None = None
    for point in ledger.curve():
        # A round from which no device has reported yet has the sum so far: its joules come with the next result.
        energy_j = energy.after.get(point["round"], energy_j)
        metrics = all_metrics(task, counters.get(point["round"]))
        points.append({**point, "energy_j": energy_j, "metrics": metrics})
    return points


def _traces(samples: Samples | None, powers: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    if samples is None:
        return {}
    return samples.traces({name: power.get("interval_s") or 0.0 for name, power in powers.items()})


def _devices(ledger: LedgerReader, phases: Rows, traces: Mapping[str, Any]) -> list[dict[str, Any]]:
    steps: dict[str, dict[int, array[float]]] = defaultdict(dict)
    for (name, round_), times in ledger.step_ms().items():
        steps[name][round_] = times
    powers, sensors, updates = ledger.powers(), ledger.sensors(), ledger.updates()
    micro_batches = ledger.micro_batches()
    rows: dict[str, Rows] = defaultdict(list)
    for row in phases:
        rows[row["device"]].append(row)
    return [
        {
            "name": name,
            "board": facts.get("board"),
            **_power(powers.get(name, {}), rows[name]),
            "step_ms": _quantiles(sum(steps[name].values(), array("f"))),
            "updates": updates.get(name, 0),
            "micro_batch": micro_batches.get(name),
            "rounds": _rounds(rows[name], steps[name], why_no_sum(powers.get(name, {})) is None),
            "sensors": _sensors(sensors.get(name, {})),
            "trace": traces.get(name),
            "facts": facts,
        }
        for name, facts in ledger.devices().items()
    ]


def _power(power: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """Where a device's time and energy went in the rounds, and, apart, before the first."""
    rounds, setup = (
        total_energy(row for row in rows if row["round"] > 0),
        total_energy(row for row in rows if row["round"] == 0),
    )
    phases = {
        phase: total_energy(row for row in rows if row["phase"] == phase and row["round"] > 0)
        for phase in sorted({row["phase"] for row in rows if row["round"] > 0})
    }
    source, idle_w, unlike = power.get("source"), power.get("idle_w"), why_no_sum(power)
    if unlike:
        rounds, setup = replace(rounds, joules=None, peak_w=None), replace(setup, joules=None)
        phases = {phase: replace(part, joules=None) for phase, part in phases.items()}
    above = None if rounds.joules is None or idle_w is None else rounds.joules - idle_w * rounds.covered_s
    return {
        "power_source": source,
        "power_detail": unlike or power.get("detail"),
        "interval_assumed": INTERVAL_ASSUMED in (power.get("detail") or ""),
        "scope": power.get("scope"),
        "idle_w": idle_w,
        "peak_w": rounds.peak_w,
        "energy_j": rounds.joules,
        "above_idle_j": above,
        # Without a source nothing was to be covered.
        "coverage": rounds.coverage if source else None,
        "largest_gap_s": rounds.largest_gap_s if source and rounds.seconds else None,
        "seconds": {phase: part.seconds for phase, part in phases.items()},
        "joules": {phase: part.joules for phase, part in phases.items()},
        "setup": {"seconds": setup.seconds, "joules": setup.joules},
    }


def _rounds(rows: Rows, steps: Mapping[int, array[float]], summed: bool) -> list[dict[str, Any]]:
    """A device's rounds in order, those without telemetry as well. Joules only where they can be `summed`."""
    of_round: dict[int, Rows] = defaultdict(list)
    for row in rows:
        of_round[row["round"]].append(row)
    rounds = []
    for round_ in sorted({*of_round, *steps} - {0}):
        whole = total_energy(of_round.get(round_, []))
        rounds.append(
            {
                "round": round_,
                "seconds": whole.seconds,
                "joules": whole.joules if summed else None,
                "coverage": whole.coverage if whole.joules is not None else None,
                "step_ms": _quantiles(steps.get(round_, array("f"))),
            }
        )
    return rounds


def _sensors(known: Mapping[str, Readings]) -> dict[str, Any]:
    def shown(name: str) -> dict[str, float] | None:
        readings = known.get(name)
        return {"mean": readings.sum / readings.count, "max": readings.high} if readings else None

    temps = (name for name in known if name.startswith("temp "))
    plain = {name: shown(name) for name in ("gpu_load", "gpu_mhz", "throttled")}
    return {**plain, "temps_c": {name[5:]: shown(name) for name in temps}}


def _quantiles(steps: array[float]) -> dict[str, float | None]:
    """p50, p95 and p99 of the step times, in milliseconds."""
    if not steps:
        return {"p50": None, "p95": None, "p99": None}
    p50, p95, p99 = (float(quantile) for quantile in np.percentile(steps, (50, 95, 99)))
    return {"p50": p50, "p95": p95, "p99": p99}
