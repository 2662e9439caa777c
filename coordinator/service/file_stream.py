"""A file of the run's, as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from protos.federation_pb2 import Chunk
from protos.streams import CHUNK_BYTES, header_chunk


async def file_chunks(path: Path, sha256: bytes, offset: int = 0) -> AsyncIterator[Chunk]:
    """The header, for the whole file with that digest, and its bytes from `offset` on, read off the event loop."""
    with path.open("rb") as file:
        yield header_chunk(path.stat().st_size, sha256)
        file.seek(offset)
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield Chunk(data=data)
