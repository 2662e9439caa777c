"""The workers that are connected: a name belongs to a key, whose newest stream counts."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from coordinator.clients import sessions as module
from coordinator.clients.sessions import KeyCopied, NameTaken, Session, Sessions
from protos.federation_pb2 import CoordinatorMessage, Heartbeat, Hello, WorkerMessage

connections = itertools.count(1)


def hello(name="ada", key="1", process="p", connection=0, **facts):
    return Hello(name=name, key=key, process=process, connection=connection or next(connections), **facts)


def beat(sequence):
    return CoordinatorMessage(heartbeat=Heartbeat(sequence=sequence))


async def drained(session):
    return [message.heartbeat.sequence async for message in session.outgoing()]


def ended(session):
    """What a stream still sends before it ends; fails when it does not end."""
    return asyncio.wait_for(drained(session), 5)


def test_messages_go_out_in_order_and_the_stream_ends_after_them():
    async def scenario():
        session = Session(hello())
        for sequence in range(5):
            session.send(beat(sequence))
        session.close()
        session.send(beat(99))  # too late
        return await ended(session)

    assert asyncio.run(scenario()) == list(range(5))


def test_a_message_wakes_a_stream_that_waits():
    async def scenario():
        session = Session(hello())
        stream = session.outgoing()
        first = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        session.send(beat(7))
        return (await asyncio.wait_for(first, 5)).heartbeat.sequence

    assert asyncio.run(scenario()) == 7


def test_control_bytes_are_counted_both_ways():
    async def scenario():
        session = Session(hello())
        session.send(beat(300))
        session.received(WorkerMessage(heartbeat=Heartbeat(sequence=300)))
        return session.control_bytes

    size = beat(300).ByteSize()
    assert size > 0
    assert asyncio.run(scenario()) == 2 * size


def test_a_worker_that_reads_nothing_is_given_up_and_takes_no_more_memory(monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_WAITING", 3)

    async def scenario():
        session = Session(hello())
        for sequence in range(10):
            session.send(beat(sequence))
        assert session.control_bytes == sum(beat(sequence).ByteSize() for sequence in range(3))
        return await ended(session)

    assert asyncio.run(scenario()) == [0, 1, 2]
    assert "worker ada reads nothing" in caplog.text


def test_a_name_belongs_to_one_key_while_its_stream_is_up():
    async def scenario():
        sessions = Sessions()
        first = await sessions.join(hello())
        with pytest.raises(NameTaken, match="a worker named 'ada' is connected already; give this one another --name"):
            await sessions.join(hello(key="2"))
        assert sessions.get("ada") is first
        await sessions.join(hello("bob", "2"))
        assert sessions.names == ["ada", "bob"]
        assert sessions.leave(first)
        # Free again for anybody.
        assert await sessions.join(hello(key="2")) is sessions.get("ada")

    asyncio.run(scenario())


def test_the_same_key_replaces_its_own_stream():
    async def scenario():
        sessions = Sessions()
        old = await sessions.join(hello())
        old.send(beat(1))
        new = await sessions.join(hello())
        assert sessions.get("ada") is new
        assert await ended(old) == [1]
        # The old stream's end comes late and must not take the new one along.
        assert sessions.leave(old) is False
        assert sessions.get("ada") is new
        assert sessions.leave(new) is True
        assert sessions.leave(new) is False
        assert sessions.names == []

    asyncio.run(scenario())


async def answering(session):
    """Answer every ping, as a worker does."""
    async for message in session.outgoing():
        if message.HasField("ping"):
            session.answered(message.ping.number)


def test_a_second_process_with_the_key_of_one_that_answers_is_refused():
    async def scenario():
        sessions = Sessions()
        first = await sessions.join(hello(device={"host": "b1"}), "10.0.0.7")
        answers = asyncio.ensure_future(answering(first))
        for host, where in (("b2", "another machine"), ("b1", "this machine, or an image of it"), ("", "another")):
            with pytest.raises(KeyCopied) as caught:
                await sessions.join(hello(process=f"copy {host}", device={"host": host}))
            assert f"the name 'ada' and its key are in use twice: a worker on {where}" in str(caught.value)
            assert "(10.0.0.7)" in str(caught.value) and "--name" in str(caught.value)
            assert sessions.get("ada") is first and not first.closed
        first.close()
        await answers

    asyncio.run(scenario())


def test_a_second_process_waits_for_no_longer_than_the_first_ones_stream(monkeypatch):
    # The old process was killed: the kernel ends its stream, a moment after the new one came.
    monkeypatch.setattr(module, "ANSWER_WAIT_S", 60.0)

    async def scenario():
        sessions = Sessions()
        old = await sessions.join(hello())
        coming = asyncio.ensure_future(sessions.join(hello(process="restarted")))
        await asyncio.sleep(0)
        assert not coming.done()
        assert sessions.leave(old)
        new = await asyncio.wait_for(coming, 5)
        assert sessions.get("ada") is new
        new.close()
        again = await asyncio.wait_for(sessions.join(hello(process="again")), 5)
        assert sessions.get("ada") is again

    asyncio.run(scenario())


def test_a_first_process_that_answers_nothing_is_taken_for_dead(monkeypatch):
    # The board lost its power, or its link: the stream looks alive.
    monkeypatch.setattr(module, "ANSWER_WAIT_S", 0.05)

    async def scenario():
        sessions = Sessions()
        old = await sessions.join(hello())
        old.answered(99)  # to nobody's ping
        new = await sessions.join(hello(process="restarted"))
        assert sessions.get("ada") is new and old.closed

    asyncio.run(scenario())


def test_of_two_new_processes_that_come_at_once_one_is_taken(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_WAIT_S", 0.2)

    async def scenario():
        sessions = Sessions()
        await sessions.join(hello())

        async def come(process):
            await answering(await sessions.join(hello(process=process)))

        coming = [asyncio.ensure_future(come(process)) for process in ("b", "c")]
        done, (taken,) = await asyncio.wait(coming, return_when=asyncio.FIRST_EXCEPTION)
        assert [type(task.exception()) for task in done] == [KeyCopied]
        sessions.close()
        await taken

    asyncio.run(scenario())


def test_a_machines_image_is_told_by_the_streams_that_it_has_not_counted():
    # Both copies of a machine that was cloned while its worker ran have the process's number.
    async def scenario():
        sessions = Sessions()
        await sessions.join(hello(connection=5))
        clone = await sessions.join(hello(connection=6))
        with pytest.raises(KeyCopied):
            await sessions.join(hello(connection=6))
        assert sessions.get("ada") is clone and not clone.closed
        sessions.leave(clone)
        await sessions.join(hello(connection=7))

    asyncio.run(scenario())


def test_a_bound_name_is_its_keys_while_its_worker_is_away_and_free_after_the_run():
    async def scenario():
        sessions = Sessions()
        own = await sessions.join(hello())
        sessions.bind({"ada": "1", "bob": "9"})
        assert sessions.get("ada") is own
        sessions.leave(own)
        for name, stranger in (("ada", "2"), ("ada", ""), ("bob", "1")):
            with pytest.raises(NameTaken, match=f"the name '{name}' belongs to another worker of the run under way"):
                await sessions.join(hello(name, stranger))
        assert sessions.names == []
        back = await sessions.join(hello())
        # A stranger does not end the stream that is up.
        with pytest.raises(NameTaken):
            await sessions.join(hello(key="2"))
        assert sessions.get("ada") is back
        sessions.leave(back)
        sessions.unbind()
        assert await sessions.join(hello(key="2")) is sessions.get("ada")

    asyncio.run(scenario())


def test_binding_a_name_ends_the_stream_of_a_stranger_under_it():
    # A run is recovered while somebody else has come under the name of one of its workers.
    async def scenario():
        sessions = Sessions()
        stranger, other = await sessions.join(hello(key="2")), await sessions.join(hello("bob", "9"))
        sessions.bind({"ada": "1", "bob": "9"})
        assert await ended(stranger) == []
        other.send(beat(1))
        other.close()
        assert await ended(other) == [1]

    asyncio.run(scenario())


def test_whose_name_it_is_need_not_wait_for_a_strangers_stream_to_end():
    async def scenario():
        sessions = Sessions()
        stranger = await sessions.join(hello(key="2"))
        sessions.bind({"ada": "1"})
        own = await sessions.join(hello())
        assert await ended(stranger) == []
        assert sessions.leave(stranger) is False
        assert sessions.get("ada") is own

    asyncio.run(scenario())


def test_only_a_bound_names_own_key_opens_the_tensor_streams():
    async def scenario():
        sessions = Sessions()
        await sessions.join(hello())
        assert not sessions.has_key("ada", "1"), "connected, and not bound by a run"
        sessions.bind({"ada": "1", "bob": ""})
        assert sessions.has_key("ada", "1")
        assert not sessions.has_key("ada", "2") and not sessions.has_key("ada", "")
        assert not sessions.has_key("eve", "") and not sessions.has_key("eve", "1")
        assert not sessions.has_key("ada", "é")
        sessions.unbind()
        assert not sessions.has_key("ada", "1")

    asyncio.run(scenario())


def test_everybody_who_waits_hears_of_a_change():
    async def scenario():
        sessions = Sessions()
        waits = [asyncio.ensure_future(sessions.change()) for _ in range(3)]
        await asyncio.sleep(0)
        session = await sessions.join(hello())
        await asyncio.wait_for(asyncio.gather(*waits), 5)
        again = asyncio.ensure_future(sessions.change())
        await asyncio.sleep(0)
        assert not again.done()
        sessions.leave(session)
        await asyncio.wait_for(again, 5)

    asyncio.run(scenario())


def test_closing_all_ends_every_stream():
    async def scenario():
        sessions = Sessions()
        streams = [await sessions.join(hello(name)) for name in ("ada", "bob")]
        sessions.close()
        assert await asyncio.gather(*map(ended, streams)) == [[], []]

    asyncio.run(scenario())
