"""Made-up results for the tests of the report."""

from __future__ import annotations

import copy
from typing import Any

HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">\u2028'\"&{{css}}"
)
PHASES = {"idle": 0.30, "download": 0.08, "load": 0.04, "train": 0.46, "upload": 0.07, "evaluate": 0.05}


def make_run(
    method: str = "federa", *, seed: int = 1, bandwidth: float | None = 10.0, rounds: int = 8
) -> dict[str, Any]:
    """A run of made-up round numbers that reaches its target of 0.8 in its sixth round."""
    cost = {"ft": 4_000_000, "lora": 40_000, "federa": 40_000}.get(method, 100_000)
    pace = {"ft": 100.0, "lora": 25.0, "federa": 20.0}.get(method, 30.0)
    curve: list[dict[str, Any]] = [
        {
            "round": index,
            "elapsed_s": pace * index + 0.125,
            "value": round(0.2 + 0.1 * min(index, 7), 4),
            "bytes_down": cost * index,
            "bytes_up": cost * index,
            "energy_j": None,
        }
        for index in range(rounds + 1)
    ]
    reached = rounds >= 6
    total = curve[-1]["elapsed_s"]
    devices = [
        {
            "name": f"device-{letter}",
            "board": "synthetic board",
            "power_source": None,
            "scope": None,
            "idle_w": None,
            "peak_w": None,
            "energy_j": None,
            "coverage": None,
            "largest_gap_s": None,
            "seconds": {phase: share * total for phase, share in PHASES.items()},
            "joules": dict.fromkeys(PHASES),
            "step_ms": {"p50": 100.5, "p95": 120.25, "p99": 150.0},
        }
        for letter in "ab"
    ]
    return {
        "method": method,
        "seed": seed,
        "learning_rate": 0.001,
        "bandwidth": bandwidth,
        "metric": "accuracy",
        "target": 0.8,
        "reached": reached,
        "time_to_target_s": 6 * pace + 0.125 if reached else None,
        "rounds": rounds,
        "rounds_to_target": 6 if reached else None,
        "bytes_to_target": 12 * cost if reached else None,
        "joules_to_target": None,
        "best": curve[-1]["value"],
        "test": 0.75 if reached else None,
        "trainable_parameters": cost // 4,
        "state_bytes": cost,
        "bytes_down": cost * rounds,
        "bytes_up": cost * rounds,
        "curve": curve,
        "devices": devices,
        "downtime_s": 0.0,
        "restarts": 0,
        "wire": "fp32",
        "setbacks": [],
        "config": {"name": "synthetic", "seed": seed, "methods": [method], "data": {"alpha": 0.5, "labels": None}},
    }


def make_result(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "environment": {"python": "0.0", "gpu": None}, "runs": list(runs)}


FINISHED = make_result(make_run("ft"), make_run("lora"), make_run("federa"))


def hostile_result() -> dict[str, Any]:
    """Every text of a result, keys included, is an attempt to break out."""
    result = copy.deepcopy(FINISHED)
    result["environment"] = {HOSTILE: {HOSTILE: HOSTILE}}
    for run in result["runs"]:
        run |= {
            "method": HOSTILE,
            "metric": HOSTILE,
            "failure": HOSTILE,
            "state": "failed",
            "config": {"name": HOSTILE},
            "wire": HOSTILE,
            "restarts": HOSTILE,
            "downtime_s": HOSTILE,
            "setbacks": [{"round": 1, "client": 0, "device": HOSTILE, "kind": HOSTILE, "reason": HOSTILE, HOSTILE: 1}],
        }
        for device in run["devices"]:
            device |= {"name": HOSTILE, "board": HOSTILE, "power_source": HOSTILE, "scope": HOSTILE}
            device["seconds"][HOSTILE] = 1.0
            device["joules"] = {HOSTILE: 1.0}
    return result
