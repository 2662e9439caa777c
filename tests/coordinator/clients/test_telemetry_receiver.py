"""What workers report of their time and energy: counted once, and nothing counted that no meter says."""

from __future__ import annotations

import asyncio
import csv
import gzip
import math
import time

import pytest
from live_coordinator import experiment, serving

from coordinator.clients import telemetry as telemetry_module
from coordinator.clients.telemetry import TelemetryReceiver
from coordinator.storage.ledger import Ledger
from coordinator.storage.samples import Samples
from protos import federation_pb2 as pb

NOW = time.time()


class Receiver:
    """One process's telemetry over a run's folder. `elapsed_s` is the run's clock."""

    def __init__(self, folder, rounds=3):
        self.folder = folder
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.ledger.hosted({"ada": "k"}, {0: "ada", 4: "ada"})
        self.samples = Samples(folder)
        self.elapsed_s = 1e6
        self.telemetry = TelemetryReceiver(self.ledger, self.samples, rounds, lambda: self.elapsed_s)

    def receive(self, sequence=1, *, epoch=7, phases=(), samples=(), rails=(), sensors=(), name="ada"):
        batch = pb.Telemetry(
            epoch=epoch, sequence=sequence, phases=phases, samples=samples, rails=rails, sensors=sensors
        )
        self.telemetry.receive(name, [0, 4], batch)

    def phases(self):
        self.ledger.flush()
        return {(row["round"], row["phase"]): (row["seconds"], row["joules"]) for row in self.ledger.phases()}

    def table(self, name="ada"):
        self.samples.write()
        path = self.folder / "samples" / f"{name}.csv.gz"
        return list(csv.reader(gzip.open(path, "rt", newline=""))) if path.exists() else []

    def restart(self):
        self.ledger.close()
        return Receiver(self.folder)


@pytest.fixture
def receiver(tmp_path):
    receiver = Receiver(tmp_path)
    yield receiver
    receiver.ledger.close()


def energy(**changes):
    usual = {"round": 1, "client": 4, "phase": "train", "seconds": 1.0, "joules": 8.0, "covered_s": 1.0}
    return pb.PhaseEnergy(**{key: value for key, value in {**usual, **changes}.items() if value is not None})


def sample(**changes):
    usual = {"at_s": NOW, "round": 1, "client": 4, "phase": "train", "total_mw": 5000.0}
    return pb.Sample(**{key: value for key, value in {**usual, **changes}.items() if value is not None})


# ---- once


def test_what_is_sent_again_counts_once_after_a_restart_as_well(receiver):
    for sequence in (1, 2, 2, 1, 3):
        receiver.receive(sequence, phases=[energy()], samples=[sample()])
    assert receiver.phases() == {(1, "train"): (3.0, 24.0)}
    assert len(receiver.table()) == 4
    receiver.receive(1, epoch=2**64 - 1, phases=[energy()])  # another life of the worker
    assert receiver.phases() == {(1, "train"): (4.0, 32.0)}
    again = receiver.restart()
    for sequence in (1, 2, 3, 4):
        again.receive(sequence, phases=[energy()])
    again.receive(1, epoch=2**64 - 1, phases=[energy()])
    assert again.phases() == {(1, "train"): (5.0, 40.0)}
    again.ledger.close()


def test_a_batch_that_was_not_written_when_the_coordinator_died_counts_when_it_comes_again(receiver):
    receiver.receive(1, phases=[energy()])
    receiver.ledger.flush()
    receiver.receive(2, phases=[energy()])
    again = Receiver(receiver.folder)  # the first one's memory is lost
    again.receive(2, phases=[energy()])
    assert again.phases() == {(1, "train"): (2.0, 16.0)}
    again.ledger.close()


# ---- nothing that no meter says

NO_NUMBERS = (-1e9, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(
    "wrong",
    [
        *({field: value} for field in ("seconds", "covered_s", "largest_gap_s") for value in (*NO_NUMBERS, -1.0)),
        *({field: value} for field in ("joules", "peak_mw") for value in NO_NUMBERS),
        {"phase": "sleep"}, {"phase": ""}, {"round": 4}, {"round": 2**32 - 1}, {"client": 3},
        {"covered_s": 1.1}, {"joules": 1e6}, {"peak_mw": 1e9}, {"largest_gap_s": 1e7}, {"seconds": 1e300},
    ],
    ids=str,
)  # fmt: skip
def test_a_slice_that_no_meter_says_is_dropped_and_the_others_count(receiver, wrong):
    receiver.receive(1, phases=[energy(), energy(**wrong)])
    receiver.receive(2, phases=[energy()])
    seconds, joules = receiver.phases()[1, "train"]
    # One that is longer than the run takes its batch along.
    assert (seconds, joules) == ((1.0, 8.0) if wrong.get("seconds") == 1e300 else (2.0, 16.0))


def test_a_sensor_at_rest_that_reads_one_step_below_zero_is_a_meter(receiver):
    receiver.receive(1, phases=[energy(), energy(joules=-0.4, peak_mw=-398.0)])
    receiver.receive(2, samples=[sample(total_mw=-398.0, rails_mw=[-398.0])], rails=["VDD_CPU_CV"])
    assert receiver.phases() == {(1, "train"): (2.0, pytest.approx(7.6))}
    assert receiver.table()[1][4:6] == ["-398", "-398"]


def test_no_joules_are_not_zero_joules(receiver):
    receiver.receive(
        1, phases=[energy(joules=None, covered_s=0.0), energy(joules=0.0, covered_s=0.0, phase="idle", round=0)]
    )
    receiver.receive(2, phases=[energy(phase="load", joules=0.0)])
    assert receiver.phases() == {(0, "idle"): (1.0, None), (1, "train"): (1.0, None), (1, "load"): (1.0, 0.0)}


@pytest.mark.parametrize(
    "wrong",
    [
        *({field: value} for field in ("at_s", "total_mw", "gpu_load", "gpu_mhz") for value in NO_NUMBERS),
        *({field: [value]} for field in ("rails_mw", "temps_c") for value in (math.inf, -math.inf, 1e12)),
        {"phase": "sleep"}, {"round": 4}, {"client": 3}, {"rails_mw": []}, {"temps_c": [1.0, 2.0]},
    ],
    ids=str,
)  # fmt: skip
def test_a_sample_that_no_meter_says_is_dropped_and_the_others_are_kept(receiver, wrong):
    good = {"rails_mw": [4000.0], "temps_c": [50.0], "gpu_load": 10.0}
    samples = [sample(**good), sample(**{**good, **wrong}), sample(**good)]
    receiver.receive(1, samples=samples, rails=["VDD_IN"], sensors=["cpu"])
    assert len(receiver.table()) == 3
    receiver.ledger.flush()
    assert {name: tally.count for name, tally in receiver.ledger.sensors()["ada"].items()} == {
        "gpu_load": 2,
        "temp cpu": 2,
    }


def test_what_is_missing_in_a_sample_is_empty_and_in_no_mean(receiver):
    bare = sample(total_mw=None, rails_mw=[math.nan], temps_c=[math.nan])
    full = sample(rails_mw=[4000.5], temps_c=[50.5], gpu_load=0.0, gpu_mhz=306.0, throttled=False)
    receiver.receive(1, samples=[bare, full], rails=["VDD_IN"], sensors=["cpu"])
    header, first, second = receiver.table()
    assert ",".join(header) == "at_s,round,client,phase,total_mw,VDD_IN_mw,gpu_load,gpu_mhz,cpu_c,throttled"
    assert first[1:] == ["1", "4", "train", "", "", "", "", "", ""]
    assert second[1:] == ["1", "4", "train", "5000", "4000.5", "0", "306", "50.5", "0"]
    receiver.ledger.flush()
    sensors = receiver.ledger.sensors()["ada"]
    assert {name: (tally.count, tally.sum) for name, tally in sensors.items()} == {
        "gpu_load": (1, 0.0), "gpu_mhz": (1, 306.0), "throttled": (1, 0.0), "temp cpu": (1, 50.5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rails", "sensors"),
    [
        (["a"] * 2, []), (["a\nb"], []), ([""], []), (["x" * 41], []), ([], ["\u2028"]),
        ([f"r{n}" for n in range(33)], []), ([], [f"s{n}" for n in range(65)]),
    ],
)  # fmt: skip
def test_rails_and_sensors_need_short_printable_names_of_their_own(receiver, rails, sensors, caplog):
    for sequence in (1, 2, 3):
        receiver.receive(sequence, phases=[energy()], samples=[sample()], rails=rails, sensors=sensors)
    assert (receiver.phases(), receiver.table()) == ({}, [])
    assert len(caplog.records) == 1 and "\n" not in caplog.messages[0], "it is said once"


def test_new_names_in_every_batch_come_to_an_end(receiver):
    for sequence in range(1, 200):
        receiver.receive(sequence, phases=[energy()], sensors=[f"s{sequence}"], samples=[sample(temps_c=[1.0])])
    receiver.ledger.flush()
    assert len(receiver.ledger.sensors()["ada"]) == 64
    again = receiver.restart()
    again.receive(1000, sensors=["another"], samples=[sample(temps_c=[1.0])])
    again.ledger.flush()
    assert len(again.ledger.sensors()["ada"]) == 64
    again.ledger.close()


# ---- no more than a meter says


def test_a_device_reports_no_more_time_than_has_passed(receiver):
    receiver.elapsed_s = 100.0
    for sequence in range(1, 100):
        receiver.receive(sequence, phases=[energy(seconds=100.0, joules=None, covered_s=0.0)])
    assert receiver.phases()[1, "train"][0] == 1400.0
    receiver.elapsed_s = 1e4
    receiver.receive(100, phases=[energy(seconds=100.0, joules=None, covered_s=0.0)])
    assert receiver.phases()[1, "train"][0] == 1500.0


def test_a_device_sends_no_more_batches_and_samples_than_a_meter_has(receiver, monkeypatch):
    monkeypatch.setattr(telemetry_module, "SLACK_S", 0.0)
    receiver.elapsed_s = 2.0
    for sequence in range(1, 300):
        receiver.receive(sequence, samples=[sample()] * 3)
    assert len(receiver.table()) == 1 + 240 // 3 * 3
    receiver.ledger.flush()
    assert receiver.ledger.sequences()["ada"][f"{7:016x}"] == 80
    for sequence in range(1, 300):
        receiver.receive(sequence, epoch=9, phases=[energy(seconds=0.001, joules=None, covered_s=0)], name="bob")
    receiver.ledger.flush()
    assert receiver.ledger.sequences()["bob"][f"{9:016x}"] == 100


def test_one_batch_is_bounded_and_so_are_the_lives_of_a_worker(receiver, monkeypatch):
    receiver.receive(1, phases=[energy()] * 2001)
    receiver.receive(2, samples=[sample()] * 10_001)
    assert (receiver.phases(), receiver.table()) == ({}, [])
    monkeypatch.setattr(telemetry_module, "MAX_EPOCHS", 5)
    for epoch in range(10):
        receiver.receive(1, epoch=epoch, phases=[energy()])
    assert receiver.phases() == {(1, "train"): (5.0, 40.0)}


def test_the_clock_of_a_device_that_lives_in_1970_is_moved_to_now(receiver):
    before_s = time.time()
    receiver.receive(1, samples=[sample(at_s=100.0), sample(at_s=101.0)])
    after_s = time.time()
    receiver.receive(2, samples=[sample(at_s=102.0)])
    times = [float(line[0]) for line in receiver.table()[1:]]
    assert before_s - 0.01 <= times[1] <= after_s + 0.01
    assert [t - times[0] for t in times] == pytest.approx([0.0, 1.0, 2.0], abs=0.01)


# ---- what it measures with


def test_the_first_idle_power_stays_and_every_scope_is_remembered(receiver):
    first = pb.Power(source="sysfs", scope="module", detail="3 rails\n of INA3221", interval_s=0.1, idle_w=4.0)
    receiver.telemetry.receive_power("ada", pb.Power(source="", detail="nothing found"))
    receiver.telemetry.receive_power("ada", first)
    receiver.telemetry.receive_power(
        "ada", pb.Power(source="replay of x.log", scope="board", interval_s=0.5, idle_w=9.0)
    )
    receiver.ledger.flush()
    known = receiver.ledger.powers()["ada"]
    assert known == {
        "source": "replay of x.log", "scope": "board", "detail": None, "interval_s": 0.5, "idle_w": 4.0,
        "scopes": ["board", "module"], "replayed": True, "measured": True,
    }  # fmt: skip
    again = receiver.restart()
    again.telemetry.receive_power("ada", first)
    again.ledger.flush()
    assert again.ledger.powers()["ada"]["idle_w"] == 4.0
    assert again.ledger.powers()["ada"]["detail"] == "3 rails of INA3221"
    again.ledger.close()


def test_what_was_measured_keeps_its_source_and_scope_when_a_later_life_measures_nothing(receiver):
    receiver.telemetry.receive_power("ada", pb.Power(source="sysfs", scope="module", interval_s=0.1, idle_w=4.0))
    receiver.telemetry.receive_power("ada", pb.Power(source="", detail="not measured: sysfs: gone"))
    receiver.ledger.flush()
    known = receiver.ledger.powers()["ada"]
    assert (known["source"], known["scope"], known["interval_s"]) == ("sysfs", "module", 0.1)
    assert known["detail"] == "sysfs: gone"


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_power_facts_that_no_meter_says_are_not_known(receiver, value):
    receiver.telemetry.receive_power("ada", pb.Power(source="x" * 5000, scope="planet", interval_s=value, idle_w=value))
    receiver.ledger.flush()
    known = receiver.ledger.powers()["ada"]
    assert (known["scope"], known["interval_s"], known["idle_w"], len(known["source"])) == (None, None, None, 200)


# ---- over the wire


def test_telemetry_of_a_worker_ends_in_the_result_and_a_aggregated_round_is_announced(tmp_path):
    async def scenario(live):
        worker = await live.training()
        run_id = worker.train.run_id
        power = pb.Power(source="replay of orin.log", scope="module", detail="a log", interval_s=0.1, idle_w=3.0)
        examples = {shard.client: len(shard.indices) for shard in worker.prepare.shards}
        await worker.send(prepared=pb.Prepared(run_id=run_id, device="hand", examples=examples, power=power))
        samples = [sample(client=0, at_s=time.time() + at) for at in range(3)]
        batch = pb.Telemetry(run_id=run_id, epoch=3, sequence=1, phases=[energy(client=0)], samples=samples)
        await worker.send(telemetry=batch)
        await worker.send(telemetry=batch)
        train = await worker.receive("train")  # prepared again, it is told again
        assert train.round == 1
        for client in range(3):
            await worker.upload(client)
        while (wait := await worker.receive("wait")).phase != "evaluate":
            assert (wait.run_id, wait.round) == (run_id, 1)
        assert (wait.run_id, wait.round) == (run_id, 1)
        await worker.released()
        await live.end()
        (run,) = (await asyncio.to_thread(live.coordinator.last.view().result))["runs"]
        assert (run["joules_to_target"], run["energy_scope"], run["energy_is_replay"]) == (8.0, "module", True)
        (device,) = run["devices"]
        assert (device["power_source"], device["idle_w"], device["energy_j"]) == ("replay of orin.log", 3.0, 8.0)
        assert device["trace"]["power_w"][0] == 5.0
        assert (tmp_path / live.experiment_id / "samples" / "ada.csv.gz").exists()

    serving(tmp_path, scenario, experiment=experiment())
