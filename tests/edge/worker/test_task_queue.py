"""The queue of orders: each client of a round gets in once, until it failed or was abandoned."""

from __future__ import annotations

import asyncio

from edge.worker.task_queue import TaskQueue
from protos import federation_pb2 as pb


def train(round_, clients, run_id="r"):
    return pb.Train(run_id=run_id, round=round_, clients=clients, state_sha256=b"s")


def queued(orders):
    """All that is queued, as (round, clients)."""

    async def take():
        found = [await orders.get() for _ in range(len(orders))]
        return [(order.round, list(order.clients)) if isinstance(order, pb.Train) else order for order in found]

    return asyncio.run(take())


def test_orders_come_in_the_order_of_their_arrival():
    orders = TaskQueue()
    prepare, release = pb.Prepare(run_id="r"), pb.Release(run_id="r")
    for order in (prepare, train(1, [0, 2]), release):
        orders.put(order)
    assert queued(orders) == [prepare, (1, [0, 2]), release]


def test_an_order_that_is_waited_for_is_handed_over_whole():
    async def scenario():
        orders = TaskQueue()
        coming = asyncio.ensure_future(orders.get())
        await asyncio.sleep(0)
        orders.put(train(3, [1]))
        return await asyncio.wait_for(coming, 1)

    assert asyncio.run(scenario()) == train(3, [1])


def test_a_client_of_a_round_gets_in_once():
    orders = TaskQueue()
    for clients in ([0, 1], [0, 1], [1, 2], [2, 2]):
        orders.put(train(1, clients))
    orders.put(train(2, [0]))
    orders.put(train(1, [0], run_id="another"))
    assert queued(orders) == [(1, [0, 1]), (1, [2]), (2, [0]), (1, [0])]
    # Also when it is under way or done.
    orders.put(train(1, [0, 1]))
    assert queued(orders) == []


def test_a_client_that_failed_gets_in_again():
    orders = TaskQueue()
    orders.put(train(1, [0, 1]))
    queued(orders)
    orders.failed("r", 1, 1)
    orders.put(train(1, [0, 1]))
    assert queued(orders) == [(1, [1])]


def test_abandoned_clients_leave_the_queue_and_get_in_again():
    orders = TaskQueue()
    orders.put(train(1, [0]))
    queued(orders)  # client 0 is under way
    orders.put(train(1, [1, 2]))
    orders.put(train(1, [3]))
    orders.put(train(2, [1]))
    assert orders.abandon(pb.Abandon(run_id="r", round=1, clients=[0, 2, 3, 7])) == [2, 3]
    assert orders.abandon(pb.Abandon(run_id="another", round=1, clients=[1])) == []
    orders.put(train(1, [0, 1, 2]))
    assert queued(orders) == [(1, [1]), (2, [1]), (1, [0, 2])]


def test_a_run_that_is_over_is_forgotten():
    orders = TaskQueue()
    orders.put(train(1, [0]))
    orders.put(train(1, [0], run_id="next"))
    queued(orders)
    orders.forget("r")
    orders.put(train(1, [0]))
    orders.put(train(1, [0], run_id="next"))
    assert queued(orders) == [(1, [0])]


def test_a_client_that_is_ordered_again_before_its_refusal_is_heard_is_queued_when_it_is():
    orders = TaskQueue()
    orders.put(train(1, [0, 1]))
    queued(orders)
    orders.put(train(1, [1]))  # the next attempt overtook the refusal, on another connection
    assert queued(orders) == []
    orders.failed("r", 1, 1)
    assert queued(orders) == [(1, [1])]
    orders.failed("r", 1, 1)  # once for each order
    orders.failed("r", 1, 0)
    assert queued(orders) == []
