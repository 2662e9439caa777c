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
            "power_detail": None,
            "interval_assumed": False,
            "above_idle_j": None,
            "setup": {"seconds": 12.5, "joules": None},
            "rounds": [],
            "sensors": {},
            "trace": None,
            "facts": {},
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
        "energy_scope": None,
        "energy_note": None,
        "energy_is_replay": False,
        "downtime_s": 0.0,
        "restarts": 0,
        "wire": "fp32",
        "setbacks": [],
        "data": {
            "documents": 40,
            "parts": {"training": 28, "validation": 6, "test": 6},
            "classes": [
                {"name": "no", "documents": 30, "training": 21, "validation": 4, "test": 5},
                {"name": "yes", "documents": 10, "training": 7, "validation": 2, "test": 1},
            ],
        },
        "config": {"name": "synthetic", "seed": seed, "methods": [method], "data": {"alpha": 0.5, "labels": None}},
    }


def error_run(method: str = "federa", *, rounds: int = 8) -> dict[str, Any]:
    """A run of a metric that is better when lower and may be above 1: from 2 down to 0.25, with a target of 0.5."""
    run = make_run(method, rounds=rounds) | {"metric": "mean_squared_error", "better": "lower", "target": 0.5}
    for point in run["curve"]:
        point["value"] = 2.0 - 0.25 * min(point["round"], 7)
    return run | {"best": run["curve"][-1]["value"], "test": 0.375 if rounds >= 6 else None}


def make_result(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "environment": {"python": "0.0", "gpu": None}, "runs": list(runs)}


FINISHED = make_result(make_run("ft"), make_run("lora"), make_run("federa"))
LOOKED_FOR = "auto: sysfs: no INA3221 under /sys/bus/i2c; tegrastats: not found; rapl: no permission"
REPLAYED = "replay of orin_nano.txt"


def make_trace(
    total_s: float, rounds: int, power: float, gap: tuple[float, float], begins_s: float = 12.5
) -> dict[str, Any]:
    """Power by phase over `rounds` rounds and the time before them, in 240 bins, with a gap (shares of the time)."""
    factors = {"idle": 0.45, "download": 0.6, "load": 0.75, "train": 1.0, "upload": 0.62, "evaluate": 0.48}
    phases: list[list[Any]] = [[0.0, 4.0, 0, "idle"], [4.0, begins_s, 0, "load"]]
    each = (total_s - begins_s) / rounds
    for index in range(rounds):
        at = begins_s + index * each
        for phase, share in PHASES.items():
            phases.append([round(at, 6), round(at + share * each, 6), index + 1, phase])
            at += share * each
    bin_s = total_s / 240
    watts: list[float | None] = []
    for place in range(240):
        middle = (place + 0.5) * bin_s
        phase = next((span[3] for span in phases if span[0] <= middle < span[1]), "idle")
        wave = 0.04 * ((place * 7) % 5 - 2)
        lost = gap[0] <= place / 240 < gap[1]
        watts.append(None if lost else round(power * (factors[phase] + wave), 3))
    return {"bin_s": bin_s, "from_s": 0.0, "power_w": watts, "phases": phases}


def measured(
    run: dict[str, Any], place: int, *, source: str = "sysfs", scope: str = "module", power: float = 7.0,
    gap: tuple[float, float] = (0.0, 0.0),
) -> None:  # fmt: skip
    """Make one device of a run one that was measured."""
    device = run["devices"][place]
    shares = {"idle": 0.45, "download": 0.6, "load": 0.75, "train": 1.0, "upload": 0.62, "evaluate": 0.48}
    covered = 1 - (gap[1] - gap[0])
    joules = {phase: round(power * shares[phase] * s * covered, 3) for phase, s in device["seconds"].items()}
    total, seconds, rounds = sum(joules.values()), sum(device["seconds"].values()), run["rounds"]
    steps = {"p50": 98.75, "p95": 120.5, "p99": 151.25}
    entries = [
        {
            "round": index + 1,
            "seconds": seconds / rounds,
            "joules": total / rounds,
            "coverage": covered,
            "step_ms": steps,
        }
        for index in range(rounds)
    ]
    device |= {
        "board": "NVIDIA Jetson Orin Nano Developer Kit" if scope == "module" else "NVIDIA Jetson AGX Thor",
        "power_source": source,
        "scope": scope,
        "idle_w": round(0.45 * power, 3),
        "peak_w": round(1.12 * power, 3),
        "energy_j": total,
        "coverage": covered,
        "largest_gap_s": max(0.125, (gap[1] - gap[0]) * seconds),
        "joules": joules,
        "power_detail": f"{source}: VDD_IN every 100 ms",
        "above_idle_j": total - 0.45 * power * seconds * covered,
        "setup": {"seconds": 12.5, "joules": 40.25},
        "rounds": entries,
        "sensors": {
            "gpu_load": {"mean": 61.5, "max": 99.0},
            "gpu_mhz": {"mean": 548.25, "max": 624.75},
            "throttled": {"mean": 0.0 if place else 0.0625},
            "temps_c": {
                name: {"mean": 48.5 + i, "max": 56.25 + i} for i, name in enumerate(("cpu", "gpu", "soc0", "tj"))
            },
        },
        "trace": make_trace(seconds + 12.5, rounds, power, gap),
        "facts": {
            "board": "NVIDIA Jetson Orin Nano Developer Kit",
            "l4t": "R36.4.3",
            "power_mode": "MAXN_SUPER",
            "cores": "6 of 6 online",
            "cpu_max_mhz": "1728",
            "gpu_max_mhz": "1020",
            "memory": "7620 MiB",
            "host": f"{place}bc4e2a1f09d",
            "torch": "2.9.1",
        },
    }


def with_energy(
    method: str,
    *,
    source: str = "sysfs",
    scope: str = "module",
    power: float = 7.0,
    gap: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """A run of which both devices were measured, with a sum of joules."""
    run = make_run(method)
    for place in range(2):
        measured(run, place, source=source, scope=scope, power=power + place, gap=gap if place else (0.0, 0.0))
    run |= {"energy_scope": scope, "energy_is_replay": source.startswith("replay of ")}
    pace = run["curve"][1]["elapsed_s"] - run["curve"][0]["elapsed_s"]
    for point in run["curve"]:
        point["energy_j"] = round(1.5 * power * pace * point["round"], 3)
    run["joules_to_target"] = next(p["energy_j"] for p in run["curve"] if p["value"] >= run["target"])
    return run


def rich_result() -> dict[str, Any]:
    """Every kind of energy: the whole measured, with a gap, a replay, another scope, mixed scopes, nothing at all."""
    mixed, silent = make_run("adapter"), make_run("bitfit")
    measured(mixed, 0)
    measured(mixed, 1, scope="board", power=19.0)
    mixed["energy_note"] = "device-a measures the module, device-b the board"
    for device in silent["devices"]:
        device["power_detail"] = LOOKED_FOR
    silent["energy_note"] = "device-a and device-b were not measured"
    return make_result(
        with_energy("ft"),
        with_energy("lora", gap=(0.4, 0.5)),
        with_energy("federa", power=6.0),
        mixed,
        silent,
    )


def replayed_result() -> dict[str, Any]:
    """LoRA was measured, FeDeRA's joules are a replay."""
    return make_result(with_energy("lora"), with_energy("federa", source=REPLAYED))


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
            "energy_scope": HOSTILE,
            "energy_note": HOSTILE,
            "energy_is_replay": True,
            "restarts": HOSTILE,
            "downtime_s": HOSTILE,
            "model_notes": [HOSTILE],
            "shard_sizes": [1, 2],
            "data": {
                "clients": {"classes": [HOSTILE, "b"], "counts": [[1, 0], [1, 1]], "by": HOSTILE},
                "documents": HOSTILE,
                "parts": {HOSTILE: HOSTILE},
                "classes": [{"name": HOSTILE, "documents": HOSTILE, HOSTILE: 1}],
            },
            "setbacks": [{"round": 1, "client": 0, "device": HOSTILE, "kind": HOSTILE, "reason": HOSTILE, HOSTILE: 1}],
        }
        for point in run["curve"]:
            point["energy_j"] = 1.0
        for device in run["devices"]:
            device |= {"name": HOSTILE, "board": HOSTILE, "power_source": f"replay of {HOSTILE}", "scope": HOSTILE}
            device["seconds"][HOSTILE] = 1.0
            device["joules"] = {HOSTILE: 1.0}
            device["power_detail"] = HOSTILE
            device["facts"] = {HOSTILE: HOSTILE}
            device["sensors"] = {"temps_c": {HOSTILE: {"mean": 1.0, "max": 2.0}}}
            device["rounds"] = [{"round": HOSTILE, "step_ms": {}}]
            spans = [[0.0, 1.0, 0, HOSTILE], [1.0, 2.0, HOSTILE, "train"]]
            device["trace"] = {"bin_s": 1.0, "from_s": 0.0, "power_w": [1.0, None], "phases": spans}
    return result


def of_task(
    run: dict[str, Any], task: str, metric: str, name: str, others: dict[str, float], target: float = 0.6
) -> dict[str, Any]:
    """The run as one of another task, whose other metrics are these at every round and on the test part."""
    digest = f"digest of {name}"
    run = run | {"metric": metric, "target": target, "better": "higher", "data_digest": digest}
    run["config"] = run["config"] | {"task": task, "name": name, "data": {"source": f"{name}.conll"}}
    run["curve"] = [
        point | {"value": point["value"] * 0.8, "metrics": {metric: point["value"] * 0.8, **others}}
        for point in run["curve"]
    ]
    run |= {"best": max(point["value"] for point in run["curve"]), "test": 0.55}
    return run | {"test_metrics": {metric: 0.55, **others}, "best_metrics": run["curve"][-1]["metrics"]}


def several_tasks_result() -> dict[str, Any]:
    """Two methods on three tasks: accuracy of texts, entity F1, and an error that is better when lower."""
    entities = ("token-classification", "entity_f1", "wnut2017", {"entity_precision": 0.5, "entity_recall": 0.625})
    runs = [make_run("lora"), make_run("federa")]
    runs += [of_task(make_run(method), *entities) for method in ("lora", "federa")]
    return make_result(*runs, error_run("lora"), error_run())


def five_methods_result() -> dict[str, Any]:
    """All five methods on one data set: the adapter is the fastest beside FeDeRA."""
    runs = [with_energy(method) for method in ("ft", "bitfit", "adapter", "lora", "federa")]
    for run, seconds in zip(runs, (600.125, 240.5, 130.5, 150.125, 120.125), strict=True):
        run["time_to_target_s"] = seconds
    return make_result(*runs)


def with_clients(run: dict[str, Any], clients: int, classes: int) -> dict[str, Any]:
    """The run with so many clients, each with more of some classes than of others, of which one has a long name."""
    counts = [[(client * 7 + number * 3) % 11 for number in range(classes)] for client in range(clients)]
    names = ["a class with a name that is longer than any phone is wide", *(f"class {n}" for n in range(1, classes))]
    data = {**run["data"], "clients": {"classes": names, "counts": counts, "by": "classes"}}
    return run | {"data": data, "shard_sizes": [sum(row) for row in counts]}
