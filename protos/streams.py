"""Blobs in chunks: a header with size and SHA-256, then the bytes in order. A stream that broke off is continued by
another one, which repeats the header and goes on from the byte that its receiver names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from protos.federation_pb2 import Chunk, StreamHeader, UpdateHeader

CHUNK_BYTES = 1 << 20

Blob = bytes | bytearray | memoryview


class StreamError(ValueError):
    """A stream that is not what its header says. The message is one line."""


def header_chunk(size: int, sha256: bytes, update: UpdateHeader | None = None) -> Chunk:
    """The first chunk of a stream of `size` bytes; `update` describes a client's update."""
    return Chunk(header=StreamHeader(size=size, sha256=sha256, update=update))


def header_of(blob: Blob, update: UpdateHeader | None = None) -> Chunk:
    """The first chunk of the stream of a blob that is in memory. Hashes all of it."""
    return header_chunk(len(blob), hashlib.sha256(blob).digest(), update)


def data_chunks(blob: Blob, offset: int = 0) -> Iterator[Chunk]:
    """The chunks after the header, from byte `offset` on. Holds a copy of one chunk at a time."""
    view = memoryview(blob)
    for start in range(offset, len(blob), CHUNK_BYTES):
        yield Chunk(data=bytes(view[start : start + CHUNK_BYTES]))


def wire_size(chunk: Chunk) -> int:
    """Bytes of a chunk's serialised message. ByteSize() would serialise it to count them, a megabyte at a time."""
    if chunk.WhichOneof("part") != "data":
        return chunk.ByteSize()
    return data_wire_size(len(chunk.data))


def data_wire_size(length: int) -> int:
    """The wire size of a data chunk with so many bytes: a tag, their number in groups of seven bits, and they."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length


class Assembler:
    """Takes a stream's chunks in order and hands their bytes to `sink`, hashing as it goes.

    It holds no more than a chunk. `wire_bytes` counts the serialised messages of every stream that was fed, `received`
    the blob's bytes that are there. Raises StreamError as soon as the stream breaks its word.

    A blob of which a part is there already: after the header, `restore` takes that part. A blob whose stream broke off:
    `again`, then `feed` takes the header and the rest from another stream.
    """

    def __init__(self, sink: Callable[[bytes], object], *, size_limit: int) -> None:
        self.header: StreamHeader | None = None
        self.wire_bytes = 0
        self.received = 0
        self._sink = sink
        self._size_limit = size_limit
        self._sha = hashlib.sha256()
        self._wants_header = True
        self._has_data = False

    def feed(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        kind = chunk.WhichOneof("part")
        if self._wants_header:
            self.wire_bytes += chunk.ByteSize()
            if kind != "header":
                raise StreamError("the first chunk must be a header")
            self._take_header(chunk.header)
            return
        data = chunk.data  # once: each access copies it
        self.wire_bytes += data_wire_size(len(data)) if kind == "data" else chunk.ByteSize()
        if not data:
            raise StreamError("a chunk after the header must carry data")
        self._has_data = True
        self._hash(data)
        self._sink(data)

    def restore(self, data: Blob) -> None:
        """Count and hash bytes that are where `sink` puts them, in order, between the header and the first data."""
        if self._wants_header or self._has_data:
            raise StreamError("what is there already must come between the header and the first data")
        self._hash(data)

    def again(self) -> None:
        """Another stream follows: the same header, then the bytes from `received` on."""
        self._wants_header = True

    def finish(self) -> StreamHeader:
        """Check that the blob is whole, and return its header."""
        if self.header is None:
            raise StreamError("the stream is empty")
        if self.received != self.header.size:
            raise StreamError(f"ends after {self.received} of {self.header.size} bytes")
        if self._sha.digest() != self.header.sha256:
            raise StreamError("the bytes do not have the SHA-256 that the header names")
        return self.header

    def _take_header(self, header: StreamHeader) -> None:
        if header.size > self._size_limit:
            raise StreamError(f"announces {header.size} bytes, the limit is {self._size_limit}")
        if len(header.sha256) != 32:
            raise StreamError("the header must carry a SHA-256 of 32 bytes")
        if self.header is not None and header != self.header:
            raise StreamError("the stream that goes on has another header than the one that broke off")
        self.header = header
        self._wants_header = False

    def _hash(self, data: Blob) -> None:
        assert self.header is not None
        if self.received + len(data) > self.header.size:
            raise StreamError(f"sends more than the {self.header.size} bytes it announced")
        self.received += len(data)
        self._sha.update(data)
