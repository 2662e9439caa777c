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


def phases_of(telemetry):
    return [energy.phase for energy in telemetry.phases]


def without_repeats(values):
    return [value for value, _ in groupby(values)]


def big(fake):
    fake.states[BIG_SHA] = BIG


async def train_big(receive, send, number, fake):
    """One client of a state of several chunks."""
    send(prepare=prepare_order(clients=(0,), start=BIG_SHA))
    await receive("prepared")
    send(train=train_order(clients=(0,), state=BIG_SHA))
    while not fake.updates:
        assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"


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

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while not fake.updates:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, prepare=prepare)
    assert updates_of(fake) == [(1, 0)]
    assert len(fake.downloads) == len(fake.uploads) == 1 + len(PASSING)


@pytest.mark.parametrize("status", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS])
def test_a_coordinator_that_fails_again_and_again_is_told_so(status):
    # These come from a transport that broke, and from a coordinator with a fault: then no attempt would be the last.
    errors = []

    async def script(receive, send, number, fake):
        fake.refuse_uploads = [status] * 100
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        errors.append(await receive("client_error"))

    fake = work(script)
    assert len(fake.uploads) == retries.DOUBTFUL_ATTEMPTS
    assert errors[0].message == f"{status.name}: not now"


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
    async def script(receive, send, number, fake):
        blob = pack(trained_state(unpack(START), 1, 0))
        fake.partials[hashlib.sha256(blob).digest()] = bytearray(blob)
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while not fake.updates:
            await receive("activity")

    fake = work(script)
    assert fake.bytes_up == 0
    assert updates_of(fake) == [(1, 0)]


def test_a_beginning_that_was_tampered_with_costs_one_fresh_upload():
    async def script(receive, send, number, fake):
        blob = pack(trained_state(unpack(START), 1, 0))
        fake.partials[hashlib.sha256(blob).digest()] = bytearray(b"x" * 50)
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while not fake.updates:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script)
    assert fake.offsets == [50, 0]


def test_a_transfer_on_which_nothing_moves_is_given_up_and_tried_again(monkeypatch):
    monkeypatch.setattr(retries, "STALL_S", 0.3)

    async def script(receive, send, number, fake):
        fake.downloads_go_on.clear()
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while len(fake.downloads) < 2:
            await asyncio.sleep(0.01)
        fake.downloads_go_on.set()
        while not fake.updates:
            await receive("activity")

    assert len(work(script).downloads) >= 2


def test_waits_for_bytes_grow_so_that_a_slow_link_gets_through(monkeypatch):
    monkeypatch.setattr(retries, "MAX_STALL_S", 400.0)
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

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        while not fake.updates:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    assert updates_of(work(script, prepare=prepare)) == [(1, 1)]
    assert "the coordinator refused client 0's update for round 1: not now" in lines(caplog)


def test_a_refused_update_may_be_ordered_again():
    runtime = NoopRuntime()

    async def script(receive, send, number, fake):
        fake.refuse_uploads = [grpc.StatusCode.INVALID_ARGUMENT]
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while (now := await receive("activity")).phase != "idle" or now.round == 0:
            pass
        send(train=train_order(clients=(0,)))
        while not fake.updates:
            await receive("activity")

    work(script, runtime=runtime)
    assert runtime.trained == [(1, 0), (1, 0)]


def test_an_order_for_a_state_that_comes_too_late_is_left(caplog):
    async def script(receive, send, number, fake):
        fake.refuse_downloads = [grpc.StatusCode.FAILED_PRECONDITION]
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        send(train=train_order(round_=2))
        while len(fake.updates) < 2:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    assert updates_of(work(script)) == [(2, 0), (2, 1)]
    assert "the coordinator refused client 1's update for round 1: not now" in lines(caplog)


def test_an_error_of_one_client_keeps_no_other_from_its_turn():
    errors = []
    runtime = NoopRuntime(failure="0:it has no such word")

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        send(train=train_order(round_=2))
        while len(errors) < 2:
            errors.append(await receive("client_error"))
        while len(fake.updates) < 2:
            await receive("activity")

    assert updates_of(work(script, runtime=runtime)) == [(1, 1), (2, 1)]
    assert [(client_error.round, client_error.client, client_error.message) for client_error in errors] == [
        (1, 0, "it has no such word"),
        (2, 0, "it has no such word"),
    ]


def test_a_failed_client_may_be_ordered_again():
    runtime = NoopRuntime(failure="a passing fault")

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        for _ in range(3):
            send(train=train_order(clients=(0,)))
            await receive("client_error")

    work(script, runtime=runtime)
    assert runtime.trained == [(1, 0)] * 3


def test_every_client_of_an_order_is_told_when_its_state_cannot_be_had():
    errors = []

    async def script(receive, send, number, fake):
        fake.refuse_downloads = [grpc.StatusCode.NOT_FOUND]
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        errors.extend([await receive("client_error"), await receive("client_error")])
        send(train=train_order())
        while len(fake.updates) < 2:
            await receive("activity")

    work(script)
    assert [(client_error.client, client_error.message) for client_error in errors] == [
        (0, "NOT_FOUND: not now"),
        (1, "NOT_FOUND: not now"),
    ]


def test_a_start_that_cannot_be_installed_is_tried_with_a_fresh_model():
    class Clumsy(NoopRuntime):
        def install(self, start):
            super().install(start)
            if self.calls.count("install") == 1:
                raise FederaError("half of it is in")

    runtime = Clumsy()

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        assert (await receive("client_error")).message == "half of it is in"
        send(train=train_order(clients=(0,)))
        while not fake.updates:
            await receive("activity")

    work(script, runtime=runtime)
    assert runtime.calls == ["prepare", "install", "release", "prepare", "install", "train"]


# ---------------------------------------------------------------- reconnects


def test_what_was_announced_already_is_not_trained_twice():
    # After a reconnect the coordinator announces again what it still misses; that may be in hand here.
    runtime = NoopRuntime(train_s=0.2)

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        for _ in range(3):
            send(train=train_order(clients=(0, 1)))
        while (await receive("activity")).phase != "upload":
            pass
        send(train=train_order(clients=(0, 1)))
        send(train=train_order(round_=2, clients=(1,)))
        while len(fake.updates) < 3:
            await receive("activity")
        send(train=train_order(clients=(0, 1)))
        send(train=train_order(round_=3, clients=(0,)))
        while len(fake.updates) < 4:
            await receive("activity")

    fake = work(script, runtime=runtime)
    assert runtime.trained == updates_of(fake) == [(1, 0), (1, 1), (2, 1), (3, 0)]


def test_a_worker_reconnects_with_its_own_key_and_goes_on():
    runtime = NoopRuntime()

    async def script(receive, send, number, fake):
        if number == 1:
            send(prepare=prepare_order())
            await receive("prepared")
            broke.set()
            raise ConnectionError("the coordinator's stream breaks")
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        while len(fake.updates) < 2:
            await receive("activity")

    broke = threading.Event()
    fake = work(script, runtime=runtime)
    assert broke.is_set()
    first, second = fake.hellos[:2]
    assert (first.connection, second.connection) == (1, 2)
    second.connection = 1
    assert first == second
    # The model was loaded once.
    assert runtime.calls.count("prepare") == 1


def test_a_training_under_way_goes_on_over_a_reconnect_and_is_delivered_once():
    runtime = NoopRuntime(train_s=1.2)
    steps = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        steps.append(runtime.steps)
        if number == 1:
            await receive("heartbeat")  # answered: that Prepared is not sent again by itself
            await receive("heartbeat")
        send(train=train_order(clients=(0,)))
        if number == 1:
            while (await receive("activity")).phase != "train":
                pass
            raise ConnectionError("the coordinator's stream breaks")
        while not fake.updates:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, runtime=runtime, give_up_after_s=4.0)
    assert fake.streams == 2
    assert runtime.trained == updates_of(fake) == [(1, 0)]
    # The second one did not wait for the training's end to hear that the run is prepared.
    assert steps[0] == 0 and 1 <= steps[1] < STEPS


def test_reports_survive_a_reconnect():
    # The first stream breaks before any heartbeat was answered: nothing shows that the reports arrived.
    phases, sequences = [], []

    async def script(receive, send, number, fake):
        if number == 1:
            fake.answers_heartbeats = False
            send(prepare=prepare_order(clients=(0,)))
            await receive("prepared")
            send(train=train_order(clients=(0,)))
            while "upload" not in phases_of(await receive("telemetry")):
                pass
            raise ConnectionError("the coordinator's stream breaks")
        assert (await receive("prepared", "telemetry")).DESCRIPTOR.name == "Prepared"
        while "upload" not in phases:
            telemetry = await receive("telemetry")
            sequences.append(telemetry.sequence)
            phases.extend(phases_of(telemetry))

    work(script)
    assert sequences == list(range(1, len(sequences) + 1))
    assert without_repeats(phases)[:6] == ["load", "idle", "download", "load", "train", "upload"]


def test_reports_that_arrived_are_not_sent_again():
    seen, rounds = [], []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(round_=number, clients=(0,)))
        while (number, "upload") not in rounds:
            telemetry = await receive("telemetry")
            seen.append((number, telemetry.sequence))
            rounds.extend((energy.round, energy.phase) for energy in telemetry.phases)
        if number == 1:
            beats = 0
            while beats < 2:
                report = await receive("heartbeat", "telemetry")
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
    runtime = NoopRuntime()

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(prepare=prepare_order(clients=(0, 2)))
        assert dict((await receive("prepared")).examples) == {0: 1, 2: 3}

    work(script, runtime=runtime)
    assert runtime.calls == ["prepare", "release", "prepare"]


def test_a_run_that_was_released_is_prepared_anew():
    runtime = NoopRuntime(train_s=2.0)

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        while (await receive("activity")).phase != "train":
            pass
        send(release=pb.Release(run_id="r1"))
        send(prepare=prepare_order())
        await receive("released")
        await receive("prepared")

    work(script, runtime=runtime)
    assert runtime.calls == ["prepare", "install", "train", "release", "prepare"]


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

    async def script(receive, send, number, fake):
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
    runtime = NoopRuntime(train_s=0.4)

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0, 1, 2, 3)))
        await receive("prepared")
        send(train=train_order(clients=(0, 1, 2)))  # 1 is queued in an order under way
        send(train=train_order(clients=(3,)))  # 3 in an order of its own
        send(train=train_order(round_=2, clients=(1,)))
        send(abandon=abandon_order([1, 3]))
        while len(fake.updates) < 3:
            await receive("activity")

    fake = work(script, runtime=runtime)
    assert runtime.trained == updates_of(fake) == [(1, 0), (1, 2), (2, 1)]
    assert [line for line in lines(caplog) if "refused" in line] == [refusal(3), refusal(1)]


def test_a_training_ends_at_its_next_step_when_its_client_is_abandoned(caplog):
    runtime = NoopRuntime(train_s=4.0)

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order(clients=(1,)))
        while (await receive("activity")).phase != "train":
            pass
        send(abandon=abandon_order([1]))
        while (await receive("activity")).phase != "idle":
            pass

    assert updates_of(work(script, runtime=runtime)) == []
    assert 1 <= runtime.steps < STEPS
    assert refusal(1) in lines(caplog)


def test_an_upload_is_cancelled_when_its_client_is_abandoned(caplog):
    async def script(receive, send, number, fake):
        fake.uploads_go_on.clear()
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order(clients=(0, 1)))
        while not fake.uploads:
            await asyncio.sleep(0.01)
        send(abandon=abandon_order([0]))
        while len(fake.uploads) < 2:
            await asyncio.sleep(0.01)
        fake.uploads_go_on.set()
        while not fake.updates:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script)
    assert [header.update.client for header in fake.uploads] == [0, 1]
    assert updates_of(fake) == [(1, 1)]
    assert refusal(0) in lines(caplog)


@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_download_is_cancelled_when_all_its_clients_are_abandoned(all_of_them):
    runtime = NoopRuntime()

    async def script(receive, send, number, fake):
        fake.downloads_go_on.clear()
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order(clients=(0, 1)))
        while not fake.downloads:
            await asyncio.sleep(0.01)
        send(abandon=abandon_order([0, 1] if all_of_them else [0]))
        if all_of_them:
            send(train=train_order(round_=2, clients=(0,)))
            while len(fake.downloads) < 2:
                await asyncio.sleep(0.01)
        fake.downloads_go_on.set()
        while not fake.updates:
            await receive("activity")

    fake = work(script, runtime=runtime)
    assert updates_of(fake) == ([(2, 0)] if all_of_them else [(1, 1)])
    assert len(fake.downloads) == (2 if all_of_them else 1)


def test_an_abandoned_client_may_be_ordered_again_at_once():
    # A later attempt of the round, while the training of the first is still ending.
    runtime = NoopRuntime(train_s=2.0)

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while (await receive("activity")).phase != "train":
            pass
        send(abandon=abandon_order([0]))
        send(train=train_order(clients=(0,)))
        while not fake.updates:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, runtime=runtime)
    assert runtime.trained == [(1, 0), (1, 0)]
    assert updates_of(fake) == [(1, 0)]


def test_an_abandoned_client_that_fails_is_not_reported():
    abandoned = threading.Event()

    class Slow(NoopRuntime):
        def train(self, *arguments):
            if not abandoned.is_set():
                self.trained.append(arguments[:2])
                abandoned.wait(PATIENCE_S)
                raise FederaError("it failed before its next step")
            return super().train(*arguments)

    runtime = Slow()

    async def script(receive, send, number, fake):
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while not runtime.trained:
            await asyncio.sleep(0.01)
        send(abandon=abandon_order([0]))
        send(train=train_order(clients=(0,)))
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")  # it has heard all that went before
        abandoned.set()
        while (await receive("activity", "client_error")).phase != "idle":
            pass
        send(train=train_order(clients=(0,)))  # it is queued, or under way: the failure has not let it in again
        while not fake.updates:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"
        send(train=train_order(round_=2, clients=(0,)))
        while len(fake.updates) < 2:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, runtime=runtime)
    assert runtime.trained == [(1, 0), (1, 0), (2, 0)]
    assert updates_of(fake) == [(1, 0), (2, 0)]


def test_a_release_cancels_an_upload():
    async def script(receive, send, number, fake):
        fake.uploads_go_on.clear()
        send(prepare=prepare_order(clients=(0,)))
        await receive("prepared")
        send(train=train_order(clients=(0,)))
        while not fake.uploads:
            await asyncio.sleep(0.01)
        send(release=pb.Release(run_id="r1"))
        await receive("released")

    assert updates_of(work(script)) == []


# ---------------------------------------------------------------- below fp32


@pytest.mark.parametrize("wire", ["bf16", "fp16", "int8"])
def test_differences_travel_below_fp32(wire):
    start = unpack(START)
    moved = {name: value + np.float32(0.5) for name, value in start.items()}
    broadcast = encode(moved, wire, reference=start, reference_sha256=hashlib.sha256(START).hexdigest(), seed=7)
    sha256 = hashlib.sha256(broadcast).digest()

    async def script(receive, send, number, fake):
        fake.states[sha256] = broadcast
        send(prepare=prepare_order(wire=wire, seed=5))
        await receive("prepared")
        send(train=train_order())
        send(train=train_order(round_=2, state=sha256))
        while len(fake.updates) < 4:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

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

    async def script(receive, send, number, fake):
        fake.states[sha256] = broadcast
        send(prepare=prepare_order(clients=(0,), wire="fp16"))
        await receive("prepared")
        for round_ in (4, 5):
            send(train=train_order(round_=round_, clients=(0,), state=sha256))
        while len(fake.updates) < 2:
            assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"

    fake = work(script, runtime=Recording())
    assert [request.sha256 == sha256 for request in fake.downloads] == [False, True, True]
    assert len(installed) == 1
    assert all((installed[0][name] == value).all() for name, value in start.items())


# ---------------------------------------------------------------- heartbeats


def test_how_fast_heartbeats_are_answered_is_measured_and_said(caplog):
    caplog.set_level(logging.INFO)
    pulses, began = [], time.monotonic()

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        await receive("heartbeat")
        heartbeat = await receive("heartbeat")
        await asyncio.sleep(0.3)
        send(heartbeat=heartbeat)  # a second answer counts for nothing
        while fake.worker.latency.count < 2:
            await receive("heartbeat")
        pulses.append((fake.worker.latency.count, fake.worker.latency.worst_ms))
        send(release=pb.Release(run_id="r1"))
        await receive("released")

    # Beats come faster where a worker gives up soon.
    work(script, give_up_after_s=2.0)
    ((count, worst_ms),) = pulses
    assert count >= 2
    assert 0 < worst_ms < (time.monotonic() - began) * 1000
    (line,) = [line for line in lines(caplog) if "released run r1" in line]
    assert "heartbeats, answered after at most" in line
