"""The state machine of the rounds, driven with every order of events: no network, no clock, no files."""

from __future__ import annotations

import ast
import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from whole_runs import WholeRun

import coordinator.rounds.state_machine
import federa.seeds
from coordinator.rounds.events import (
    Accepted,
    Announce,
    Close,
    Deadline,
    Evaluated,
    Failed,
    Finish,
    GiveUp,
    Joined,
    Left,
    Pause,
    Plan,
    Refused,
    RoundSnapshot,
    Select,
    Unable,
)
from coordinator.rounds.failures import Failure
from coordinator.rounds.state_machine import REFUSALS_UNTIL_QUARANTINE, RoundStateMachine

TARGET = 0.9
PAIRS = {"ada": (0, 1), "bob": (2, 3)}


def plan(**changes):
    # More devices may come than any test has: a run that pauses waits for them.
    chosen = {
        "devices": 99,
        "devices_to_start": 2,
        "clients_per_round": 2,
        "rounds": 3,
        "target": TARGET,
        "seed": 1,
        **changes,
    }
    return Plan(**{"quorum": chosen["clients_per_round"], **chosen})


def started(workers=PAIRS, **changes):
    """A machine in its first round, and what the last worker's coming led to."""
    machine = RoundStateMachine(plan(**{"devices_to_start": len(workers), **changes}))
    decisions = []
    for worker, clients in workers.items():
        assert decisions == []
        decisions = machine.apply(Joined(worker, clients))
    return machine, decisions


def outside(machine):
    """The clients that have no part in the round."""
    return [client for client in sorted(machine.hosts) if client not in machine.selected]


def accept(machine, *clients):
    decisions = []
    for client in clients:
        decisions.extend(machine.apply(Accepted(machine.round, client)))
    return decisions


def finish_round(machine, value):
    accept(machine, *machine.awaited)
    return machine.apply(Evaluated(machine.round, value))


def draws(decisions):
    return [decision for decision in decisions if isinstance(decision, Select)]


# ---- an undisturbed run


def test_a_run_from_its_first_worker_to_its_target():
    machine = RoundStateMachine(plan(clients_per_round=4))
    assert machine.apply(Joined("bob", PAIRS["bob"])) == []
    assert machine.round == 0
    asked = [Announce(1, "ada", (0, 1)), Announce(1, "bob", (2, 3))]
    assert machine.apply(Joined("ada", PAIRS["ada"])) == [Select(1, 1, (0, 1, 2, 3)), *asked]
    assert accept(machine, 3, 0, 2) == []
    assert machine.awaited == (1,)
    assert accept(machine, 1) == [Close(1, (0, 1, 2, 3))]
    asked = [Announce(2, "ada", (0, 1)), Announce(2, "bob", (2, 3))]
    assert machine.apply(Evaluated(1, 0.5)) == [Select(2, 1, (0, 1, 2, 3)), *asked]
    assert finish_round(machine, TARGET) == [Finish(True)]


def test_nothing_starts_before_so_many_devices_are_ready():
    machine = RoundStateMachine(plan(devices_to_start=3, clients_per_round=1))
    ready = [Joined("ada", (0,)), Joined("bob", (1,)), Joined("guest", ()), Left("bob"), Joined("cyd", (2,))]
    assert [machine.apply(event) for event in ready] == [[]] * 5
    assert machine.round == 0
    (draw, announced) = machine.apply(Joined("bob", (1,)))
    assert (draw.round, draw.clients, announced.clients) == (1, announced.clients, draw.clients)


def test_before_the_first_round_nothing_can_be_due():
    machine = RoundStateMachine(plan(timed=True))
    machine.apply(Joined("ada", (0, 1)))
    for event in (Deadline(0, 0), Evaluated(0, 1.0), Accepted(0, 0), Failed(0, 0), Refused(0, 0), Unable("ada")):
        assert machine.apply(event) == [], event


def test_fewer_devices_than_there_will_be_may_begin():
    machine = RoundStateMachine(plan(devices_to_start=1, clients_per_round=1))
    assert machine.apply(Joined("ada", (0, 2)))[0].clients in [(0,), (2,)]
    # The late one hosts the rest; from the next round on they are drawn too.
    assert machine.apply(Joined("bob", (1, 3))) == []
    drawn = set()
    machine.plan = plan(devices_to_start=1, clients_per_round=1, rounds=100)
    for _ in range(30):
        drawn.update(draws(finish_round(machine, 0.1))[0].clients)
    assert drawn == {0, 1, 2, 3}


def test_a_worker_that_hosts_nobody_is_told_nothing():
    machine, _ = started()
    assert machine.apply(Joined("guest", ())) == []
    assert machine.apply(Left("guest")) == machine.apply(Unable("guest")) == []


def test_a_worker_that_comes_back_is_told_only_what_is_missing():
    machine, _ = started(clients_per_round=4)
    accept(machine, 0)
    assert machine.apply(Left("ada")) == []
    assert machine.absent == ["ada"]
    assert machine.apply(Joined("ada", (0, 1))) == [Announce(1, "ada", (1,))]
    assert machine.absent == []
    # Its stream was replaced without ending first: the same.
    assert machine.apply(Joined("ada", (0, 1))) == [Announce(1, "ada", (1,))]
    accept(machine, 1)
    machine.apply(Left("ada"))
    assert machine.apply(Joined("ada", (0, 1))) == []


def test_who_is_away_at_a_rounds_start_is_told_on_return():
    machine, _ = started(clients_per_round=4)
    accept(machine, 0, 1, 2, 3)
    machine.apply(Left("bob"))
    assert machine.apply(Evaluated(1, 0.1)) == [Select(2, 1, (0, 1, 2, 3)), Announce(2, "ada", (0, 1))]
    assert machine.absent == ["bob"]
    assert machine.apply(Joined("bob", (2, 3))) == [Announce(2, "bob", (2, 3))]


def test_a_worker_that_joins_while_a_round_is_evaluated_waits_for_the_next():
    machine, _ = started(clients_per_round=4)
    accept(machine, 0, 1, 2, 3)
    assert machine.apply(Joined("ada", (0, 1))) == []
    assert machine.apply(Evaluated(1, 0.1))[1:] == [Announce(2, "ada", (0, 1)), Announce(2, "bob", (2, 3))]


@pytest.mark.parametrize(
    "event",
    [
        Accepted(0, 0), Accepted(2, 0), Accepted(1, 99), Failed(0, 0), Failed(2, 0), Failed(1, 99), Refused(2, 0),
        Refused(1, 99), Deadline(0, 1), Deadline(2, 1), Deadline(1, 0), Deadline(1, 2), Evaluated(0, 1.0),
        Evaluated(1, 1.0), Evaluated(2, 1.0),
    ],
)  # fmt: skip
def test_what_is_of_another_round_attempt_or_client_changes_nothing(event):
    machine, _ = started(clients_per_round=4)
    assert machine.apply(event) == []
    assert (machine.round, machine.attempt, machine.awaited, machine.quarantined) == (1, 1, (0, 1, 2, 3), [])


def test_an_update_counts_once():
    machine, _ = started()
    first, second = machine.selected
    assert accept(machine, first, first) == []
    assert accept(machine, second) == [Close(1, (first, second))]
    assert accept(machine, second) == []


def test_an_update_that_was_not_asked_for_does_not_close_a_round():
    machine, _ = started()
    accept(machine, machine.selected[0])
    assert accept(machine, *outside(machine)) == []


def test_a_round_is_judged_once_and_only_when_closed():
    machine, _ = started(clients_per_round=4)
    assert machine.apply(Evaluated(1, 1.0)) == []
    finish_round(machine, 0.1)
    assert machine.round == 2
    assert machine.apply(Evaluated(1, 1.0)) == []


@pytest.mark.parametrize(("value", "reached"), [(TARGET, True), (1.0, True), (TARGET - 1e-9, False), (0.0, False)])
def test_the_target_is_reached_from_its_own_value_on(value, reached):
    machine, _ = started(rounds=1)
    assert finish_round(machine, value) == [Finish(reached)]


def test_the_last_round_is_the_limit():
    machine, _ = started(rounds=2)
    assert {decision.round for decision in finish_round(machine, 0.1)} == {2}
    assert finish_round(machine, 0.1) == [Finish(False)]


def test_nothing_happens_after_the_end():
    machine, _ = started(rounds=1)
    finish_round(machine, 0.1)
    late = (Accepted(1, 0), Failed(1, 0), Refused(1, 0), Deadline(1, 1), Evaluated(1, 1.0), Evaluated(2, 1.0))
    for event in (Joined("ada", (0, 1)), Left("ada"), Unable("bob"), *late):
        assert machine.apply(event) == []
    assert not any(machine.takes(1, client) for client in range(4))


# ---- over-selection, deadlines, quorum


def test_over_selection_draws_more_and_closes_with_what_it_needs():
    machine, decisions = started(over_select=1)
    (draw,) = draws(decisions)
    assert len(draw.clients) == 3
    slow, *fast = draw.clients
    assert accept(machine, *reversed(fast)) == [Close(1, tuple(fast), (slow,))]
    # It comes all the same, and the round has been closed.
    assert not machine.takes(1, slow)
    assert accept(machine, slow) == []


def test_an_over_selected_client_that_fails_is_not_replaced():
    machine, _ = started(over_select=1)
    failing, *rest = machine.selected
    assert machine.apply(Failed(1, failing)) == []
    assert accept(machine, *rest) == [Close(1, tuple(rest))]


def test_at_its_deadline_a_round_closes_with_its_quorum():
    machine, _ = started(clients_per_round=4, quorum=2, timed=True)
    assert accept(machine, 0, 3) == []
    assert machine.apply(Deadline(1, 1)) == [Close(1, (0, 3), (1, 2))]
    assert machine.apply(Deadline(1, 1)) == []


def test_before_its_deadline_a_round_waits_for_more_than_its_quorum():
    machine, _ = started(clients_per_round=4, quorum=1, timed=True)
    assert accept(machine, 0, 1, 2) == []
    assert accept(machine, 3) == [Close(1, (0, 1, 2, 3))]


def test_nobody_is_waited_for_who_cannot_come_once_the_quorum_is_there():
    machine, _ = started(clients_per_round=4, quorum=3)
    accept(machine, 0, 1, 2)
    assert machine.apply(Failed(1, 3)) == [Close(1, (0, 1, 2))]


def test_below_its_quorum_a_round_draws_others_and_stragglers_still_count():
    machine, _ = started(timed=True)
    here, slow = machine.selected
    accept(machine, here)
    decisions = machine.apply(Deadline(1, 1))
    (draw,) = draws(decisions)
    (fresh,) = draw.clients
    assert (draw.attempt, fresh not in (here, slow)) == (2, True)
    assert [decision.clients for decision in decisions[1:]] == [(fresh,)]
    assert machine.awaited == tuple(sorted((slow, fresh)))
    assert machine.apply(Deadline(1, 1)) == []  # of the first attempt: it fell already
    assert accept(machine, slow) == [Close(1, tuple(sorted((here, slow))), (fresh,))]


def test_the_replacement_of_a_failed_client_is_another_one():
    machine, _ = started()
    failing, other = machine.selected
    accept(machine, other)
    (draw,) = draws(machine.apply(Failed(1, failing)))
    assert draw.clients[0] not in (failing, other)
    assert accept(machine, *draw.clients) == [Close(1, tuple(sorted((other, *draw.clients))))]


def test_a_failed_client_gets_another_chance_only_when_no_others_are_left():
    machine, _ = started({"ada": (0, 1, 2)}, clients_per_round=2, attempts=5)
    (spare,) = outside(machine)
    first, second = machine.selected
    accept(machine, second)
    assert draws(machine.apply(Failed(1, first))) == [Select(1, 2, (spare,))]
    (again,) = draws(machine.apply(Failed(1, spare)))
    assert (again.attempt, again.clients[0] in (first, spare)) == (3, True)


def test_a_client_whose_update_came_after_it_had_failed_is_not_drawn_again():
    # Its host said that it failed, restarted, and delivered what it had kept.
    for seed in range(8):
        machine, _ = started({"ada": (0,), "bob": (1,)}, seed=seed)
        assert machine.apply(Failed(1, 0)) == []
        assert accept(machine, 0) == []
        decisions = machine.apply(Failed(1, 1))
        assert decisions == [Select(1, 2, (1,)), Announce(1, "bob", (1,))], seed


def test_a_client_that_was_accepted_is_not_drawn_again_for_a_second_update_that_was_refused():
    for seed in range(8):
        machine, _ = started({"ada": (0,), "bob": (1,)}, seed=seed)
        accept(machine, 0)
        assert machine.apply(Refused(1, 0)) == []
        assert machine.apply(Failed(1, 1)) == [Select(1, 2, (1,)), Announce(1, "bob", (1,))], seed


def test_an_update_of_a_client_that_was_given_up_counts_while_its_round_is_open():
    machine, _ = started()
    failing, other = machine.selected
    machine.apply(Failed(1, failing))
    assert machine.takes(1, failing)
    assert accept(machine, failing) == []
    assert accept(machine, other) == [Close(1, tuple(sorted((failing, other))))]


CUT = Failure("UNAVAILABLE: the link is cut", is_passing=True)


def test_a_round_is_tried_so_often_and_then_the_run_pauses():
    machine, _ = started({"ada": (0, 1)}, attempts=2)
    machine.apply(Failed(1, 0, CUT))
    assert draws(machine.apply(Failed(1, 1, CUT))) == [Select(1, 2, (0, 1))]
    machine.apply(Failed(1, 0, CUT))
    assert machine.apply(Failed(1, 1, CUT)) == [Pause(1, 0)]
    # It says it once, and tries nothing more by itself.
    assert machine.apply(Failed(1, 1, CUT)) == machine.apply(Deadline(1, 2)) == []


def test_a_worker_that_joins_a_paused_run_lets_it_go_on():
    machine, _ = started({"ada": (0, 1)}, attempts=1)
    machine.apply(Failed(1, 0, CUT))
    assert machine.apply(Failed(1, 1, CUT)) == [Pause(1, 0)]
    assert machine.apply(Left("ada")) == []
    decisions = machine.apply(Joined("bob", (2, 3)))
    assert decisions == [Select(1, 2, (2, 3)), Announce(1, "bob", (2, 3))]
    assert accept(machine, 2, 3) == [Close(1, (2, 3))]


def test_a_round_that_has_too_few_clients_waits_for_more_before_its_first_attempt():
    # Nothing was drawn and nothing broadcast before: what is drawn now is the first attempt.
    machine = RoundStateMachine(plan(devices_to_start=1, clients_per_round=3))
    assert machine.apply(Joined("ada", (0, 1))) == [Pause(1, 0)]
    asked = [Announce(1, "ada", (0, 1)), Announce(1, "bob", (2,))]
    assert machine.apply(Joined("bob", (2,))) == [Select(1, 1, (0, 1, 2)), *asked]


def test_an_update_that_a_paused_run_lacked_closes_its_round():
    machine, _ = started({"ada": (0, 1)}, attempts=1, quorum=1, timed=True)
    assert machine.apply(Deadline(1, 1)) == [Pause(1, 0)]
    assert accept(machine, 1) == [Close(1, (1,), (0,))]


def test_with_a_deadline_those_who_are_here_are_drawn_first():
    for timed in (True, False):
        drawn = set()
        for seed in range(20):
            machine, _ = started(timed=timed, seed=seed)
            accept(machine, *machine.awaited)
            machine.apply(Left("bob"))
            drawn.update(draws(machine.apply(Evaluated(1, 0.1)))[0].clients)
        # Without one nothing but the seed decides.
        assert drawn == ({0, 1} if timed else {0, 1, 2, 3})


# ---- failures that do not go away


SHORT = Failure("out of memory in training with one example at a time: 3.2 GiB")
BAD = Failure("data: line 3 has no column 'text'", bad_input=True)
THREE = {"ada": (0, 1), "bob": (2, 3), "cyd": (4, 5)}


def fail(machine, failures):
    """Clients fail one after the other, in the open round; what the last one led to."""
    decisions = []
    for client, why in failures.items():
        assert not any(isinstance(decision, GiveUp) for decision in decisions), decisions
        decisions = machine.apply(Failed(machine.round, client, why))
    return decisions


def given_up(decisions):
    (end,) = decisions
    assert isinstance(end, GiveUp), end
    return end


def test_the_same_failure_of_every_client_ends_the_run_at_once():
    machine, _ = started(devices=2, clients_per_round=4)
    end = given_up(fail(machine, dict.fromkeys(range(4), SHORT)))
    assert end == GiveUp(1, 0, dict.fromkeys(range(4), SHORT), True)
    assert machine.attempt == 1
    assert machine.apply(Joined("ada", PAIRS["ada"])) == [], "it is over"


def test_failures_are_the_same_whatever_numbers_addresses_paths_and_names_of_files_they_hold():
    same = [
        Failure("CUDA error at 0x7f01: tried 512 MiB, '/home/ada/x.csv' line 3"),
        Failure("CUDA error at 0x7f99: tried 64.5 MiB, '/srv/y.csv' line 12"),
    ]
    other = Failure("CUDA error at 0x7f01: no kernel image")
    assert same[0].kind == same[1].kind != other.kind
    machine, _ = started(devices=2)
    first, second = machine.selected
    assert machine.hosts[first] != machine.hosts[second]
    assert given_up(fail(machine, {first: same[0], second: same[1]})).is_common


@pytest.mark.parametrize(("why", "attempts"), [(BAD, 1), (SHORT, 2)])
def test_with_one_client_what_is_no_bad_input_is_tried_once_more(why, attempts):
    machine, _ = started({"ada": (0,)}, devices=1, clients_per_round=1)
    for attempt in range(1, attempts + 1):
        assert machine.attempt == attempt
        decisions = machine.apply(Failed(1, 0, why))
    assert given_up(decisions).failures == {0: why}


def test_before_it_ends_every_device_that_is_here_has_tried():
    machine, _ = started(devices=2, clients_per_round=1, quorum=1)
    (drawn,) = machine.selected
    (again,) = draws(machine.apply(Failed(1, drawn, BAD)))
    host = machine.hosts[drawn]
    while machine.hosts[again.clients[0]] == host:  # its other client, perhaps
        (again,) = draws(machine.apply(Failed(1, again.clients[0], BAD)))
    assert given_up(machine.apply(Failed(1, again.clients[0], BAD))).is_common


def test_an_update_in_the_round_shows_that_the_failure_is_not_everybodys_and_the_attempts_are_made():
    machine, _ = started(devices=2, clients_per_round=4, attempts=3)
    accept(machine, 0)
    for attempt in (1, 2):
        assert draws(fail(machine, dict.fromkeys((1, 2, 3), SHORT))) != [], attempt
    end = given_up(fail(machine, dict.fromkeys((1, 2, 3), SHORT)))
    assert (end.accepted, end.is_common, sorted(end.failures)) == (1, False, [1, 2, 3])


def test_failures_that_differ_are_tried_as_often_as_the_experiment_says_and_then_all_are_named():
    machine, _ = started({"ada": (0,), "bob": (1,)}, devices=2, attempts=2)
    assert draws(fail(machine, {0: SHORT, 1: Failure("no such file")})) != []
    end = given_up(fail(machine, {0: SHORT, 1: Failure("no such file")}))
    assert (end.is_common, len(end.failures)) == (False, 2)


def test_what_passes_by_itself_pauses_the_run_as_ever():
    machine, _ = started({"ada": (0,), "bob": (1,)}, devices=2, attempts=2)
    fail(machine, {0: CUT, 1: CUT})
    assert fail(machine, {0: CUT, 1: CUT}) == [Pause(1, 0)]
    machine.apply(Left("ada"))
    assert draws(machine.apply(Joined("ada", (0,)))) != []


def test_a_device_that_is_away_is_waited_for_unless_it_could_not_make_the_quorum_by_itself():
    for quorum, ends in ((4, True), (2, False)):
        machine, _ = started(THREE, devices=3, clients_per_round=6, quorum=quorum)
        machine.apply(Left("cyd"))
        decisions = fail(machine, dict.fromkeys(range(4), SHORT))
        assert bool(decisions) == ends and (not ends or given_up(decisions).is_common), quorum
    # Nor does it end for what only one device says, be it twice, when it is no bad input.
    for why, ends in ((SHORT, False), (BAD, True)):
        machine, _ = started(devices=2, clients_per_round=4)
        machine.apply(Left("bob"))
        assert bool(fail(machine, {0: why, 1: why})) == ends


def test_that_a_device_leaves_can_be_what_ends_the_run():
    machine, _ = started(THREE, devices=3, clients_per_round=6)
    assert fail(machine, dict.fromkeys(range(4), SHORT)) == []
    assert given_up(machine.apply(Left("cyd"))).is_common


def test_a_device_that_comes_again_may_have_been_mended():
    machine, _ = started({"ada": (0,), "bob": (1,)}, devices=2)
    machine.apply(Failed(1, 0, BAD))
    machine.apply(Left("ada"))
    machine.apply(Joined("ada", (0,)))
    assert draws(machine.apply(Failed(1, 1, BAD))) != []
    assert given_up(fail(machine, {0: BAD, 1: BAD})).is_common


def test_while_devices_are_expected_that_were_never_here_only_what_all_have_in_common_ends_the_run():
    for second, ends in ((SHORT, True), (Failure("no such file"), False)):
        machine, _ = started({"ada": (0,), "bob": (1,)}, devices=3, attempts=1)
        decisions = fail(machine, {0: SHORT, 1: second})
        assert isinstance(decisions[0], GiveUp) == ends
        assert ends or decisions == [Pause(1, 0)]


def test_a_paused_run_ends_when_what_it_waited_for_fails_too():
    # At its deadline two were still at work.
    machine, _ = started({"ada": (0, 1), "bob": (2,)}, devices=2, clients_per_round=3, attempts=1, timed=True)
    accept(machine, 2)
    assert machine.apply(Deadline(1, 1)) == [Pause(1, 1)]
    assert machine.apply(Failed(1, 0, SHORT)) == []
    assert given_up(machine.apply(Failed(1, 1, BAD))).accepted == 1


def test_devices_that_cannot_take_part_any_more_end_a_run_below_its_quorum():
    machine, _ = started(devices=2, clients_per_round=4, quorum=3)
    accept(machine, 0)
    assert machine.apply(Unable("bob", BAD)) == []
    end = given_up(accept(machine, 1))
    assert (end.failures, end.is_common) == ({2: BAD, 3: BAD}, False)


def test_updates_that_are_all_refused_for_the_same_reason_end_the_run():
    machine, _ = started(devices=2, clients_per_round=4)
    for client in range(4):
        decisions = machine.apply(Refused(1, client, f"update of client {client} for round 1: not finite"))
    assert given_up(decisions).is_common


def test_the_same_failure_may_come_round_after_round_where_others_deliver():
    machine, _ = started(devices=2, clients_per_round=4, quorum=3, rounds=4)
    for round_ in range(1, 5):
        fail(machine, {0: BAD})
        assert accept(machine, 1, 2, 3) == [Close(round_, (1, 2, 3))]
        finish = machine.apply(Evaluated(round_, 0.1))
    assert finish == [Finish(False)]


def test_after_a_restart_the_failures_of_before_do_not_end_the_run_and_new_ones_do():
    past = RoundSnapshot(hosts={0: "ada", 1: "bob"}, round=2, attempt=1, selected={0, 1}, accepted=set(), failed={0, 1},
                refusals={})  # fmt: skip
    machine = RoundStateMachine(plan(devices=2))
    assert draws(machine.recover(past)) == [Select(2, 2, (0, 1))]
    for worker, client in (("ada", 0), ("bob", 1)):
        assert machine.apply(Joined(worker, (client,))) == [Announce(2, worker, (client,))]
    assert given_up(fail(machine, {0: SHORT, 1: SHORT})).round == 2


def test_clients_that_were_put_aside_before_a_restart_end_the_run_once_everybody_is_here():
    past = RoundSnapshot(
        hosts={0: "ada", 1: "bob"}, round=1, attempt=3, selected={0, 1}, accepted=set(), failed={0, 1},
        refusals=dict.fromkeys((0, 1), REFUSALS_UNTIL_QUARANTINE), reasons={0: "no", 1: "not"},
    )  # fmt: skip
    machine = RoundStateMachine(plan(devices=2))
    assert machine.recover(past) == [Pause(1, 0)]
    assert machine.apply(Joined("ada", (0,))) == [Pause(1, 0)]
    assert given_up(machine.apply(Joined("bob", (1,)))).failures == {0: Failure("no"), 1: Failure("not")}


# ---- refusals, and workers that cannot


def test_three_refusals_put_a_client_aside_for_the_run():
    machine, _ = started({"ada": (0, 1), "bob": (2,)}, clients_per_round=3, quorum=2, rounds=9)
    for round_ in range(1, REFUSALS_UNTIL_QUARANTINE + 1):
        assert machine.quarantined == []
        assert 1 in machine.selected
        accept(machine, 0, 2)
        assert machine.apply(Refused(round_, 1)) == [Close(round_, (0, 2))]
        machine.apply(Evaluated(round_, 0.1))
    assert machine.quarantined == [1]
    assert machine.round == 4, "three are enough"
    assert machine.selected == (0, 2)


def test_refusals_in_one_round_count_too():
    machine, _ = started({"ada": (0, 1)}, clients_per_round=1, attempts=9)
    (bad,) = machine.selected
    for _ in range(REFUSALS_UNTIL_QUARANTINE):
        machine.apply(Refused(1, bad))
    assert machine.quarantined == [bad]
    assert bad not in machine.awaited


def test_of_a_client_that_was_put_aside_nothing_more_is_taken():
    machine, _ = started({"ada": (0, 1)}, clients_per_round=1, attempts=9)
    (bad,) = machine.selected
    for refusals in range(REFUSALS_UNTIL_QUARANTINE):
        assert machine.takes(1, bad), refusals
        machine.apply(Refused(1, bad))
    assert not machine.takes(1, bad)
    assert accept(machine, bad) == []


def test_a_worker_that_cannot_take_part_is_not_waited_for():
    machine, _ = started({"ada": (0, 1), "bob": (2, 3)}, clients_per_round=4, quorum=2)
    accept(machine, 0)
    assert machine.apply(Unable("bob")) == []
    assert machine.awaited == (1,)
    assert accept(machine, 1) == [Close(1, (0, 1))]


def test_a_worker_that_cannot_take_part_is_not_drawn_in_the_rounds_after():
    # It is there, and says nothing more: a round without a deadline would wait for it for ever.
    for seed in range(8):
        machine, _ = started(clients_per_round=2, seed=seed)
        machine.apply(Unable("bob"))
        while machine.awaited and not machine.absent:
            accept(machine, *machine.awaited)
        machine.apply(Evaluated(1, 0.1))
        assert (machine.round, machine.selected, machine.absent) == (2, (0, 1), []), seed


def test_a_worker_that_can_take_part_after_all_is_drawn_again():
    machine, _ = started(clients_per_round=4, quorum=1)
    machine.apply(Unable("bob"))
    accept(machine, 0, 1)
    machine.apply(Evaluated(1, 0.1))
    machine.apply(Joined("bob", (2, 3)))
    accept(machine, *machine.awaited)
    machine.apply(Evaluated(machine.round, 0.1))
    assert machine.selected == (0, 1, 2, 3)


# ---- selection


def test_selection_is_pinned():
    # A run that goes on under another version must draw the same clients; so must another Python.
    machine, _ = started({"ada": range(20)}, clients_per_round=5, seed=7)
    found = []
    for _ in range(3):
        found.append(machine.selected)
        finish_round(machine, 0.1)
    assert found == [(6, 7, 12, 17, 18), (2, 5, 7, 16, 18), (1, 3, 6, 8, 12)]


def selections(seed, rounds=20):
    machine, _ = started({"ada": range(10)}, clients_per_round=3, seed=seed, rounds=rounds + 1)
    found = []
    for _ in range(rounds):
        found.append(machine.selected)
        finish_round(machine, 0.1)
    return found


def test_seeds_and_rounds_draw_differently_and_everybody_gets_a_turn():
    assert len(set(selections(1))) > 10
    assert selections(1) != selections(2)
    assert {client for selected in selections(1, 40) for client in selected} == set(range(10))


WORKERS = {"ada": (0, 3, 6), "bob": (1, 4, 7), "cyd": (2, 5)}
PLANS = st.builds(
    lambda per_round, quorum, attempts, rounds, seed: plan(
        devices_to_start=3, clients_per_round=per_round, quorum=min(quorum, per_round), attempts=attempts,
        rounds=rounds, seed=seed,
    ),
    st.integers(1, 8), st.integers(1, 8), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99),
)  # fmt: skip


def endings(seed, odds):
    """How trainings end: the same for the same round, client and turn."""

    def ending(*which):
        return random.Random(f"{seed} {which}").choices(("accepted", "failed", "refused"), odds)[0]

    return ending


@given(
    plan=PLANS, seeds=st.tuples(*[st.integers(0, 2**32)] * 3), odds=st.sampled_from([(1, 0, 0), (3, 2, 0), (4, 2, 1)])
)
def test_what_is_drawn_and_closed_follows_from_the_seed_and_not_from_who_came_when(plan, seeds, odds):
    one, other = (
        WholeRun(plan, WORKERS, pick=random.Random(seed).randrange, ending=endings(seeds[2], odds)).run()
        for seed in seeds[:2]
    )
    assert one.log == other.log
    assert one.stuck == other.stuck


@given(
    plan=PLANS,
    seed=st.integers(0, 2**32),
    timed=st.booleans(),
    over_select=st.integers(0, 3),
    failures=st.integers(0, 10),
    late=st.booleans(),
    value=st.sampled_from((0.0, TARGET)),
)
def test_every_run_ends_whose_workers_answer(plan, seed, timed, over_select, failures, late, value):
    # So many trainings fail at first; workers leave and come back and deadlines fall at any time.
    left = [failures]

    def ending(*_):
        left[0] -= 1
        return "failed" if left[0] >= 0 else "accepted"

    changed = {field: getattr(plan, field) for field in plan.__slots__} | {
        "timed": timed,
        "over_select": min(over_select, 8 - plan.clients_per_round),
    }
    values = [0.0] * (plan.rounds - 1) + [value]
    pick = random.Random(seed).randrange
    extra = {"dan": (8, 9)} if late else {}
    run = WholeRun(Plan(**changed), WORKERS, pick=pick, ending=ending, late=extra, values=values).run(restless=True)
    assert run.finish == Finish(value >= TARGET)
    closes = [decision for decision in run.log if isinstance(decision, Close)]
    assert [close.round for close in closes] == list(range(1, plan.rounds + 1))
    assert all(len(close.clients) >= plan.quorum for close in closes)


# ---- recovery


def test_a_machine_that_takes_over_waits_for_what_is_missing_and_announces_it_to_who_comes():
    past = RoundSnapshot(
        hosts={0: "ada", 1: "ada", 2: "bob", 3: "bob"}, round=2, attempt=2, selected={0, 1, 2}, accepted={1},
        failed={2}, refusals={},
    )  # fmt: skip
    machine = RoundStateMachine(plan())
    assert machine.recover(past) == []
    assert (machine.round, machine.attempt, machine.awaited) == (2, 2, (0,))
    assert machine.apply(Joined("bob", (2, 3))) == []
    assert machine.apply(Joined("ada", (0, 1))) == [Announce(2, "ada", (0,))]
    assert accept(machine, 0) == [Close(2, (0, 1))]


def test_a_round_that_was_whole_is_closed_at_once():
    past = RoundSnapshot(
        hosts={0: "ada", 1: "ada"}, round=1, attempt=1, selected=[0, 1], accepted=[0, 1], failed=[], refusals={}
    )
    machine = RoundStateMachine(plan())
    assert machine.recover(past) == [Close(1, (0, 1))]


def test_refusals_are_remembered():
    past = RoundSnapshot(hosts={0: "ada", 1: "ada", 2: "ada"}, round=0, attempt=0, selected=[], accepted=[], failed=[],
                refusals={1: REFUSALS_UNTIL_QUARANTINE, 2: REFUSALS_UNTIL_QUARANTINE - 1})  # fmt: skip
    machine = RoundStateMachine(plan(devices_to_start=1))
    assert machine.recover(past) == []
    assert machine.quarantined == [1]
    assert draws(machine.apply(Joined("ada", (0, 1, 2)))) == [Select(1, 1, (0, 2))]


def test_a_restart_after_a_pause_leaves_a_round_its_attempts():
    # It was paused after two attempts, a worker joined, the third was drawn: another one is left.
    def lived():
        machine, _ = started({"ada": (0, 1)}, attempts=2, clients_per_round=1)
        for _ in range(2):
            decisions = machine.apply(Failed(1, machine.awaited[0], CUT))
        assert decisions == [Pause(1, 0)]
        machine.apply(Joined("ada", (0, 1)))
        return machine

    machine = lived()
    (awaited,) = machine.awaited
    past = RoundSnapshot(hosts=machine.hosts, round=1, attempt=3, selected=machine.selected, accepted=[],
                failed=set(machine.selected) - {awaited}, refusals={})  # fmt: skip
    recovered = RoundStateMachine(machine.plan)
    recovered.recover(past)
    recovered.apply(Joined("ada", (0, 1)))
    assert recovered.apply(Failed(1, awaited, CUT)) == machine.apply(Failed(1, awaited, CUT))


# ---- what it may know


PURE = {"__future__", "collections", "coordinator", "dataclasses", "federa", "hashlib", "random", "re"}
PURE_MODULES = {"coordinator.rounds.events", "coordinator.rounds.failures"}


@pytest.mark.parametrize(
    "module", [coordinator.rounds.state_machine, *map(importlib.import_module, sorted(PURE_MODULES)), federa.seeds]
)
def test_the_machine_knows_no_network_no_model_and_no_clock(module):
    imported = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
            assert node.module.split(".")[0] != "coordinator" or node.module in PURE_MODULES
        elif isinstance(node, ast.Name):
            assert node.id not in ("__import__", "open", "input"), node.lineno
    assert imported <= PURE


def test_importing_the_machine_brings_in_nothing_heavy():
    code = "import sys, coordinator.rounds; print(sorted({'grpc', 'torch', 'asyncio', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# ---- any order of events


REASONS = st.sampled_from((Failure("no memory"), Failure("bad file 1", bad_input=True), Failure("bad file 2"), CUT))
AHEAD = st.sampled_from((0, 0, 0, 0, -1, 1))
WHICH = st.integers(0, 35)


class AnyOrder(RuleBasedStateMachine):
    """Workers come and go, trainings end in every way, early, late, twice and from strangers. What must hold is kept
    here apart from the machine: who was drawn, accepted and given up, and what each worker was told since it came."""

    @initialize(
        owners=st.lists(st.sampled_from(("ada", "bob", "cyd")), min_size=1, max_size=6),
        numbers=st.tuples(*[st.integers(1, 6)] * 3),
        over_select=st.integers(0, 2),
        attempts=st.integers(1, 3),
        timed=st.booleans(),
        seed=st.integers(0, 99),
        more=st.booleans(),
    )
    def start(self, owners, numbers, over_select, attempts, timed, seed, more):
        self.owners = owners
        per_round = min(numbers[0], len(owners))
        self.plan = plan(
            devices=len(set(owners)) + more, devices_to_start=min(numbers[2], len(set(owners))),
            clients_per_round=per_round, quorum=min(numbers[1], per_round),
            over_select=min(over_select, len(owners) - per_round), attempts=attempts, timed=timed, seed=seed,
        )  # fmt: skip
        self.machine = RoundStateMachine(self.plan)
        self.here, self.seen, self.unable, self.told, self.why = set(), set(), {}, {}, {}
        self.refusals = dict.fromkeys(range(len(owners)), 0)
        self.over = self.paused = self.closing = self.gave_up = False
        self.closed = 0
        self.begin(0)

    def begin(self, round_):
        self.why = {}
        self.round, self.attempt, self.tries = round_, 0, 0
        self.selected, self.accepted, self.failed = set(), set(), set()
        self.expired = self.closing = False

    @property
    def ready(self):
        """The clients that may be drawn."""
        good = {client for client, count in self.refusals.items() if count < REFUSALS_UNTIL_QUARANTINE}
        return {client for client in good if self.owners[client] in self.seen - self.unable.keys()}

    @property
    def awaited(self):
        return self.selected - self.accepted - self.failed

    def do(self, event):
        was_over = self.over
        decisions = self.machine.apply(event)
        assert not (was_over and decisions)
        for decision in decisions:
            assert not self.over
            getattr(self, f"check_{type(decision).__name__.lower()}")(decision)

    def check_select(self, draw):
        self.expect(draw.round)
        self.attempt, self.tries, self.paused = self.attempt + 1, self.tries + 1, False
        assert draw.attempt == self.attempt
        assert not self.closing
        assert self.tries <= self.plan.attempts
        drawn = set(draw.clients)
        assert list(draw.clients) == sorted(drawn)
        assert drawn <= self.ready
        assert not drawn & (self.accepted | self.awaited)
        assert len(drawn) <= self.plan.clients_per_round + self.plan.over_select - len(self.accepted)
        assert not drawn & self.failed or self.ready - self.selected <= drawn or self.plan.timed
        self.selected |= drawn
        self.failed -= drawn
        assert len(self.accepted | self.awaited) >= self.plan.quorum

    def expect(self, round_):
        if round_ != self.round:
            assert round_ == self.round + 1 == self.closed + 1
            self.begin(round_)
            self.told = {}

    def check_announce(self, order):
        assert order.round == self.round and not self.closing
        assert order.worker in self.here
        theirs = {client for client in self.awaited if self.owners[client] == order.worker}
        assert order.clients and set(order.clients) <= theirs
        assert list(order.clients) == sorted(set(order.clients))
        self.told.setdefault(order.worker, set()).update(order.clients)

    def check_close(self, close):
        assert close.round == self.round == self.closed + 1
        assert set(close.clients) == self.accepted and list(close.clients) == sorted(self.accepted)
        assert len(close.clients) >= self.plan.quorum
        assert close.missing == tuple(sorted(self.awaited))
        assert not self.awaited or self.expired or len(self.accepted) >= self.plan.clients_per_round
        self.closing, self.closed, self.paused = True, close.round, False

    def check_pause(self, pause):
        self.expect(pause.round)
        assert pause.accepted == len(self.accepted)
        assert len(self.accepted) < self.plan.quorum and not self.closing
        self.paused = True

    @property
    def able(self):
        return {owner for owner in set(self.owners) & self.seen if owner not in self.unable}

    def check_giveup(self, end):
        self.over = self.gave_up = True
        self.expect(end.round)
        assert not self.closing and end.accepted == len(self.accepted) < self.plan.quorum
        assert end.failures and not any(why.is_passing for why in end.failures.values())
        if end.is_common:
            assert not self.accepted and end.failures == self.why
            assert len({why.kind for why in end.failures.values()}) == 1
            assert not any(self.owners[client] in self.here for client in self.awaited)
            assert self.able & self.here <= {self.owners[client] for client in end.failures}
        else:
            # Nobody and nothing is left to wait for.
            assert not self.awaited and self.able <= self.here
            assert len(set(self.owners) & self.seen) >= self.plan.devices

    def check_finish(self, finish):
        self.over = True

    @rule(worker=st.sampled_from(("ada", "bob", "cyd", "stranger")))
    def join(self, worker):
        self.here.add(worker)
        self.seen.add(worker)
        self.unable.pop(worker, None)
        self.told.pop(worker, None)
        self.why = {client: why for client, why in self.why.items() if self.owners[client] != worker}
        if self.paused:
            self.tries, self.paused, self.expired, self.why = 0, False, True, {}
        self.do(Joined(worker, tuple(c for c, owner in enumerate(self.owners) if owner == worker)))

    @rule(worker=st.sampled_from(("ada", "bob", "cyd", "stranger")))
    def leave(self, worker):
        self.here.discard(worker)
        self.do(Left(worker))

    @rule(worker=st.sampled_from(("ada", "bob", "cyd", "stranger")), why=REASONS)
    def cannot(self, worker, why):
        why = Failure(why.reason, why.bad_input)
        self.here.discard(worker)
        self.unable[worker] = why
        if not self.closing and not self.over:
            lost = {client for client in self.awaited if self.owners[client] == worker}
            self.failed |= lost
            self.why.update(dict.fromkeys(lost, why))
        self.do(Unable(worker, why))

    def some(self, which):
        """A client, most often one that has been drawn."""
        drawn = sorted(self.selected)
        return drawn[which % len(drawn)] if drawn and which < 30 else which % 7

    def takes(self, client):
        open_ = bool(self.round) and not self.closing and not self.over
        takes = open_ and client in self.selected and self.refusals[client] < REFUSALS_UNTIL_QUARANTINE
        assert self.machine.takes(self.round, client) == takes
        return takes

    @rule(ahead=AHEAD, which=WHICH)
    def accept(self, ahead, which):
        client = self.some(which)
        if not ahead and self.takes(client):
            self.accepted.add(client)
            self.failed.discard(client)
            self.why.pop(client, None)
            self.expired = self.expired or self.paused
        self.do(Accepted(self.round + ahead, client))

    @rule(ahead=AHEAD, which=WHICH, why=REASONS)
    def fail(self, ahead, which, why):
        client = self.some(which)
        if not ahead and client in self.awaited and not self.closing and not self.over:
            self.failed.add(client)
            self.why[client] = why
        self.do(Failed(self.round + ahead, client, why))

    @rule(which=WHICH)
    def refuse(self, which):
        client = self.some(which)
        if self.takes(client):
            self.refusals[client] += 1
            self.failed |= {client} - self.accepted
            if client not in self.accepted:
                self.why[client] = Failure("not finite")
        self.do(Refused(self.round, client, "not finite"))

    @precondition(lambda self: self.plan.timed)
    @rule(stale=st.sampled_from((0, 0, 1)))
    def deadline(self, stale):
        self.expired = self.expired or not stale
        self.do(Deadline(self.round, self.machine.attempt - stale))

    @rule(ahead=AHEAD, value=st.sampled_from((0.0, 0.5, TARGET, 1.0)))
    def evaluate(self, ahead, value):
        judged = self.closing and not self.over and not ahead
        self.do(Evaluated(self.round + ahead, value))
        assert self.over or not judged or (value < TARGET and self.round < self.plan.rounds + 1)
        ended = value >= TARGET or self.round == self.plan.rounds or self.gave_up
        assert not self.over or not judged or ended

    @invariant()
    def the_machine_agrees_about_who_is_waited_for(self):
        assert self.machine.round == self.round <= self.plan.rounds
        assert set(self.machine.selected) == self.selected
        assert set(self.machine.awaited) == self.awaited
        if not self.over:
            assert self.machine.absent == sorted({self.owners[client] for client in self.awaited} - self.here)

    @invariant()
    def an_open_round_waits_for_somebody_or_says_that_it_pauses(self):
        if self.round and not self.closing and not self.over:
            assert self.awaited or self.paused
            assert len(self.accepted) < self.plan.clients_per_round

    @invariant()
    def a_run_that_pauses_waits_for_somebody_or_for_what_passes(self):
        if self.paused and not self.over and self.why and not self.awaited:
            everybody = len(set(self.owners) & self.seen) >= self.plan.devices and self.able <= self.here
            assert not everybody or any(why.is_passing for why in self.why.values())

    @invariant()
    def every_host_that_is_here_knows_what_is_missing(self):
        if self.round and not self.closing and not self.over:
            for client in self.awaited:
                assert self.owners[client] not in self.here or client in self.told[self.owners[client]]


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestAnyOrder = AnyOrder.TestCase
