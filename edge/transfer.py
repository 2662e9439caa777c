"""States down and updates up, each a stream of chunks, paced where an experiment states a bandwidth."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator

from protos.channel import ADMITTED
from protos.federation_pb2 import Chunk, DownloadRequest, UpdateHeader, UploadReply
from protos.federation_pb2_grpc import FederationStub
from protos.streams import Assembler, StreamError, split

STATE_LIMIT_BYTES = 64 << 30
"""The coordinator is trusted with its size; this only bounds a mistake."""


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


async def download(stub: FederationStub, request: DownloadRequest, link: Link) -> bytes:
    """The state's blob. Raises grpc.aio.AioRpcError, or StreamError for bytes that are not the ones asked for."""
    blob = io.BytesIO()
    assembler = Assembler(blob.write, size_limit=STATE_LIMIT_BYTES)
    async for chunk in stub.Download(request):
        await link.carry(chunk.ByteSize())
        await asyncio.to_thread(assembler.feed, chunk)
    header = assembler.finish()
    if header.sha256 != request.sha256:
        raise StreamError("the coordinator sent another state than the one asked for")
    return blob.getvalue()


async def upload(stub: FederationStub, blob: bytes, update: UpdateHeader, link: Link) -> UploadReply:
    """Send an update's header and, once the coordinator wants it, the rest; returns when it is on the coordinator's
    disk. Raises grpc.aio.AioRpcError."""

    admitted = asyncio.Event()

    async def chunks() -> AsyncIterator[Chunk]:
        for chunk in split(blob, update):
            await link.carry(chunk.ByteSize())
            yield chunk
            await admitted.wait()

    call = stub.Upload(chunks())

    async def admit() -> None:
        if ADMITTED in tuple(await call.initial_metadata()):
            admitted.set()

    admitting = asyncio.ensure_future(admit())
    try:
        reply: UploadReply = await call
        return reply
    finally:
        admitting.cancel()
