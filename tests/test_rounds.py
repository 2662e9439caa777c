"""The state machine of a run's rounds, driven with every order of events: no network, no clock, no files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import coordinator.rounds
import federa.seeds
from coordinator.rounds import Accepted, Announce, Close, Evaluated, Finish, Joined, Left, Plan, Rounds

WORKERS = ("ada", "bob", "cyd")
TARGET = 0.9


def plan(hosts=None, *, clients_per_round=2, rounds=3, target=TARGET, seed=1):
    return Plan(
        hosts={0: "ada", 1: "ada", 2: "bob", 3: "bob"} if hosts is None else hosts,
        clients_per_round=clients_per_round,
        rounds=rounds,
        target=target,
        seed=seed,
    )


def started(**changes):
    """A machine in its first round, and what it announced."""
    machine = Rounds(plan(**changes))
    decisions = []
    for worker in sorted(set(machine.plan.hosts.values())):
        decisions.extend(machine.apply(Joined(worker)))
    return machine, decisions


def finish_round(machine, value):
    for client in machine.selected:
        machine.apply(Accepted(machine.round, client))
    return machine.apply(Evaluated(machine.round, value))


def test_a_run_from_its_first_worker_to_its_target():
    machine = Rounds(plan(clients_per_round=4))
    assert machine.absent == ["ada", "bob"]
    assert machine.apply(Joined("bob")) == []
    assert machine.absent == ["ada"]
    assert machine.apply(Joined("ada")) == [Announce(1, "ada", (0, 1)), Announce(1, "bob", (2, 3))]
    for client in (3, 0, 2):
        assert machine.apply(Accepted(1, client)) == []
    assert machine.apply(Accepted(1, 1)) == [Close(1, (0, 1, 2, 3))]
    assert machine.apply(Evaluated(1, 0.5)) == [Announce(2, "ada", (0, 1)), Announce(2, "bob", (2, 3))]
    assert finish_round(machine, TARGET) == [Finish(True)]


def test_nothing_starts_before_every_host_is_here():
    # Also a host without a client in the first round: nobody starts with an unfair lead.
    machine = Rounds(plan({0: "ada", 1: "bob", 2: "cyd"}, clients_per_round=1))
    assert machine.apply(Joined("ada")) == machine.apply(Joined("bob")) == machine.apply(Left("bob")) == []
    assert machine.apply(Joined("cyd")) == []
    (announced,) = machine.apply(Joined("bob"))
    assert announced.round == 1
    assert announced.clients == machine.select(1)


def test_a_worker_that_hosts_nobody_is_told_nothing():
    machine, _ = started()
    assert machine.apply(Joined("guest")) == []
    assert machine.apply(Left("guest")) == []


def test_a_worker_that_comes_back_is_told_only_what_is_missing():
    machine, _ = started(clients_per_round=4)
    machine.apply(Accepted(1, 0))
    assert machine.apply(Left("ada")) == []
    assert machine.absent == ["ada"]
    assert machine.apply(Joined("ada")) == [Announce(1, "ada", (1,))]
    assert machine.absent == []
    # Its stream was replaced without ending first: the same.
    assert machine.apply(Joined("ada")) == [Announce(1, "ada", (1,))]
    machine.apply(Accepted(1, 1))
    machine.apply(Left("ada"))
    assert machine.apply(Joined("ada")) == []


def test_who_is_away_at_a_rounds_start_is_told_on_return():
    machine, _ = started(clients_per_round=4)
    for client in range(4):
        machine.apply(Accepted(1, client))
    machine.apply(Left("bob"))
    assert machine.apply(Evaluated(1, 0.1)) == [Announce(2, "ada", (0, 1))]
    assert machine.absent == ["bob"]
    assert machine.apply(Joined("bob")) == [Announce(2, "bob", (2, 3))]


def test_a_worker_that_joins_while_a_round_is_evaluated_waits_for_the_next():
    machine, _ = started(clients_per_round=4)
    for client in range(4):
        machine.apply(Accepted(1, client))
    assert machine.apply(Joined("ada")) == []
    assert machine.apply(Evaluated(1, 0.1)) == [Announce(2, "ada", (0, 1)), Announce(2, "bob", (2, 3))]


@pytest.mark.parametrize(
    "event", [Accepted(0, 0), Accepted(2, 0), Accepted(1, 99), Evaluated(0, 1.0), Evaluated(2, 1.0)]
)
def test_events_of_another_round_or_client_change_nothing(event):
    machine, _ = started(clients_per_round=4)
    assert machine.apply(event) == []
    assert (machine.round, machine.accepted) == (1, set())


def test_an_update_counts_once():
    machine, _ = started(clients_per_round=2)
    first, second = machine.selected
    assert machine.apply(Accepted(1, first)) == machine.apply(Accepted(1, first)) == []
    assert machine.apply(Accepted(1, second)) == [Close(1, (first, second))]
    assert machine.apply(Accepted(1, second)) == []


def test_a_client_without_a_part_in_the_round_does_not_close_it():
    machine, _ = started(clients_per_round=2)
    outside = next(client for client in range(4) if client not in machine.selected)
    machine.apply(Accepted(1, machine.selected[0]))
    assert machine.apply(Accepted(1, outside)) == []


def test_a_round_is_judged_once_and_only_when_closed():
    machine, _ = started(clients_per_round=4)
    assert machine.apply(Evaluated(1, 1.0)) == []
    assert machine.round == 1
    finish_round(machine, 0.1)
    assert machine.round == 2
    assert machine.apply(Evaluated(1, 1.0)) == []


@pytest.mark.parametrize(("value", "reached"), [(TARGET, True), (1.0, True), (TARGET - 1e-9, False), (0.0, False)])
def test_the_target_is_reached_from_its_own_value_on(value, reached):
    machine, _ = started(rounds=1)
    assert finish_round(machine, value) == [Finish(reached)]


def test_the_last_round_is_the_limit():
    machine, _ = started(rounds=2)
    assert all(isinstance(decision, Announce) and decision.round == 2 for decision in finish_round(machine, 0.1))
    assert finish_round(machine, 0.1) == [Finish(False)]
    assert machine.round == 2


def test_nothing_happens_after_the_end():
    machine, _ = started(rounds=1)
    finish_round(machine, 0.1)
    for event in (Joined("ada"), Left("ada"), Accepted(1, 0), Evaluated(1, 1.0), Evaluated(2, 1.0)):
        assert machine.apply(event) == []


@given(order=st.permutations(WORKERS), seed=st.integers(0, 2**63 - 1))
def test_who_is_selected_follows_from_the_seed_and_not_from_who_came_when(order, seed):
    hosts = {client: WORKERS[client % 3] for client in range(9)}
    machine = Rounds(plan(hosts, clients_per_round=4, seed=seed))
    for worker in order:
        machine.apply(Joined(worker))
    same = Rounds(plan(dict(reversed(hosts.items())), clients_per_round=4, seed=seed))
    assert machine.selected == same.select(1)
    assert [machine.select(round_) for round_ in range(1, 6)] == [same.select(round_) for round_ in range(1, 6)]
    assert list(machine.selected) == sorted(set(machine.selected))
    assert len(machine.selected) == 4


def test_selection_is_pinned():
    # A run that goes on under another version must draw the same clients; so must another Python.
    hosts = dict.fromkeys(range(20), "ada")
    machine = Rounds(plan(hosts, clients_per_round=5, seed=7))
    assert [machine.select(round_) for round_ in (1, 2, 3)] == [(6, 7, 12, 17, 18), (2, 5, 7, 16, 18), (1, 3, 6, 8, 12)]


def test_seeds_and_rounds_draw_differently_and_everybody_gets_a_turn():
    hosts = dict.fromkeys(range(10), "ada")
    one, other = (Rounds(plan(hosts, clients_per_round=3, seed=seed)) for seed in (1, 2))
    assert len({one.select(round_) for round_ in range(1, 21)}) > 10
    assert [one.select(round_) for round_ in range(1, 6)] != [other.select(round_) for round_ in range(1, 6)]
    assert {client for round_ in range(1, 41) for client in one.select(round_)} == set(range(10))


PURE = {"__future__", "collections", "dataclasses", "federa", "hashlib", "random"}


@pytest.mark.parametrize("module", [coordinator.rounds, federa.seeds])
def test_the_machine_knows_no_network_no_model_and_no_clock(module):
    imported = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Name):
            assert node.id not in ("__import__", "open", "input"), node.lineno
    assert imported <= PURE


def test_importing_the_machine_brings_in_nothing_heavy():
    code = "import sys, coordinator.rounds; print(sorted({'grpc', 'torch', 'asyncio', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


class AnyOrder(RuleBasedStateMachine):
    """Workers come and go, updates come early, late, twice and from strangers. What must hold is kept here apart from
    the machine: which clients each worker was told about since it last joined."""

    @initialize(
        owners=st.lists(st.sampled_from(WORKERS), min_size=1, max_size=6),
        share=st.integers(1, 6),
        rounds=st.integers(1, 4),
        seed=st.integers(0, 99),
    )
    def start(self, owners, share, rounds, seed):
        self.hosts = dict(enumerate(owners))
        share = min(share, len(owners))
        self.machine = Rounds(plan(self.hosts, clients_per_round=share, rounds=rounds, seed=seed))
        self.share = share
        self.here = set()
        self.round = 0
        self.accepted = set()
        self.told = {}
        self.closed = []
        self.finishes = []

    def do(self, event):
        decisions = self.machine.apply(event)
        if self.finishes:
            assert decisions == []
        for decision in decisions:
            if isinstance(decision, Announce):
                assert decision.round == self.round
                assert decision.worker in self.here
                missing = [c for c in self.machine.selected if c not in self.accepted]
                assert decision.clients == tuple(c for c in missing if self.hosts[c] == decision.worker) != ()
                self.told[decision.worker] = set(decision.clients)
            elif isinstance(decision, Close):
                assert decision.round == self.round not in self.closed
                assert self.accepted == set(decision.clients)
                assert list(decision.clients) == sorted(decision.clients)
                assert len(decision.clients) == self.share
                self.closed.append(decision.round)
            else:
                self.finishes.append(decision)
        return decisions

    @property
    def closing(self):
        return self.round in self.closed

    @rule(worker=st.sampled_from((*WORKERS, "stranger")))
    def join(self, worker):
        self.here.add(worker)
        if self.round == 0 and self.here >= set(self.hosts.values()):
            self.round = 1
        self.told.pop(worker, None)
        self.do(Joined(worker))

    @rule(worker=st.sampled_from((*WORKERS, "stranger")))
    def leave(self, worker):
        self.here.discard(worker)
        self.told.pop(worker, None)
        assert self.do(Left(worker)) == []

    @precondition(lambda self: self.round and not self.finishes)
    @rule(data=st.data())
    def accept(self, data):
        client = data.draw(st.sampled_from(self.machine.selected))
        again = client in self.accepted
        self.accepted.add(client)
        decisions = self.do(Accepted(self.round, client))
        complete = not again and len(self.accepted) == self.share
        assert decisions == ([Close(self.round, self.machine.selected)] if complete else [])

    @rule(ahead=st.sampled_from((-1, 0, 1, 5)), client=st.integers(-1, 8))
    def accept_what_has_no_part(self, ahead, client):
        if ahead or client not in self.machine.selected:
            assert self.do(Accepted(self.round + ahead, client)) == []

    @rule(value=st.sampled_from((0.0, 0.5, TARGET, 1.0)))
    def evaluate(self, value):
        judged = self.closing and not self.finishes
        last = self.round == self.machine.plan.rounds
        if judged and value < TARGET and not last:
            self.round += 1
            self.accepted = set()
            self.told = {}
        decisions = self.do(Evaluated(self.round - (judged and not last and value < TARGET), value))
        if not judged:
            assert decisions == []
        elif value >= TARGET or last:
            assert decisions == [Finish(value >= TARGET)]

    @invariant()
    def rounds_close_one_after_the_other(self):
        assert self.closed == list(range(1, len(self.closed) + 1))
        assert self.round - len(self.closed) in (0, 1)
        assert self.machine.round == self.round <= self.machine.plan.rounds
        assert len(self.finishes) <= 1

    @invariant()
    def every_host_that_is_here_knows_what_is_missing(self):
        if self.round and not self.closing and not self.finishes:
            for client in set(self.machine.selected) - self.accepted:
                host = self.hosts[client]
                assert host not in self.here or client in self.told[host]

    @invariant()
    def who_is_waited_for_is_known(self):
        if self.round and not self.finishes:
            owed = {self.hosts[client] for client in set(self.machine.selected) - self.accepted}
            assert self.machine.absent == sorted(owed - self.here)


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase
