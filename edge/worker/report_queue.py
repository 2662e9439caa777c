"""Reports to the coordinator, kept until it has them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from protos import federation_pb2 as pb

log = logging.getLogger("federa.worker")

MAX_REPORTS = 100_000
MAX_TELEMETRY_BYTES = 32 << 20


class ReportQueue:
    """The coordinator answers heartbeats in the order in which it reads: an answer shows that all that was sent before
    that heartbeat has arrived. What was not shown to have arrived goes out again on the next stream, so that the
    coordinator may see a report twice, and misses none. Of activities only the last one is kept, and no heartbeat of an
    earlier stream.

    Beyond `limit_bytes` of telemetry the oldest samples go first, then the oldest telemetry; beyond `limit` reports of
    any kind the oldest telemetry, then the oldest of all."""

    def __init__(self, limit: int = MAX_REPORTS, limit_bytes: int = MAX_TELEMETRY_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._telemetry_bytes = 0
        self._waiting: deque[pb.WorkerMessage] = deque()
        self._unconfirmed: deque[pb.WorkerMessage] = deque()  # with the heartbeats between them
        self._heartbeat: pb.WorkerMessage | None = None
        self._ping: pb.WorkerMessage | None = None
        self._activity: pb.WorkerMessage | None = None
        self._activity_is_new = False
        self._wake = asyncio.Event()
        self._stream: object = None
        self._dropped = 0
        self._thinned = False

    def __len__(self) -> int:
        """Reports that are not confirmed, activities and heartbeats apart."""
        return len(self._waiting) + sum(not message.HasField("heartbeat") for message in self._unconfirmed)

    def post(self, message: pb.WorkerMessage) -> None:
        """Send a report, now or when there is a stream."""
        if message.HasField("activity"):
            self._activity, self._activity_is_new = message, True
        else:
            self._waiting.append(message)
            self._telemetry_bytes += _telemetry_bytes(message)
            if self._telemetry_bytes > self._limit_bytes:
                self._thin_out()
            if len(self._waiting) + len(self._unconfirmed) > self._limit:
                self._drop_one()
        self._wake.set()

    def send_heartbeat(self, sequence: int) -> None:
        """Send a heartbeat, before all that waits."""
        self._heartbeat = pb.WorkerMessage(heartbeat=pb.Heartbeat(sequence=sequence))
        self._wake.set()

    def send_ping(self, number: int) -> None:
        """Answer a ping, before all that waits."""
        self._ping = pb.WorkerMessage(ping=pb.Ping(number=number))
        self._wake.set()

    def confirm(self, sequence: int) -> None:
        """A heartbeat was answered. Its sequence is above 0."""
        if any(message.heartbeat.sequence == sequence for message in self._unconfirmed):
            while (message := self._unconfirmed.popleft()).heartbeat.sequence != sequence:
                self._telemetry_bytes -= _telemetry_bytes(message)

    def stream(self) -> AsyncIterator[pb.WorkerMessage]:
        """What goes out on a new stream, for as long as it lives; an earlier one's ends."""
        self._stream = object()
        self._waiting.extendleft(
            message for message in reversed(self._unconfirmed) if not message.HasField("heartbeat")
        )
        self._unconfirmed.clear()
        self._heartbeat = self._ping = None
        self._activity_is_new = self._activity is not None
        self._wake.set()
        return self._messages(self._stream)

    async def _messages(self, stream: object) -> AsyncIterator[pb.WorkerMessage]:
        while self._stream is stream:
            if self._ping is not None:
                message, self._ping = self._ping, None
            elif self._heartbeat is not None:
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

    def _thin_out(self) -> None:
        if not self._thinned:
            log.warning("more than %d bytes of telemetry wait for the coordinator: samples go", self._limit_bytes)
        self._thinned = True
        # An eighth more than must be, so that not every report goes over all that waits.
        wanted = self._limit_bytes - self._limit_bytes // 8
        for messages in (self._unconfirmed, self._waiting):
            for index, message in enumerate(messages):
                if self._telemetry_bytes <= wanted:
                    return
                if message.HasField("telemetry") and message.telemetry.samples:
                    self._telemetry_bytes -= _telemetry_bytes(message)
                    messages[index] = _without_samples(message)
                    self._telemetry_bytes += _telemetry_bytes(messages[index])
        while self._telemetry_bytes > wanted and self._drop_telemetry():
            pass

    def _drop_one(self) -> None:
        if not self._dropped:
            log.warning("more than %d reports wait for the coordinator: the oldest are dropped", self._limit)
        self._dropped += 1
        if not self._drop_telemetry():
            (self._unconfirmed or self._waiting).popleft()

    def _drop_telemetry(self) -> bool:
        for messages in (self._unconfirmed, self._waiting):
            for index, message in enumerate(messages):
                if message.HasField("telemetry"):
                    self._telemetry_bytes -= _telemetry_bytes(message)
                    del messages[index]
                    return True
        return False


def _telemetry_bytes(message: pb.WorkerMessage) -> int:
    return message.ByteSize() if message.HasField("telemetry") else 0


def _without_samples(message: pb.WorkerMessage) -> pb.WorkerMessage:
    # Not in place: it may be on its way out.
    old = message.telemetry
    without = pb.Telemetry(run_id=old.run_id, epoch=old.epoch, sequence=old.sequence, phases=old.phases)
    return pb.WorkerMessage(telemetry=without)
