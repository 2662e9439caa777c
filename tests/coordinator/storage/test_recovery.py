"""What a run goes on from after its coordinator died: from the ledger alone, whatever it was doing."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from whole_runs import WholeRun

from coordinator.rounds.events import Announce, Close, Failed, Joined, Plan, Refused, RoundSnapshot, Select
from coordinator.rounds.state_machine import RoundStateMachine
from coordinator.storage.ledger import Ledger
from coordinator.storage.recovery import recover
from coordinator.storage.run_folder import RunFolder

PLAN = Plan(devices=2, devices_to_start=2, clients_per_round=2, quorum=2, rounds=9, target=0.9, seed=1)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def ledger(folder):
    ledger = Ledger(folder.ledger)
    yield ledger
    ledger.close()


def accept(ledger, folder, round_, client, blob=b"update"):
    """An update as the receiver keeps it; its file."""
    path = folder.update(round_, client, "d" * 64)
    path.write_bytes(blob)
    ledger.accepted(
        round_=round_, client=client, device="ada", examples=1, loss=0.0, sha256="d" * 64, step_ms=[], distance=1.0,
        after_s=1.0, wire_bytes=1, state_bytes=1,
    )  # fmt: skip
    return path


def record_failure(ledger, kind, round_, attempt, client):
    ledger.record_failure(kind, round_=round_, attempt=attempt, client=client, device="ada", reason="why")


def begun(ledger, folder):
    """A run whose start is recorded; the start's digest."""
    start = folder.keep_state(b"start")
    ledger.note(start_sha256=start)
    ledger.hosted({"ada": "k1", "bob": "k2"}, {0: "ada", 1: "ada", 2: "bob", 3: "bob"})
    return start


HOSTS = {0: "ada", 1: "ada", 2: "bob", 3: "bob"}


def left(folder):
    """The files below the run's folder that recovery may remove."""
    return {path for name in ("states", "spool") for path in (folder.path / name).iterdir()}


# ---- from each stage


def test_a_run_that_noted_no_start_begins_anew(ledger, folder):
    orphan = folder.state(folder.keep_state(b"start"))
    ledger.note(state="running", restarts=0)
    ledger.hosted({"ada": "k1"}, {0: "ada"})
    assert recover(ledger, folder) is None
    assert orphan.exists(), "nothing is touched"


def test_before_the_first_round(ledger, folder):
    start = begun(ledger, folder)
    found = recover(ledger, folder)
    assert (found.start, found.state, found.broadcast, found.server_state) == (start, start, None, None)
    assert (found.history.is_aggregated, found.history.value, found.history.spent_s) == (False, None, 0.0)
    assert found.history.snapshot == RoundSnapshot(
        hosts=HOSTS, round=0, attempt=0, selected=set(), accepted=set(), failed=set(), refusals={}
    )


def test_in_an_open_round(ledger, folder):
    start = begun(ledger, folder)
    ledger.selected(1, 1, [0, 2], start)
    ledger.alive(1, 2.5, 1000.0)
    accept(ledger, folder, 1, 2)
    found = recover(ledger, folder)
    assert (found.state, found.history.is_aggregated, found.history.spent_s) == (start, False, 2.5)
    assert found.broadcast == start
    assert found.history.snapshot == RoundSnapshot(
        hosts=HOSTS, round=1, attempt=1, selected={0, 2}, accepted={2}, failed=set(), refusals={}
    )


def test_in_a_round_of_which_nothing_came_yet(ledger, folder):
    start = begun(ledger, folder)
    ledger.selected(1, 1, [0, 2], start)
    past = recover(ledger, folder).history.snapshot
    assert (past.round, past.attempt, past.selected, past.accepted) == (1, 1, {0, 2}, set())


def test_who_failed_is_not_waited_for_and_who_was_drawn_again_is(ledger, folder):
    start = begun(ledger, folder)
    ledger.selected(1, 1, [0, 1, 2, 3], start)
    record_failure(ledger, "failed", 1, 1, 0)
    record_failure(ledger, "refused", 1, 1, 1)
    record_failure(ledger, "late", 1, 1, 2)
    record_failure(ledger, "missing", 1, 1, 3)
    assert recover(ledger, folder).history.snapshot.failed == {0, 1}
    ledger.selected(1, 2, [0], start)
    found = recover(ledger, folder).history.snapshot
    assert (found.attempt, found.selected, found.failed) == (2, {0, 1, 2, 3}, {1})
    # Again, and a straggler of the first attempt fails in the second.
    record_failure(ledger, "failed", 1, 2, 0)
    record_failure(ledger, "failed", 1, 2, 2)
    assert recover(ledger, folder).history.snapshot.failed == {0, 1, 2}


def test_failures_of_other_rounds_and_clients_are_none_of_this_round(ledger, folder):
    start = begun(ledger, folder)
    for round_ in (1, 2):
        ledger.selected(round_, 1, [0, 1], start)
        record_failure(ledger, "failed", round_, 1, 3)
    record_failure(ledger, "failed", 1, 1, 0)
    ledger.aggregated(1, 1.0, start)
    assert recover(ledger, folder).history.snapshot.failed == set()


def test_refusals_of_the_whole_run_count(ledger, folder):
    begun(ledger, folder)
    for round_, kind, client in (
        (1, "refused", 1),
        (2, "refused", 1),
        (2, "failed", 1),
        (2, "late", 0),
        (2, "refused", 2),
    ):
        record_failure(ledger, kind, round_, 1, client)
    assert recover(ledger, folder).history.snapshot.refusals == {1: 2, 2: 1}


@pytest.mark.parametrize("value", [None, 0.5])
def test_between_two_rounds(ledger, folder, value):
    start = begun(ledger, folder)
    ledger.selected(1, 1, [0, 2], start)
    updates = [accept(ledger, folder, 1, client) for client in (0, 2)]
    state = folder.keep_state(b"aggregated")
    ledger.aggregated(1, 3.0, state)
    if value is not None:
        ledger.evaluated(1, value)
    found = recover(ledger, folder)
    assert (found.start, found.state, found.history.is_aggregated, found.history.value) == (start, state, True, value)
    assert found.history.snapshot.accepted == set()
    assert not any(path.exists() for path in updates), "they are in the state already"


def test_in_a_later_round_the_state_is_the_last_aggregated_one(ledger, folder):
    start = begun(ledger, folder)
    states = [start]
    for round_ in (1, 2, 3):
        ledger.selected(round_, 1, [0], states[-1])
        accept(ledger, folder, round_, 0)
        if round_ < 3:
            states.append(folder.keep_state(f"state {round_}".encode()))
            ledger.aggregated(round_, 1.0, states[-1])
    found = recover(ledger, folder)
    assert (found.start, found.state, found.history.snapshot.round, found.history.snapshot.accepted) == (
        start,
        states[-1],
        3,
        {0},
    )
    assert not folder.state(states[1]).exists()


# ---- the folder


def test_what_the_ledger_does_not_know_goes_and_what_it_needs_stays(ledger, folder):
    start = begun(ledger, folder)
    state, broadcast = folder.keep_state(b"state 1"), folder.keep_state(b"broadcast 2")
    ledger.selected(1, 1, [0], start)
    ledger.aggregated(1, 1.0, state)
    ledger.selected(2, 1, [0, 1, 2], broadcast)
    recorded = accept(ledger, folder, 2, 0)
    kept = {folder.state(start), folder.state(state), folder.state(broadcast), recorded}
    kept |= {folder.partial(2, 1, "e" * 64), folder.partial(2, 2, "f" * 64)}
    unknown = {
        folder.state("9" * 64),  # aggregated, and not recorded
        folder.fresh_state(),
        folder.state("8" * 64).with_name("8.safetensors.new"),
        folder.update(2, 0, "e" * 64),  # another update of a client that has one
        folder.update(2, 1, "d" * 64),  # moved, and not recorded
        folder.update(1, 0, "d" * 64),  # of a round that is aggregated
        folder.partial(1, 0, "d" * 64),
        folder.partial(3, 0, "d" * 64),
    }
    for path in {*kept, *unknown} - left(folder):
        path.write_bytes(b"beginning")
    results = [folder.path / "result.json", folder.path / "report.html", folder.path / "final" / "state.safetensors"]
    for path in results:
        path.write_bytes(b"result")
    recover(ledger, folder)
    assert left(folder) == kept
    assert folder.ledger.exists() and all(path.exists() for path in results)
    assert recorded.read_bytes() == b"update"
    # Killed while it tidied: again, the same.
    recover(ledger, folder)
    assert left(folder) == kept


# ---- a whole run, killed anywhere


class Killed(Exception):
    """The coordinator died here."""


class RecordedRun(WholeRun):
    """A whole run with a ledger, written as the executor writes it, whose coordinator dies after so many of its
    steps: before or after what it does, and always before the next."""

    def __init__(self, ledger, folder, *arguments, kills=(), **options):
        super().__init__(*arguments, **options)
        self.ledger, self.folder = ledger, folder
        self.kills = list(kills)
        self.steps = self.deaths = 0
        self.start = folder.keep_state(b"start")
        ledger.note(start_sha256=self.start)

    def may_die(self):
        self.steps += 1
        if self.kills and self.steps >= self.kills[0]:
            self.kills.pop(0)
            self.steps = 0
            raise Killed

    def happened(self, event):
        rounds = self.machine
        if isinstance(event, Joined):
            self.ledger.hosted({event.worker: "k"}, dict.fromkeys(event.clients, event.worker))
        if isinstance(event, Failed | Refused) and rounds.takes(event.round, event.client):
            record_failure(self.ledger, type(event).__name__.lower(), event.round, rounds.attempt, event.client)
            self.may_die()
        super().happened(event)

    def answer(self, round_, client):
        turn = self._turns.get((round_, client), 1) - 1
        if self.machine.takes(round_, client) and self._ending(round_, client, turn) == "accepted":
            accept(self.ledger, self.folder, round_, client)
            self.may_die()
        super().answer(round_, client)

    def evaluated(self, value):
        self.may_die()
        self.ledger.aggregated(self.machine.round, 1.0, self.start)
        self.may_die()
        self.ledger.evaluated(self.machine.round, value)
        self.may_die()
        super().evaluated(value)

    def decided(self, decisions):
        for decision in decisions:
            self.may_die()
            if isinstance(decision, Select):
                self.ledger.selected(decision.round, decision.attempt, decision.clients, self.start)
            super().decided([decision])
            if isinstance(decision, Select):
                self.may_die()

    def run_on(self, most=400):
        """To its end, started again whenever it dies."""
        try:
            self.run(most=most)
        except Killed:
            while True:
                try:
                    self.deaths += 1
                    self.take_over()
                    while self.finish is None and not self.stuck:
                        self.step()
                    return self
                except Killed:
                    continue
        return self

    def take_over(self):
        """As the executor does."""
        found = recover(self.ledger, self.folder)
        machine = RoundStateMachine(self.plan)
        self.machine = machine
        decisions = machine.recover(found.history.snapshot)
        if not found.history.is_aggregated:
            self.restart(machine, decisions)
            return
        machine.closed()
        self.restart(machine, [])
        self._closed = found.history.snapshot.round
        value = found.history.value
        if value is None:
            value = self._values[self._closed - 1] if self._closed <= len(self._values) else 0.0
            self.ledger.evaluated(self._closed, value)
        WholeRun.evaluated(self, value)


WORKERS = {"ada": (0, 3, 6), "bob": (1, 4, 7), "cyd": (2, 5)}


def endings(seed, odds):
    def ending(*which):
        return random.Random(f"{seed} {which}").choices(("accepted", "failed", "refused"), odds)[0]

    return ending


@settings(max_examples=60)
@given(
    numbers=st.tuples(st.integers(1, 10), st.integers(1, 10), st.integers(1, 3)),
    seed=st.integers(0, 2**32),
    odds=st.sampled_from([(1, 0, 0), (3, 2, 0), (4, 2, 1)]),
    kills=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    late=st.booleans(),
)
@example(numbers=(10, 10, 3), seed=0, odds=(1, 0, 0), kills=[2], late=True)  # before its first draw is recorded
def test_a_run_that_is_killed_anywhere_draws_and_closes_as_the_undisturbed_one(
    tmp_path_factory, numbers, seed, odds, kills, late
):
    per_round, quorum, attempts = numbers
    attempts = 1000 if late else attempts
    plan = Plan(
        devices=99, devices_to_start=3, clients_per_round=per_round, quorum=min(quorum, per_round), attempts=attempts,
        rounds=3, target=0.9, seed=seed,
    )  # fmt: skip
    # When tries run out may differ: a restart gives a round new ones. Then nobody may join because of it.
    extra = {"dan": (8, 9)} if late else {}
    options = {"ending": endings(seed, odds), "late": extra, "values": [0.1, 0.2, 0.3]}
    undisturbed = WholeRun(plan, WORKERS, pick=random.Random(seed).randrange, **options).run()
    folder = RunFolder(tmp_path_factory.mktemp("killed"))
    ledger = Ledger(folder.ledger)
    ledger._db.execute("PRAGMA synchronous = OFF")  # nothing here is about the disk
    killed = RecordedRun(ledger, folder, plan, WORKERS, pick=random.Random(seed + 1).randrange, kills=kills, **options)
    killed.run_on()
    ledger.close()
    assert killed.log == undisturbed.log
    assert killed.stuck == undisturbed.stuck


def test_the_killed_runs_die_at_every_kind_of_step(ledger, folder):
    # The property above would hold of runs that are never killed, too.
    plan = Plan(devices=3, devices_to_start=3, clients_per_round=4, quorum=4, rounds=3, target=0.9, seed=1)
    kills = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5, 5]
    run = RecordedRun(ledger, folder, plan, WORKERS, pick=random.Random(1).randrange, kills=kills).run_on()
    assert run.finish is not None
    assert run.deaths >= 9


def test_a_recovered_round_is_announced_to_those_who_have_not_delivered(ledger, folder):
    start = begun(ledger, folder)
    ledger.selected(1, 1, [0, 3], start)
    accept(ledger, folder, 1, 0)
    machine = RoundStateMachine(PLAN)
    assert machine.recover(recover(ledger, folder).history.snapshot) == []
    assert machine.apply(Joined("ada", (0, 1))) == []
    assert machine.apply(Joined("bob", (2, 3))) == [Announce(1, "bob", (3,))]
    accept(ledger, folder, 1, 3)
    again = RoundStateMachine(PLAN)
    assert again.recover(recover(ledger, folder).history.snapshot) == [Close(1, (0, 3))]
