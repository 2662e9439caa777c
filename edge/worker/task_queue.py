"""What the coordinator ordered and this worker has not begun yet."""

from __future__ import annotations

import asyncio
from collections import deque

from protos import federation_pb2 as pb

Order = pb.Prepare | pb.Train | pb.Evaluate | pb.Release


class TaskQueue:
    """A queue in the order of arrival. A client of a round gets in once: what is queued, under way or done is left out
    when the coordinator, after a reconnect, repeats what it still misses. `failed` and `abandon` let it in again; where
    it was ordered again before it failed, since a refusal and the next order come by two connections, it is queued
    then. With a round's training the evaluations of earlier rounds' states go: nobody waits for them any more.
    """

    def __init__(self) -> None:
        self._queue: deque[Order] = deque()
        self._wake = asyncio.Event()
        self._taken: set[tuple[str, int, int]] = set()
        self._again: dict[tuple[str, int, int], pb.Train] = {}

    def __len__(self) -> int:
        """Orders that wait."""
        return len(self._queue)

    def put(self, order: Order) -> None:
        """Queue an order; of a Train, the clients that are new."""
        if isinstance(order, pb.Train):
            keys = {client: (order.run_id, order.round, client) for client in order.clients}
            fresh = [client for client, key in keys.items() if key not in self._taken]
            self._again.update({key: order for client, key in keys.items() if client not in fresh})
            if not fresh:
                return
            self._taken.update(keys[client] for client in fresh)
            self._queue = deque(other for other in self._queue if not _is_overtaken(other, order))
            order = _with_clients(order, fresh)
        self._queue.append(order)
        self._wake.set()

    async def get(self) -> Order:
        """The next order; waits for one."""
        while not self._queue:
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def abandon(self, abandoned: pb.Abandon) -> list[int]:
        """Take clients out of the queue, and let them in again from now on; returns those that were queued."""
        gone = set(abandoned.clients)
        dropped: list[int] = []
        kept: deque[Order] = deque()
        for order in self._queue:
            if isinstance(order, pb.Train) and (order.run_id, order.round) == (abandoned.run_id, abandoned.round):
                dropped += [client for client in order.clients if client in gone]
                order = _with_clients(order, [client for client in order.clients if client not in gone])
                if not order.clients:
                    continue
            kept.append(order)
        self._queue = kept
        for client in gone:
            key = (abandoned.run_id, abandoned.round, client)
            self._taken.discard(key)
            self._again.pop(key, None)
        return dropped

    def failed(self, run_id: str, round_: int, client: int) -> None:
        """A client came to nothing: a later attempt may order it again."""
        key = (run_id, round_, client)
        self._taken.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self.put(_with_clients(again, [client]))

    def forget(self, run_id: str) -> None:
        """A run is over here."""
        self._taken = {key for key in self._taken if key[0] != run_id}
        self._again = {key: order for key, order in self._again.items() if key[0] != run_id}


def _is_overtaken(order: Order, train: pb.Train) -> bool:
    return isinstance(order, pb.Evaluate) and order.run_id == train.run_id and order.round < train.round


def _with_clients(order: pb.Train, clients: list[int]) -> pb.Train:
    return pb.Train(run_id=order.run_id, round=order.round, state_sha256=order.state_sha256, clients=clients)
