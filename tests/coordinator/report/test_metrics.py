"""Prometheus' metrics: its own conventions, base units, and no sample of what was not measured."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.clients.telemetry import DeviceSample
from coordinator.experiment_runner import View
from coordinator.report.metrics import exposition
from coordinator.service.server import CoordinatorStatus

STATUS = {
    "view": View(folders=()),
    "experiment_id": "e1",
    "stage": "training",
    "round": 3,
    "rounds": 20,
    "connected": 2,
}


def latest(**changes):
    usual = {"received_s": 100.0, "valid_s": 10.0, "phase": "train", "total_w": 7.5, "gpu_load": 99.0, "gpu_mhz": 306.0}
    return DeviceSample(**{**usual, "throttled": False, "temps_c": {"cpu": 51.5}, **changes})


def device(name="ada", **changes):
    usual = {
        "name": name, "power_source": "sysfs", "scope": "module", "updates": 4, "facts": {"board": "Orin \"Nano\"\n"},
        "seconds": {"train": 8.0, "idle": 1.5}, "joules": {"train": 64.0, "idle": None},
    }  # fmt: skip
    return {**usual, **changes}


def run(*devices, **changes):
    points = [{"value": 0.5, "elapsed_s": 2.0}, {"value": 0.75, "elapsed_s": 4.5}]
    usual = {
        "run_id": "e1-lora", "method": "lora", "state": "running", "metric": "accuracy", "target": 0.9,
        "reached": False, "curve": points, "bytes_down": 1000, "bytes_up": 20,
        "setbacks": [{"kind": "late"}, {"kind": "late"}, {"kind": "failed"}], "devices": list(devices),
    }  # fmt: skip
    return {**usual, **changes}


def text(*runs, now_s=101.0, **samples):
    return exposition(CoordinatorStatus(**STATUS, latest=samples), {"runs": list(runs)}, now_s).decode()


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


FULL = text(run(device(), device("bob", power_source="replay of x.log")), ada=latest(), bob=latest(total_w=None))


def test_every_sample_by_name_and_labels():
    found = {key: value for key, value in samples(FULL).items() if not key[0].endswith("_info")}
    ada, bob = ("device", "ada"), ("device", "bob")
    module, sysfs, replay = ("scope", "module"), ("source", "sysfs"), ("source", "replay of x.log")
    train, idle = ("phase", "train"), ("phase", "idle")
    assert found == {
        ("federa_devices_connected",): 2, ("federa_round",): 3, ("federa_rounds_planned",): 20,
        ("federa_accuracy", ("metric", "accuracy")): 0.75, ("federa_target", ("metric", "accuracy")): 0.9,
        ("federa_target_reached",): 0, ("federa_rounds_duration_seconds",): 4.5,
        ("federa_bytes_total", ("direction", "down")): 1000, ("federa_bytes_total", ("direction", "up")): 20,
        ("federa_setbacks_total", ("kind", "late")): 2, ("federa_setbacks_total", ("kind", "failed")): 1,
        ("federa_updates_accepted_total", ada): 4, ("federa_updates_accepted_total", bob): 4,
        ("federa_device_phase_seconds_total", ada, train): 8, ("federa_device_phase_seconds_total", ada, idle): 1.5,
        ("federa_device_phase_seconds_total", bob, train): 8, ("federa_device_phase_seconds_total", bob, idle): 1.5,
        ("federa_device_energy_joules_total", ada, train, module, sysfs): 64,
        ("federa_device_energy_joules_total", bob, train, module, replay): 64,
        ("federa_device_power_watts", ada, module, sysfs): 7.5,
        ("federa_device_temperature_celsius", ada, ("sensor", "cpu")): 51.5,
        ("federa_device_temperature_celsius", bob, ("sensor", "cpu")): 51.5,
        ("federa_device_gpu_load_ratio", ada): 0.99, ("federa_device_gpu_load_ratio", bob): 0.99,
        ("federa_device_gpu_frequency_hertz", ada): 306e6, ("federa_device_gpu_frequency_hertz", bob): 306e6,
        ("federa_device_throttled", ada): 0, ("federa_device_throttled", bob): 0,
    }  # fmt: skip
    (info,) = [dict(key[1:]) for key in samples(FULL) if key[0] == "federa_device_info" and ada in key]
    assert (info["board"], info["source"], info["scope"], info["l4t"]) == ('Orin "Nano"\n', "sysfs", "module", "")


def test_what_was_not_measured_has_no_sample():
    bare = device(power_source=None, scope=None, joules={"train": None, "idle": None}, facts={})
    nothing = latest(total_w=None, gpu_load=None, gpu_mhz=None, throttled=None, temps_c={})
    names = {key[0] for key in samples(text(run(bare, curve=[]), ada=nothing))}
    assert not {name for name in names if "joules" in name or "watts" in name or "celsius" in name or "gpu" in name}
    assert "federa_device_throttled" not in names and "federa_accuracy" not in names


def test_the_metric_has_the_name_that_it_has_in_the_experiment():
    found = samples(text(run(device(), metric="Mean squared-error", target=0.2)))
    label = ("metric", "Mean squared-error")
    assert (found["federa_mean_squared_error", label], found["federa_target", label]) == (0.75, 0.2)


def test_every_metric_of_the_task_is_there_by_its_name():
    point = {
        "round": 3,
        "elapsed_s": 1.0,
        "value": 0.5,
        "metrics": {"entity_f1": 0.5, "recall": 0.25, "precision": None},
    }
    found = samples(text(run(device(), metric="entity_f1", curve=[point])))
    assert found["federa_entity_f1", ("metric", "entity_f1")] == 0.5
    assert found["federa_recall", ("metric", "recall")] == 0.25
    assert not any(key[0] == "federa_precision" for key in found)


def test_a_reading_of_the_past_is_not_the_present():
    def now(now_s):
        return {key[0] for key in samples(text(run(device()), now_s=now_s, ada=latest()))}

    assert "federa_device_power_watts" in now(109.0)
    assert not {"federa_device_power_watts", "federa_device_temperature_celsius"} & now(111.0)


def test_before_any_run_there_is_still_an_answer():
    assert samples(text())["federa_devices_connected",] == 2


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "content", [FULL, text(), text(run(device(joules={}, facts={})))], ids=["full", "none", "bare"]
)
def test_promtool_finds_nothing_to_complain_about(content):
    done = subprocess.run(["promtool", "check", "metrics"], input=content, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
