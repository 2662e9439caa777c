"""The workers that are connected now, each with its control stream, and whose name is whose."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping

from federa.errors import FederaError
from protos.federation_pb2 import CoordinatorMessage, Hello, WorkerMessage

log = logging.getLogger("federa.coordinator")

MAX_WAITING = 10_000
"""Messages that a worker may leave unread before its stream is ended: then its reader is stuck, or no worker."""


class NameTaken(FederaError):
    """Another worker has that name."""


class Session:
    """One worker's control stream. `send` never blocks; the messages go out in order."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.name = hello.name
        self.control_bytes = 0
        self._queue: deque[CoordinatorMessage] = deque()
        self._closed = False
        self._wake = asyncio.Event()

    def send(self, message: CoordinatorMessage) -> None:
        if len(self._queue) >= MAX_WAITING and not self._closed:
            log.warning("worker %s reads nothing, its stream is ended", self.name)
            self.close()
        if not self._closed:
            self.control_bytes += message.ByteSize()
            self._queue.append(message)
            self._wake.set()

    def received(self, message: WorkerMessage) -> None:
        """Count a message's bytes."""
        self.control_bytes += message.ByteSize()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End the stream after what was sent."""
        self._closed = True
        self._wake.set()

    async def outgoing(self) -> AsyncIterator[CoordinatorMessage]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._closed:
                return
            self._wake.clear()
            await self._wake.wait()


class Sessions:
    """All live sessions by worker name. A worker is its key: who shows it takes the name over from its own old stream,
    and nobody else does while that is up, nor while a run has the name `bound`."""

    def __init__(self) -> None:
        self._live: dict[str, Session] = {}
        self._bound: dict[str, str] = {}
        self._changed = asyncio.Event()

    def get(self, name: str) -> Session | None:
        return self._live.get(name)

    @property
    def names(self) -> list[str]:
        return sorted(self._live)

    def bind(self, keys: Mapping[str, str]) -> None:
        """These names belong to these keys until `unbind`, whether their workers are connected or not."""
        self._bound.update(keys)
        for name, key in keys.items():
            session = self._live.get(name)
            if session is not None and session.hello.key != key:
                session.close()

    def unbind(self) -> None:
        """The run is over: its names are free again."""
        self._bound.clear()

    def has_key(self, name: str, key: str) -> bool:
        """Whether this is the key of that bound name."""
        return hmac.compare_digest(self._bound.get(name, "").encode(), key.encode()) and name in self._bound

    def join(self, hello: Hello) -> Session:
        """A new stream. It replaces the old one of the same key; raises NameTaken for another key."""
        if not self.has_key(hello.name, hello.key) and hello.name in self._bound:
            raise NameTaken(
                f"the name {hello.name!r} belongs to another worker of the run under way (another key): "
                "give this one another --name, or the --state folder that the name's key is in"
            )
        old = self._live.get(hello.name)
        if old is not None:
            # A bound name's owner takes it from another's stream that is ending.
            if old.hello.key != hello.key and hello.name not in self._bound:
                raise NameTaken(f"a worker named {hello.name!r} is connected already; give this one another --name")
            old.close()
        session = Session(hello)
        self._live[hello.name] = session
        self._wake()
        return session

    def leave(self, session: Session) -> bool:
        """Forget a stream that ended. False when another has taken its place meanwhile."""
        if self._live.get(session.name) is not session:
            return False
        del self._live[session.name]
        self._wake()
        return True

    def close(self) -> None:
        """End every stream, so that the workers hear it from here and not from a broken connection."""
        for session in self._live.values():
            session.close()

    async def change(self) -> None:
        """Wait until somebody joins or leaves."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
