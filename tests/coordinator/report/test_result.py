"""result.json: the fixed schema, key by key, from a ledger that was filled by hand."""

from __future__ import annotations

import json

import pytest
from result_schema import ADDED_DEVICE_KEYS, ADDED_RUN_KEYS, DEVICE_KEYS, POINT_KEYS, RUN_KEYS

from coordinator.report.result import SCHEMA, environment, run_result, write_results
from coordinator.report.run_metrics import metric_value
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import Readings
from federa.config import Experiment, MethodChoice, Target
from federa.energy import Energy
from federa.methods import method_class
from federa.phases import Activity
from federa.tasks import task_class
from federa.tasks.metric import Metric
from federa.versions import versions

CONFIG = Experiment(
    seed=5,
    bandwidth_mbps=10.0,
    methods=(MethodChoice(name="lora", learning_rate=0.25),),
    target=Target(value=0.75),
)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.note(run_id="e1-lora", config=CONFIG.model_dump(mode="json"), environment={"cpus": 2}, state="running")
    yield ledger
    ledger.close()


def play_round(ledger, round_, value, *, seconds=2.0):
    """A round of one client on ada: 10 bytes down and 20 up."""
    ledger.selected(round_, 1, [0], "broadcast")
    ledger.downloaded(round_=round_, device="ada", wire_bytes=10, state_bytes=9)
    ledger.accepted(
        round_=round_, client=0, device="ada", examples=1, loss=0.1, sha256="s",
        step_ms=[10.0 * round_, 10.0 * round_ + 1], distance=1.0, after_s=seconds, wire_bytes=20, state_bytes=19,
    )  # fmt: skip
    ledger.aggregated(round_, seconds, "state")
    if value is not None:
        ledger.evaluated(round_, value, 8)


def report(ledger, round_, seconds, joules=None, *, device="ada", phase="train", covered_s=None, **measured):
    """A piece of a device's time line."""
    covered_s = (seconds if joules is not None else 0.0) if covered_s is None else covered_s
    energy = Energy(seconds=seconds, joules=joules, covered_s=covered_s, **measured)
    ledger.measured(device, "e", 1, {Activity(round=round_, client=0, phase=phase): energy}, {})


def measures(
    ledger, device, *, source="sysfs", scope="module", detail="INA3221", idle_w=None, power_facts=None, **facts
):
    """A device with a power source, or with None for it without one."""
    ledger.hosted({device: "k"}, {})
    ledger.prepared(device, facts, {})
    scopes = [scope] if scope else []
    replayed = str(source).startswith("replay of")
    power = {"source": source, "scope": scope, "detail": detail, "interval_s": 0.1, "idle_w": idle_w}
    measured = bool(scope) and not replayed
    ledger.powered(
        device, {**power, "scopes": scopes, "replayed": replayed, "measured": measured} | (power_facts or {})
    )
    ledger.flush()


def energy_of(ledger):
    ledger.flush()
    result = run_result(ledger)
    return [point["energy_j"] for point in result["curve"]], result


def finished(ledger):
    ledger.note(
        state="finished", test=0.625, trainable_parameters=7, state_bytes=100, setup_s=3.0, start_s=1.0,
        evaluation_s=2.0, control_bytes=55, shard_sizes=[4], downtime_s=7.5, restarts=2,
    )  # fmt: skip
    ledger.hosted({"ada": "secret", "bob": "secret"}, {0: "ada"})
    ledger.prepared("ada", {"device": "CPU", "board": "Orin"}, {0: 4})
    ledger.prepared("bob", {"device": "CPU"}, {})
    ledger.record_failure("refused", round_=2, attempt=1, client=0, device="ada", reason="not finite")
    report(ledger, 1, 1.5)
    report(ledger, 2, 0.5)
    for round_, value in enumerate((0.5, 0.75, 0.875, 0.625), start=1):
        play_round(ledger, round_, value)
    return run_result(ledger)


def test_all_metrics_of_the_task_are_made_of_the_counters(ledger, monkeypatch):
    counters = {
        "correct": 6.0,
        "examples": 8.0,
        "gold/0": 8.0,
        "predicted/0": 6.0,
        "predicted/1": 2.0,
        "correct/0": 6.0,
    }
    task = task_class(CONFIG.task)
    wrong = Metric(name="wrong", better="lower", of=lambda found: found["examples"] - found["correct"], target=1)
    monkeypatch.setattr(task, "metrics", (*task.metrics, wrong))
    play_round(ledger, 1, None)
    play_round(ledger, 2, None)
    ledger.evaluated(1, 0.75, 8, counters)
    ledger.evaluated(2, 0.5, 8)
    assert run_result(ledger)["test_metrics"] is None
    ledger.note(test=0.75, test_counters=counters)
    run = run_result(ledger)
    assert (
        run["curve"][0]["metrics"]
        == run["test_metrics"]
        == {
            "accuracy": 0.75,
            "macro_f1": pytest.approx((6 / 7 + 0) / 2),
            "wrong": 2.0,
        }
    )
    assert run["curve"][1]["metrics"] is None, "nobody said"


def test_a_finished_run_key_by_key(ledger):
    result = finished(ledger)
    assert result.keys() >= RUN_KEYS | ADDED_RUN_KEYS
    devices, curve = result["devices"], result["curve"]
    assert {key: result[key] for key in RUN_KEYS - {"devices", "curve"}} == {
        "method": "lora",
        "seed": 5,
        "learning_rate": 0.25,
        "bandwidth": 10.0,
        "metric": "accuracy",
        "target": 0.75,
        "reached": True,
        "time_to_target_s": 4.0,
        "rounds": 4,
        "rounds_to_target": 2,
        "bytes_to_target": 60,
        "joules_to_target": None,
        "best": 0.875,
        "test": 0.625,
        "trainable_parameters": 7,
        "state_bytes": 100,
        "bytes_down": 40,
        "bytes_up": 80,
        "config": CONFIG.model_dump(mode="json"),
    }
    # Cumulative, and null where nothing measures.
    assert curve == [
        {
            "round": round_,
            "elapsed_s": 2.0 * round_,
            "value": value,
            "bytes_down": 10 * round_,
            "bytes_up": 20 * round_,
            "energy_j": None,
            "examples": 8,
            "metrics": None,
        }
        for round_, value in enumerate((0.5, 0.75, 0.875, 0.625), start=1)
    ]
    assert all(point.keys() == POINT_KEYS for point in curve)
    assert [device["name"] for device in devices] == ["ada", "bob"]
    assert all(device.keys() == DEVICE_KEYS | ADDED_DEVICE_KEYS for device in devices)
    ada, bob = devices
    assert (ada["board"], bob["board"]) == ("Orin", None)
    assert (ada["seconds"], bob["seconds"]) == ({"train": 2.0}, {})
    # The eight steps took 10, 11, 20, 21, 30, 31, 40 and 41 ms.
    assert ada["step_ms"] == {"p50": pytest.approx(25.5), "p95": pytest.approx(40.65), "p99": pytest.approx(40.93)}
    assert bob["step_ms"] == {"p50": None, "p95": None, "p99": None}
    json.dumps(result, allow_nan=False)


def test_what_interrupted_a_run_stands_beside_its_figures(ledger):
    result = finished(ledger)
    assert (result["downtime_s"], result["restarts"], result["wire"]) == (7.5, 2, "fp32")
    assert result["time_to_target_s"] == 4.0, "downtime is no part of it"
    assert result["setbacks"] == [
        {"round": 2, "attempt": 1, "client": 0, "device": "ada", "kind": "refused", "reason": "not finite"}
    ]
    assert (result["setup_s"], result["start_s"], result["evaluation_s"]) == (3.0, 1.0, 2.0)
    assert (result["control_bytes"], result["shard_sizes"], result["state"]) == (55, [4], "finished")
    ledger.note(config=CONFIG.model_copy(update={"wire": "int8"}).model_dump(mode="json"))
    assert run_result(ledger)["wire"] == "int8"


def test_no_workers_key_leaves_the_ledger(ledger):
    assert "secret" not in json.dumps(finished(ledger))


def test_what_no_meter_measured_is_null(ledger):
    ada = finished(ledger)["devices"][0]
    unmeasured = ("power_source", "scope", "idle_w", "peak_w", "energy_j", "coverage", "largest_gap_s")
    assert {key: ada[key] for key in unmeasured} == dict.fromkeys(unmeasured)
    assert ada["joules"] == {"train": None}
    assert (ada["power_detail"], ada["above_idle_j"], ada["trace"]) == (None, None, None)
    assert ada["sensors"] == {"gpu_load": None, "gpu_mhz": None, "throttled": None, "temps_c": {}}
    assert [entry["coverage"] for entry in ada["rounds"]] == [None] * 4


# ---- energy


def test_a_devices_energy_is_that_of_the_rounds_with_what_was_before_them_apart(ledger):
    measures(ledger, "ada", idle_w=4.0, detail="3 rails", board="Orin")
    report(ledger, 0, 10.0, 45.0, phase="load", peak_w=99.0, largest_gap_s=9.0)
    report(ledger, 1, 2.0, 20.0, peak_w=12.5)
    report(ledger, 1, 1.0, 5.0, phase="upload", covered_s=0.5, largest_gap_s=0.5, peak_w=11.0)
    report(ledger, 2, 2.0, 22.0)
    report(ledger, 2, 1.0, 4.0, phase="evaluate")
    play_round(ledger, 1, 0.5)
    play_round(ledger, 2, 0.875)
    curve, result = energy_of(ledger)
    (ada,) = result["devices"]
    assert {key: ada[key] for key in ada.keys() - {"facts", "step_ms", "rounds", "sensors", "trace", "name"}} == {
        "board": "Orin",
        "power_source": "sysfs",
        "power_detail": "3 rails",
        "interval_assumed": False,
        "scope": "module",
        "idle_w": 4.0,
        "peak_w": 12.5,
        "energy_j": 51.0,
        "above_idle_j": 51.0 - 4.0 * 5.5,
        "coverage": 5.5 / 6.0,
        "largest_gap_s": 0.5,
        "seconds": {"train": 4.0, "upload": 1.0, "evaluate": 1.0},
        "joules": {"train": 42.0, "upload": 5.0, "evaluate": 4.0},
        "setup": {"seconds": 10.0, "joules": 45.0},
        "updates": 2,
        "micro_batch": None,
    }
    assert [{key: entry[key] for key in ("round", "seconds", "joules")} for entry in ada["rounds"]] == [
        {"round": 1, "seconds": 3.0, "joules": 25.0},
        {"round": 2, "seconds": 3.0, "joules": 26.0},
    ]
    assert [entry["coverage"] for entry in ada["rounds"]] == [2.5 / 3.0, 1.0]
    assert ada["rounds"][0]["step_ms"]["p50"] == pytest.approx(10.5)
    # Phases add up to their rounds, rounds to the device, and without the evaluation to the run.
    assert sum(ada["joules"].values()) == sum(entry["joules"] for entry in ada["rounds"]) == ada["energy_j"]
    assert (curve, result["joules_to_target"]) == ([25.0, 47.0], 47.0)
    assert (result["energy_scope"], result["energy_note"], result["energy_is_replay"]) == ("module", None, False)
    assert result["energy_coverage"] == 4.5 / 5.0


def test_the_runs_joules_are_those_of_all_devices_so_far(ledger):
    for device in ("ada", "bob"):
        measures(ledger, device, host=device)
    for round_, ada, bob in ((1, 1.0, 10.0), (2, 2.0, 20.0)):
        report(ledger, round_, 1.0, ada)
        report(ledger, round_, 1.0, bob, device="bob")
        play_round(ledger, round_, 0.5 + 0.25 * (round_ - 1))
    assert energy_of(ledger)[0] == [11.0, 33.0]


NAMES = {"ada": "a", "bob": "b"}


@pytest.mark.parametrize(
    ("powers", "note"),
    [
        ([{}, {"source": None, "scope": None, "detail": "no INA3221"}], "power was not measured on bob: no INA3221"),
        ([{"source": None, "scope": None}] * 2, "power was not measured on ada and bob: INA3221"),
        (
            [{}, {"scope": "gpu"}],
            "what was measured is not the same everywhere, so there is no sum: gpu on bob; module on ada",
        ),
        (
            [{}, {"source": "replay of orin.log"}],
            "joules of bob are a replay and others were measured, so there is no sum",
        ),
        (
            [{"host": "h"}, {"host": "h"}],
            "ada and bob run on one machine and each measured all of it, so there is no sum",
        ),
    ],
)
def test_where_there_is_no_sum_the_result_says_why(ledger, powers, note):
    for device, power in zip(NAMES, powers, strict=True):
        measures(ledger, device, **power)
        report(ledger, 1, 1.0, 5.0 if power.get("source", "sysfs") else None, device=device)
    play_round(ledger, 1, 0.75)
    curve, result = energy_of(ledger)
    assert (curve, result["joules_to_target"], result["energy_scope"]) == ([None], None, None)
    assert (result["energy_note"], result["reached"], result["energy_coverage"]) == (note, True, None)


@pytest.mark.parametrize(
    ("lives", "why"),
    [
        ({"scopes": ["board", "module"]}, "it measured board and module one after the other, which are never added"),
        ({"replayed": True}, "a part was measured and a part is a replay, which are never added"),
    ],
)
def test_a_device_whose_lives_measured_unlike_things_has_no_sum_of_its_own(ledger, lives, why):
    measures(ledger, "ada", idle_w=4.0, power_facts=lives)
    report(ledger, 1, 2.0, 20.0, peak_w=12.5)
    play_round(ledger, 1, 0.75)
    curve, result = energy_of(ledger)
    (ada,) = result["devices"]
    nothing = ("energy_j", "above_idle_j", "peak_w")
    assert (curve, result["joules_to_target"]) == ([None], None)
    assert {key: ada[key] for key in nothing} == dict.fromkeys(nothing)
    assert (ada["joules"], ada["setup"]["joules"], ada["rounds"][0]["joules"]) == ({"train": None}, None, None)
    assert (ada["seconds"], ada["power_detail"]) == ({"train": 2.0}, why)


def test_replays_on_one_machine_add_up_and_are_marked(ledger):
    for device in NAMES:
        measures(ledger, device, source="replay of orin.log", host="h")
        report(ledger, 1, 1.0, 5.0, device=device)
    play_round(ledger, 1, 0.75)
    curve, result = energy_of(ledger)
    assert (curve, result["energy_note"], result["energy_is_replay"]) == ([10.0], None, True)
    assert not any(device["interval_assumed"] for device in result["devices"])


def test_a_replay_whose_interval_is_assumed_says_so(ledger):
    measures(ledger, "ada", source="replay of orin.log", detail="orin.log: 9 lines, interval assumed (1000 ms)")
    measures(ledger, "bob", source="replay of orin.log")
    report(ledger, 1, 1.0, 5.0, device="ada")
    report(ledger, 1, 1.0, 5.0, device="bob")
    play_round(ledger, 1, 0.75)
    assert [device["interval_assumed"] for device in energy_of(ledger)[1]["devices"]] == [True, False]


def test_a_device_that_only_waited_before_the_first_round_took_no_part(ledger):
    measures(ledger, "ada")
    measures(ledger, "bob", source=None, scope=None)
    report(ledger, 1, 1.0, 5.0)
    report(ledger, 0, 9.0, device="bob", phase="idle")
    play_round(ledger, 1, 0.75)
    assert energy_of(ledger)[0] == [5.0]


def test_a_round_without_telemetry_yet_leaves_the_sum_as_it_is(ledger):
    measures(ledger, "ada")
    report(ledger, 1, 1.0, 5.0)
    play_round(ledger, 1, 0.5)
    play_round(ledger, 2, 0.5)
    assert energy_of(ledger)[0] == [5.0, 5.0]


def test_sensors_stand_with_mean_and_peak(ledger):
    measures(ledger, "ada")
    tallies = {
        "gpu_load": Readings(count=4, sum=200.0, high=99.0),
        "throttled": Readings(count=4, sum=1.0, high=1.0),
        "temp cpu": Readings(count=2, sum=90.0, high=50.0),
    }
    ledger.measured("ada", "e", 1, {}, tallies)
    assert energy_of(ledger)[1]["devices"][0]["sensors"] == {
        "gpu_load": {"mean": 50.0, "max": 99.0},
        "gpu_mhz": None,
        "throttled": {"mean": 0.25, "max": 1.0},
        "temps_c": {"cpu": {"mean": 45.0, "max": 50.0}},
    }


def test_a_run_that_missed_its_target(ledger):
    for round_, value in ((1, 0.5), (2, 0.7499)):
        play_round(ledger, round_, value)
    result = run_result(ledger)
    assert result["reached"] is False
    assert result["best"] == 0.7499
    for key in ("time_to_target_s", "rounds_to_target", "bytes_to_target", "joules_to_target"):
        assert result[key] is None


def test_a_run_that_never_got_to_a_round(ledger):
    ledger.note(state="failed", failure="no such model")
    result = run_result(ledger)
    assert result.keys() >= RUN_KEYS | ADDED_RUN_KEYS
    assert (result["downtime_s"], result["restarts"], result["setbacks"]) == (None, None, [])
    assert (result["reached"], result["rounds"], result["curve"], result["devices"]) == (False, 0, [], [])
    assert (result["bytes_down"], result["bytes_up"]) == (0, 0)
    for key in ("best", "test", "trainable_parameters", "state_bytes", "time_to_target_s", "bytes_to_target"):
        assert result[key] is None
    assert (result["state"], result["failure"]) == ("failed", "no such model")


def test_the_first_round_can_reach_the_target_in_no_time(ledger):
    # Zero seconds are a measurement, not a gap.
    play_round(ledger, 1, 0.75, seconds=0.0)
    result = run_result(ledger)
    assert (result["reached"], result["time_to_target_s"], result["rounds_to_target"]) == (True, 0.0, 1)


def test_a_round_in_the_middle_counts_in_totals_and_not_in_the_curve(ledger):
    play_round(ledger, 1, 0.5)
    play_round(ledger, 2, None)  # aggregated, and stopped before it was evaluated
    ledger.selected(3, 1, [0], "broadcast")
    ledger.downloaded(round_=3, device="ada", wire_bytes=1000, state_bytes=999)
    result = run_result(ledger)
    assert [point["round"] for point in result["curve"]] == [1]
    assert result["rounds"] == 1
    assert (result["bytes_down"], result["bytes_up"]) == (1020, 40)


def test_a_method_without_a_rate_of_its_own_states_its_default(ledger):
    config = CONFIG.model_copy(update={"methods": (MethodChoice(name="lora"),), "bandwidth_mbps": None})
    ledger.note(config=config.model_dump(mode="json"))
    result = run_result(ledger)
    assert result["learning_rate"] == method_class("lora").learning_rate
    assert result["bandwidth"] is None


def test_a_ledger_of_a_method_that_is_not_installed_here_states_the_rate_that_was_noted(ledger):
    config = CONFIG.model_dump(mode="json")
    ledger.note(config={**config, "methods": [{"name": "mine", "learning_rate": None}]}, learning_rate=0.125)
    result = run_result(ledger)
    assert (result["method"], result["learning_rate"]) == ("mine", 0.125)


def test_the_file_holds_schema_environment_and_runs(ledger, tmp_path):
    finished(ledger)
    written = write_results(tmp_path, [run_result(ledger), run_result(ledger)])
    read = json.loads((tmp_path / "result.json").read_text())
    assert read == written
    assert list(read) == ["schema", "environment", "runs"]
    assert (read["schema"], read["environment"]) == (SCHEMA, {"cpus": 2}) == (1, {"cpus": 2})
    assert [run["method"] for run in read["runs"]] == ["lora", "lora"]
    assert all("environment" not in run for run in read["runs"])


def test_a_file_without_runs_says_where_it_was_written(tmp_path):
    written = write_results(tmp_path, [])
    assert written["runs"] == []
    assert written["environment"] == environment()
    assert {"platform", "cpus", "federa", "python", "grpcio"} <= written["environment"].keys()
    assert versions().items() <= written["environment"].items()


def test_what_the_devices_counted_stands_beside_the_scores(ledger):
    config = CONFIG.model_copy(update={"evaluation": "devices"})
    ledger.note(config=config.model_dump(mode="json"), test=0.5, test_examples=6)
    for round_ in (1, 2):
        for client, (correct, examples) in enumerate(((round_, 2), (1, 4))):
            slot = {"round_": round_, "part": "validation", "client": client, "device": "ada"}
            ledger.counted(**slot, counters={"correct": correct, "examples": examples})
            ledger.counted(**slot, counters={"correct": 0, "examples": examples})  # the first ones stand
        play_round(ledger, round_, 0.5)
    # Those by class stay out: there may be thousands.
    counters = {"correct": 3, "examples": 6, "gold/0": 6}
    ledger.counted(round_=2, part="test", client=1, device="ada", counters=counters)
    ledger.flush()
    result = run_result(ledger)
    assert (result["evaluation"], result["test_examples"]) == ("devices", 6)
    assert [point["examples"] for point in result["curve"]] == [8, 8]
    metrics = {part: [row.pop("metrics")["accuracy"] for row in rows] for part, rows in result["held_out"].items()}
    assert metrics == {"validation": [1.0, 0.25], "test": [0.5]}
    assert result["held_out"] == {
        "validation": [
            {"client": 0, "device": "ada", "correct": 2, "examples": 2},
            {"client": 1, "device": "ada", "correct": 1, "examples": 4},
        ],
        "test": [{"client": 1, "device": "ada", "correct": 3, "examples": 6}],
    }


def test_of_hundreds_of_counters_the_result_holds_the_metrics_alone(ledger):
    config = CONFIG.model_copy(update={"evaluation": "devices"})
    ledger.note(config=config.model_dump(mode="json"))
    counters = {"correct": 1.0, "examples": 4.0} | {f"right of class {n}": 1.0 for n in range(100)}
    ledger.counted(round_=1, part="validation", client=0, device="ada", counters=counters)
    play_round(ledger, 1, 0.25)
    ledger.evaluated(1, 0.25, 4, counters)
    ledger.note(test=0.25, test_counters=counters)
    ledger.flush()
    result = run_result(ledger)
    (row,) = result["held_out"]["validation"]
    assert row.pop("metrics")["accuracy"] == 0.25 and row == {"client": 0, "device": "ada", "examples": 4.0}
    assert "of class" not in json.dumps(result)
    few = {"correct": 1.0, "examples": 4.0, "gold/0": 1.0, "gold/3": 3.0}
    ledger.counted(round_=1, part="test", client=0, device="ada", counters=few)
    ledger.flush()
    assert run_result(ledger)["held_out"]["test"][0].keys() == {"client", "device", "correct", "examples", "metrics"}
    assert ledger.counters(1, "validation")[0]["counters"] == counters, "the ledger keeps them"
    assert result["best_metrics"]["accuracy"] == result["curve"][0]["metrics"]["accuracy"] == 0.25


def test_a_metric_that_is_no_number_leaves_the_result_readable():

    def of(counters):
        return counters["right"] / counters["positives"]

    metric = Metric(name="precision", better="higher", of=of, target=0.5)
    assert metric_value(metric, {"examples": 2.0, "right": 0.0, "positives": 0.0}) is None
    assert metric_value(metric, {"examples": 2.0, "right": float("inf"), "positives": 1.0}) is None
    assert metric_value(metric, {"examples": 2.0, "of another version": 1.0}) is None
    assert metric_value(metric, {"examples": 2.0, "right": 1.0, "positives": 2.0}) == 0.5
