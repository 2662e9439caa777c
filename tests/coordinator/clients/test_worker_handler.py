"""The handler of worker streams, among fakes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import SimpleNamespace

from coordinator.clients.registry import ClientRegistry
from coordinator.clients.worker_handler import WorkerHandler
from coordinator.storage.ledger import Ledger


class FakeSessions:
    """One worker, ada, is connected."""

    names = ("ada",)

    def __init__(self):
        self.bound = {}

    def get(self, name):
        hello = SimpleNamespace(clients=(), own_data=False, key="a" * 32)
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
