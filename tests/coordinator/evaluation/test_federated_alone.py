"""Federated evaluation among fakes: who is asked, what is summed in which order, and who is waited for."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.evaluation import federated
from coordinator.evaluation.evaluator import EvaluationResult
from coordinator.evaluation.federated import FederatedEvaluator
from coordinator.rounds.cohort import CountersReport
from coordinator.rounds.failures import Failure
from coordinator.rounds.throughput import Throughput
from federa.errors import BadInput, FederaError
from federa.tasks.metric import Metric
from tests.doubles.fake_cohort import FakeCohort

ERROR = Metric(name="error", better="lower", of=lambda counters: counters["sum"] / counters["examples"], target=0.0)

WHY = Failure("RuntimeError: no kernel image is available")
BAD = Failure("data: line 3 has no label", bad_input=True)


class FakeClients:
    """Clients 0 and 2 on a, 1 and 3 on b."""

    def __init__(self):
        self.hosts = {0: "a", 1: "b", 2: "a", 3: "b"}
        self.count = 4
        self.examples = dict.fromkeys(range(4), 10)
        self.ready = {"a", "b"}
        self.able = ["a", "b"]
        self.unable = {}
        self.away = {}

    def hosted_by(self, worker):
        return [client for client, host in self.hosts.items() if host == worker]

    def away_s(self, worker):
        return self.away.get(worker)


class FakeStore:
    def __init__(self):
        self.rows = {}

    def counters(self, round_, part):
        return [{"client": client, "counters": counters} for client, counters in sorted(self.rows.items())]

    def counted(self, *, round_, part, client, device, counters):
        self.rows[client] = counters


class FakeProgress:
    def __init__(self):
        self.stages = []

    def stage(self, stage, note=""):
        self.stages.append((stage, note))


class Evaluating:
    """An evaluator among fakes, and the evaluation of round 3 that is under way."""

    def __init__(self, **options):
        self.cohort, self.clients, self.store, self.progress = FakeCohort(), FakeClients(), FakeStore(), FakeProgress()
        self.evaluator = FederatedEvaluator(
            cohort=self.cohort, clients=self.clients, store=self.store, progress=self.progress,
            throughput=Throughput(), metric=ERROR, check=lambda counters: "negative" if counters["sum"] == -1.0 else "",
            **options,
        )  # fmt: skip

    async def begin(self):
        self.task = asyncio.ensure_future(self.evaluator.evaluate(3, "digest", "validation"))
        while not self.progress.stages and not self.task.done():
            await asyncio.sleep(0.001)

    def count(self, client, total, examples, *, worker=None, most=100, round_=3):
        report = CountersReport(
            round=round_, part="validation", client=client, counters={"sum": total, "examples": examples}
        )
        self.evaluator.receive(worker or self.clients.hosts.get(client, "a"), report, most)


def evaluating(scenario, **options):
    async def work():
        await scenario(Evaluating(**options))

    asyncio.run(asyncio.wait_for(work(), 20))


def test_each_ready_host_is_asked_and_the_sums_do_not_depend_on_who_answers_first():
    parts = {0: 1.0, 1: 1e16, 2: -1e16, 3: 1.0}

    async def scenario(one):
        results = []
        for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
            one.store.rows.clear()
            one.progress.stages.clear()
            one.cohort.log.clear()
            await one.begin()
            assert one.cohort.log == [
                ("evaluate", 3, "validation", "a", (0, 2), "digest"),
                ("evaluate", 3, "validation", "b", (1, 3), "digest"),
            ]
            for client in order:
                one.count(client, parts[client], 3)
            results.append(await one.task)
        assert len({result.value for result in results}) == 1 and results[0].examples == 12
        assert results[0] == EvaluationResult((((1.0 + 1e16) - 1e16) + 1.0) / 12, 12)

    evaluating(scenario)


def test_what_was_counted_before_a_restart_is_not_asked_for_again():
    async def scenario(one):
        one.store.rows.update({0: {"sum": 1.0, "examples": 2}, 2: {"sum": 1.0, "examples": 2}})
        await one.begin()
        assert one.cohort.log == [("evaluate", 3, "validation", "b", (1, 3), "digest")]
        one.count(1, 2.0, 4)
        one.count(3, 0.0, 0)
        assert await one.task == EvaluationResult(4.0 / 8, 8)

    evaluating(scenario)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"client": 1, "worker": "a"}, "it does not host that client"),
        ({"client": 0, "round_": 2}, "nobody asks for them now"),
        ({"client": 0, "total": -1.0}, "negative"),
        ({"client": 0, "most": 3}, "4 examples, when it can hold out 3 at most"),
        ({"client": 2, "total": 9.0}, "examples 4, sum 1 were counted before"),
    ],
)
def test_counters_that_cannot_be_are_left_and_logged(caplog, report, message):
    async def scenario(one):
        await one.begin()
        one.count(2, 1.0, 4)
        one.count(**{"total": 1.0, "examples": 4, **report})
        assert set(one.store.rows) == {2} and one.store.rows[2]["sum"] == 1.0
        one.task.cancel()

    evaluating(scenario)
    left = [line.getMessage() for line in caplog.records if "are left" in line.getMessage()]
    assert [line.split(": ", 2)[2] for line in left] == [message]


def test_a_client_that_failed_is_left_out_until_its_host_is_ready_anew():
    async def scenario(one):
        await one.begin()
        for client in (0, 1, 2):
            one.count(client, 1.0, 2)
        one.evaluator.failed("b", 2, 3, WHY)  # of another round
        await asyncio.sleep(0.01)
        assert not one.task.done()
        one.evaluator.failed("b", 3, 3, WHY)
        one.evaluator.ready("b")
        await asyncio.sleep(0.01)
        assert not one.task.done() and one.cohort.log[-1] == ("evaluate", 3, "validation", "b", (3,), "digest")
        one.evaluator.failed("b", 3, 3, WHY)
        assert await one.task == EvaluationResult(0.5, 6)

    evaluating(scenario)


def test_who_is_away_too_long_or_takes_too_long_or_is_unable_is_left_out(monkeypatch):
    monkeypatch.setattr(federated, "PATIENCE_S", 5.0)

    async def away(one):
        one.clients.away["b"] = 4.0
        await one.begin()
        for client in (0, 2):
            one.count(client, 1.0, 2)
        await asyncio.sleep(0)
        assert not one.task.done()
        one.clients.away["b"] = 6.0
        one.evaluator.presence_changed()
        assert await one.task == EvaluationResult(0.5, 4)

    async def unable(one):
        one.clients.able = ["a"]
        await one.begin()
        for client in (0, 2):
            one.count(client, 1.0, 2)
        assert await one.task == EvaluationResult(0.5, 4)

    async def slow(one):
        await one.begin()
        for client in (0, 2):
            one.count(client, 1.0, 2)
        assert await one.task == EvaluationResult(0.5, 4)

    evaluating(away)
    evaluating(unable)
    evaluating(slow, deadline_s=0.05)


def test_without_an_example_it_waits_for_one_and_ends_when_every_client_has_none():
    async def scenario(one):
        await one.begin()
        for client in (0, 2):
            one.count(client, 0.0, 0)
        one.clients.able = ["a"]
        one.evaluator.presence_changed()
        await asyncio.sleep(0.01)
        assert not one.task.done() and "no example of the validation part so far" in one.progress.stages[-1][1]
        for client in (1, 3):
            one.count(client, 0.0, 0)
        assert await one.task == EvaluationResult(None, 0)

    evaluating(scenario)


def test_a_client_that_counts_what_cannot_be_is_not_waited_for_and_may_answer_again():
    async def scenario(one):
        await one.begin()
        one.count(1, -1.0, 3, worker="a")  # not its host: that client is still waited for
        for client in (0, 1, 2):
            one.count(client, 1.0, 2)
        await asyncio.sleep(0.05)
        assert not one.task.done()
        one.count(3, -1.0, 2)
        result = await one.task
        assert result == EvaluationResult(0.5, 6)

    evaluating(scenario)


# ---- failures that do not go away


async def asked(one, times):
    while len(one.cohort.log) < 2 * times:
        await asyncio.sleep(0.001)


async def fail(one, *clients, why=WHY):
    for client in clients:
        one.evaluator.failed(one.clients.hosts[client], 3, client, why)


def test_what_fails_for_every_client_is_asked_for_once_more_and_then_ends_the_run():
    async def scenario(one):
        await one.begin()
        await fail(one, 0, 1, 2, 3)
        await asked(one, 2)
        await fail(one, 0, 1, 2, 3)
        with pytest.raises(FederaError, match="round 3: the validation part cannot be scored") as caught:
            await one.task
        assert "client 0 on a: RuntimeError: no kernel image" in str(caught.value) and caught.value.exit_code == 1

    evaluating(scenario)


def test_what_failed_once_may_go_well_the_second_time():
    async def scenario(one):
        await one.begin()
        await fail(one, 0, 1, 2, 3)
        await asked(one, 2)
        for client in range(4):
            one.count(client, 1.0, 2)
        assert await one.task == EvaluationResult(0.5, 8)

    evaluating(scenario)


def test_bad_input_of_every_client_is_not_asked_for_again():
    async def scenario(one):
        await one.begin()
        await fail(one, 0, 1, 2, 3, why=BAD)
        with pytest.raises(BadInput, match="line 3 has no label"):
            await one.task
        assert len(one.cohort.log) == 2

    evaluating(scenario)


def test_hosts_that_cannot_take_part_any_more_end_an_evaluation_that_nobody_else_can_make():
    async def scenario(one):
        one.clients.able, one.clients.ready = [], set()
        one.clients.unable = {"a": BAD, "b": BAD}
        with pytest.raises(BadInput, match="client 0 on a: data: line 3 has no label"):
            await one.evaluator.evaluate(3, "digest", "test")

    evaluating(scenario)


def test_a_device_that_is_away_or_a_failure_that_passes_is_waited_for_and_said(monkeypatch):
    monkeypatch.setattr(federated, "PATIENCE_S", 0.0)

    async def away(one):
        await one.begin()
        one.clients.away["b"] = 1.0
        await fail(one, 0, 2, why=BAD)
        await asyncio.sleep(0.05)
        assert not one.task.done() and "line 3 has no label" in one.progress.stages[-1][1]
        one.clients.away.clear()
        one.evaluator.ready("b")
        await fail(one, 1, 3, why=BAD)
        with pytest.raises(BadInput):
            await one.task

    async def passing(one):
        await one.begin()
        await fail(one, 0, 1, 2, 3, why=Failure("UNAVAILABLE", is_passing=True))
        await asyncio.sleep(0.05)
        assert not one.task.done()
        one.task.cancel()

    async def expected(one):  # devices that were never here: clients without a host
        one.clients.count = 6
        await one.begin()
        await fail(one, 0, 2, why=BAD)
        await fail(one, 1, 3, why=Failure("another", bad_input=True))
        await asyncio.sleep(0.05)
        assert not one.task.done()
        await fail(one, 1, 3, why=BAD)
        with pytest.raises(BadInput):
            await one.task

    for scenario in (away, passing, expected):
        evaluating(scenario)


def test_where_some_have_counted_those_that_fail_are_left_out():
    async def scenario(one):
        await one.begin()
        one.count(0, 1.0, 2)
        await fail(one, 1, 2, 3, why=BAD)
        assert await one.task == EvaluationResult(0.5, 2)

    evaluating(scenario)


def test_counters_that_cannot_be_from_every_client_end_the_run():
    async def scenario(one):
        await one.begin()
        for turn in (1, 2):
            for client in range(4):
                one.count(client, -1.0, 2)
            if turn == 1:
                await asked(one, 2)
        with pytest.raises(FederaError, match="client 0 on a: negative"):
            await one.task

    evaluating(scenario)
