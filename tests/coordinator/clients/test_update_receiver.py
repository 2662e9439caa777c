"""Who may bring what, and when: keys, rounds, clients, and what becomes of those who are refused."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import threading

import numpy as np
import pytest
from live_coordinator import Status, averaged, experiment, key_of, refused, serving

from coordinator.clients import cohort
from federa.tensors.state import digest_of, pack, unpack
from protos import federation_pb2 as pb
from protos.streams import data_chunks
from tests.doubles.noop import NoopReferenceModel


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch):
    # A worker that is driven by hand does not always say that it released the run.
    monkeypatch.setattr(cohort, "RELEASE_WAIT_S", 0.2)


def unchanged(live):
    assert list((live.run.storage.folder.path / "spool").iterdir()) == []
    assert live.run.storage.ledger.contributions(1) == []
    assert live.run.storage.ledger.bytes_up == 0


# ---------------------------------------------------------------- who may bring what

STRANGE, LATE, REFUSED = Status.PERMISSION_DENIED, Status.FAILED_PRECONDITION, Status.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"key": key_of("bob")}, STRANGE, ["this is not the worker 'ada' of run", "another key"]),
        ({"key": ""}, STRANGE, ["another key"]),
        ({"worker": "bob"}, STRANGE, ["this is not the worker 'bob'"]),
        ({"worker": "bob", "key": key_of("bob")}, STRANGE, ["this is not the worker 'bob'"]),
        ({"worker": "", "key": ""}, STRANGE, ["this is not the worker ''"]),
        ({"run_id": "another"}, LATE, ["run another is not under way"]),
        ({"round": 0}, LATE, ["client 0 for round 0 comes too late, or was not asked for", "in round 1"]),
        ({"round": 2}, LATE, ["client 0 for round 2 comes too late, or was not asked for", "in round 1"]),
        ({"client": 3}, LATE, ["client 3 for round 1: worker ada does not host this client"]),
        ({"client": 2**32 - 1}, LATE, ["does not host this client"]),
        ({"examples": 0}, REFUSED, ["client 0 for round 1 must stand for the 1 examples announced, not for 0"]),
        # Beyond what SQLite counts to, and beyond what float64 weighs exactly.
        ({"examples": 2**64 - 1}, REFUSED, ["for the 1 examples announced"]),
        ({"examples": 1000}, REFUSED, ["for the 1 examples announced, not for 1000"]),
        ({"loss": float("nan")}, REFUSED, ["client 0 for round 1 has the loss nan"]),
        ({"loss": float("inf")}, REFUSED, ["the loss inf"]),
        ({"step_ms": [1.0, -1.0]}, REFUSED, ["a step time that no clock says"]),
        ({"step_ms": [float("nan")]}, REFUSED, ["a step time that no clock says"]),
        ({"step_ms": [float("inf")]}, REFUSED, ["a step time that no clock says"]),
        ({"micro_batch": 16}, REFUSED, ["a micro-batch of 16, which is not below the experiment's 16"]),
        ({"micro_batch": 2**32 - 1}, REFUSED, ["which is not below the experiment's 16"]),
    ],
)
def test_an_update_that_does_not_belong_here_is_refused_and_not_kept(tmp_path, changes, status, words):
    async def scenario(live):
        worker = await live.training()
        async with refused(status, *words):
            await worker.upload(**{"client": 0, **changes})
        unchanged(live)
        # The right one is welcome still, also after a refusal.
        assert (await worker.upload(0)).already_accepted is False

    serving(tmp_path, scenario, experiment=experiment())


def test_a_state_is_for_the_run_s_own_workers(tmp_path):
    async def scenario(live):
        worker = await live.training()
        start = worker.train.state_sha256
        for changes in ({"key": key_of("bob")}, {"key": ""}, {"worker": "bob", "key": key_of("bob")}, {"worker": ""}):
            async with refused(Status.PERMISSION_DENIED, "this is not the worker", "another key"):
                await worker.download(start, **changes)
        # A worker that is here, but has no part in this run.
        await live.worker("eve")
        async with refused(Status.PERMISSION_DENIED, "this is not the worker 'eve'"):
            await worker.download(start, worker="eve", key=key_of("eve"))
        assert await worker.download(start) == worker.state

    serving(tmp_path, scenario, experiment=experiment())


def test_a_client_that_was_not_selected_has_no_part(tmp_path):
    async def scenario(live):
        worker = await live.training()
        (chosen,) = worker.train.clients
        async with refused(Status.FAILED_PRECONDITION, "was not asked for", "waits for 1 other updates"):
            await worker.upload((chosen + 1) % 3)
        (row,) = live.run.storage.ledger.client_failures()
        assert (row["kind"], row["client"], row["device"]) == ("late", (chosen + 1) % 3, "ada")

    serving(tmp_path, scenario, experiment=experiment(clients_per_round=1))


def test_another_worker_s_client_is_not_one_s_own(tmp_path):
    async def scenario(live):
        ada, bob = await live.worker("ada", clients=[0, 1]), await live.worker("bob", clients=[2])
        await asyncio.gather(ada.get_ready(), bob.get_ready())
        for client, worker in ((2, ada), (0, bob)):
            async with refused(Status.FAILED_PRECONDITION, f"worker {worker.name} does not host this client"):
                await worker.upload(client)
        unchanged(live)

    serving(tmp_path, scenario, experiment=experiment(devices=2))


def test_before_the_examples_are_announced_an_update_is_to_come_later(tmp_path):
    async def first(live):
        worker = await live.training()
        await worker.upload(0)
        orders.append((worker.train, worker.state))

    async def again(live):
        worker = await live.worker()
        worker.train, worker.state = orders[0]
        prepare = await worker.receive("prepare")
        async with refused(Status.UNAVAILABLE, "worker ada has not said how many examples it has"):
            await worker.upload(1)
        examples = {shard.client: len(shard.indices) for shard in prepare.shards}
        await worker.send(prepared=pb.Prepared(run_id=prepare.run_id, examples=examples))
        await worker.receive("train")
        assert (await worker.upload(1)).already_accepted is False

    orders = []
    serving(tmp_path, first, experiment=experiment())
    (ledger,) = tmp_path.glob("*/ledger.sqlite")
    with sqlite3.connect(ledger) as database:
        # What an announcement waits for is the next transaction, which a coordinator that is killed never makes.
        database.execute("UPDATE host SET examples = NULL")
    serving(tmp_path, again)


def test_while_the_run_is_being_prepared_calls_are_to_come_later(tmp_path):
    prepared = threading.Event()

    class Slow(NoopReferenceModel):
        def prepare(self, recorded=None):
            prepared.wait(5)
            return super().prepare(recorded)

    async def first(live):
        worker = await live.training()
        await worker.upload(0)
        orders.append((worker.train, worker.state))

    async def again(live):
        worker = await live.worker()
        worker.train, worker.state = orders[0]
        (live.experiment_id,) = live.coordinator.experiments
        await live.until(lambda snapshot: snapshot.run.stage == "preparing")
        # A worker that is refused for good drops what it has trained.
        async with refused(Status.UNAVAILABLE, "is being prepared"):
            await worker.upload(1)
        async with refused(Status.UNAVAILABLE, "is being prepared"):
            await worker.download(worker.train.state_sha256)
        prepared.set()
        await worker.prepared()
        assert list((await worker.receive("train")).clients) == [1, 2]
        assert (await worker.upload(1)).already_accepted is False

    orders = []
    prepared.set()
    serving(tmp_path, first, experiment=experiment())
    prepared.clear()
    serving(tmp_path, again, make_model=Slow)


# ---------------------------------------------------------------- once and for all


def test_an_update_that_comes_twice_is_acknowledged_twice(tmp_path):
    async def scenario(live):
        worker = await live.training()
        assert (await worker.upload(0)).already_accepted is False
        assert (await worker.upload(0)).already_accepted is True
        other = pack({name: value + 5 for name, value in unpack(worker.state).items()})
        assert (await worker.upload(0, other)).already_accepted is True
        (row,) = live.run.storage.ledger.contributions(1)
        assert row["sha256"] == digest_of(worker.trained(0))
        assert (await live.until(lambda snapshot: snapshot.run.updates)).run.updates == 1
        assert live.run.storage.ledger.client_failures() == []

    serving(tmp_path, scenario, experiment=experiment())


def test_an_update_of_a_round_that_is_over_is_acknowledged_where_it_was_accepted_and_late_where_not(tmp_path):
    async def scenario(live):
        worker = await live.training()
        first = worker.train
        await asyncio.gather(*(worker.upload(client) for client in first.clients))
        await worker.receive("train")
        for client in first.clients:
            assert (await worker.upload(client)).already_accepted is True
        (other,) = set(range(3)) - set(first.clients)
        async with refused(Status.FAILED_PRECONDITION, "for round 1 comes too late", "in round 2"):
            await worker.upload(other)
        assert live.run.storage.ledger.contributions(2) == []

    serving(tmp_path, scenario, experiment=experiment(target=1.0, clients_per_round=2, rounds=2), make_model=never)


def never(config):
    """A reference model whose evaluations never reach a target."""
    return NoopReferenceModel(config, scores=(0.0,))


def test_an_upload_that_broke_off_goes_on_with_the_rest_alone(tmp_path):
    # Two and a half chunks.
    shapes = {"layer.000": (5 << 17,)}

    async def scenario(live):
        worker = await live.training()
        blob = worker.trained(0)
        call, offset = await worker.begin(0)
        assert offset == 0
        chunks = list(data_chunks(blob))
        await call.write(chunks[0])
        partial = live.run.storage.folder.partial(1, 0, digest_of(blob))
        while not partial.exists() or partial.stat().st_size < len(chunks[0].data):
            await asyncio.sleep(0.01)
        call.cancel()
        # The link is back, while the old stream may not have been found dead.
        call, offset = await worker.begin(0)
        assert offset == len(chunks[0].data)
        for chunk in data_chunks(blob, offset):
            await call.write(chunk)
        await call.done_writing()
        assert (await call).already_accepted is False
        (row,) = live.run.storage.ledger.contributions(1)
        assert row["sha256"] == digest_of(blob)
        assert len(blob) < live.run.storage.ledger.bytes_up < len(blob) + 1000

    serving(tmp_path, scenario, experiment=experiment(), make_model=lambda config: NoopReferenceModel(config, shapes))


def test_a_second_stream_takes_over_from_one_that_hangs(tmp_path):
    async def scenario(live):
        worker = await live.training()
        blob = worker.trained(0)
        hangs, _ = await worker.begin(0)
        await hangs.write(pb.Chunk(data=blob[:100]))
        assert (await asyncio.wait_for(worker.upload(0), 5)).already_accepted is False
        assert await asyncio.wait_for(hangs.code(), 3) is Status.ABORTED

    serving(tmp_path, scenario, experiment=experiment())


def test_an_update_that_was_recorded_for_a_connection_that_died_is_one_of_the_round_s(tmp_path, monkeypatch):
    held, reached = threading.Event(), threading.Event()

    async def scenario(live):
        worker = await live.training()
        ledger = live.run.storage.ledger
        original = ledger.accepted

        def slow(**update):
            reached.set()
            held.wait(10)
            return original(**update)

        monkeypatch.setattr(ledger, "accepted", slow)
        call, _ = await worker.begin(0)
        await call.write(pb.Chunk(data=worker.trained(0)))
        await call.done_writing()
        assert await asyncio.to_thread(reached.wait, 10)
        call.cancel()
        await asyncio.sleep(0.1)
        held.set()
        monkeypatch.undo()
        while not live.run.storage.ledger.contributions(1):
            await asyncio.sleep(0.01)
        assert (await worker.upload(0)).already_accepted is True
        await worker.upload(1)
        await worker.upload(2)
        # The round knows of all three, and the run ends.
        await asyncio.wait_for(worker.released(), 3)

    serving(tmp_path, scenario, experiment=experiment())


def test_an_update_that_is_being_recorded_as_its_round_closes_is_aggregated(tmp_path, monkeypatch):
    held, reached = threading.Event(), threading.Event()

    async def scenario(live):
        worker = await live.training()
        ledger = live.run.storage.ledger
        original = ledger.accepted

        def slow(**update):
            if update["client"] == 0:
                reached.set()
                held.wait(10)
            return original(**update)

        monkeypatch.setattr(ledger, "accepted", slow)
        slow_one = asyncio.ensure_future(worker.upload(0))
        assert await asyncio.to_thread(reached.wait, 10)
        await worker.upload(1)
        await worker.upload(2)  # two are enough: the round closes
        await asyncio.sleep(0.2)
        held.set()
        assert (await slow_one).already_accepted is False
        train = await worker.receive("train")
        assert train.round == 2
        assert await worker.download(train.state_sha256) == averaged(1, range(3))

    serving(
        tmp_path, scenario, make_model=never,
        experiment=experiment(target=1.0, clients_per_round=2, over_select=1, rounds=2),
    )  # fmt: skip


# ---------------------------------------------------------------- what becomes of those who are refused


def nan(state):
    return pack({name: np.full_like(value, np.nan) for name, value in unpack(state).items()})


def test_a_refused_update_is_asked_for_again_and_stands_in_the_ledger(tmp_path):
    async def scenario(live):
        worker = await live.training()
        async with refused(Status.INVALID_ARGUMENT, "update of client 1 for round 1: tensor", "not finite"):
            await worker.upload(1, nan(worker.state))
        for client in (0, 2):
            await worker.upload(client)
        again = await worker.receive("train")
        assert (again.round, list(again.clients)) == (1, [1])
        await worker.upload(1)
        await worker.released()
        assert (await live.end()).outcome.exit_code == 0
        failures = failures_in(await live.fetch("result.json"))
        assert [(row["kind"], row["client"], row["device"]) for row in failures] == [("refused", 1, "ada")]
        assert "not finite" in failures[0]["reason"]

    serving(tmp_path, scenario, experiment=experiment())


def failures_in(blob):
    (run,) = json.loads(blob)["runs"]
    return run["setbacks"]


def test_three_refusals_put_a_client_aside_and_the_run_goes_on_with_others(tmp_path):
    async def scenario(live):
        worker = await live.training()
        asked = []
        for _ in itertools.count():
            asked.append((worker.train.round, list(worker.train.clients)))
            for client in worker.train.clients:
                if client == 1:
                    async with refused(Status.INVALID_ARGUMENT, "not finite"):
                        await worker.upload(1, nan(worker.state))
                else:
                    await worker.upload(client)
            while (message := await worker.call.read()).WhichOneof("message") == "wait":
                pass
            if message.WhichOneof("message") == "release":
                await worker.send(released=pb.Released(run_id=message.release.run_id))
                break
            worker.train = message.train
            worker.state = await worker.download(worker.train.state_sha256)
        # It was asked for three times, then no more; the rounds went on with the two that are left.
        assert [1 in clients for _, clients in asked].count(True) == 3
        assert {round_ for round_, _ in asked} == {1, 2, 3, 4, 5}
        assert all(1 not in clients for _, clients in asked[3:])
        assert (await live.end()).outcome.exit_code == 3
        failures = failures_in(await live.fetch("result.json"))
        assert [(row["kind"], row["client"]) for row in failures] == [("refused", 1)] * 3

    serving(tmp_path, scenario, experiment=experiment(target=1.0, rounds=5, quorum=2), make_model=never)


def test_an_update_whose_beginning_was_removed_with_its_round_is_late_and_ends_no_run(tmp_path):
    async def scenario(live):
        worker = await live.training()
        slow, _ = await worker.begin(worker.train.clients[0])
        for client in worker.train.clients[1:]:
            await worker.upload(client)
        await worker.receive("abandon")
        while list(live.run.storage.folder.partials(1)):  # until the round is aggregated
            await asyncio.sleep(0.01)
        await slow.write(pb.Chunk(data=worker.trained(worker.train.clients[0])))
        await slow.done_writing()
        async with refused(Status.FAILED_PRECONDITION, "round 1 was closed while it came"):
            await slow
        assert not live.run.is_over

    serving(
        tmp_path, scenario, make_model=never,
        experiment=experiment(target=1.0, clients_per_round=2, over_select=1, rounds=2),
    )  # fmt: skip


def test_an_update_that_comes_after_its_round_closed_is_late_and_is_counted(tmp_path):
    async def scenario(live):
        worker = await live.training()
        slow, _ = await worker.begin(worker.train.clients[0])
        for client in worker.train.clients[1:]:
            await worker.upload(client)
        abandon = await worker.receive("abandon")
        assert list(abandon.clients) == [worker.train.clients[0]]
        assert "the round was closed with 2 updates" in abandon.reason
        await slow.write(pb.Chunk(data=worker.trained(worker.train.clients[0])))
        await slow.done_writing()
        async with refused(Status.FAILED_PRECONDITION, "round 1 was closed while it came"):
            await slow
        kinds = [row["kind"] for row in live.run.storage.ledger.client_failures()]
        assert kinds == ["missing", "late"]
        assert live.run.storage.ledger.contributions(2) == []

    serving(
        tmp_path, scenario, make_model=never,
        experiment=experiment(target=1.0, clients_per_round=2, over_select=1, rounds=2),
    )  # fmt: skip
