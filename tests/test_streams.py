"""Blobs in chunks: what arrives is what was sent, and everything else is a StreamError."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from protos import streams
from protos.federation_pb2 import Chunk, UpdateHeader
from protos.streams import CHUNK_BYTES, Assembler, StreamError, header_chunk, split

SMALL_CHUNK_BYTES = 8
LIMIT_BYTES = 1 << 12
GRPC_FRAME_BYTES = 5


@pytest.fixture(autouse=True)
def small_chunks(request, monkeypatch):
    """Chunks of eight bytes, so that a few dozen bytes have boundaries to be wrong at."""
    if "full_size" not in request.fixturenames:
        monkeypatch.setattr(streams, "CHUNK_BYTES", SMALL_CHUNK_BYTES)


@pytest.fixture
def full_size():
    """The chunks as they are in use."""


def assemble(chunks, *, size_limit=LIMIT_BYTES):
    received = bytearray()
    assembler = Assembler(received.extend, size_limit=size_limit)
    for chunk in chunks:
        assembler.feed(chunk)
    header = assembler.finish()
    return bytes(received), header, assembler


@given(blob=st.binary(max_size=5 * SMALL_CHUNK_BYTES))
def test_a_blob_arrives_as_it_was_sent(blob):
    received, header, assembler = assemble(split(blob))
    assert received == blob
    assert (header.size, header.sha256) == (len(blob), hashlib.sha256(blob).digest())
    assert assembler.wire_bytes == sum(chunk.ByteSize() for chunk in split(blob))


@pytest.mark.parametrize("chunks", [0, 1, 2, 3])
@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_sizes_around_a_chunk_boundary(chunks, beside):
    size = max(0, chunks * SMALL_CHUNK_BYTES + beside)
    blob = bytes(range(size))
    parts = list(split(blob))
    assert [len(part.data) for part in parts[1:-1]] == [SMALL_CHUNK_BYTES] * max(0, len(parts) - 2)
    assert all(0 < len(part.data) <= SMALL_CHUNK_BYTES for part in parts[1:])
    assert assemble(parts)[0] == blob


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_sizes_around_a_boundary_of_the_chunks_in_use(full_size, size):
    blob = hashlib.shake_128(b"blob").digest(size)
    assert assemble(split(blob), size_limit=size)[0] == blob


def test_the_update_header_travels_with_the_blob():
    update = UpdateHeader(run_id="r", round=3, client=7, worker="w", examples=11, loss=0.5, step_ms=[1.0, 2.0])
    assert assemble(split(b"x", update))[1].update == update
    assert not assemble(split(b"x"))[1].HasField("update")


blobs_of_chunks = st.binary(min_size=3 * SMALL_CHUNK_BYTES, max_size=6 * SMALL_CHUNK_BYTES)


@given(blob=blobs_of_chunks, data=st.data())
def test_a_flipped_bit_is_noticed(blob, data):
    chunks = list(split(blob))
    index = data.draw(st.integers(1, len(chunks) - 1))
    position = data.draw(st.integers(0, len(chunks[index].data) - 1))
    changed = bytearray(chunks[index].data)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    chunks[index] = Chunk(data=bytes(changed))
    with pytest.raises(StreamError, match="SHA-256"):
        assemble(chunks)


@given(blob=blobs_of_chunks, data=st.data())
def test_a_dropped_chunk_is_noticed(blob, data):
    chunks = list(split(blob))
    del chunks[data.draw(st.integers(0, len(chunks) - 1))]
    with pytest.raises(StreamError):
        assemble(chunks)


@given(blob=blobs_of_chunks, data=st.data())
def test_a_chunk_that_comes_twice_is_noticed(blob, data):
    chunks = list(split(blob))
    index = data.draw(st.integers(0, len(chunks) - 1))
    chunks.insert(index, chunks[index])
    with pytest.raises(StreamError):
        assemble(chunks)


@given(order=st.permutations(range(1, 5)))
def test_chunks_in_another_order_are_noticed(order):
    chunks = list(split(bytes(range(4 * SMALL_CHUNK_BYTES))))
    shuffled = [chunks[0], *(chunks[index] for index in order)]
    if shuffled == chunks:
        assert assemble(shuffled)[0] == bytes(range(4 * SMALL_CHUNK_BYTES))
    else:
        with pytest.raises(StreamError, match="SHA-256"):
            assemble(shuffled)


@pytest.mark.parametrize("size", [0, 19, 21, LIMIT_BYTES])
def test_a_wrong_size_is_noticed(size):
    blob = bytes(20)
    with pytest.raises(StreamError, match=r"ends after 20|more than the"):
        assemble([header_chunk(size, hashlib.sha256(blob).digest()), Chunk(data=blob)])


def test_more_bytes_than_announced_never_reach_the_sink():
    received = bytearray()
    assembler = Assembler(received.extend, size_limit=LIMIT_BYTES)
    assembler.feed(header_chunk(4, bytes(32)))
    assembler.feed(Chunk(data=b"1234"))
    with pytest.raises(StreamError, match="more than the 4 bytes"):
        assembler.feed(Chunk(data=b"5"))
    assert received == b"1234"


@given(digest=st.binary(max_size=64))
def test_a_wrong_digest_is_noticed(digest):
    with pytest.raises(StreamError, match="SHA-256"):
        assemble([header_chunk(3, digest), Chunk(data=b"abc")])


def test_a_second_header_is_refused():
    first, *rest = split(b"abc")
    with pytest.raises(StreamError, match="after the header must carry data"):
        assemble([first, first, *rest])


@pytest.mark.parametrize("empty", [Chunk(), Chunk(data=b"")])
def test_a_chunk_without_bytes_is_refused(empty):
    # An endless stream of these would otherwise keep a connection and a file for ever.
    first, *rest = split(b"abc")
    with pytest.raises(StreamError, match="must carry data"):
        assemble([first, empty, *rest])
    with pytest.raises(StreamError, match="first chunk must be a header"):
        assemble([empty, first, *rest])


def test_a_header_over_the_limit_is_refused_before_any_byte():
    assembler = Assembler(pytest.fail, size_limit=100)
    with pytest.raises(StreamError, match="announces 101 bytes, the limit is 100"):
        assembler.feed(header_chunk(101, bytes(32)))
    assert assemble(split(bytes(100)), size_limit=100)[0] == bytes(100)


def test_a_stream_without_chunks_is_refused():
    with pytest.raises(StreamError, match="empty"):
        assemble([])


any_chunk = st.one_of(
    st.builds(Chunk),
    st.builds(lambda data: Chunk(data=data), st.binary(max_size=12)),
    st.builds(
        header_chunk,
        st.integers(0, 40) | st.integers(0, 2**64 - 1),
        st.binary(max_size=40) | st.binary(max_size=20).map(lambda blob: hashlib.sha256(blob).digest()),
    ),
)


@given(chunks=st.lists(any_chunk, max_size=6))
def test_whatever_comes_it_is_whole_or_a_stream_error(chunks):
    try:
        received, header, _ = assemble(chunks)
    except StreamError as error:
        assert "\n" not in str(error)
    else:
        assert len(received) == header.size <= LIMIT_BYTES
        assert hashlib.sha256(received).digest() == header.sha256


@given(blob=st.binary(max_size=64), position=st.integers(0, 63), value=st.integers(0, 255))
def test_bytes_damaged_on_the_wire_never_pass_as_another_blob(blob, position, value):
    parts = [bytearray(chunk.SerializeToString()) for chunk in split(blob)]
    part = parts[position % len(parts)]
    part[position % len(part)] = value
    chunks = []
    for piece in parts:
        try:
            chunks.append(Chunk.FromString(bytes(piece)))
        except DecodeError:
            return  # gRPC refuses it before the stream sees it
    try:
        received = assemble(chunks)[0]
    except StreamError:
        return
    assert received == blob


def test_the_sink_gets_each_piece_as_it_comes():
    received: list[bytes] = []
    assembler = Assembler(received.append, size_limit=LIMIT_BYTES)
    for count, chunk in enumerate(split(bytes(range(40)))):
        assembler.feed(chunk)
        assert len(received) == count
        assert count == 0 or received[-1] == chunk.data


def test_no_more_than_a_few_chunks_are_held(full_size):
    piece = Chunk(data=bytes(CHUNK_BYTES))
    pieces = 32
    sha = hashlib.sha256(bytes(CHUNK_BYTES) * pieces).digest()
    assembler = Assembler(len, size_limit=pieces * CHUNK_BYTES)
    tracemalloc.start()
    try:
        assembler.feed(header_chunk(pieces * CHUNK_BYTES, sha))
        for _ in range(pieces):
            assembler.feed(piece)
        assembler.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * CHUNK_BYTES


@pytest.mark.parametrize("size", [1_000_000, CHUNK_BYTES + 1, 5_000_000])
def test_the_wire_carries_at_most_two_percent_more_than_the_state(full_size, size):
    update = UpdateHeader(run_id="a" * 40, round=1, client=1, worker="w" * 100, examples=1, step_ms=[1.0] * 100)
    messages = list(split(bytes(size), update))
    assert sum(message.ByteSize() + GRPC_FRAME_BYTES for message in messages) < 1.02 * size
