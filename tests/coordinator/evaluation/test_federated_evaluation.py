"""Devices that score the state themselves: what they count is summed, whoever leaves, lies or is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections import Counter

import numpy as np
import pytest
from fake_coordinator import SHA, START, prepare_order, train_order, updates_of, work
from fault_injection import RestartedProcesses
from live_coordinator import averaged, experiment, key_of, serving
from processes import result_of

import coordinator.clients.cohort
import coordinator.evaluation.federated
from coordinator.progress import ProgressBoard
from edge.worker.worker import Worker
from federa.errors import FederaError
from federa.tensors.state import unpack
from protos import federation_pb2 as pb
from tests.doubles.noop import NoopRuntime, by_class, counted, held_out

CLIENTS = range(4)


def on_devices(**federation):
    """Two devices with two clients each, all of which train and count in each of three rounds."""
    wire = federation.pop("wire", "fp32")
    federation = {"devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 3, **federation}
    return experiment(target=1.0, wire=wire, **federation).model_copy(update={"evaluation": "devices"})


@pytest.fixture(autouse=True)
def no_last_reports(monkeypatch):
    """Workers that are driven by hand let nothing go."""
    monkeypatch.setattr(coordinator.clients.cohort, "RELEASE_WAIT_S", 0.1)


def summed(state, part, clients=CLIENTS):
    """Accuracy and examples, computed once more."""
    found = [counted(state, client, part) for client in clients]
    correct, examples = (sum(counters[name] for counters in found) for name in ("correct", "examples"))
    return correct / examples, examples


@contextlib.asynccontextmanager
async def at_work(live, *runtimes):
    """A real worker of each runtime: a, b, ..."""
    tasks = [
        asyncio.ensure_future(
            Worker(
                runtime=runtime, address=live.address, name=name, key=key_of(name), give_up_after_s=30.0
            ).run()
        )
        for name, runtime in zip("abc", runtimes, strict=False)
    ]  # fmt: skip
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class WitnessRuntime(NoopRuntime):
    """Keeps the states that it scored and that it trained from."""

    def __init__(self):
        super().__init__()
        self.scored, self.began_with = [], {}

    def evaluate(self, client, part, state, on_batch):
        self.scored.append((part, client, {name: value.copy() for name, value in state.items()}))
        return super().evaluate(client, part, state, on_batch)

    def train(self, round_, client, state, on_step):
        self.began_with[round_] = {name: value.copy() for name, value in state.items()}
        trained = super().train(round_, client, state, on_step)
        for value in trained.tensors.values():
            value *= np.linspace(0.5, 1.5, value.size, dtype=np.float32)  # what int8 has to round
        return trained


def run_of(tmp_path, runtimes, config):
    """A run with real workers to its end: its entry of result.json, and its ledger."""
    found = {}

    async def scenario(live):
        async with at_work(live, *runtimes):
            found["last"] = await live.end()
            found["result"] = json.loads(await live.fetch("result.json"))

    serving(tmp_path, scenario, experiment=config)
    assert found["last"].outcome.exit_code == 3, found["last"].outcome.message
    (ledger,) = tmp_path.rglob("ledger.sqlite")
    return found["result"]["runs"][0], sqlite3.connect(ledger)


def test_what_the_devices_count_is_summed(tmp_path):
    run, ledger = run_of(tmp_path, [NoopRuntime(), NoopRuntime()], on_devices())
    states = [unpack(averaged(rounds, CLIENTS)) for rounds in (1, 2, 3)]
    assert [(point["value"], point["examples"]) for point in run["curve"]] == [
        summed(state, "validation") for state in states
    ]
    assert len({point["value"] for point in run["curve"]}) > 1, "the sums tell states apart"
    assert (run["test"], run["test_examples"]) == summed(states[-1], "test")
    assert run["test_metrics"].keys() == {"accuracy", "macro_f1"} and run["test_metrics"]["accuracy"] == run["test"]
    assert [point["metrics"]["accuracy"] for point in run["curve"]] == [point["value"] for point in run["curve"]]
    assert run["evaluation"] == "devices" and run["evaluation_s"] > 0
    for part, counts in run["held_out"].items():
        assert [(entry["client"], entry["correct"], entry["examples"]) for entry in counts] == [
            (client, *list(counted(states[-1], client, part).values())[:2]) for client in CLIENTS
        ]
        assert {entry["device"] for entry in counts} == {"a", "b"}
    rows = ledger.execute("SELECT round, part, count(*) FROM counters GROUP BY round, part").fetchall()
    assert rows == [(1, "validation", 4), (2, "validation", 4), (3, "test", 4), (3, "validation", 4)]
    assert ledger.execute("SELECT value_examples FROM round").fetchall() == [(4 * 2 + 6,)] * 3


def test_what_a_run_does_after_its_last_round_is_shown(tmp_path, monkeypatch):
    stages, show = [], ProgressBoard.stage

    def stage(board, stage, note=""):
        stages.append((stage, note))
        show(board, stage, note)

    monkeypatch.setattr(ProgressBoard, "stage", stage)
    run_of(tmp_path, [NoopRuntime(), NoopRuntime()], on_devices(rounds=1))
    assert ("testing", "the last round is over; scoring the test part") in stages
    assert stages[-1] == ("finished", "the last round is over")


def test_the_training_examples_are_those_that_are_not_held_out(tmp_path):
    run, ledger = run_of(tmp_path, [NoopRuntime(), NoopRuntime()], on_devices(rounds=1))
    assert run["shard_sizes"] == [n + 1 for n in CLIENTS]
    (dealt,) = ledger.execute("SELECT value FROM run WHERE key = 'shard_sizes'").fetchone()
    assert json.loads(dealt) == [n + 1 + held_out(n, "validation") + held_out(n, "test") for n in CLIENTS], (
        "all documents are dealt out"
    )
    assert ledger.execute("SELECT client, examples FROM host ORDER BY client").fetchall() == [
        (client, client + 1) for client in CLIENTS
    ]


@pytest.mark.parametrize("wire", ["fp32", "int8"])
def test_the_state_that_is_scored_is_the_one_that_the_next_round_begins_with_and_comes_once(tmp_path, wire):
    runtimes = [WitnessRuntime(), WitnessRuntime()]
    run, ledger = run_of(tmp_path, runtimes, on_devices(wire=wire))
    for runtime in runtimes:
        scored = [state for part, _, state in runtime.scored if part == "validation"]
        assert len(scored) == 6
        for round_ in (2, 3):
            for name, value in runtime.began_with[round_].items():
                assert np.array_equal(value, scored[2 * round_ - 3][name])
        # The test is taken of the very state that was validated last.
        *_, (part, _, tested) = runtime.scored
        assert part == "test" and all(np.array_equal(tested[name], scored[-1][name]) for name in tested)
    states = [runtimes[0].scored[place][2] for place in (0, 2, 4)]
    assert [point["value"] for point in run["curve"]] == [summed(state, "validation")[0] for state in states]
    final = unpack((next(tmp_path.rglob("final")) / "state.safetensors").read_bytes())
    alike = all(np.array_equal(final[name], states[-1][name]) for name in final)
    assert alike == (wire == "fp32"), "below fp32 it is the rounded one that is scored"
    downs = ledger.execute("SELECT device, sum(state_bytes > 0) FROM transfer WHERE direction = 'down' GROUP BY device")
    assert downs.fetchall() == [("a", 4), ("b", 4)], "the start, and each round's state once"


def test_a_coordinator_that_evaluates_says_how_many_examples_it_has(tmp_path):
    config = on_devices().model_copy(update={"evaluation": "coordinator"})
    found = {}

    async def scenario(live):
        async with at_work(live, NoopRuntime(), NoopRuntime()):
            await live.end()
            found["result"] = json.loads(await live.fetch("result.json"))

    serving(tmp_path, scenario, experiment=config)
    (run,) = found["result"]["runs"]
    assert [point["examples"] for point in run["curve"]] == [100] and run["test_examples"] == 100
    assert run["held_out"] == {"validation": [], "test": []} and run["evaluation"] == "coordinator"


# ---- workers that are driven by hand


async def prepared(worker):
    """As a real worker that holds a part of its documents out."""
    worker.prepare = await worker.receive("prepare")
    examples = {shard.client: shard.client + 1 for shard in worker.prepare.shards}
    prepared = pb.Prepared(run_id=worker.prepare.run_id, device="hand", precision="fp32", examples=examples)
    await worker.send(prepared=prepared)


async def train(worker):
    worker.train = await worker.receive("train")
    worker.state = await worker.download(worker.train.state_sha256)
    for client in worker.train.clients:
        await worker.upload(client)


def counts(worker, client, correct, examples, **changes):
    known = {"run_id": worker.prepare.run_id, "round": 1, "part": "validation", **changes}
    counters = {**by_class(correct, examples), "correct": correct, "examples": examples}
    return pb.Counters(client=client, counters=counters, **known)


async def both_at(live):
    """Two workers, ada with clients 0 and 2, bob with 1 and 3, with their orders to evaluate the first round."""
    ada = await live.worker("ada", clients=[0, 2])
    bob = await live.worker("bob", clients=[1, 3])
    for worker in (ada, bob):
        await prepared(worker)
    for worker in (ada, bob):
        await train(worker)
    for worker in (ada, bob):
        worker.evaluate = await worker.receive("evaluate")
    return ada, bob


async def first_value(live):
    snapshot = await live.until(lambda snapshot: len(snapshot.run.values) == 1)
    return snapshot.run.values[0]


def ledger_counts(live, part="validation"):
    live.run.storage.ledger.flush()
    counted = [(row["client"], row["counters"]) for row in live.run.storage.ledger.counters(1, part)]
    return [(client, counters["correct"], counters["examples"]) for client, counters in counted]


def test_counts_that_cannot_be_are_left_and_logged(tmp_path, caplog):
    async def scenario(live):
        ada, bob = await both_at(live)
        assert (list(ada.evaluate.clients), ada.evaluate.part, ada.evaluate.round) == ([0, 2], "validation", 1)
        for message in (
            counts(ada, 0, 2, 1),  # more right than there are
            counts(ada, 1, 1, 1),  # bob's
            counts(ada, 77, 1, 1),  # nobody's
            counts(ada, 0, 1, 1, round=2),
            counts(ada, 0, 1, 1, part="test"),
            counts(ada, 0, 1, 1, part="x" * 100_000),
            counts(ada, 0, 1, held_out(0, "validation") + held_out(0, "test") + 1),
            counts(ada, 0, 1 << 63, 1 << 63),
        ):
            await ada.send(counters=message)
        await ada.send(counters=counts(ada, 0, 1, 2))
        await ada.send(counters=counts(ada, 0, 1, 2))  # lost on the way, perhaps: that is no news
        await ada.send(counters=counts(ada, 0, 2, 2))  # that is
        await ada.send(counters=counts(ada, 2, 0, 3))
        await bob.send(counters=counts(bob, 1, 3, 3))
        await bob.send(counters=counts(bob, 3, 0, 0))
        assert await first_value(live) == 4 / 8
        assert ledger_counts(live) == [(0, 1, 2), (1, 3, 3), (2, 0, 3), (3, 0, 0)]

    serving(tmp_path, scenario, experiment=on_devices())
    left = [record.getMessage() for record in caplog.records if "are left" in record.getMessage()]
    assert len(left) == 9
    assert all(len(line) < 300 and line.startswith("worker ada: counts of client ") for line in left)
    for words in ("2 right ones among 1", "does not host", "nobody asks", "can hold out 3 at most", "counted before"):
        assert any(words in line for line in left), words


def test_a_host_that_leaves_is_waited_for_and_then_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(coordinator.evaluation.federated, "PATIENCE_S", 0.3)

    async def scenario(live):
        ada, bob = await both_at(live)
        await ada.send(counters=counts(ada, 0, 1, 2))
        await ada.send(counters=counts(ada, 2, 1, 2))
        snapshot = await live.until(lambda snapshot: "2 of 4 clients have counted" in snapshot.run.note)
        assert snapshot.run.stage == "evaluating" and "waiting for bob" in snapshot.run.note
        bob.call.cancel()
        assert await first_value(live) == 2 / 4
        # The next round has begun, and waits for everybody as it always does.
        assert (await ada.receive("train")).round == 2

    serving(tmp_path, scenario, experiment=on_devices())
    assert any("worker bob is away, and is left out of the validation" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("deadline_s", [0.5, "auto"])
def test_a_host_that_is_here_and_does_not_answer_is_left_out_at_the_deadline(tmp_path, monkeypatch, caplog, deadline_s):
    monkeypatch.setattr(coordinator.evaluation.federated, "PATIENCE_S", 0.5)

    async def scenario(live):
        ada, _ = await both_at(live)
        await ada.send(counters=counts(ada, 0, 1, 2))
        await ada.send(counters=counts(ada, 2, 1, 2))
        assert await first_value(live) == 2 / 4
        assert (await ada.receive("train")).round == 2

    serving(tmp_path, scenario, experiment=on_devices(deadline_s=deadline_s))
    assert any("bob takes longer than its deadline, and is left out of the validation" in r.getMessage()
               for r in caplog.records)  # fmt: skip


def test_a_host_that_keeps_dying_on_the_question_does_not_gain_time(tmp_path, monkeypatch):
    monkeypatch.setattr(coordinator.evaluation.federated, "PATIENCE_S", 20.0)

    async def scenario(live):
        ada, bob = await both_at(live)
        for client in (0, 2):
            await ada.send(counters=counts(ada, client, 1, 2))
        while not (await live.until(lambda snapshot: True)).run.values:
            bob.call.cancel()
            await asyncio.sleep(0.3)
            bob = await live.worker("bob", clients=[1, 3])
            await prepared(bob)
        assert await first_value(live) == 2 / 4

    serving(tmp_path, scenario, experiment=on_devices(deadline_s=2.0))


def test_a_host_that_comes_back_in_time_is_asked_for_what_it_has_not_said(tmp_path):
    async def scenario(live):
        ada, bob = await both_at(live)
        for client in (0, 2):
            await ada.send(counters=counts(ada, client, 1, 2))
        await bob.send(counters=counts(bob, 1, 1, 1))
        await live.until(lambda snapshot: "3 of 4" in snapshot.run.note)
        bob.call.cancel()
        await live.until(lambda snapshot: "bob" in snapshot.run.note)
        bob = await live.worker("bob", clients=[1, 3])
        await prepared(bob)
        assert list((await bob.receive("evaluate")).clients) == [3]
        await bob.send(counters=counts(bob, 3, 2, 3))
        assert await first_value(live) == 5 / 8

    serving(tmp_path, scenario, experiment=on_devices())


def test_a_client_that_cannot_be_scored_is_left_out(tmp_path):
    async def scenario(live):
        ada, bob = await both_at(live)
        for client in (0, 2):
            await ada.send(counters=counts(ada, client, 1, 2))
        client_error = pb.ClientError(run_id=bob.prepare.run_id, round=1, client=3, message="no memory")
        await bob.send(client_error=client_error)
        await bob.send(counters=counts(bob, 1, 1, 1))
        assert await first_value(live) == 3 / 5
        assert [client for client, *_ in ledger_counts(live)] == [0, 1, 2]

    serving(tmp_path, scenario, experiment=on_devices())


def test_without_any_example_the_run_waits_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(coordinator.evaluation.federated, "PATIENCE_S", 0.2)

    async def scenario(live):
        ada, bob = await both_at(live)
        for client in (0, 2):
            await ada.send(counters=counts(ada, client, 0, 0))
        bob.call.cancel()
        snapshot = await live.until(lambda snapshot: "no example of the validation part" in snapshot.run.note)
        assert snapshot.run.stage == "evaluating" and not snapshot.run.values
        bob = await live.worker("bob", clients=[1, 3])
        await prepared(bob)
        assert list((await bob.receive("evaluate")).clients) == [1, 3]
        await bob.send(counters=counts(bob, 1, 1, 3))
        await bob.send(counters=counts(bob, 3, 0, 0))
        assert await first_value(live) == 1 / 3

    serving(tmp_path, scenario, experiment=on_devices())


def test_a_run_that_nobody_can_validate_ends_in_one_line(tmp_path):
    async def scenario(live):
        for worker in await both_at(live):
            for client in worker.evaluate.clients:
                await worker.send(counters=counts(worker, client, 0, 0))
        last = await live.end()
        assert last.outcome.exit_code == 2
        assert last.outcome.message.startswith("data.validation: no client has a document to validate on")

    serving(tmp_path, scenario, experiment=on_devices())


def test_a_run_without_any_example_to_test_on_ends_without_a_test_score(tmp_path):
    async def scenario(live):
        workers = await both_at(live)
        for part, right in (("validation", 1), ("test", 0)):
            for worker in workers:
                if part == "test":
                    worker.evaluate = await worker.receive("evaluate")
                assert worker.evaluate.part == part
                for client in worker.evaluate.clients:
                    await worker.send(counters=counts(worker, client, 0, right, part=part))
        for worker in workers:
            await worker.released()
        last = await live.end()
        assert last.outcome.exit_code == 3
        (run,) = json.loads(await live.fetch("result.json"))["runs"]
        assert (run["test"], run["test_examples"]) == (None, 0)
        assert [entry["examples"] for entry in run["held_out"]["test"]] == [0] * 4

    serving(tmp_path, scenario, experiment=on_devices(rounds=1))


def test_a_run_is_ended_while_it_waits_for_devices_that_are_away(tmp_path):
    async def scenario(live):
        for worker in await both_at(live):
            worker.call.cancel()
        await live.until(lambda snapshot: "waiting for ada, bob" in snapshot.run.note)
        await live.operation.Cancel(pb.CancelRequest(experiment_id=live.experiment_id))
        assert (await live.end()).outcome.exit_code == 130

    serving(tmp_path, scenario, experiment=on_devices())


def test_a_worker_without_data_of_its_own_is_refused_by_name_where_all_must_have_some(tmp_path):
    config = on_devices(clients=2, clients_per_round=2)
    data = config.data.model_copy(update={"source": "devices", "labels": ("no", "yes")})

    async def scenario(live):
        ada = await live.worker("ada", own_data=True)
        bob = await live.worker("bob")
        for worker in (ada, bob):
            await prepared(worker)
        last = await live.end()
        assert last.outcome.exit_code == 2
        assert last.outcome.message == "worker bob, preparing: it has no data of its own: start it with --data FILE"

    serving(tmp_path, scenario, experiment=config.model_copy(update={"data": data}))


# ---- kill -9

KILLED = {
    "devices": 2, "clients": 4, "clients_per_round": 4, "rounds": 2,
}  # fmt: skip


def _outcome(federation):
    assert federation.finish() == 3, federation.words()
    (run,) = result_of(federation.folder / "out")["runs"]
    points = [(point["value"], point["examples"]) for point in run["curve"]]
    return federation.final_state(), points, run["test"], run["test_examples"], run["held_out"]


def _survivors(folder, wire, faults=None):
    described = {"federation": KILLED, "target": {"value": 1.0}, "evaluation": "devices", "wire": wire}
    return RestartedProcesses(folder, described, {"NOOP_EVALUATE_S": "0.05"}, faults=faults)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with _survivors(tmp_path_factory.mktemp("undisturbed"), "int8") as federation:
        return _outcome(federation)


def test_processes_killed_around_every_step_of_an_evaluation_end_with_the_same_state_and_result(tmp_path, undisturbed):
    # The coordinator's last one is in the evaluation of the test part.
    coordinators = ["after_asked:1", "before_counted:3", "after_evaluated:1", "before_evaluation_recorded:1"]
    coordinators.append("after_counted:6")
    faults = {"coordinator": coordinators, "a": ["after_scored:1", "before_reported:2"]}
    with _survivors(tmp_path, "int8", faults) as federation:
        assert _outcome(federation) == undisturbed
        assert federation.kills == 7


# ---- the worker


def evaluate_order(round_=1, clients=(0, 1), part="validation", state=SHA):
    return pb.Evaluate(run_id="r1", round=round_, part=part, clients=clients, state_sha256=state)


def test_a_worker_that_is_asked_again_answers_from_memory_and_trains_without_a_second_download():
    runtime = NoopRuntime()
    heard = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        for _ in range(2):
            send(evaluate=evaluate_order())
            heard.extend([await receive("counters") for _ in range(2)])
        assert len(fake.downloads) == 1
        send(evaluate=evaluate_order(part="test", clients=(1,)))
        heard.append(await receive("counters"))
        send(train=train_order(round_=2))
        while len(updates_of(fake)) < 2:
            await asyncio.sleep(0.01)
        assert len(fake.downloads) == 1

    work(script, runtime=runtime)
    answers = [(report.part, report.client, dict(report.counters)) for report in heard]
    state = unpack(START)
    assert answers == [
        *[("validation", client, counted(state, client, "validation")) for client in (0, 1, 0, 1)],
        ("test", 1, counted(state, 1, "test")),
    ]
    assert Counter(runtime.calls)["evaluate"] == 3


def test_a_worker_drops_an_evaluation_that_a_later_rounds_training_overtakes():
    runtime = NoopRuntime(evaluate_s=30.0)

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(evaluate=evaluate_order())
        while "evaluate" not in runtime.calls:
            await asyncio.sleep(0.01)
        runtime._evaluate_s = 0.0
        send(evaluate=evaluate_order(part="test"))  # still in the queue, then
        send(train=train_order(round_=2))
        while len(updates_of(fake)) < 2:
            await asyncio.sleep(0.01)

    work(script, runtime=runtime)
    assert runtime.calls.count("evaluate") == 1


def test_a_client_that_cannot_be_scored_is_told_and_the_rest_of_the_order_with_it():
    class Failing(NoopRuntime):
        def evaluate(self, client, part, state, on_batch):
            raise FederaError("out of memory in evaluation")

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(evaluate=evaluate_order())
        for client in (0, 1):
            client_error = await receive("client_error")
            assert (client_error.round, client_error.client, client_error.message) == (
                1,
                client,
                "out of memory in evaluation",
            )

    work(script, runtime=Failing())
