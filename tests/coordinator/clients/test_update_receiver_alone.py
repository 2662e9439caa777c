"""The update receiver without a network: who is let in, what becomes of whom, and what is asked of the ledger."""

from __future__ import annotations

import asyncio
import errno
import math

import pytest
from update_fixtures import GOOD, START, state

from coordinator.clients.access import RunAccess
from coordinator.clients.errors import AuthError, RunNotReady, UpdateLate, UpdateRefused
from coordinator.clients.placement import PlacementRequest
from coordinator.clients.registry import ClientRegistry
from coordinator.clients.sessions import Sessions
from coordinator.clients.update_receiver import OpenRounds, UpdateReceiver
from coordinator.clients.update_spool import UpdateSpool
from coordinator.rounds.clock import RoundClock
from coordinator.rounds.events import Accepted, Joined, Plan, Refused
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.storage.ledger import Ledger
from coordinator.storage.ledger_types import LedgerFailure
from coordinator.storage.round_states import RunStates
from coordinator.storage.run_folder import RunFolder
from federa.config import Experiment, Federation
from federa.errors import FederaError
from federa.tensors.state import pack
from protos import federation_pb2 as pb
from protos.streams import data_chunks, header_of


class Receiving:
    """A receiver for clients 0 to 2 of worker ada, of which `selected` are drawn in the round that is open."""

    def __init__(self, path, *, norm_limit=10.0, selected=3):
        self.folder = RunFolder(path)
        self.ledger = Ledger(self.folder.ledger)
        self.registry = ClientRegistry(self.ledger)
        sessions = Sessions()
        sessions.bind({"ada": "key", "bob": "his"})
        self.access = RunAccess("r", sessions)
        self.posted, self.failures, self.shown, self.admitted = [], [], 0, []
        federation = Federation(devices=1, clients=3, clients_per_round=selected, norm_limit=norm_limit)
        self.receiver = UpdateReceiver(
            self.access,
            config=Experiment(federation=federation),
            registry=self.registry,
            ledger=self.ledger,
            spool=UpdateSpool(self.folder, self.ledger),
            post=self.posted.append,
            cannot_write=self.cannot_write,
            show_bytes=self.show,
        )
        plan = Plan(
            devices=1, devices_to_start=1, clients_per_round=selected, quorum=selected, rounds=9, target=1.0, seed=1
        )
        self.machine = RoundStateMachine(plan)

    def cannot_write(self, error):
        self.failures.append(error)
        return FederaError(f"the run stops: {error}")

    def show(self):
        self.shown += 1

    async def open(self):
        self.registry.expect(clients=3, devices=1)
        await self.registry.place({"ada": PlacementRequest()}, {"ada": "key"})
        self.registry.mark_ready("ada", {0: 1, 1: 2, 2: 3})
        self.machine.apply(Joined("ada", (0, 1, 2)))
        start = self.folder.keep_state(START)
        config = Experiment()
        states = RunStates(self.folder, config.make_aggregator(), wire="fp32", seed=1, start=start)
        await states.make_broadcast(1)
        rounds = OpenRounds(machine=self.machine, states=states, clock=RoundClock(), state_bytes=len(START))
        self.receiver.open(rounds)
        self.access.is_ready = True

    async def send(self, client=0, blob=GOOD, **changes):
        said = {"run_id": "r", "round": 1, "worker": "ada", "key": "key", "examples": client + 1, "loss": 0.5}
        first = header_of(blob, pb.UpdateHeader(client=client, **{**said, **changes}))
        admitted = asyncio.Event()

        async def admit(offset):
            self.admitted.append((client, offset))
            admitted.set()

        async def rest():
            await admitted.wait()
            for chunk in data_chunks(blob, self.admitted[-1][1]):
                yield chunk

        return await self.receiver.receive(first, rest(), admit)


def with_receiver(path, scenario, **options):
    """Run a scenario with a receiver that is open."""

    async def work():
        receiving = Receiving(path, **options)
        try:
            await receiving.open()
            await scenario(receiving)
        finally:
            receiving.ledger.close()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_nobody_is_let_in_before_the_run_is_ready_and_nobody_without_its_key(tmp_path):
    async def scenario(receiving):
        receiving.access.is_ready = False
        for key in ("key", "another"):
            with pytest.raises(RunNotReady, match="run r is being prepared"):
                await receiving.send(key=key)
        receiving.access.is_ready = True
        for changes in ({"key": "his"}, {"key": ""}, {"worker": "bob"}, {"worker": "eve", "key": "hers"}):
            with pytest.raises(AuthError, match="another key"):
                await receiving.send(**changes)
        assert (receiving.admitted, receiving.posted, receiving.ledger.client_failures()) == ([], [], [])

    with_receiver(tmp_path, scenario)


def test_an_update_is_recorded_told_and_acknowledged_and_again_when_it_comes_again(tmp_path):
    async def scenario(receiving):
        assert (await receiving.send(1)).already_accepted is False
        await asyncio.sleep(0)
        assert receiving.posted == [Accepted(1, 1)]
        assert receiving.ledger.has_accepted(1, 1) and receiving.shown == 1
        assert (await receiving.send(1)).already_accepted is True
        assert (await receiving.send(1, pack(state(2.0)))).already_accepted is True
        assert receiving.posted == [Accepted(1, 1)] and receiving.admitted == [(1, 0)]
        # Also when the run is over, and in a round that is long closed.
        receiving.access.is_over = True
        assert (await receiving.send(1)).already_accepted is True

    with_receiver(tmp_path, scenario)


@pytest.mark.parametrize(
    ("changes", "message", "recorded"),
    [
        ({"client": 2, "worker": "bob", "key": "his"}, "worker bob does not host this client", False),
        ({"client": 9}, "worker ada does not host this client", False),
        ({"round": 0}, "comes too late, or was not asked for: the run is in round 1, which waits for 2", False),
        ({"round": 2}, "comes too late, or was not asked for", False),
        ({"client": "other"}, "comes too late, or was not asked for", True),
    ],
)
def test_what_nobody_waits_for_is_late_and_what_was_of_the_run_is_recorded_once(tmp_path, changes, message, recorded):
    async def scenario(receiving):
        (other,) = set(range(3)) - set(receiving.machine.selected)
        said = {key: other if value == "other" else value for key, value in changes.items()}
        for _ in range(2):
            with pytest.raises(UpdateLate, match=message):
                await receiving.send(**{"examples": 1, **said})
        rows = receiving.ledger.client_failures()
        assert [(row["kind"], row["client"], row["attempt"]) for row in rows] == [("late", other, 1)] * recorded
        assert receiving.admitted == receiving.posted == []

    with_receiver(tmp_path, scenario, selected=2)


def test_a_run_that_is_over_takes_nothing_more(tmp_path):
    async def scenario(receiving):
        receiving.access.is_over = True
        with pytest.raises(UpdateLate, match="the run is over"):
            await receiving.send()

    with_receiver(tmp_path, scenario)


@pytest.mark.parametrize(
    "changes", [{"examples": 2}, {"loss": math.nan}, {"step_ms": [-1.0]}, {"micro_batch": 16}, {"blob": b"no state"}]
)
def test_what_no_honest_worker_says_is_refused_and_told(tmp_path, changes):
    async def scenario(receiving):
        with pytest.raises(UpdateRefused) as caught:
            await receiving.send(**changes)
        assert receiving.posted == [Refused(1, 0, str(caught.value))]
        assert receiving.ledger.contributions(1) == [] and receiving.failures == []

    with_receiver(tmp_path, scenario)


def test_before_a_client_s_examples_are_announced_its_update_comes_later(tmp_path):
    async def scenario(receiving):
        del receiving.registry.examples[0]
        with pytest.raises(RunNotReady, match="has not said how many examples it has"):
            await receiving.send()
        assert receiving.posted == []

    with_receiver(tmp_path, scenario)


def test_how_far_updates_may_be_is_asked_of_the_ledger_once_a_round(tmp_path, monkeypatch):
    async def scenario(receiving):
        asked = []

        def distances(before):
            asked.append(before)
            return [0.5, 1.0, 2.0]

        monkeypatch.setattr(receiving.ledger, "distances", distances)
        for client in (0, 1):
            with pytest.raises(UpdateRefused, match=r"at most 2 is taken \(federation.norm_limit\)"):
                await receiving.send(client)
        assert (await receiving.send(2, pack(state(0.1)))).already_accepted is False
        assert asked == [1]

    with_receiver(tmp_path, scenario, norm_limit=2.0)


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (LedgerFailure("disk I/O error"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EMFILE, "Too many open files"), False),
    ],
)
def test_what_cannot_be_written_ends_the_run_but_too_many_open_files_do_not(tmp_path, monkeypatch, error, ends):
    async def scenario(receiving):
        def broken(*_, **__):
            raise error

        monkeypatch.setattr(receiving.ledger, "has_accepted", broken)
        with pytest.raises(FederaError if ends else RunNotReady, match="the run stops" if ends else "too many files"):
            await receiving.send()
        monkeypatch.undo()
        assert receiving.failures == ([error] if ends else [])
        assert (await receiving.send()).already_accepted is False

    with_receiver(tmp_path, scenario)
