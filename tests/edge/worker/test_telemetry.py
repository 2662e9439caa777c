"""From readings and phases to what the coordinator receives, and what a worker that is killed has not sent."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict

import pytest
from fake_coordinator import PATIENCE_S, FakeCoordinator, prepare_order, train_order, work
from fake_source import FakeSource
from hypothesis import given
from hypothesis import strategies as st

from edge.power.meter import Meter
from edge.power.source import Reading
from edge.power.timeline import Timeline
from edge.worker import run_setup
from edge.worker import telemetry as telemetry_module
from edge.worker import worker as worker_module
from edge.worker.telemetry import INTERVAL_S, Batches, TelemetrySender
from federa.errors import FederaError
from protos import federation_pb2 as pb
from tests.doubles.noop import NoopRuntime

RUN_S = 10.0


class Stage:
    """A run on a clock of its own, with readings as a test gives them."""

    def __init__(self, monkeypatch, source=True, hz=10.0):
        self.now_s = 0.0
        monkeypatch.setattr(telemetry_module.time, "monotonic", lambda: self.now_s)
        self.meter = Meter(FakeSource() if source else None, hz=hz)
        self.meter._began_s = 0.0
        self.line = Timeline(lambda: self.now_s)
        self.batches = []
        self.telemetry = TelemetrySender("r1", self.line, self.meter, Batches(), lambda message: self.receive(message))

    def receive(self, message):
        self.batches.append(message.telemetry)

    @property
    def phases(self):
        return [energy for batch in self.batches for energy in batch.phases]

    @property
    def samples(self):
        return [sample for batch in self.batches for sample in batch.samples]


@pytest.fixture
def clock(monkeypatch):
    with monkeypatch.context() as patch:
        yield patch


def test_joules_go_to_the_phase_they_were_spent_in(clock):
    stage = Stage(clock)
    stage.line.enter(1, 0, "load")
    for tick in range(1001):
        stage.now_s = tick / 100
        if tick == 400:
            stage.line.enter(1, 0, "train", at_s=4.0)
        if tick % 10 == 0:
            stage.meter.record(Reading(at_s=stage.now_s, total_mw=2000.0 if stage.now_s < 4.0 else 30_000.0))
        if tick % 50 == 49:
            stage.telemetry.send()
    stage.telemetry.close()
    joules, seconds = defaultdict(float), defaultdict(float)
    for energy in stage.phases:
        joules[energy.phase] += energy.joules
        seconds[energy.phase] += energy.seconds
    # The step lies between two readings: half an interval of it may go to the phase before.
    assert joules["load"] == pytest.approx(8.0, abs=28 * 0.05 + 1e-6)
    assert joules["train"] == pytest.approx(180.0, rel=0.01)
    assert sum(joules.values()) == pytest.approx(stage.meter.measured(0.0, 10.0).joules, rel=1e-9)
    assert seconds == {"load": pytest.approx(4.0), "train": pytest.approx(6.0)}
    assert [batch.sequence for batch in stage.batches] == list(range(1, len(stage.batches) + 1))
    assert {batch.epoch for batch in stage.batches} == {stage.batches[0].epoch}
    assert max(energy.peak_mw for energy in stage.phases) == 30_000.0
    assert [sample.phase for sample in stage.samples] == ["load"] * 40 + ["train"] * 61


def test_a_gap_is_told_with_every_phase_it_touches_and_has_no_joules(clock):
    stage = Stage(clock)
    stage.line.enter(1, 0, "load")
    for tick in range(1001):
        stage.now_s = tick / 100
        if tick == 450:
            stage.line.enter(1, 0, "train")
        if tick % 10 == 0 and not 300 < tick < 600:
            stage.meter.record(Reading(at_s=stage.now_s, total_mw=5000.0))
        if tick % 50 == 0:
            stage.telemetry.send()
    stage.telemetry.close()
    covered, gap = defaultdict(float), defaultdict(float)
    for energy in stage.phases:
        covered[energy.phase] += energy.covered_s
        gap[energy.phase] = max(gap[energy.phase], energy.largest_gap_s)
        assert energy.HasField("joules") == (energy.covered_s > 0)
    assert covered == {"load": pytest.approx(3.0), "train": pytest.approx(4.0)}
    assert gap["load"] >= 1.5
    assert gap["train"] == pytest.approx(3.0)


@pytest.mark.parametrize("interval_s", [0.1, 0.5, 1.0])
def test_at_any_moment_but_the_last_second_and_what_no_reading_has_come_for_is_sent(clock, interval_s):
    stage = Stage(clock, hz=1 / interval_s)
    stage.line.enter(1, 0, "train")
    for tick in range(1, 1001):
        stage.now_s = tick / 100
        if tick % round(100 * interval_s) == 0:
            stage.meter.record(Reading(at_s=stage.now_s, total_mw=5000.0))
        if tick % round(100 * INTERVAL_S) == 0:
            stage.telemetry.send()
        assert sum(energy.seconds for energy in stage.phases) >= stage.now_s - 1.0 - interval_s


def test_without_a_source_there_are_seconds_and_nothing_else(clock):
    stage = Stage(clock, source=False)
    stage.line.enter(1, 0, "train")
    stage.now_s = 2.0
    stage.telemetry.send()
    (energy,) = stage.phases
    assert (energy.seconds, energy.covered_s, energy.largest_gap_s) == (2.0, 0.0, 0.0)
    assert not energy.HasField("joules")
    assert not energy.HasField("peak_mw")
    stage.telemetry.send()
    assert len(stage.batches) == 1


def test_a_sample_has_what_its_reading_had_and_what_it_lacked_is_missing(clock):
    stage = Stage(clock)
    stage.line.enter(3, 7, "train")
    stage.meter.record(Reading(at_s=0.1, rails_mw={"A": 1.0}, temps_c={"tj": 50.0}, gpu_load=0.0, throttled=False))
    stage.meter.record(Reading(at_s=0.2, rails_mw={"B": 2.0}, total_mw=9.0, gpu_mhz=300.0))
    stage.now_s = 0.3
    stage.telemetry.close()
    stage.now_s = 5.0
    stage.telemetry.send()  # the run is over: that is nobody's time any more
    (batch,) = stage.batches
    first, second = batch.samples
    assert (list(batch.rails), list(batch.sensors)) == (["A", "B"], ["tj"])
    assert first.rails_mw[0] == 1.0 and math.isnan(first.rails_mw[1])
    assert math.isnan(second.rails_mw[0]) and second.rails_mw[1] == 2.0
    assert list(first.temps_c) == [50.0] and math.isnan(second.temps_c[0])
    assert (first.HasField("total_mw"), second.total_mw) == (False, 9.0)
    assert (first.HasField("gpu_load"), first.gpu_load, second.HasField("gpu_load")) == (True, 0.0, False)
    assert (first.HasField("throttled"), first.throttled, second.HasField("throttled")) == (True, False, False)
    assert (first.round, first.client, first.phase) == (3, 7, "train")
    assert second.at_s - first.at_s == pytest.approx(0.1, abs=1e-6)


def test_what_was_read_before_the_run_is_no_part_of_it(clock):
    stage = Stage(clock)
    stage.meter.record(Reading(at_s=0.5, total_mw=1.0))
    stage.now_s = 1.0
    late = TelemetrySender("r2", Timeline(lambda: 1.0), stage.meter, Batches(), stage.receive)
    late.send()
    assert stage.batches == []


@given(
    readings=st.lists(st.tuples(st.floats(0.0, RUN_S), st.floats(0.0, 60_000.0)), max_size=60),
    moves=st.lists(
        st.tuples(st.floats(0.0, RUN_S), st.integers(0, 3), st.sampled_from(["idle", "train"])), max_size=20
    ),
    tells=st.lists(st.floats(0.0, RUN_S), max_size=20),
)
def test_telemetry_adds_up_to_phases_rounds_and_the_run(readings, moves, tells):
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(patch, hz=1.0)
        stage.line.enter(0, 0, "load")
        events = [(at_s, 0, power) for at_s, power in dict(readings).items()]
        events += [(at_s, 1, place) for at_s, *place in moves] + [(at_s, 2, None) for at_s in tells]
        for at_s, kind, what in sorted(events, key=lambda event: event[:2]):
            stage.now_s = at_s
            if kind == 0:
                stage.meter.record(Reading(at_s=at_s, total_mw=what))
                # The rule for gaps stays as it is: here it is the sums that count.
                stage.meter._interval_s = 1.0
            elif kind == 1:
                stage.line.enter(what[0], 0, what[1])
            else:
                stage.telemetry.send()
        stage.now_s = RUN_S
        stage.telemetry.close()
    whole = stage.meter.measured(0.0, RUN_S)
    assert sum(energy.seconds for energy in stage.phases) == pytest.approx(RUN_S)
    assert sum(energy.covered_s for energy in stage.phases) == pytest.approx(whole.covered_s, abs=1e-6)
    assert sum(energy.joules for energy in stage.phases) == pytest.approx(whole.joules or 0.0, abs=1e-6)
    assert len(stage.samples) == len(dict(readings))


# ---------------------------------------------------------------- a worker's own


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(run_setup, "REST_S", 0.3)
    monkeypatch.setattr(worker_module, "INTERVAL_S", 0.1)
    with Meter(FakeSource(), hz=50.0, detail="no sensor at all") as meter:
        yield meter


def test_a_workers_phases_follow_one_another_from_its_preparation_to_its_release(measured):
    phase_energies, samples, prepared, moments_s = [], [], [], []

    async def script(receive, send, number, fake):
        moments_s.append(time.monotonic())
        send(prepare=prepare_order(clients=(0,)))
        prepared.append(await receive("prepared"))
        moments_s.append(time.monotonic())
        for round_ in (1, 2):
            send(train=train_order(round_=round_, clients=(0,)))
            while (now := await receive("activity")).phase != "idle" or now.round < round_:
                pass
            send(wait=pb.Wait(run_id="r1", round=round_, phase="evaluate"))
            while (await receive("telemetry")).phases[-1].phase != "evaluate":
                pass
        moments_s.append(time.monotonic())
        send(release=pb.Release(run_id="r1"))
        while (await receive("telemetry", "released")).DESCRIPTOR.name == "Telemetry":
            pass
        moments_s.append(time.monotonic())

    def prepare(fake):
        fake.tap = lambda message: (
            phase_energies.extend(message.telemetry.phases),
            samples.extend(message.telemetry.samples),
        )

    work(script, runtime=NoopRuntime(train_s=0.2), prepare=prepare, meter=measured)
    order = [(energy.round, energy.phase) for energy in phase_energies]
    order = [place for index, place in enumerate(order) if index == 0 or place != order[index - 1]]
    assert order[:3] == [(0, "idle"), (0, "load"), (0, "idle")] or order[:2] == [(0, "idle"), (0, "load")]
    for round_ in (1, 2):
        phases = [phase for at, phase in order if at == round_ and phase != "idle"]
        assert phases in (
            ["download", "load", "train", "upload", "evaluate"],
            ["load", "download", "train", "upload", "evaluate"],
        )
    seconds = sum(energy.seconds for energy in phase_energies)
    # From the preparation, which began before it was heard of, to the release, which came after it was said.
    asked_s, prepared_s, released_s, over_s = moments_s
    assert released_s - prepared_s < seconds < over_s - asked_s
    joules = sum(energy.joules for energy in phase_energies)
    assert joules == pytest.approx(5.0 * sum(energy.covered_s for energy in phase_energies), rel=1e-6)
    power = prepared[0].power
    assert (power.source, power.scope, power.detail) == ("fake", "module", "no sensor at all")
    assert power.idle_w == pytest.approx(5.0)
    assert power.interval_s >= 0.02
    assert len(samples) > 10


def test_a_worker_that_is_asked_again_does_not_rest_again(measured, monkeypatch):
    class Hesitant(NoopRuntime):
        def prepare(self, order, model=None):
            setup = super().prepare(order)
            if self.calls.count("prepare") == 1:
                raise FederaError("not yet")
            return setup

    heard = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("client_error")
        monkeypatch.setattr(run_setup, "REST_S", 600.0)  # a second rest would not end while this test waits
        for _ in range(2):
            send(prepare=prepare_order())
            heard.append((await receive("prepared")).power.idle_w)

    work(script, runtime=Hesitant(), meter=measured)
    assert heard == [pytest.approx(5.0)] * 2


def test_the_last_slices_go_out_before_the_release_is_answered(monkeypatch):
    monkeypatch.setattr(worker_module, "INTERVAL_S", 60.0)
    phases = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while (now := await receive("activity")).phase != "idle" or now.round == 0:
            pass
        send(release=pb.Release(run_id="r1"))
        while (report := await receive("telemetry", "released")).DESCRIPTOR.name == "Telemetry":
            phases.extend(energy.phase for energy in report.phases if energy.round == 1)

    work(script)
    assert phases == ["download", "load", "train", "upload", "idle"]


def test_what_is_waited_for_may_be_said_before_the_worker_is_idle():
    phases = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while (await receive("activity")).phase != "train":
            pass
        send(wait=pb.Wait(run_id="r1", round=1, phase="evaluate"))
        send(wait=pb.Wait(run_id="r1", round=1, phase="idle"))  # of an earlier stream
        send(wait=pb.Wait(run_id="another", round=7, phase="evaluate"))
        while "evaluate" not in phases:
            phases.extend(energy.phase for energy in (await receive("telemetry")).phases if energy.round == 1)

    work(script, runtime=NoopRuntime(train_s=0.3))
    assert "idle" not in phases
    assert phases.index("evaluate") > phases.index("train")


# ---------------------------------------------------------------- kill -9


LOG_LINE = (
    "RAM 1282/62795MB (lfb 15152x4MB) CPU [7%@1728] GR3D_FREQ 0% "
    "VDD_IN 5000mW/5000mW VDD_CPU_GPU_CV 900mW/900mW VDD_SOC 900mW/900mW"
)


def test_what_a_worker_has_sent_before_it_is_killed_is_there(tmp_path):
    log = tmp_path / "tegra.log"
    log.write_text((LOG_LINE + "\n") * 600)
    reported = defaultdict(float)
    state = {}
    enough = asyncio.Event()

    async def run():
        killed = asyncio.Event()

        async def script(receive, send, number):
            send(prepare=prepare_order(clients=(0,)))
            await receive("prepared")
            while (await receive("telemetry")).phases[-1].phase != "idle":
                pass
            state["ordered_s"] = time.monotonic()
            send(train=train_order(clients=(0,)))
            reader = asyncio.ensure_future(receive("never"))
            await enough.wait()
            os.kill(state["process"].pid, signal.SIGKILL)
            state["killed_s"] = time.monotonic()
            try:
                await asyncio.wait({reader}, timeout=5)
            finally:  # older grpc cancels this when the stream is gone
                killed.set()

        fake = FakeCoordinator(script)
        fake.tap = lambda message: add(message.telemetry)
        server, address = await fake.start()
        command = [sys.executable, "-m", "tests.doubles.noop", "worker", "--coordinator", address, "--name", "ada"]
        command += ["--state", str(tmp_path), "--power", f"replay:{log}"]
        state["process"] = subprocess.Popen(
            command, env={**os.environ, "NOOP_TRAIN_S": "60"}, stderr=subprocess.DEVNULL
        )
        try:
            await asyncio.wait_for(killed.wait(), PATIENCE_S)
        finally:
            state["process"].kill()
            state["process"].wait()
            await server.stop(grace=0)

    def add(telemetry):
        for energy in telemetry.phases:
            reported[energy.phase] += energy.seconds
            reported["joules"] += energy.joules
        if reported["train"] > 1.5:
            enough.set()

    asyncio.run(run())
    assert 1.5 < reported["train"] <= state["killed_s"] - state["ordered_s"]
    assert reported["joules"] > 0


def test_a_worker_that_has_no_part_in_a_round_is_idle_in_it_and_waits_for_its_evaluation():
    places = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        for round_, phase in ((1, "evaluate"), (2, "idle"), (2, "evaluate"), (3, "idle")):
            send(wait=pb.Wait(run_id="r1", round=round_, phase=phase))
            while (round_, phase) not in places:
                places.extend((energy.round, energy.phase) for energy in (await receive("telemetry")).phases)

    work(script)
    waits = [place for place in dict.fromkeys(places) if place[1] in ("idle", "evaluate") and place[0] > 1]
    assert waits == [(2, "idle"), (2, "evaluate"), (3, "idle")]
