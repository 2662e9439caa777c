"""A run as a whole, in this process: what it may not do on the event loop."""

from __future__ import annotations

import asyncio
import os
import traceback

import numpy as np
import pytest
from live_coordinator import Status, experiment, refused, serving

from coordinator.clients import cohort
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_reader import LedgerReader
from federa.tensors.state import pack, unpack
from protos import federation_pb2 as pb
from tests.doubles.noop import NoopReferenceModel, counted


@pytest.fixture
def on_the_loop(monkeypatch):
    """Every call of the disk or the ledger that is made on an event loop's thread, by who made it."""
    found = []

    def watch(owner, name):
        original = getattr(owner, name)

        def watched(*arguments, **named):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                pass
            else:
                found.append(f"{name} in {[frame.name for frame in traceback.extract_stack()[-4:-1]]}")
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    watch(os, "fsync")
    watch(Ledger, "_write")
    watch(LedgerReader, "_read")
    monkeypatch.setattr(cohort, "RELEASE_WAIT_S", 0.2)
    return found


def never(config):
    return NoopReferenceModel(config, scores=(0.0,))


@pytest.mark.parametrize("evaluation", ["coordinator", "devices"])
def test_neither_the_disk_nor_the_ledger_is_waited_for_on_the_event_loop(tmp_path, on_the_loop, evaluation):
    config = experiment(target=1.0, rounds=2, clients_per_round=2, over_select=1, quorum=2)
    config = config.model_copy(update={"evaluation": evaluation})

    async def evaluated(worker, part):
        if evaluation == "devices":
            order = await worker.receive("evaluate")
            assert order.part == part
            for client in order.clients:
                known = {"run_id": order.run_id, "round": order.round, "part": part, "client": client}
                counters = counted(unpack(worker.state), client, part)
                await worker.send(counters=pb.Counters(**known, counters=counters))

    async def scenario(live):
        live.experiment_id = await live.submit(config)
        worker = await live.worker()
        worker.prepare = await worker.receive("prepare")
        examples = {client: client + 1 for client in range(3)}
        power = pb.Power(source="test", scope="module", idle_w=1.0)
        run_id = worker.prepare.run_id
        await worker.send(prepared=pb.Prepared(run_id=run_id, device="hand", examples=examples, power=power))
        for round_ in (1, 2):
            worker.train = await worker.receive("train")
            worker.state = await worker.download(worker.train.state_sha256)
            assert worker.train.round == round_
            phase_energies = [pb.PhaseEnergy(round=round_, phase="train", seconds=0.5)]
            await worker.send(telemetry=pb.Telemetry(run_id=run_id, epoch=1, sequence=round_, phases=phase_energies))
            if round_ == 1:
                nan = {name: np.full_like(value, np.nan) for name, value in unpack(worker.state).items()}
                async with refused(Status.INVALID_ARGUMENT, "not finite"):
                    await worker.upload(0, pack(nan))
                await worker.send(client_error=pb.ClientError(run_id=run_id, round=1, client=0, message="no memory"))
            for client in (1, 2) if round_ == 1 else (0, 1):
                assert (await worker.upload(client)).already_accepted is False
            async with refused(Status.FAILED_PRECONDITION, "comes too late"):
                await worker.upload(0 if round_ == 1 else 2)
            if round_ == 2:
                assert list((await worker.receive("abandon")).clients) == [2]
            await evaluated(worker, "validation")
        await evaluated(worker, "test")
        await worker.released()
        assert (await live.end()).outcome.exit_code == 3

    serving(tmp_path, scenario, make_model=never)
    assert on_the_loop == []


def test_a_run_is_opened_again_and_one_is_ended_early_without_the_event_loop(tmp_path, on_the_loop):
    async def first(live):
        live.experiment_id = await live.submit(experiment(seed=1), "abc")
        worker = await live.training()
        await worker.upload(0)
        waiting = await live.submit(experiment(seed=2))
        await live.operation.Cancel(pb.CancelRequest(experiment_id=waiting))
        assert (await live.end(waiting)).outcome.exit_code == 130

    async def again(live):
        worker = await live.training()
        live.experiment_id = "abc"
        for client in worker.train.clients:
            await worker.upload(client)
        await worker.released()
        assert (await live.end()).outcome.exit_code == 0

    serving(tmp_path, first)
    serving(tmp_path, again)
    assert on_the_loop == []
