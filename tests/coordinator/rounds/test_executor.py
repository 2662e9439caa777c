"""Carrying out the rounds' decisions, among fakes: what is done in which order, and what is recorded before it."""

from __future__ import annotations

import asyncio
import functools
from types import SimpleNamespace

import pytest

from coordinator.rounds.events import (
    Accepted,
    CurvePoint,
    Deadline,
    Evaluated,
    Failed,
    Finish,
    Joined,
    Left,
    Refused,
    RoundSnapshot,
    RunHistory,
    Unable,
)
from coordinator.rounds.failures import Failure
from federa.errors import BadInput, FederaError
from tests.doubles.fake_rounds import Rounds


def on_a_loop(test):
    """Run a test that is a coroutine."""

    @functools.wraps(test)
    def run(*arguments, **named):
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 20))

    return run


async def begun(**options):
    """Rounds whose first is announced to both devices; its log is taken."""
    rounds = Rounds(**options)
    await rounds.happen(Joined("a", rounds.hosted_by("a")), Joined("b", rounds.hosted_by("b")))
    rounds.take_log()
    return rounds


def clock_of(monkeypatch):
    """The rounds' clock, which a test moves: a list of the seconds that it shows."""
    now = [100.0]
    # The rounds' alone: the event loop's goes on.
    monkeypatch.setattr("coordinator.rounds.clock.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


NO_MEMORY = Failure("no memory")
SNAPSHOT = {"hosts": {0: "a", 1: "b", 2: "a", 3: "b"}, "round": 2, "attempt": 1, "selected": {0, 1, 2, 3}}


def left_behind(*, accepted=(), failed=(), **history):
    """What an earlier process left of its second round."""
    snapshot = RoundSnapshot(**SNAPSHOT, accepted=set(accepted), failed=set(failed), refusals={})
    curve = (CurvePoint(value=0.25, elapsed_s=3.0, wire_bytes=100),)
    return RunHistory(snapshot=snapshot, curve=curve, total_s=3.0, **history)


# ---- a round's course


@on_a_loop
async def test_a_round_is_recorded_before_it_is_announced_and_announced_only_when_enough_are_here():
    rounds = Rounds()
    await rounds.happen(Joined("a", rounds.hosted_by("a")))
    assert rounds.take_log() == []
    await rounds.happen(Joined("b", rounds.hosted_by("b")))
    assert rounds.take_log() == [
        ("broadcast", 1),
        ("selected", 1, 1, (0, 1, 2, 3), "start for round 1"),
        ("wait", 1, "idle"),
        ("announce", 1, "a", (0, 2), "start for round 1"),
        ("announce", 1, "b", (1, 3), "start for round 1"),
    ]
    assert rounds.progress.round == (1, 4, 0) and rounds.progress.stages == [("training", "")]


@on_a_loop
async def test_the_last_update_closes_a_round_which_is_recorded_before_it_is_tidied_and_scored():
    rounds = await begun(scores=[0.5])
    await rounds.accept(3, 0, 2)
    assert rounds.take_log() == [] and rounds.progress.round == (1, 4, 3)
    await rounds.accept(1)
    assert rounds.executor._states.state == "state 1"
    event = await rounds.posted()
    assert event == Evaluated(1, 0.5)
    assert rounds.take_log() == [
        ("aggregate", 1, (0, 1, 2, 3)),
        ("aggregated", 1, "state 1", "server 1"),
        ("forget", 1),
        ("tidy", 1),
        ("wait", 1, "evaluate"),
        ("score", 1, "validation", "state 1"),
        ("evaluated", 1, 0.5, 10),
    ]
    assert await rounds.happen(event) is None
    assert rounds.take_log()[:2] == [
        ("broadcast", 2),
        ("selected", 2, 1, (0, 1, 2, 3), "state 1 for round 2"),
    ]


@on_a_loop
async def test_a_value_that_reaches_the_target_ends_the_run_and_so_does_the_last_round():
    for scores, rounds_, reached in (([0.9], 3, True), ([0.1], 1, False)):
        rounds = await begun(scores=scores, rounds=rounds_)
        await rounds.accept(0, 1, 2, 3)
        assert await rounds.happen(await rounds.posted()) == Finish(reached)


@on_a_loop
async def test_what_was_acknowledged_while_a_round_closed_counts_and_is_not_missing():
    rounds = await begun(clients_per_round=2, over_select=2, quorum=2)
    rounds.uploads.recorded = asyncio.Event()
    await rounds.accept(0)
    closing = asyncio.ensure_future(rounds.accept(1))
    await asyncio.sleep(0)
    assert not rounds.machine.takes(1, 2)
    rounds.store.accepted[2] = 30  # it was being recorded
    rounds.uploads.recorded.set()
    await closing
    missing, abandon, aggregate = rounds.take_log()[:3]
    assert missing[:4] == ("missing", 1, 1, {3: "b"}) and missing[4].startswith("the round was closed with 3 updates")
    assert abandon == ("abandon", 1, (3,), missing[4])
    assert aggregate == ("aggregate", 1, (0, 1, 2))


@on_a_loop
async def test_the_clock_counts_from_the_announcement_and_adds_up_over_the_rounds(monkeypatch):
    now = clock_of(monkeypatch)
    rounds = await begun(scores=[0.1, 0.2])
    for round_, seconds in ((1, 2.0), (2, 0.5)):
        assert rounds.executor.clock.elapsed_s() == 0.0
        now[0] += seconds
        rounds.store.wire_bytes += 1000
        await rounds.accept(0, 1, 2, 3)
        now[0] += 70.0  # the evaluation's, which are listed apart
        await rounds.happen(await rounds.posted())
        assert rounds.executor.clock.total_s == (2.0 if round_ == 1 else 2.5)
    assert rounds.progress.points == [(0.1, 2.0, 1000), (0.2, 2.5, 2000)]


# ---- what goes wrong


@on_a_loop
async def test_what_befell_a_client_that_is_waited_for_is_recorded_with_its_device():
    rounds = await begun(quorum=2)
    await rounds.accept(1)
    await rounds.happen(Failed(1, 0, NO_MEMORY), Failed(1, 1, NO_MEMORY), Failed(2, 3, NO_MEMORY))
    await rounds.happen(Refused(1, 3, "not finite"), Refused(1, 77, "nobody's"))
    assert [entry for entry in rounds.take_log() if entry[0] in ("failed", "refused")] == [
        ("failed", 1, 1, {0: "a"}, "no memory"),
        ("refused", 1, 1, {3: "b"}, "not finite"),
    ]


@on_a_loop
async def test_a_device_that_cannot_take_part_fails_all_clients_that_are_waited_for_at_once():
    rounds = await begun(quorum=2)
    await rounds.accept(0)
    await rounds.happen(Unable("a", Failure("no GPU")))
    with pytest.raises(FederaError, match="nobody is left"):
        await rounds.happen(Unable("b", Failure("no GPU")))
    assert [entry for entry in rounds.take_log() if entry[0] == "failed"] == [
        ("failed", 1, 1, {2: "a"}, "its worker cannot take part: no GPU"),
        ("failed", 1, 1, {1: "b", 3: "b"}, "its worker cannot take part: no GPU"),
    ]


@on_a_loop
async def test_another_attempt_is_recorded_and_announced_with_the_same_broadcast():
    rounds = await begun(attempts=2)
    await rounds.happen(Failed(1, 0, NO_MEMORY))
    await rounds.accept(1, 2, 3)
    assert rounds.take_log() == [
        ("failed", 1, 1, {0: "a"}, "no memory"),
        ("selected", 1, 2, (0,), "start for round 1"),
        ("announce", 1, "a", (0,), "start for round 1"),
    ]
    assert rounds.progress.stages[-1] == ("training", "attempt 2: client 0 in place of others")


@on_a_loop
async def test_a_round_that_pauses_says_what_it_waits_for_and_why():
    rounds = await begun(attempts=1)
    await rounds.accept(1, 2, 3)
    await rounds.happen(Failed(1, 0, Failure("UNAVAILABLE: the link is cut", is_passing=True)))
    stage, note = rounds.progress.stages[-1]
    assert stage == "paused"
    assert note == (
        "round 1 has 3 of the 4 updates it needs after 1 attempts; waiting for a worker that joins or comes back; "
        "last failure: client 0 on a: UNAVAILABLE: the link is cut"
    )


@pytest.mark.parametrize(("is_bad_input", "kind"), [(True, BadInput), (False, FederaError)])
@on_a_loop
async def test_a_failure_that_all_have_ends_the_run_in_one_line_with_its_exit_code(is_bad_input, kind):
    rounds = await begun()
    why = Failure("data: line 3\n has no\x1b[2Jcolumn " + "x" * 900, bad_input=is_bad_input)
    await rounds.happen(*(Failed(1, client, why) for client in (0, 1, 2)))
    with pytest.raises(FederaError) as caught:
        await rounds.happen(Failed(1, 3, why))
    assert type(caught.value) is kind
    words = "round 1: every client fails in the same way: client 0 on a: data: line 3\\n has no\\x1b[2Jcolumn xxx"
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert str(caught.value).endswith("start again with the same --out: the run goes on with this round")
    # It is in the ledger as ever.
    assert len([entry for entry in rounds.take_log() if entry[0] == "failed"]) == 4


@on_a_loop
async def test_failures_that_differ_are_all_named_when_nobody_is_left():
    rounds = await begun(attempts=1)
    await rounds.accept(1)
    await rounds.happen(Failed(1, 0, NO_MEMORY), Failed(1, 2, NO_MEMORY))
    with pytest.raises(FederaError, match="round 1 has 1 of the 4 updates it needs after 1 attempts") as caught:
        await rounds.happen(Failed(1, 3, Failure("no such file: x.csv", bad_input=True)))
    assert "client 0 on a: no memory; client 3 on b: no such file: x.csv;" in str(caught.value)
    assert caught.value.exit_code == 1, "not all of it is bad input"


@on_a_loop
async def test_a_device_that_cannot_take_part_in_the_first_round_is_recorded_for_all_its_clients():
    rounds = Rounds()
    await rounds.happen(Unable("a", Failure("no GPU")))
    assert rounds.take_log() == [("failed", 0, 0, {0: "a", 2: "a"}, "its worker cannot take part: no GPU")]


@on_a_loop
async def test_who_is_away_is_shown_with_the_last_failure():
    rounds = await begun()
    await rounds.happen(Left("b"), Failed(1, 0, NO_MEMORY))
    assert rounds.progress.waiting == [["b"], ["b", "client 0 on a: no memory"]]


@on_a_loop
async def test_who_is_away_is_shown_once_and_while_the_round_trains():
    rounds = await begun()
    await rounds.happen(Left("b"))
    await rounds.accept(0)
    await rounds.happen(Joined("b", rounds.hosted_by("b")))
    assert rounds.progress.waiting == [["b"], []]
    await rounds.accept(1, 2, 3)
    await rounds.happen(Left("a"))
    assert rounds.progress.waiting == [["b"], []]


# ---- deadlines


@on_a_loop
async def test_a_deadline_falls_after_the_announcement_and_closes_the_round():
    rounds = await begun(deadline_s=0.01, quorum=2)
    await rounds.accept(0, 3)
    deadline = await rounds.posted()
    assert deadline == Deadline(1, 1)
    await rounds.happen(deadline)
    assert ("aggregate", 1, (0, 3)) in rounds.take_log()


@on_a_loop
async def test_without_anybody_to_announce_to_no_deadline_runs_until_one_is_here():
    rounds = Rounds(deadline_s=0.0, quorum=2)
    rounds.cohort.away = {"a", "b"}
    await rounds.happen(Joined("a", rounds.hosted_by("a")), Joined("b", rounds.hosted_by("b")))
    await asyncio.sleep(0.02)
    assert rounds.events.empty()
    rounds.cohort.away = set()
    await rounds.happen(Joined("a", rounds.hosted_by("a")))
    assert await rounds.posted() == Deadline(1, 1)


@on_a_loop
async def test_an_automatic_deadline_is_known_from_the_first_update_on(monkeypatch):
    now = clock_of(monkeypatch)
    monkeypatch.setattr("coordinator.rounds.throughput.MIN_DEADLINE_S", 0.0)
    rounds = await begun(deadline_s="auto", quorum=1)
    await asyncio.sleep(0.01)
    assert rounds.events.empty()
    now[0] += 0.001  # for ten examples: twice that for sixty may the slower one take
    await rounds.accept(0)
    assert await rounds.posted() == Deadline(1, 1)


@on_a_loop
async def test_neither_a_deadline_nor_an_evaluation_outlives_the_run():
    rounds = await begun(deadline_s=0.02)
    rounds.executor.stop()
    await asyncio.sleep(0.05)
    assert rounds.events.empty()

    rounds = await begun()
    await rounds.accept(0, 1, 2, 3)
    rounds.executor.stop()
    await asyncio.sleep(0)
    assert rounds.events.empty() and ("evaluated", 1, 0.0, 10) not in rounds.take_log()


# ---- evaluation


@on_a_loop
async def test_devices_score_what_they_get_as_the_next_broadcast_which_is_made_once():
    rounds = await begun(on_devices=True, scores=[0.5])
    await rounds.accept(0, 1, 2, 3)
    event = await rounds.posted()
    log = rounds.take_log()
    assert ("score", 1, "validation", "state 1 for round 2") in log
    assert not any(entry[:1] == ("wait",) for entry in log), "where they count themselves it is idle time"
    await rounds.happen(event)
    assert log.count(("broadcast", 2)) == 1 and ("broadcast", 2) not in rounds.take_log()


@on_a_loop
async def test_the_test_part_is_scored_on_the_newest_state():
    rounds = await begun(scores=[0.9, 0.75])
    await rounds.accept(0, 1, 2, 3)
    await rounds.happen(await rounds.posted())
    assert (await rounds.executor.score("test")).value == 0.75
    assert rounds.take_log()[-1] == ("score", 1, "test", "state 1")


@pytest.mark.parametrize("score", [OSError("disk"), None])
@on_a_loop
async def test_an_evaluation_that_fails_or_finds_nothing_to_score_ends_the_run(score):
    rounds = await begun(scores=[score])
    await rounds.accept(0, 1, 2, 3)
    posted = await rounds.posted()
    if score is None:
        assert isinstance(posted, BadInput) and "data.validation: no client has a document" in str(posted)
    else:
        assert posted is score
    assert not any(entry[0] == "evaluated" for entry in rounds.take_log())


# ---- after a restart


@on_a_loop
async def test_an_open_round_goes_on_without_a_new_draw_and_with_the_seconds_that_it_had(monkeypatch):
    now = clock_of(monkeypatch)
    rounds = Rounds()
    rounds.states.broadcast_of, rounds.states.broadcast_sha256 = 2, "recovered"
    assert rounds.executor.resume(left_behind(accepted={0}, spent_s=7.5)) == []
    assert rounds.take_log() == [("wait", 2, "idle")]
    assert rounds.progress.round == (2, 4, 1) and rounds.progress.points == [(0.25, 3.0, 100)]
    assert (rounds.executor.clock.elapsed_s(), rounds.executor.clock.total_s) == (7.5, 3.0)
    await rounds.happen(Joined("b", (1, 3)), Joined("a", (0, 2)))
    assert rounds.take_log() == [
        ("announce", 2, "b", (1, 3), "recovered"),
        ("announce", 2, "a", (2,), "recovered"),
    ]
    rounds.store.accepted[0] = 10
    now[0] += 1.0
    await rounds.accept(1, 2, 3)
    assert rounds.executor.clock.total_s == 3.0 + 8.5


@on_a_loop
async def test_a_round_whose_updates_are_all_there_is_closed_at_once():
    rounds = Rounds()
    rounds.store.accepted = dict.fromkeys(range(4), 1)
    decisions = rounds.executor.resume(left_behind(accepted={0, 1, 2, 3}))
    assert await rounds.executor.carry_out(decisions) is None
    assert ("aggregate", 2, (0, 1, 2, 3)) in rounds.take_log()


@on_a_loop
async def test_an_aggregated_round_is_evaluated_and_an_evaluated_one_is_decided_upon():
    rounds = Rounds(scores=[0.5])
    rounds.states.state = "state 2"
    assert rounds.executor.resume(left_behind(is_aggregated=True)) == []
    assert await rounds.posted() == Evaluated(2, 0.5)
    assert ("score", 2, "validation", "state 2") in rounds.take_log()

    rounds = Rounds()
    decisions = rounds.executor.resume(left_behind(is_aggregated=True, value=0.95))
    assert await rounds.executor.carry_out(decisions) == Finish(True)
    assert rounds.take_log() == []


@on_a_loop
async def test_before_the_first_round_nothing_is_resumed():
    rounds = Rounds()
    snapshot = RoundSnapshot(hosts={}, round=0, attempt=0, selected=(), accepted=(), failed=(), refusals={})
    assert rounds.executor.resume(RunHistory(snapshot=snapshot)) == []
    assert rounds.take_log() == [] and rounds.executor.clock.elapsed_s() == 0.0
    assert await rounds.happen(Accepted(1, 0)) is None
