"""The workers that are connected: a name belongs to one process, whose newest stream counts."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.sessions import NameTaken, Session, Sessions
from protos.federation_pb2 import CoordinatorMessage, Heartbeat, Hello, WorkerMessage


def hello(name="ada", instance="1"):
    return Hello(name=name, instance=instance)


def beat(sequence):
    return CoordinatorMessage(heartbeat=Heartbeat(sequence=sequence))


async def drained(session):
    return [message.heartbeat.sequence async for message in session.outgoing()]


def test_messages_go_out_in_order_and_the_stream_ends_after_them():
    async def scenario():
        session = Session(hello())
        for sequence in range(5):
            session.send(beat(sequence))
        session.close()
        return await asyncio.wait_for(drained(session), 5)

    assert asyncio.run(scenario()) == list(range(5))


def test_control_bytes_are_counted_both_ways():
    async def scenario():
        session = Session(hello())
        session.send(beat(300))
        session.received(WorkerMessage(heartbeat=Heartbeat(sequence=300)))
        return session.control_bytes

    size = beat(300).ByteSize()
    assert size > 0
    assert asyncio.run(scenario()) == 2 * size


def test_a_name_belongs_to_one_process():
    async def scenario():
        sessions = Sessions()
        first = sessions.join(hello())
        with pytest.raises(NameTaken, match="a worker named 'ada' is connected already"):
            sessions.join(hello(instance="2"))
        assert sessions.get("ada") is first
        sessions.join(hello("bob", "2"))
        assert sessions.names == ["ada", "bob"]
        assert sessions.leave(first)
        # Free again for anybody.
        assert sessions.join(hello(instance="2")) is sessions.get("ada")

    asyncio.run(scenario())


def test_the_same_process_replaces_its_own_stream():
    async def scenario():
        sessions = Sessions()
        old = sessions.join(hello())
        old.send(beat(1))
        new = sessions.join(hello())
        assert sessions.get("ada") is new
        assert await asyncio.wait_for(drained(old), 5) == [1]
        # The old stream's end comes late and must not take the new one along.
        assert sessions.leave(old) is False
        assert sessions.get("ada") is new
        assert sessions.leave(new) is True
        assert sessions.leave(new) is False
        assert sessions.names == []

    asyncio.run(scenario())


def test_everybody_who_waits_hears_of_a_change():
    async def scenario():
        sessions = Sessions()
        waits = [asyncio.ensure_future(sessions.change()) for _ in range(3)]
        await asyncio.sleep(0)
        session = sessions.join(hello())
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
        streams = [sessions.join(hello(name)) for name in ("ada", "bob")]
        sessions.close()
        assert await asyncio.wait_for(asyncio.gather(*map(drained, streams)), 5) == [[], []]

    asyncio.run(scenario())
