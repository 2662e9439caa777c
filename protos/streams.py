"""Blobs in chunks: a header with size and SHA-256, then the bytes in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from protos.federation_pb2 import Chunk, StreamHeader, UpdateHeader

CHUNK_BYTES = 1 << 20


class StreamError(ValueError):
    """A stream that is not what its header says. The message is one line."""


def header_chunk(size: int, sha256: bytes, update: UpdateHeader | None = None) -> Chunk:
    """The first chunk of a stream of `size` bytes; `update` describes a client's update."""
    return Chunk(header=StreamHeader(size=size, sha256=sha256, update=update))


def split(blob: bytes, update: UpdateHeader | None = None) -> Iterator[Chunk]:
    """The stream of a blob that is in memory."""
    yield header_chunk(len(blob), hashlib.sha256(blob).digest(), update)
    view = memoryview(blob)
    for start in range(0, len(blob), CHUNK_BYTES):
        yield Chunk(data=bytes(view[start : start + CHUNK_BYTES]))


class Assembler:
    """Takes a stream's chunks in order and hands their bytes to `sink`, hashing as it goes.

    It holds no more than a chunk. `wire_bytes` counts the serialised messages. Raises StreamError as soon as the
    stream breaks its word.
    """

    def __init__(self, sink: Callable[[bytes], object], *, size_limit: int) -> None:
        self.header: StreamHeader | None = None
        self.wire_bytes = 0
        self._sink = sink
        self._size_limit = size_limit
        self._received = 0
        self._sha = hashlib.sha256()

    def feed(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        self.wire_bytes += chunk.ByteSize()
        kind = chunk.WhichOneof("part")
        if self.header is None:
            if kind != "header":
                raise StreamError("the first chunk must be a header")
            if chunk.header.size > self._size_limit:
                raise StreamError(f"announces {chunk.header.size} bytes, the limit is {self._size_limit}")
            if len(chunk.header.sha256) != 32:
                raise StreamError("the header must carry a SHA-256 of 32 bytes")
            self.header = chunk.header
            return
        if kind != "data" or not chunk.data:
            raise StreamError("a chunk after the header must carry data")
        self._received += len(chunk.data)
        if self._received > self.header.size:
            raise StreamError(f"sends more than the {self.header.size} bytes it announced")
        self._sha.update(chunk.data)
        self._sink(chunk.data)

    def finish(self) -> StreamHeader:
        """Check that the stream is whole, and return its header."""
        if self.header is None:
            raise StreamError("the stream is empty")
        if self._received != self.header.size:
            raise StreamError(f"ends after {self._received} of {self.header.size} bytes")
        if self._sha.digest() != self.header.sha256:
            raise StreamError("the bytes do not have the SHA-256 that the header names")
        return self.header
