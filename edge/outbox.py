"""Reports to the coordinator, kept until it has them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from protos import federation_pb2 as pb

log = logging.getLogger("federa.worker")

LIMIT = 100_000


class Outbox:
    """The coordinator answers heartbeats in the order in which it reads: an answer shows that all that was sent before
    that heartbeat has arrived. What was not shown to have arrived goes out again on the next stream, so that the
    coordinator may see a report twice, and misses none. Of activities only the last one is kept, and no heartbeat of an
    earlier stream. Beyond `limit` reports the oldest phase times go first, then the oldest of all."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._waiting: deque[pb.WorkerMessage] = deque()
        self._unconfirmed: deque[pb.WorkerMessage] = deque()  # with the heartbeats between them
        self._heartbeat: pb.WorkerMessage | None = None
        self._activity: pb.WorkerMessage | None = None
        self._activity_is_new = False
        self._wake = asyncio.Event()
        self._stream: object = None
        self._dropped = 0

    def __len__(self) -> int:
        """Reports that are not confirmed, activities and heartbeats apart."""
        return len(self._waiting) + sum(not message.HasField("heartbeat") for message in self._unconfirmed)

    def post(self, message: pb.WorkerMessage) -> None:
        """Send a report, now or when there is a stream."""
        if message.HasField("activity"):
            self._activity, self._activity_is_new = message, True
        else:
            self._waiting.append(message)
            if len(self._waiting) + len(self._unconfirmed) > self._limit:
                self._drop_one()
        self._wake.set()

    def beat(self, sequence: int) -> None:
        """Send a heartbeat, before all that waits."""
        self._heartbeat = pb.WorkerMessage(heartbeat=pb.Heartbeat(sequence=sequence))
        self._wake.set()

    def confirm(self, sequence: int) -> None:
        """A heartbeat was answered. Its sequence is above 0."""
        if any(message.heartbeat.sequence == sequence for message in self._unconfirmed):
            while self._unconfirmed.popleft().heartbeat.sequence != sequence:
                pass

    def stream(self) -> AsyncIterator[pb.WorkerMessage]:
        """What goes out on a new stream, for as long as it lives; an earlier one's ends."""
        self._stream = object()
        self._waiting.extendleft(
            message for message in reversed(self._unconfirmed) if not message.HasField("heartbeat")
        )
        self._unconfirmed.clear()
        self._heartbeat = None
        self._activity_is_new = self._activity is not None
        self._wake.set()
        return self._messages(self._stream)

    async def _messages(self, stream: object) -> AsyncIterator[pb.WorkerMessage]:
        while self._stream is stream:
            if self._heartbeat is not None:
                message, self._heartbeat = self._heartbeat, None
                self._unconfirmed.append(message)
            elif self._waiting:
                message = self._waiting.popleft()
                self._unconfirmed.append(message)
            elif self._activity_is_new and self._activity is not None:
                message, self._activity_is_new = self._activity, False
            else:
                self._wake.clear()
                await self._wake.wait()
                continue
            yield message

    def _drop_one(self) -> None:
        if not self._dropped:
            log.warning("more than %d reports wait for the coordinator: the oldest are dropped", self._limit)
        self._dropped += 1
        for messages in (self._unconfirmed, self._waiting):
            for index, message in enumerate(messages):
                if message.HasField("phase_time"):
                    del messages[index]
                    return
        (self._unconfirmed or self._waiting).popleft()
