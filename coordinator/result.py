"""result.json: the ledger's content in the schema that people and scripts read."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.ledger import Ledger, reading
from coordinator.run_folder import RESULT, write_json
from federa.versions import versions

SCHEMA = 1


def environment() -> dict[str, Any]:
    """The coordinator's machine, as it stands in result.json."""
    return {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count(), **versions()}


def write_results(folder: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Write result.json of these runs into a folder, and return it."""
    described = [run.pop("environment", None) for run in runs]
    result = {"schema": SCHEMA, "environment": next(filter(None, described), environment()), "runs": runs}
    write_json(folder / RESULT, result)
    return result


def run_result(ledger: Ledger) -> dict[str, Any]:
    """A run's entry. What was not reached or not measured is null."""
    with reading(ledger.path):
        return _run_result(ledger)


def _run_result(ledger: Ledger) -> dict[str, Any]:
    facts = ledger.facts()
    config = facts["config"]
    (method,) = config["methods"]
    target = config["target"]["value"]
    curve = _curve(ledger)
    best = max((point["value"] for point in curve), default=None)
    hit = next((point for point in curve if point["value"] >= target), None)
    down, up = ledger.bytes_down, ledger.bytes_up
    return {
        "method": method["name"],
        "seed": config["seed"],
        "learning_rate": _rate(method),
        "bandwidth": config["bandwidth_mbps"],
        "metric": config["target"]["metric"],
        "target": target,
        "reached": hit is not None,
        "time_to_target_s": hit and hit["elapsed_s"],
        "rounds": len(curve),
        "rounds_to_target": hit and hit["round"],
        "bytes_to_target": hit and hit["bytes_down"] + hit["bytes_up"],
        "joules_to_target": None,
        "best": best,
        "test": facts.get("test"),
        "trainable_parameters": facts.get("trainable_parameters"),
        "state_bytes": facts.get("state_bytes"),
        "bytes_down": down,
        "bytes_up": up,
        "curve": curve,
        "devices": _devices(ledger),
        "config": config,
        # Beyond the fixed schema.
        "run_id": facts["run_id"],
        "state": facts["state"],
        "failure": facts.get("failure"),
        "setup_s": facts.get("setup_s"),
        "start_s": facts.get("start_s"),
        "evaluation_s": facts.get("evaluation_s"),
        "downtime_s": facts.get("downtime_s"),
        "restarts": facts.get("restarts"),
        "wire": config["wire"],
        "setbacks": ledger.setbacks(),
        "control_bytes": facts.get("control_bytes"),
        "shard_sizes": facts.get("shard_sizes"),
        "environment": facts["environment"],
    }


def _rate(method: dict[str, Any]) -> float:
    from federa.config import MethodChoice

    return MethodChoice.model_validate(method).rate


def _curve(ledger: Ledger) -> list[dict[str, Any]]:
    points = []
    elapsed_s, down, up = 0.0, 0, 0
    for row in ledger.rounds():
        elapsed_s += row["seconds"]
        down += row["bytes_down"]
        up += row["bytes_up"]
        if row["value"] is not None:
            points.append(
                {
                    "round": row["round"],
                    "elapsed_s": elapsed_s,
                    "value": row["value"],
                    "bytes_down": down,
                    "bytes_up": up,
                    "energy_j": None,
                }
            )
    return points


def _devices(ledger: Ledger) -> list[dict[str, Any]]:
    seconds = ledger.phase_seconds()
    step_ms = ledger.step_ms()
    devices = []
    for name, facts in ledger.devices().items():
        steps = step_ms.get(name)
        quantiles = {f"p{q}": float(np.percentile(steps, q)) if steps else None for q in (50, 95, 99)}
        devices.append(
            {
                "name": name,
                "board": facts.get("board"),
                "power_source": None,
                "scope": None,
                "idle_w": None,
                "peak_w": None,
                "energy_j": None,
                "coverage": None,
                "largest_gap_s": None,
                "seconds": seconds.get(name, {}),
                "joules": dict.fromkeys(seconds.get(name, {})),
                "step_ms": quantiles,
                "facts": facts,
            }
        )
    return devices
