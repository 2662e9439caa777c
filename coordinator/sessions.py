"""The workers that are connected now, each with its control stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from federa.errors import FederaError
from protos.federation_pb2 import CoordinatorMessage, Hello, WorkerMessage


class NameTaken(FederaError):
    """Another live worker has that name."""


class Session:
    """One worker's control stream. `send` never blocks; the messages go out in order."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.name = hello.name
        self.control_bytes = 0
        self._outbox: asyncio.Queue[CoordinatorMessage | None] = asyncio.Queue()

    def send(self, message: CoordinatorMessage) -> None:
        self.control_bytes += message.ByteSize()
        self._outbox.put_nowait(message)

    def received(self, message: WorkerMessage) -> None:
        """Count a message's bytes."""
        self.control_bytes += message.ByteSize()

    def close(self) -> None:
        """End the stream after what was sent."""
        self._outbox.put_nowait(None)

    async def outgoing(self) -> AsyncIterator[CoordinatorMessage]:
        while (message := await self._outbox.get()) is not None:
            yield message


class Sessions:
    """All live sessions by worker name."""

    def __init__(self) -> None:
        self._live: dict[str, Session] = {}
        self._changed = asyncio.Event()

    def get(self, name: str) -> Session | None:
        return self._live.get(name)

    @property
    def names(self) -> list[str]:
        return sorted(self._live)

    def join(self, hello: Hello) -> Session:
        """A new stream. The same worker process replaces its own old one; raises NameTaken for another process."""
        old = self._live.get(hello.name)
        if old is not None:
            if old.hello.instance != hello.instance:
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
