"""result.json: the fixed schema, key by key, from a ledger that was filled by hand."""

from __future__ import annotations

import json

import pytest
from result_schema import ADDED_RUN_KEYS, DEVICE_KEYS, POINT_KEYS, RUN_KEYS

from coordinator.ledger import Ledger
from coordinator.result import SCHEMA, environment, run_result, write_results
from federa.config import Experiment, MethodChoice, Target
from federa.methods import method_class
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
    ledger.folded(round_, seconds, "state")
    if value is not None:
        ledger.evaluated(round_, value)


def finished(ledger):
    ledger.note(
        state="finished", test=0.625, trainable_parameters=7, state_bytes=100, setup_s=3.0, start_s=1.0,
        evaluation_s=2.0, control_bytes=55, shard_sizes=[4], downtime_s=7.5, restarts=2,
    )  # fmt: skip
    ledger.hosted({"ada": "secret", "bob": "secret"}, {0: "ada"})
    ledger.prepared("ada", {"device": "CPU", "board": "Orin"}, {0: 4})
    ledger.prepared("bob", {"device": "CPU"}, {})
    ledger.setback("refused", round_=2, attempt=1, client=0, device="ada", reason="not finite")
    ledger.phase(round_=1, device="ada", client=0, phase="train", seconds=1.5)
    ledger.phase(round_=2, device="ada", client=0, phase="train", seconds=0.5)
    for round_, value in enumerate((0.5, 0.75, 0.875, 0.625), start=1):
        play_round(ledger, round_, value)
    return run_result(ledger)


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
        }
        for round_, value in enumerate((0.5, 0.75, 0.875, 0.625), start=1)
    ]
    assert all(point.keys() == POINT_KEYS for point in curve)
    assert [device["name"] for device in devices] == ["ada", "bob"]
    assert all(device.keys() >= DEVICE_KEYS for device in devices)
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
    play_round(ledger, 2, None)  # folded, and stopped before it was evaluated
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
