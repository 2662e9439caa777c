"""The workers that are connected now, each with its control stream, and whose name is whose."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping

from federa.errors import FederaError
from protos.channel import HEARTBEAT_S
from protos.federation_pb2 import CoordinatorMessage, Hello, Ping, WorkerMessage

log = logging.getLogger("federa.coordinator")

MAX_WAITING = 10_000
"""Messages that a worker may leave unread before its stream is ended: then its reader is stuck, or no worker."""


ANSWER_WAIT_S = 2 * HEARTBEAT_S
"""How long a worker that is connected may take to answer a ping, when another process comes with its name and key."""


class NameTaken(FederaError):
    """Another worker has that name."""


class KeyCopied(FederaError):
    """Another live process has that name and its key."""


class Session:
    """One worker's control stream. `send` never blocks; the messages go out in order."""

    def __init__(self, hello: Hello, host: str = "") -> None:
        """`host` is where the worker calls from, as a message may show it."""
        self.hello = hello
        self.name = hello.name
        self.host = host
        self.control_bytes = 0
        self._pings = 0
        self._pinged: dict[int, asyncio.Future[None]] = {}
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

    async def is_alive(self) -> bool:
        """Whether the worker answers now. False, too, when its stream ends meanwhile."""
        self._pings += 1
        number = self._pings
        answer = self._pinged[number] = asyncio.get_running_loop().create_future()
        self.send(CoordinatorMessage(ping=Ping(number=number)))
        try:
            await asyncio.wait([answer], timeout=0.0 if self._closed else ANSWER_WAIT_S)
            return answer.done() and not answer.cancelled()
        finally:
            del self._pinged[number]

    def answered(self, number: int) -> None:
        """Note the answer to a ping."""
        answer = self._pinged.get(number)
        if answer is not None and not answer.done():
            answer.set_result(None)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End the stream after what was sent."""
        self._closed = True
        for answer in self._pinged.values():
            answer.cancel()
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
    and nobody else does while that is up, nor while a run has the name `bound`.

    Two processes may come with one key: a worker that was started again, whose old process is dead, or a copy of the
    key, as on the card of a second board. A process that is connected and answers is not dead: then the one that comes
    is refused."""

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

    async def join(self, hello: Hello, host: str = "") -> Session:
        """A new stream. It replaces the old one of the same worker; raises NameTaken for another key, and KeyCopied for
        the same key in another live process. Waits for as long as it takes to find out."""
        while (old := self._rival(hello)) is not None and old.hello.process != hello.process:
            if await old.is_alive():
                raise _copied(old, hello)
            # Meanwhile another one may have come.
            if self._live.get(hello.name) is old:
                break
        if old is not None and old.hello.process == hello.process and old.hello.connection >= hello.connection:
            # Each stream of a process has a higher number than the one before: this is a machine's image.
            raise _copied(old, hello)
        if hello.name in self._live:
            self._live[hello.name].close()
        session = Session(hello, host)
        self._live[hello.name] = session
        self._wake()
        return session

    def _rival(self, hello: Hello) -> Session | None:
        """The stream that is up under this name and key. Raises NameTaken where they do not go together."""
        if not self.has_key(hello.name, hello.key) and hello.name in self._bound:
            raise NameTaken(
                f"the name {hello.name!r} belongs to another worker of the run under way (another key): "
                "give this one another --name, or the --state folder that the name's key is in"
            )
        old = self._live.get(hello.name)
        if old is None or old.hello.key == hello.key:
            return old
        if hello.name not in self._bound:
            raise NameTaken(f"a worker named {hello.name!r} is connected already; give this one another --name")
        return None  # a bound name's owner takes it from another's stream that is ending

    def leave(self, session: Session) -> bool:
        """Forget a stream that ended. False when another has taken its place meanwhile."""
        session.close()
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


def _copied(old: Session, hello: Hello) -> KeyCopied:
    here, there = hello.device.get("host"), old.hello.device.get("host")
    where = "this machine, or an image of it" if here and here == there else "another machine"
    return KeyCopied(
        f"the name {hello.name!r} and its key are in use twice: a worker on {where}"
        f"{f' ({old.host})' if old.host else ''} is connected with both. "
        "The state folder or the whole card was copied: "
        "give this worker another --name, or with --certs a certificate of its own (federa-certs issue)"
    )
