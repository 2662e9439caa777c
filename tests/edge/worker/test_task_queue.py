"""The queue of tasks: each client of a round gets in once, until it failed or was abandoned."""

from __future__ import annotations

import asyncio

from edge.worker.task_queue import TaskQueue
from protos import federation_pb2 as pb


def train(round_, clients, run_id="r"):
    return pb.Train(run_id=run_id, round=round_, clients=clients, state_sha256=b"s")


def queued(queue):
    """All that is queued, as (round, clients)."""

    async def take():
        found = [await queue.get() for _ in range(len(queue))]
        return [(order.round, list(order.clients)) if isinstance(order, pb.Train) else order for order in found]

    return asyncio.run(take())


def test_orders_come_in_the_order_of_their_arrival():
    queue = TaskQueue()
    prepare, release = pb.Prepare(run_id="r"), pb.Release(run_id="r")
    for order in (prepare, train(1, [0, 2]), release):
        queue.put(order)
    assert queued(queue) == [prepare, (1, [0, 2]), release]


def test_an_order_that_is_waited_for_is_handed_over_whole():
    async def scenario():
        queue = TaskQueue()
        coming = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.put(train(3, [1]))
        return await asyncio.wait_for(coming, 1)

    assert asyncio.run(scenario()) == train(3, [1])


def test_a_client_of_a_round_gets_in_once():
    queue = TaskQueue()
    for clients in ([0, 1], [0, 1], [1, 2], [2, 2]):
        queue.put(train(1, clients))
    queue.put(train(2, [0]))
    queue.put(train(1, [0], run_id="another"))
    assert queued(queue) == [(1, [0, 1]), (1, [2]), (2, [0]), (1, [0])]
    # Also when it is under way or done.
    queue.put(train(1, [0, 1]))
    assert queued(queue) == []


def test_a_client_that_failed_gets_in_again():
    queue = TaskQueue()
    queue.put(train(1, [0, 1]))
    queued(queue)
    queue.failed("r", 1, 1)
    queue.put(train(1, [0, 1]))
    assert queued(queue) == [(1, [1])]


def test_abandoned_clients_leave_the_queue_and_get_in_again():
    queue = TaskQueue()
    queue.put(train(1, [0]))
    queued(queue)  # client 0 is under way
    queue.put(train(1, [1, 2]))
    queue.put(train(1, [3]))
    queue.put(train(2, [1]))
    assert queue.abandon(pb.Abandon(run_id="r", round=1, clients=[0, 2, 3, 7])) == [2, 3]
    assert queue.abandon(pb.Abandon(run_id="another", round=1, clients=[1])) == []
    queue.put(train(1, [0, 1, 2]))
    assert queued(queue) == [(1, [1]), (2, [1]), (1, [0, 2])]


def test_a_run_that_is_over_is_forgotten():
    queue = TaskQueue()
    queue.put(train(1, [0]))
    queue.put(train(1, [0], run_id="next"))
    queued(queue)
    queue.forget("r")
    queue.put(train(1, [0]))
    queue.put(train(1, [0], run_id="next"))
    assert queued(queue) == [(1, [0])]


def test_a_client_that_is_ordered_again_before_its_refusal_is_heard_is_queued_when_it_is():
    queue = TaskQueue()
    queue.put(train(1, [0, 1]))
    queued(queue)
    queue.put(train(1, [1]))  # the next attempt overtook the refusal, on another connection
    assert queued(queue) == []
    queue.failed("r", 1, 1)
    assert queued(queue) == [(1, [1])]
    queue.failed("r", 1, 1)  # once for each order
    queue.failed("r", 1, 0)
    assert queued(queue) == []
