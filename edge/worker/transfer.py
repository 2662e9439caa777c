"""States down and updates up, each over as many streams as it takes, paced where an experiment states a bandwidth."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from federa.durable import sync
from protos.channel import ADMITTED
from protos.federation_pb2 import Chunk, DownloadRequest, UpdateHeader, UploadReply
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.streams import CHUNK_BYTES, Assembler, Blob, StreamError, data_chunks, header_chunk, header_of, wire_size

STATE_LIMIT_BYTES = 64 << 30
"""The coordinator is trusted with its size; this only bounds a mistake."""

STALL_S = 60.0
"""A stream on which nothing moves for so long is given up. Keepalive finds a dead link sooner; this finds a coordinator
that lives and hangs."""

ANSWER_S = 300.0
"""The same after an update's last byte: the coordinator checks it then, and has its disk write it."""


class Stalled(Exception):
    """Nothing moved on a stream for too long. Another attempt may get through."""


class Spoiled(Exception):
    """What several streams brought is not one blob. It was thrown away; another attempt starts from nothing."""


class Link:
    """One direction of an emulated link of `mbps` Mbit/s; None is the link as it is."""

    def __init__(self, mbps: float | None) -> None:
        self._seconds_per_byte = 8e-6 / mbps if mbps else 0.0
        self._free_at = 0.0

    async def carry(self, size: int) -> None:
        """Return when `size` bytes would have gone over."""
        if self._seconds_per_byte:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size * self._seconds_per_byte
            await asyncio.sleep(self._free_at - now)


class Watch:
    """A context that leaves no call behind, and cancels one on which nothing moved for `limit_s`: Stalled is raised."""

    def __init__(self, call: Any, limit_s: float) -> None:
        self._call = call
        self._limit_s = limit_s
        self._timer: asyncio.TimerHandle | None = None
        self._stalled = False

    def moved(self, limit_s: float = 0.0) -> None:
        """Something did: from now on the time counts anew, `limit_s` where that is longer."""
        self.pause()
        wait_s = max(self._limit_s, limit_s)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._give_up, wait_s)

    def pause(self) -> None:
        """The next delay is this side's own."""
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self, waited_s: float) -> None:
        self._stalled, self._limit_s = True, waited_s
        self._call.cancel()

    def __enter__(self) -> Watch:
        self.moved()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pause()
        self._call.cancel()  # of no effect on one that is over
        if self._stalled and isinstance(error, asyncio.CancelledError | grpc.aio.AioRpcError):
            raise Stalled(f"nothing moved for {self._limit_s:.0f} s") from None


class Download:
    """One state on its way down: `attempt` until it returns. Each attempt goes on where the last one broke off."""

    def __init__(self, stub: WorkerServiceStub, request: DownloadRequest, link: Link) -> None:
        self._stub = stub
        self._request = request
        self._link = link
        self._start_over()

    async def attempt(self, stall_s: float = STALL_S) -> memoryview:
        """The state's blob, which can be written to. Raises grpc.aio.AioRpcError, Stalled and Spoiled, after which
        another attempt may succeed, or StreamError for a whole stream of bytes that are not the ones asked for."""
        self._assembler.again()
        self._request.offset = self._assembler.received
        try:
            await _receive(self._stub.Download(self._request), self._assembler, self._link, stall_s)
            header = self._assembler.finish()
            if header.sha256 != self._request.sha256:
                raise StreamError("the coordinator sent another state than the one asked for")
        except StreamError as error:
            self._start_over()
            if self._request.offset > 0:
                raise Spoiled(f"a download that was continued: {error}") from None
            raise
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.OUT_OF_RANGE and self._request.offset > 0:
                self._start_over()
                raise Spoiled(f"a download that was continued: {error.details()}") from None
            raise
        return self._buffer.getbuffer()

    def _start_over(self) -> None:
        # Grows as bytes come, not to the size that is announced.
        self._buffer = io.BytesIO()
        self._assembler = Assembler(self._buffer.write, size_limit=STATE_LIMIT_BYTES)


class FileDownload:
    """One file of known size and digest on its way down to `path`: `attempt` until it returns. What there is of it
    stays there whatever happens, this process's end included, and another FileDownload goes on from it."""

    def __init__(
        self,
        stub: WorkerServiceStub,
        request: DownloadRequest,
        path: Path,
        size: int,
        moved: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`moved` is called on a thread, with the bytes that are there."""
        self._stub = stub
        self._request = request
        self._path = path
        self._size = size
        self._moved = moved
        self._written = 0
        self._assembler: Assembler | None = None

    async def attempt(self, stall_s: float = STALL_S) -> None:
        """Returns when the file is whole, checked and on the disk. Raises what Download.attempt does, and OSError."""
        assembler, self._assembler = self._assembler, None
        if assembler is None:
            assembler = await asyncio.to_thread(self._resume)
        self._request.offset = assembler.received
        assembler.again()
        try:
            if assembler.received < self._size:
                await _receive(self._stub.Download(self._request), assembler, Link(None), stall_s)
            assembler.finish()
        except StreamError as error:
            await asyncio.to_thread(self._path.unlink, missing_ok=True)
            if self._request.offset > 0:
                raise Spoiled(f"{self._path.name}, which was continued: {error}") from None
            raise
        except (grpc.aio.AioRpcError, Stalled):
            self._assembler = assembler  # what it counted and hashed is on the disk
            raise
        await asyncio.to_thread(sync, self._path)

    def _resume(self) -> Assembler:
        """With what there is on the disk, hashed anew."""
        assembler = Assembler(self._write, size_limit=STATE_LIMIT_BYTES)
        assembler.feed(header_chunk(self._size, self._request.sha256))
        with self._path.open("ab+") as file:
            if file.tell() > self._size:
                file.truncate(0)
            file.seek(0)
            while data := file.read(CHUNK_BYTES):
                assembler.restore(data)
        self._written = assembler.received
        self._moved(self._written)
        return assembler

    def _write(self, data: bytes) -> None:
        # Without a buffer of our own: what a process wrote outlives it. And at a place of its own: the last write of an
        # attempt that was cancelled may come after another one has begun.
        with self._path.open("r+b", buffering=0) as file:
            file.seek(self._written)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        self._written += len(data)
        self._moved(self._written)


class Upload:
    """One update on its way up: `attempt` until it returns. Each attempt sends what the coordinator has not got yet."""

    def __init__(self, stub: WorkerServiceStub, blob: Blob, update: UpdateHeader, link: Link) -> None:
        self._stub = stub
        self._blob = blob
        self._update = update
        self._link = link
        self._header: Chunk | None = None

    async def attempt(self, stall_s: float = STALL_S) -> UploadReply:
        """Returns when the update is on the coordinator's disk. Raises grpc.aio.AioRpcError with its answer, or with
        what broke the stream, and Stalled."""
        if self._header is None:
            self._header = await asyncio.to_thread(header_of, self._blob, self._update)
        # Before the call begins: the coordinator does not wait long for its first chunk.
        await self._link.carry(wire_size(self._header))
        call = self._stub.Upload()
        with Watch(call, stall_s) as watch:
            try:
                await call.write(self._header)
                offset = wanted_from(await call.initial_metadata())
                if offset is not None:
                    for chunk in data_chunks(self._blob, offset):
                        watch.pause()
                        await self._link.carry(wire_size(chunk))
                        watch.moved()
                        await call.write(chunk)
                    await call.done_writing()
            except asyncio.InvalidStateError:
                pass  # it is over already: its status, below, says why
            watch.moved(ANSWER_S)
            reply: UploadReply = await call
            return reply


async def _receive(call: Any, assembler: Assembler, link: Link, stall_s: float) -> None:
    with Watch(call, stall_s) as watch:
        async for chunk in call:
            watch.pause()
            await link.carry(wire_size(chunk))
            await asyncio.to_thread(assembler.feed, chunk)
            watch.moved()


def wanted_from(metadata: Any) -> int | None:
    """The byte from which the coordinator wants the rest of an upload; None where it wants nothing of it."""
    for key, value in metadata or ():
        if key == ADMITTED:
            return int(value)
    return None
