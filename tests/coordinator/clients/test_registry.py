"""The client registry: who hosts what is placed once and outlasts a kill, and who is here is known of each worker."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordinator.clients import registry as registry_module
from coordinator.clients.placement import PlacementRequest
from coordinator.clients.registry import ClientRegistry
from coordinator.rounds.failures import Failure
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import LedgerFailure
from federa.errors import BadInput

ANY = PlacementRequest()


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def expecting(ledger, clients=4, devices=2):
    registry = ClientRegistry(ledger)
    registry.expect(clients=clients, devices=devices)
    return registry


async def place(registry, *names, **requests):
    asked = {**dict.fromkeys(names, ANY), **requests}
    await registry.place(asked, {name: f"key of {name}" for name in asked})


def placed(registry, *names, **requests):
    asyncio.run(place(registry, *names, **requests))


# ---- who hosts what


def test_clients_are_placed_and_durable_with_their_hosts_keys(ledger):
    registry = expecting(ledger)
    placed(registry, "b", "a")
    assert registry.hosts == {0: "a", 1: "b", 2: "a", 3: "b"}
    assert (registry.hosted_by("a"), registry.hosted_by("b"), registry.hosted_by("c")) == ([0, 2], [1, 3], ())
    assert set(registry.workers) == {"a", "b"}
    assert [(row["client"], row["device"]) for row in ledger.clients()] == list(registry.hosts.items())
    assert ledger.keys() == registry.keys == {"a": "key of a", "b": "key of b"}


def test_what_an_earlier_process_placed_is_there_and_is_not_placed_again(ledger):
    placed(expecting(ledger), "a", b=PlacementRequest(clients=(1, 2)))
    ledger.prepared("a", {}, {0: 10, 3: 7})
    ledger.flush()
    again = expecting(ledger)
    assert again.hosts == {0: "a", 1: "b", 2: "b", 3: "a"} and again.examples == {0: 10, 3: 7}
    assert again.keys == {"a": "key of a", "b": "key of b"}
    placed(again, "a", "c")
    assert again.hosts == {0: "a", 1: "b", 2: "b", 3: "a"}, "everybody that is expected hosts something"


def test_no_more_workers_are_placed_than_the_run_expects(ledger):
    registry = expecting(ledger)
    placed(registry, "c", "b", "a")
    assert set(registry.workers) == {"a", "b"}
    placed(registry, "c")
    assert registry.hosted_by("c") == ()
    assert set(registry.keys) == {"a", "b"} == set(ledger.keys()), "nor is a name bound that takes no part"


def test_who_comes_late_hosts_what_was_left_for_it(ledger):
    registry = expecting(ledger)
    placed(registry, "b")
    assert registry.hosts == {0: "b", 2: "b"}
    placed(registry, "b", "a")
    assert registry.hosts == {0: "b", 1: "a", 2: "b", 3: "a"}


def test_a_worker_that_insists_on_what_cannot_be_changes_nothing(ledger):
    registry = expecting(ledger)
    placed(registry, a=PlacementRequest(clients=(0, 1)))
    with pytest.raises(BadInput, match="client 1 is hosted by both a and b"):
        placed(registry, b=PlacementRequest(clients=(1,)))
    assert registry.hosts == {0: "a", 1: "a"} and registry.keys == {"a": "key of a"} == ledger.keys()


def test_two_workers_that_come_at_once_are_placed_one_after_the_other(ledger):
    registry = expecting(ledger)

    async def both():
        await asyncio.gather(place(registry, "a"), place(registry, "b"))

    asyncio.run(both())
    assert sorted(registry.hosts) == [0, 1, 2, 3]
    assert [(row["client"], row["device"]) for row in ledger.clients()] == list(registry.hosts.items())


def test_a_placement_is_known_when_it_is_durable_and_not_before(ledger, monkeypatch):
    registry = expecting(ledger)
    began, may_end = threading.Event(), threading.Event()
    original = ledger.hosted

    def slow(*arguments):
        began.set()
        may_end.wait(10)
        original(*arguments)

    async def work():
        monkeypatch.setattr(ledger, "hosted", slow)
        placing = asyncio.ensure_future(place(registry, "a"))
        assert await asyncio.to_thread(began.wait, 10)
        assert registry.hosts == {} and registry.keys == {}
        may_end.set()
        await placing
        assert registry.hosts == {0: "a", 2: "a"}

    asyncio.run(work())


def test_a_placement_that_could_not_be_recorded_is_none(ledger, monkeypatch):
    registry = expecting(ledger)

    def broken(*_):
        raise LedgerFailure("disk I/O error")

    monkeypatch.setattr(ledger, "hosted", broken)
    with pytest.raises(LedgerFailure):
        placed(registry, "a")
    monkeypatch.undo()
    assert registry.hosts == {}
    placed(registry, "b")
    assert registry.hosts == {0: "b", 2: "b"}


# ---- who is here, and who can take part


@pytest.fixture
def registry(ledger):
    registry = expecting(ledger)
    placed(registry, "a", "b")
    return registry


def test_a_worker_is_ready_on_the_stream_that_it_said_so_on(registry):
    registry.arrive("a")
    assert registry.ready == set()
    registry.mark_ready("a", {0: 10, 2: 30})
    assert (registry.ready, registry.examples) == ({"a"}, {0: 10, 2: 30})
    registry.arrive("a")  # again: it has to say it again
    assert registry.ready == set() and registry.examples == {0: 10, 2: 30}
    registry.mark_ready("a", {0: 11, 2: 30})
    assert registry.examples[0] == 11
    registry.leave("a")
    assert registry.ready == set()


def test_who_cannot_take_part_is_not_able_until_it_is_ready_after_all(registry):
    registry.mark_ready("a", {})
    assert registry.able == ["a", "b"]
    registry.mark_unable("a", Failure("no GPU"))
    assert registry.unable == {"a": Failure("no GPU")}
    assert (registry.able, registry.ready) == (["b"], set())
    registry.arrive("a")
    assert registry.able == ["b"]
    registry.mark_ready("a", {})
    assert registry.able == ["a", "b"]


def test_how_long_a_worker_has_been_away_counts_from_when_it_left_or_from_the_beginning(ledger, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(registry_module.time, "monotonic", lambda: now[0])
    registry = ClientRegistry(ledger)
    now[0] += 5.0
    assert registry.away_s("a") == 5.0
    registry.arrive("a")
    assert registry.away_s("a") is None
    now[0] += 5.0
    registry.leave("a")
    now[0] += 2.5
    assert registry.away_s("a") == 2.5
