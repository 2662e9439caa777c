"""The handler of worker streams, among fakes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import SimpleNamespace

from coordinator.clients.registry import ClientRegistry
from coordinator.clients.worker_handler import WorkerHandler
from coordinator.clients.worker_setup import WorkerSetup
from coordinator.rounds.events import Failed, Unable
from coordinator.rounds.failures import Failure
from coordinator.storage.ledger import Ledger
from federa.errors import BadInput, FederaError
from protos import federation_pb2 as pb


class FakeSessions:
    """These workers are connected."""

    def __init__(self, *names):
        self.bound, self.names = {}, names or ("ada",)

    def get(self, name):
        hello = SimpleNamespace(clients=(), own_data=False, key=name[0] * 32)
        return SimpleNamespace(name=name, hello=hello)

    def bind(self, keys):
        self.bound = dict(keys)


def test_who_is_placed_as_its_stream_breaks_is_placed_in_memory_as_in_the_ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    begun, go_on, hosted = threading.Event(), threading.Event(), ledger.hosted

    def slow(*arguments):
        begun.set()
        assert go_on.wait(20)
        hosted(*arguments)

    ledger.hosted = slow
    registry, sessions = ClientRegistry(ledger), FakeSessions()
    handler = WorkerHandler(
        registry=registry, cohort=None, sessions=sessions, ledger=ledger, telemetry=None, board=None, post=print
    )

    async def work():
        gathering = asyncio.ensure_future(handler.gather(clients=2, devices=1, enough=1))
        await asyncio.to_thread(begun.wait, 20)
        gathering.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with contextlib.suppress(asyncio.CancelledError):
            await gathering

    asyncio.run(work())
    assert {row["client"]: row["device"] for row in ledger.clients()} == registry.hosts == {0: "ada", 1: "ada"}
    assert sessions.bound == registry.keys == ledger.keys() == {"ada": "a" * 32}
    ledger.close()


# ---- workers that cannot prepare


class FakeBoard:
    def __init__(self):
        self.stages, self.run = [], SimpleNamespace(facts=[])

    def say(self, text):
        self.run.facts.append(text)

    def worker(self, name):
        return SimpleNamespace()

    def stage(self, stage, note=""):
        self.stages.append((stage, note))


class Handling:
    """A handler whose registry has these workers, of so many devices; all are here. `posted` is what reached the
    rounds."""

    def __init__(self, tmp_path, workers, *, devices, enough):
        self.ledger, self.posted, self.board = Ledger(tmp_path / "ledger.sqlite"), [], FakeBoard()
        self.ledger.hosted({name: name * 32 for name in workers}, dict(enumerate(workers)))
        self.registry = ClientRegistry(self.ledger)
        self.registry.expect(clients=devices, devices=devices)
        for name in workers:
            self.registry.arrive(name)
        self.handler = WorkerHandler(
            registry=self.registry, cohort=SimpleNamespace(is_releasing=False), sessions=FakeSessions(*workers),
            ledger=self.ledger, telemetry=None, board=self.board, post=self.posted.append,
        )  # fmt: skip
        asyncio.run(self.handler.gather(clients=devices, devices=devices, enough=enough))

    def fails(self, name, message="no such file", bad_input=True):
        error = pb.ClientError(run_id="run", message=message, bad_input=bad_input)
        self.handler.received(SimpleNamespace(name=name), pb.WorkerMessage(client_error=error))
        return self.posted[-1]


def test_the_run_ends_as_soon_as_too_few_devices_can_take_part(tmp_path):
    one = Handling(tmp_path, ["a", "b", "c"], devices=3, enough=2)
    assert one.fails("a") == Unable("a", Failure("no such file", bad_input=True))
    assert one.board.stages[-1] == ("preparing", "without worker a, which cannot take part: no such file")
    end = one.fails("b", "no GPU", bad_input=False)
    assert isinstance(end, FederaError) and end.exit_code == 1, "not all of it is bad input"
    assert str(end) == "worker b, preparing: no GPU; worker a: no such file"


def test_what_all_say_is_said_once(tmp_path):
    one = Handling(tmp_path, ["a", "b"], devices=2, enough=1)
    one.fails("a", "data: /home/a/x.csv line 3")
    end = one.fails("b", "data: /home/b/x.csv line 7")
    assert (type(end), str(end)) == (BadInput, "worker b, preparing: data: /home/b/x.csv line 7")


def test_while_others_are_expected_it_ends_when_all_that_are_here_and_enough_to_begin_with_have_failed(tmp_path):
    one = Handling(tmp_path, ["a", "b"], devices=4, enough=2)
    assert isinstance(one.fails("a"), Unable)
    assert isinstance(one.fails("b"), BadInput)


def test_while_others_are_expected_one_that_prepares_is_waited_for(tmp_path):
    one = Handling(tmp_path, ["a", "b"], devices=4, enough=1)
    assert isinstance(one.fails("a"), Unable), "b is still at it"
    one.handler.left("b")
    assert isinstance(one.fails("a"), BadInput)


def test_once_rounds_have_begun_they_decide(tmp_path):
    one = Handling(tmp_path, ["a"], devices=1, enough=1)
    one.handler.rounds_began = True
    assert isinstance(one.fails("a"), Unable)


# ---- records that were cut


def prepare(one, examples, cut):
    prepared = pb.Prepared(run_id="run", examples=examples, cut=cut)
    hello = pb.Hello(name="a")
    one.handler.received(SimpleNamespace(name="a", hello=hello), pb.WorkerMessage(prepared=prepared))


def test_what_a_worker_has_cut_is_recorded_and_said_once(tmp_path):
    one = Handling(tmp_path, ["a"], devices=1, enough=1)
    one.handler._setup = WorkerSetup(prepare=pb.Prepare(run_id="run"), shards=[range(20)], max_length=64)
    for _ in range(2):  # it says so again after a restart
        prepare(one, {0: 20}, {0: pb.CutRecords(records=20, cut=1), 7: pb.CutRecords(records=9, cut=9)})
    assert one.board.run.facts == ["data: on a 1 of 20 records lost tokens at data.max_length 64"]
    one.ledger.flush()
    assert [(row["records"], row["cut"]) for row in one.ledger.clients()] == [(20, 1)]
    prepare(one, {0: 20}, {0: pb.CutRecords(records=20)})
    assert len(one.board.run.facts) == 1, "nothing was cut"


def test_a_worker_that_cuts_more_records_than_it_has_takes_no_part(tmp_path):
    one = Handling(tmp_path, ["a"], devices=1, enough=1)
    one.handler._setup = WorkerSetup(prepare=pb.Prepare(run_id="run"), shards=[range(20)])
    for records, cut in ((20, 21), (2**63, 1)):
        prepare(one, {0: 20}, {0: pb.CutRecords(records=records, cut=cut)})
        assert str(one.posted[-1]).endswith(f"it has cut {cut} of {records} records of client 0")


def test_a_failure_in_a_round_says_whether_it_is_bad_input_and_whether_it_may_pass(tmp_path):
    one = Handling(tmp_path, ["a"], devices=1, enough=1)
    told = pb.ClientError(run_id="run", round=2, client=0, message="UNAVAILABLE:\n gone\x1b[2J", passing=True)
    one.handler.received(SimpleNamespace(name="a"), pb.WorkerMessage(client_error=told))
    assert one.posted == [Failed(2, 0, Failure("UNAVAILABLE: gone\\x1b[2J", is_passing=True))]
