"""Reports to the coordinator: none is lost with a stream, few are kept while it is away."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from hypothesis import given
from hypothesis import strategies as st

from edge.worker.heartbeat_latency import HeartbeatLatency
from edge.worker.report_queue import ReportQueue
from protos import federation_pb2 as pb


def telemetry(number):
    return pb.WorkerMessage(telemetry=pb.Telemetry(sequence=number))


def client_error(number):
    return pb.WorkerMessage(client_error=pb.ClientError(round=number))


def activity(number):
    return pb.WorkerMessage(activity=pb.Activity(round=number))


async def sent(queue, most=1_000_000):
    """What a new stream brings until it has to wait, at most so many; then the stream breaks."""
    found = []
    async with aclosing(queue.stream()) as stream:
        while len(found) < most:
            try:
                found.append(await asyncio.wait_for(anext(stream), 0.01))
            except asyncio.TimeoutError:
                break
    return found


def test_reports_go_out_in_their_order():
    queue = ReportQueue()
    reports = [telemetry(1), client_error(2), telemetry(3)]
    for report in reports:
        queue.post(report)
    assert asyncio.run(sent(queue)) == reports


def test_what_comes_while_a_stream_waits_goes_out_at_once():
    async def scenario():
        queue = ReportQueue()
        coming = asyncio.ensure_future(anext(queue.stream()))
        await asyncio.sleep(0)
        queue.post(telemetry(1))
        return await asyncio.wait_for(coming, 1)

    assert asyncio.run(scenario()) == telemetry(1)


def test_what_was_not_shown_to_have_arrived_goes_out_again():
    async def scenario():
        queue = ReportQueue()
        for number in range(4):
            queue.post(telemetry(number))
        assert await sent(queue, most=3) == [telemetry(0), telemetry(1), telemetry(2)]
        # They went into a link that was dead already: three reports and no answer.
        assert len(queue) == 4
        return await sent(queue)

    assert asyncio.run(scenario()) == [telemetry(number) for number in range(4)]


def test_an_answered_heartbeat_shows_that_what_went_before_arrived():
    async def scenario():
        queue = ReportQueue()
        stream = queue.stream()
        queue.post(telemetry(1))
        assert await anext(stream) == telemetry(1)
        queue.send_heartbeat(7)
        assert (await anext(stream)).heartbeat.sequence == 7
        queue.post(telemetry(2))
        assert await anext(stream) == telemetry(2)
        queue.confirm(6)  # of another stream
        assert len(queue) == 2
        queue.confirm(7)
        assert len(queue) == 1
        return await sent(queue)

    assert asyncio.run(scenario()) == [telemetry(2)]


def test_of_activities_the_last_one_is_kept_and_told_to_every_stream():
    async def scenario():
        queue = ReportQueue()
        for number in range(1000):
            queue.post(activity(number))
        first = await sent(queue)
        return first, await sent(queue), len(queue)

    assert asyncio.run(scenario()) == ([activity(999)], [activity(999)], 0)


def test_no_heartbeat_of_an_earlier_stream_goes_out():
    async def scenario():
        queue = ReportQueue()
        stream = queue.stream()
        queue.post(telemetry(1))
        assert await anext(stream) == telemetry(1)
        queue.send_heartbeat(1)
        assert (await anext(stream)).heartbeat.sequence == 1
        for number in range(2, 700):
            queue.send_heartbeat(number)
        return await sent(queue)

    assert asyncio.run(scenario()) == [telemetry(1)]


def test_heartbeats_go_before_what_waits():
    async def scenario():
        queue = ReportQueue()
        stream = queue.stream()
        queue.post(telemetry(0))
        assert await anext(stream) == telemetry(0)
        for number in range(5):
            queue.post(telemetry(number))
        queue.send_heartbeat(3)
        return await anext(stream)

    assert asyncio.run(scenario()).heartbeat.sequence == 3


def test_an_earlier_stream_ends_when_the_next_begins():
    async def scenario():
        queue = ReportQueue()
        old, new = queue.stream(), queue.stream()
        waiting = asyncio.ensure_future(anext(old, "over"))
        await asyncio.sleep(0)
        coming = asyncio.ensure_future(anext(new))
        await asyncio.sleep(0)
        queue.post(telemetry(1))
        return await asyncio.wait_for(coming, 1), await asyncio.wait_for(waiting, 1)

    assert asyncio.run(scenario()) == (telemetry(1), "over")


def test_beyond_the_limit_the_oldest_telemetry_goes_first():
    queue = ReportQueue(limit=4)
    for report in (client_error(1), telemetry(2), telemetry(3), client_error(4), telemetry(5), client_error(6)):
        queue.post(report)
    assert len(queue) == 4

    async def scenario():
        first = await sent(queue)
        for number in range(7, 20):
            queue.post(client_error(number))
        return first, await sent(queue)

    first, second = asyncio.run(scenario())
    assert first == [client_error(1), client_error(4), telemetry(5), client_error(6)]
    assert second == [client_error(number) for number in range(16, 20)]


def batch(number, samples=0):
    telemetry = pb.Telemetry(run_id="r1", sequence=number)
    telemetry.phases.add(round=number, phase="train", seconds=0.5)
    for _ in range(samples):
        telemetry.samples.add(at_s=1e9, phase="train", total_mw=5000.0)
    return pb.WorkerMessage(telemetry=telemetry)


def test_beyond_the_bytes_the_oldest_samples_go_and_their_slices_stay():
    size = batch(1, samples=100).ByteSize()
    queue = ReportQueue(limit_bytes=10 * size)
    queue.post(client_error(0))
    for number in range(1, 31):
        queue.post(batch(number, samples=100))
    messages = asyncio.run(sent(queue))
    assert messages[0] == client_error(0)
    assert [message.telemetry.sequence for message in messages[1:]] == list(range(1, 31))
    assert all(message.telemetry.phases for message in messages[1:])
    kept = [message.telemetry.sequence for message in messages[1:] if message.telemetry.samples]
    assert kept == list(range(kept[0], 31))
    assert 5 <= len(kept) < 10


def test_beyond_the_bytes_of_slices_the_oldest_telemetry_goes():
    size = batch(100).ByteSize()
    queue = ReportQueue(limit_bytes=10 * size)
    queue.post(client_error(0))
    for number in range(1, 101):
        queue.post(batch(number, samples=3))
    messages = asyncio.run(sent(queue))
    assert messages[0] == client_error(0)
    kept = [message.telemetry.sequence for message in messages[1:]]
    assert kept == list(range(kept[0], 101))
    assert sum(message.ByteSize() for message in messages[1:]) <= 10 * size


def test_what_was_confirmed_counts_no_more():
    async def scenario():
        queue = ReportQueue(limit_bytes=3 * batch(1, samples=9).ByteSize())
        stream = queue.stream()
        for number in range(1, 40):
            queue.post(batch(number, samples=9))
            await asyncio.wait_for(anext(stream), 1)
            queue.send_heartbeat(number)
            await asyncio.wait_for(anext(stream), 1)
            if number == 20:
                message = batch(50, samples=9)
                queue.post(message)
                assert await asyncio.wait_for(anext(stream), 1) == message
            queue.confirm(number)
        queue.post(batch(60, samples=9))
        return [message async for message in _until(stream, 1)]

    (last,) = asyncio.run(scenario())
    assert last == batch(60, samples=9)


async def _until(stream, most):
    for _ in range(most):
        yield await asyncio.wait_for(anext(stream), 1)


steps = st.lists(st.sampled_from(["post", "stream", "break", "beat", "answer"]), max_size=40)


@given(steps=steps)
def test_whatever_happens_each_report_arrives_and_in_order(steps):
    """The far end reads all that a stream sends it up to the last heartbeat that it answered, and maybe no more."""

    async def scenario():
        queue = ReportQueue()
        stream, on_the_way, arrived, posted, beats = None, [], [], 0, 0
        for step in [*steps, "stream", "beat", "answer"]:
            match step:
                case "post":
                    posted += 1
                    queue.post(telemetry(posted))
                case "stream" | "break":
                    stream, on_the_way = (queue.stream() if step == "stream" else None), []
                case "beat" if stream is not None:
                    for _ in range(len(queue) - sum(message.HasField("telemetry") for message in on_the_way)):
                        on_the_way.append(await anext(stream))
                    beats += 1
                    queue.send_heartbeat(beats)
                    on_the_way.append(await anext(stream))
                case "answer" if any(message.HasField("heartbeat") for message in on_the_way):
                    arrived += [message for message in on_the_way if not message.HasField("heartbeat")]
                    queue.confirm(on_the_way[-1].heartbeat.sequence)
                    on_the_way = []
        return arrived, posted, len(queue)

    arrived, posted, left = asyncio.run(scenario())
    assert arrived == [telemetry(number) for number in range(1, posted + 1)]
    assert left == 0


def test_a_pulse_counts_answers_and_keeps_the_slowest(monkeypatch):
    now = [10.0]
    monkeypatch.setattr("edge.worker.heartbeat_latency.time.monotonic", lambda: now[0])
    pulse = HeartbeatLatency()
    for sequence, took_s in enumerate((0.1, 0.4, 0.2), start=1):
        pulse.sent(sequence)
        now[0] += took_s
        pulse.answered(sequence)
    pulse.answered(3)
    pulse.answered(99)
    pulse.sent(4)
    pulse.disconnected()
    pulse.answered(4)
    assert (pulse.count, round(pulse.worst_ms)) == (3, 400)
    assert str(pulse) == "3 heartbeats, answered after at most 400 ms"
    pulse.reset()
    assert (pulse.count, pulse.worst_ms) == (0, 0)
