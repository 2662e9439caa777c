"""The worker when coordinator and link come and go: what it repeats, what it does once, and what it leaves."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from itertools import groupby

import grpc
import numpy as np
import pytest
from fake_coordinator import PATIENCE_S, START, prepare_order, train_order, updates_of, work

from edge.worker import retry as retries
from edge.worker import worker
from edge.worker.transfer import Stalled
from federa.errors import BadInput, FederaError
from federa.seeds import derive_seed
from federa.tensors.codec import Encoded, decode, encode
from federa.tensors.state import pack, unpack
from protos import federation_pb2 as pb
from protos.streams import CHUNK_BYTES
from tests.doubles.noop import STEPS, NoopRuntime, equal_shapes, start_state, trained_state

BIG = pack(start_state(equal_shapes(4, CHUNK_BYTES // 4)))
BIG_SHA = hashlib.sha256(BIG).digest()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The next attempt comes at once."""
    monkeypatch.setattr(retries.Backoff, "next_s", lambda self: 0.01)
    monkeypatch.setattr(worker, "INTERVAL_S", 0.1)


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def told(telemetry):
    return [piece.phase for piece in telemetry.phases]


def without_repeats(values):
    return [value for value, _ in groupby(values)]


def big(fake):
    fake.states[BIG_SHA] = BIG


async def train_big(hear, say, number, fake):
    """One client of a state of several chunks."""
    say(prepare=prepare_order(clients=(0,), start=BIG_SHA))
    await hear("prepared")
    say(train=train_order(clients=(0,), state=BIG_SHA))
    while not fake.updates:
        assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"


# ---------------------------------------------------------------- transfers that break


PASSING = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
]


def test_transfers_that_fail_in_passing_are_tried_again():
    def prepare(fake):
        fake.refuse_downloads = list(PASSING)
        fake.refuse_uploads = list(PASSING)

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, prepare=prepare)
    assert updates_of(fake) == [(1, 0)]
    assert len(fake.downloads) == len(fake.uploads) == 1 + len(PASSING)


@pytest.mark.parametrize("status", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS])
def test_a_coordinator_that_fails_again_and_again_is_told_so(status):
    # These come from a transport that broke, and from a coordinator with a fault: then no attempt would be the last.
    said = []

    async def script(hear, say, number, fake):
        fake.refuse_uploads = [status] * 100
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        said.append(await hear("client_error"))

    fake = work(script)
    assert len(fake.uploads) == retries.DOUBTFUL_ATTEMPTS
    assert said[0].message == f"{status.name}: not now"


def test_a_download_goes_on_where_it_broke_off():
    def prepare(fake):
        big(fake)
        fake.break_downloads = [2, 0, 1]

    fake = work(train_big, prepare=prepare)
    assert [request.offset for request in fake.downloads] == [0, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES]
    # No byte came twice, and what was put together is the state.
    assert fake.bytes_down == len(BIG)
    assert decode(fake.updates[0][1])["layer.000"][0] == np.float32(1 / 7)


def test_an_upload_goes_on_where_it_broke_off():
    def prepare(fake):
        big(fake)
        fake.break_uploads = [3, 0, 1]

    fake = work(train_big, prepare=prepare)
    size = fake.uploads[0].size
    assert fake.offsets == [0, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES, 4 * CHUNK_BYTES]
    # The coordinator took each byte once; all attempts have the same header.
    assert fake.bytes_up == size
    assert all(header == fake.uploads[0] for header in fake.uploads)
    expected = trained_state(unpack(BIG), 1, 0)
    assert all((value == expected[name]).all() for name, value in decode(fake.updates[0][1]).items())


def test_an_upload_that_is_there_whole_already_sends_nothing():
    async def script(hear, say, number, fake):
        blob = pack(trained_state(unpack(START), 1, 0))
        fake.partials[hashlib.sha256(blob).digest()] = bytearray(blob)
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            await hear("activity")

    fake = work(script)
    assert fake.bytes_up == 0
    assert updates_of(fake) == [(1, 0)]


def test_a_beginning_that_was_tampered_with_costs_one_fresh_upload():
    async def script(hear, say, number, fake):
        blob = pack(trained_state(unpack(START), 1, 0))
        fake.partials[hashlib.sha256(blob).digest()] = bytearray(b"x" * 50)
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script)
    assert fake.offsets == [50, 0]


def test_a_transfer_on_which_nothing_moves_is_given_up_and_tried_again(monkeypatch):
    monkeypatch.setattr(retries, "STALL_S", 0.3)

    async def script(hear, say, number, fake):
        fake.downloads_go_on.clear()
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while len(fake.downloads) < 2:
            await asyncio.sleep(0.01)
        fake.downloads_go_on.set()
        while not fake.updates:
            await hear("activity")

    assert len(work(script).downloads) >= 2


def test_waits_for_bytes_grow_so_that_a_slow_link_gets_through(monkeypatch):
    monkeypatch.setattr(retries, "LONGEST_STALL_S", 400.0)
    waits = []

    async def attempt(stall_s):
        waits.append(stall_s)
        if len(waits) < 5:
            raise Stalled("nothing moved")
        return "there"

    assert asyncio.run(retries.retry(attempt)) == "there"
    assert waits == [60, 120, 240, 400, 400]


# ---------------------------------------------------------------- what the coordinator does not take


@pytest.mark.parametrize("status", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT])
def test_a_refused_update_is_left_and_the_next_client_trained(caplog, status):
    # Too late for its round, or not what it may be: the coordinator knows and goes on without it.
    def prepare(fake):
        fake.refuse_uploads = [status]

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        while not fake.updates:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    assert updates_of(work(script, prepare=prepare)) == [(1, 1)]
    assert "the coordinator refused client 0's update for round 1: not now" in lines(caplog)


def test_a_refused_update_may_be_ordered_again():
    engine = NoopRuntime()

    async def script(hear, say, number, fake):
        fake.refuse_uploads = [grpc.StatusCode.INVALID_ARGUMENT]
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while (now := await hear("activity")).phase != "idle" or now.round == 0:
            pass
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            await hear("activity")

    work(script, engine=engine)
    assert engine.trained == [(1, 0), (1, 0)]


def test_an_order_for_a_state_that_comes_too_late_is_left(caplog):
    async def script(hear, say, number, fake):
        fake.refuse_downloads = [grpc.StatusCode.FAILED_PRECONDITION]
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        say(train=train_order(round_=2))
        while len(fake.updates) < 2:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    assert updates_of(work(script)) == [(2, 0), (2, 1)]
    assert "the coordinator refused client 1's update for round 1: not now" in lines(caplog)


def test_trouble_with_one_client_keeps_no_other_from_its_turn():
    said = []
    engine = NoopRuntime(trouble="0:it has no such word")

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        say(train=train_order(round_=2))
        while len(said) < 2:
            said.append(await hear("client_error"))
        while len(fake.updates) < 2:
            await hear("activity")

    assert updates_of(work(script, engine=engine)) == [(1, 1), (2, 1)]
    assert [(trouble.round, trouble.client, trouble.message) for trouble in said] == [
        (1, 0, "it has no such word"),
        (2, 0, "it has no such word"),
    ]


def test_a_failed_client_may_be_ordered_again():
    engine = NoopRuntime(trouble="a passing fault")

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        for _ in range(3):
            say(train=train_order(clients=(0,)))
            await hear("client_error")

    work(script, engine=engine)
    assert engine.trained == [(1, 0)] * 3


def test_every_client_of_an_order_is_told_when_its_state_cannot_be_had():
    said = []

    async def script(hear, say, number, fake):
        fake.refuse_downloads = [grpc.StatusCode.NOT_FOUND]
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        said.extend([await hear("client_error"), await hear("client_error")])
        say(train=train_order())
        while len(fake.updates) < 2:
            await hear("activity")

    work(script)
    assert [(trouble.client, trouble.message) for trouble in said] == [
        (0, "NOT_FOUND: not now"),
        (1, "NOT_FOUND: not now"),
    ]


def test_a_start_that_cannot_be_installed_is_tried_with_a_fresh_model():
    class Clumsy(NoopRuntime):
        def install(self, start):
            super().install(start)
            if self.calls.count("install") == 1:
                raise FederaError("half of it is in")

    engine = Clumsy()

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        assert (await hear("client_error")).message == "half of it is in"
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            await hear("activity")

    work(script, engine=engine)
    assert engine.calls == ["prepare", "install", "release", "prepare", "install", "train"]


# ---------------------------------------------------------------- reconnects


def test_what_was_announced_already_is_not_trained_twice():
    # After a reconnect the coordinator announces again what it still misses; that may be in hand here.
    engine = NoopRuntime(train_s=0.2)

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        for _ in range(3):
            say(train=train_order(clients=(0, 1)))
        while (await hear("activity")).phase != "upload":
            pass
        say(train=train_order(clients=(0, 1)))
        say(train=train_order(round_=2, clients=(1,)))
        while len(fake.updates) < 3:
            await hear("activity")
        say(train=train_order(clients=(0, 1)))
        say(train=train_order(round_=3, clients=(0,)))
        while len(fake.updates) < 4:
            await hear("activity")

    fake = work(script, engine=engine)
    assert engine.trained == updates_of(fake) == [(1, 0), (1, 1), (2, 1), (3, 0)]


def test_a_worker_reconnects_with_its_own_key_and_goes_on():
    engine = NoopRuntime()

    async def script(hear, say, number, fake):
        if number == 1:
            say(prepare=prepare_order())
            await hear("prepared")
            broke.set()
            raise ConnectionError("the coordinator's stream breaks")
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        while len(fake.updates) < 2:
            await hear("activity")

    broke = threading.Event()
    fake = work(script, engine=engine)
    assert broke.is_set()
    first, second = fake.hellos[:2]
    assert first == second
    # The model was loaded once.
    assert engine.calls.count("prepare") == 1


def test_a_training_under_way_goes_on_over_a_reconnect_and_is_delivered_once():
    engine = NoopRuntime(train_s=1.2)
    steps = []

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        steps.append(engine.steps)
        if number == 1:
            await hear("heartbeat")  # answered: that Prepared is not sent again by itself
            await hear("heartbeat")
        say(train=train_order(clients=(0,)))
        if number == 1:
            while (await hear("activity")).phase != "train":
                pass
            raise ConnectionError("the coordinator's stream breaks")
        while not fake.updates:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, engine=engine, give_up_after_s=4.0)
    assert fake.streams == 2
    assert engine.trained == updates_of(fake) == [(1, 0)]
    # The second one did not wait for the training's end to hear that the run is prepared.
    assert steps[0] == 0 and 1 <= steps[1] < STEPS


def test_reports_survive_a_reconnect():
    # The first stream breaks before any heartbeat was answered: nothing shows that the reports arrived.
    phases, sequences = [], []

    async def script(hear, say, number, fake):
        if number == 1:
            fake.answers_heartbeats = False
            say(prepare=prepare_order(clients=(0,)))
            await hear("prepared")
            say(train=train_order(clients=(0,)))
            while "upload" not in told(await hear("telemetry")):
                pass
            raise ConnectionError("the coordinator's stream breaks")
        assert (await hear("prepared", "telemetry")).DESCRIPTOR.name == "Prepared"
        while "upload" not in phases:
            telemetry = await hear("telemetry")
            sequences.append(telemetry.sequence)
            phases.extend(told(telemetry))

    work(script)
    assert sequences == list(range(1, len(sequences) + 1))
    assert without_repeats(phases)[:6] == ["load", "idle", "download", "load", "train", "upload"]


def test_reports_that_arrived_are_not_sent_again():
    seen, rounds = [], []

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(round_=number, clients=(0,)))
        while (number, "upload") not in rounds:
            telemetry = await hear("telemetry")
            seen.append((number, telemetry.sequence))
            rounds.extend((piece.round, piece.phase) for piece in telemetry.phases)
        if number == 1:
            beats = 0
            while beats < 2:
                report = await hear("heartbeat", "telemetry")
                if report.DESCRIPTOR.name == "Heartbeat":
                    beats += 1
                else:
                    seen.append((number, report.sequence))
            raise ConnectionError("the coordinator's stream breaks")

    work(script, give_up_after_s=4.0)
    # What was sent before the last heartbeat that was answered came once; little was sent after it.
    again = {sequence for number, sequence in seen if number == 1} & {
        sequence for number, sequence in seen if number == 2
    }
    assert min(sequence for number, sequence in seen if number == 2) > 1
    assert len(again) <= 2
    assert {(round_, phase) for round_ in (1, 2) for phase in ("download", "load", "train", "upload")} <= set(rounds)


def test_a_prepare_of_other_content_is_prepared_anew():
    engine = NoopRuntime()

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(prepare=prepare_order(clients=(0, 2)))
        assert dict((await hear("prepared")).examples) == {0: 1, 2: 3}

    work(script, engine=engine)
    assert engine.calls == ["prepare", "release", "prepare"]


def test_a_run_that_was_released_is_prepared_anew():
    engine = NoopRuntime(train_s=2.0)

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        while (await hear("activity")).phase != "train":
            pass
        say(release=pb.Release(run_id="r1"))
        say(prepare=prepare_order())
        await hear("released")
        await hear("prepared")

    work(script, engine=engine)
    assert engine.calls == ["prepare", "install", "train", "release", "prepare"]


def test_a_name_taken_while_away_is_tried_for_until_the_worker_gives_up(caplog):
    caplog.set_level(logging.INFO)

    def prepare(fake):
        serve = fake.Control

        async def control(requests, context):
            if fake.streams == 1:
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, "a worker named 'ada' is connected already")
            async for message in serve(requests, context):
                yield message

        fake.Control = control

    async def script(hear, say, number, fake):
        raise ConnectionError("the coordinator's stream breaks")

    with pytest.raises(
        FederaError, match=r"gave up.*another worker has the name 'ada' meanwhile: a worker named"
    ) as caught:
        work(script, prepare=prepare, give_up_after_s=1.0)
    assert not isinstance(caught.value, BadInput)
    assert sum("another worker has the name" in line for line in lines(caplog)) > 1


# ---------------------------------------------------------------- abandoned


def abandon_order(clients, round_=1, run_id="r1"):
    return pb.Abandon(run_id=run_id, round=round_, clients=clients, reason="the round closed at its deadline")


def refusal(client, round_=1):
    return f"the coordinator refused client {client}'s update for round {round_}: the round closed at its deadline"


def test_clients_that_are_queued_are_dropped_when_they_are_abandoned(caplog):
    engine = NoopRuntime(train_s=0.4)

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0, 1, 2, 3)))
        await hear("prepared")
        say(train=train_order(clients=(0, 1, 2)))  # 1 is queued in an order under way
        say(train=train_order(clients=(3,)))  # 3 in an order of its own
        say(train=train_order(round_=2, clients=(1,)))
        say(abandon=abandon_order([1, 3]))
        while len(fake.updates) < 3:
            await hear("activity")

    fake = work(script, engine=engine)
    assert engine.trained == updates_of(fake) == [(1, 0), (1, 2), (2, 1)]
    assert [line for line in lines(caplog) if "refused" in line] == [refusal(3), refusal(1)]


def test_a_training_ends_at_its_next_step_when_its_client_is_abandoned(caplog):
    engine = NoopRuntime(train_s=4.0)

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order(clients=(1,)))
        while (await hear("activity")).phase != "train":
            pass
        say(abandon=abandon_order([1]))
        while (await hear("activity")).phase != "idle":
            pass

    assert updates_of(work(script, engine=engine)) == []
    assert 1 <= engine.steps < STEPS
    assert refusal(1) in lines(caplog)


def test_an_upload_is_cancelled_when_its_client_is_abandoned(caplog):
    async def script(hear, say, number, fake):
        fake.uploads_go_on.clear()
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order(clients=(0, 1)))
        while not fake.uploads:
            await asyncio.sleep(0.01)
        say(abandon=abandon_order([0]))
        while len(fake.uploads) < 2:
            await asyncio.sleep(0.01)
        fake.uploads_go_on.set()
        while not fake.updates:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script)
    assert [header.update.client for header in fake.uploads] == [0, 1]
    assert updates_of(fake) == [(1, 1)]
    assert refusal(0) in lines(caplog)


@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_download_is_cancelled_when_all_its_clients_are_abandoned(all_of_them):
    engine = NoopRuntime()

    async def script(hear, say, number, fake):
        fake.downloads_go_on.clear()
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order(clients=(0, 1)))
        while not fake.downloads:
            await asyncio.sleep(0.01)
        say(abandon=abandon_order([0, 1] if all_of_them else [0]))
        if all_of_them:
            say(train=train_order(round_=2, clients=(0,)))
            while len(fake.downloads) < 2:
                await asyncio.sleep(0.01)
        fake.downloads_go_on.set()
        while not fake.updates:
            await hear("activity")

    fake = work(script, engine=engine)
    assert updates_of(fake) == ([(2, 0)] if all_of_them else [(1, 1)])
    assert len(fake.downloads) == (2 if all_of_them else 1)


def test_an_abandoned_client_may_be_ordered_again_at_once():
    # A later attempt of the round, while the training of the first is still ending.
    engine = NoopRuntime(train_s=2.0)

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while (await hear("activity")).phase != "train":
            pass
        say(abandon=abandon_order([0]))
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, engine=engine)
    assert engine.trained == [(1, 0), (1, 0)]
    assert updates_of(fake) == [(1, 0)]


def test_an_abandoned_client_that_fails_is_nobodys_trouble():
    abandoned = threading.Event()

    class Slow(NoopRuntime):
        def train(self, *arguments):
            if not abandoned.is_set():
                self.trained.append(arguments[:2])
                abandoned.wait(PATIENCE_S)
                raise FederaError("it failed before its next step")
            return super().train(*arguments)

    engine = Slow()

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while not engine.trained:
            await asyncio.sleep(0.01)
        say(abandon=abandon_order([0]))
        say(train=train_order(clients=(0,)))
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")  # it has heard all that went before
        abandoned.set()
        while (await hear("activity", "client_error")).phase != "idle":
            pass
        say(train=train_order(clients=(0,)))  # it is queued, or under way: the failure has not let it in again
        while not fake.updates:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"
        say(train=train_order(round_=2, clients=(0,)))
        while len(fake.updates) < 2:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, engine=engine)
    assert engine.trained == [(1, 0), (1, 0), (2, 0)]
    assert updates_of(fake) == [(1, 0), (2, 0)]


def test_a_release_cancels_an_upload():
    async def script(hear, say, number, fake):
        fake.uploads_go_on.clear()
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while not fake.uploads:
            await asyncio.sleep(0.01)
        say(release=pb.Release(run_id="r1"))
        await hear("released")

    assert updates_of(work(script)) == []


# ---------------------------------------------------------------- below fp32


@pytest.mark.parametrize("wire", ["bf16", "fp16", "int8"])
def test_differences_travel_below_fp32(wire):
    start = unpack(START)
    moved = {name: value + np.float32(0.5) for name, value in start.items()}
    broadcast = encode(moved, wire, reference=start, reference_sha256=hashlib.sha256(START).hexdigest(), seed=7)
    sha256 = hashlib.sha256(broadcast).digest()

    async def script(hear, say, number, fake):
        fake.states[sha256] = broadcast
        say(prepare=prepare_order(wire=wire, seed=5))
        await hear("prepared")
        say(train=train_order())
        say(train=train_order(round_=2, state=sha256))
        while len(fake.updates) < 4:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script)
    assert len(fake.downloads) == 2  # the start is kept
    received = {1: start, 2: decode(broadcast, start)}
    names = {1: hashlib.sha256(START).hexdigest(), 2: sha256.hex()}
    for update, blob in fake.updates:
        state = received[update.round]
        assert (Encoded(blob).wire, Encoded(blob).reference_sha256) == (wire, names[update.round])
        # The same bytes, whoever trains it and however often.
        assert blob == encode(
            trained_state(state, update.round, update.client),
            wire,
            reference=state,
            reference_sha256=names[update.round],
            seed=derive_seed(5, "wire", "up", update.round, update.client),
        )


def test_a_worker_that_joins_late_fetches_the_start_too():
    start = unpack(START)
    broadcast = encode(start, "fp16", reference=start, reference_sha256=hashlib.sha256(START).hexdigest())
    sha256 = hashlib.sha256(broadcast).digest()
    installed = []

    class Recording(NoopRuntime):
        def install(self, state):
            installed.append({name: value.copy() for name, value in state.items()})

    async def script(hear, say, number, fake):
        fake.states[sha256] = broadcast
        say(prepare=prepare_order(clients=(0,), wire="fp16"))
        await hear("prepared")
        for round_ in (4, 5):
            say(train=train_order(round_=round_, clients=(0,), state=sha256))
        while len(fake.updates) < 2:
            assert (await hear("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, engine=Recording())
    assert [request.sha256 == sha256 for request in fake.downloads] == [False, True, True]
    assert len(installed) == 1
    assert all((installed[0][name] == value).all() for name, value in start.items())


# ---------------------------------------------------------------- heartbeats


def test_how_fast_heartbeats_are_answered_is_measured_and_said(caplog):
    caplog.set_level(logging.INFO)
    pulses, began = [], time.monotonic()

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        await hear("heartbeat")
        heartbeat = await hear("heartbeat")
        await asyncio.sleep(0.3)
        say(heartbeat=heartbeat)  # a second answer counts for nothing
        while fake.worker.latency.count < 2:
            await hear("heartbeat")
        pulses.append((fake.worker.latency.count, fake.worker.latency.worst_ms))
        say(release=pb.Release(run_id="r1"))
        await hear("released")

    # Beats come faster where a worker gives up soon.
    work(script, give_up_after_s=2.0)
    ((count, worst_ms),) = pulses
    assert count >= 2
    assert 0 < worst_ms < (time.monotonic() - began) * 1000
    (line,) = [line for line in lines(caplog) if "released run r1" in line]
    assert "heartbeats, answered after at most" in line
