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
from protos.streams import (
    CHUNK_BYTES,
    Assembler,
    StreamError,
    data_chunks,
    data_wire_size,
    header_chunk,
    header_of,
    wire_size,
)

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


def split(blob, update=None, offset=0):
    """The whole stream of a blob, or the one that goes on from a byte."""
    return [header_of(blob, update), *data_chunks(blob, offset)]


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
    parts = split(blob)
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
    chunks = split(blob)
    index = data.draw(st.integers(1, len(chunks) - 1))
    position = data.draw(st.integers(0, len(chunks[index].data) - 1))
    changed = bytearray(chunks[index].data)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    chunks[index] = Chunk(data=bytes(changed))
    with pytest.raises(StreamError, match="SHA-256"):
        assemble(chunks)


@given(blob=blobs_of_chunks, data=st.data())
def test_a_dropped_chunk_is_noticed(blob, data):
    chunks = split(blob)
    del chunks[data.draw(st.integers(0, len(chunks) - 1))]
    with pytest.raises(StreamError):
        assemble(chunks)


@given(blob=blobs_of_chunks, data=st.data())
def test_a_chunk_that_comes_twice_is_noticed(blob, data):
    chunks = split(blob)
    index = data.draw(st.integers(0, len(chunks) - 1))
    chunks.insert(index, chunks[index])
    with pytest.raises(StreamError):
        assemble(chunks)


@given(order=st.permutations(range(1, 5)))
def test_chunks_in_another_order_are_noticed(order):
    chunks = split(bytes(range(4 * SMALL_CHUNK_BYTES)))
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
    messages = split(bytes(size), update)
    assert sum(message.ByteSize() + GRPC_FRAME_BYTES for message in messages) < 1.02 * size


# ---------------------------------------------------------------- going on after a break


@given(blob=st.binary(max_size=5 * SMALL_CHUNK_BYTES), data=st.data())
def test_a_stream_goes_on_from_any_byte(blob, data):
    offset = data.draw(st.integers(0, len(blob)))
    first, *rest = split(blob, offset=offset)
    assert sum(len(chunk.data) for chunk in rest) == len(blob) - offset
    received = bytearray(blob[:offset])
    assembler = Assembler(received.extend, size_limit=LIMIT_BYTES)
    assembler.feed(first)
    assembler.restore(blob[:offset])
    for chunk in rest:
        assembler.feed(chunk)
    assert assembler.finish().size == assembler.received == len(received)
    assert received == blob
    # What was there already has not come over the wire.
    assert assembler.wire_bytes == sum(chunk.ByteSize() for chunk in (first, *rest))


@given(blob=st.binary(min_size=1, max_size=5 * SMALL_CHUNK_BYTES), breaks=st.lists(st.integers(0, 5), max_size=4))
def test_a_blob_arrives_over_as_many_streams_as_it_takes(blob, breaks):
    received = bytearray()
    assembler = Assembler(received.extend, size_limit=LIMIT_BYTES)
    fed = []
    for chunks in [*breaks, None]:
        assembler.again()
        for chunk in split(blob, offset=assembler.received)[:chunks]:
            assembler.feed(chunk)
            fed.append(chunk)
    assembler.finish()
    assert received == blob
    assert assembler.wire_bytes == sum(chunk.ByteSize() for chunk in fed)


def test_a_beginning_that_was_tampered_with_is_noticed():
    blob = bytes(range(3 * SMALL_CHUNK_BYTES))
    first, *rest = split(blob, offset=10)
    assembler = Assembler(bytearray().extend, size_limit=LIMIT_BYTES)
    assembler.feed(first)
    assembler.restore(bytes(10))
    for chunk in rest:
        assembler.feed(chunk)
    with pytest.raises(StreamError, match="SHA-256"):
        assembler.finish()


def test_a_beginning_longer_than_the_blob_is_refused():
    assembler = Assembler(pytest.fail, size_limit=LIMIT_BYTES)
    assembler.feed(header_of(b"abc"))
    with pytest.raises(StreamError, match="more than the 3 bytes"):
        assembler.restore(b"abcd")


def test_a_beginning_comes_between_the_header_and_the_data():
    first, *rest = split(bytes(20))
    early, late = (Assembler(len, size_limit=LIMIT_BYTES) for _ in range(2))
    with pytest.raises(StreamError, match="between the header and the first data"):
        early.restore(b"x")
    late.feed(first)
    late.feed(rest[0])
    with pytest.raises(StreamError, match="between the header and the first data"):
        late.restore(b"x")


@pytest.mark.parametrize(
    "other", [split(bytes(20))[0], split(b"x" * 19)[0], split(b"x" * 20, UpdateHeader(round=2))[0]]
)
def test_a_stream_that_goes_on_must_be_the_same(other):
    first, *rest = split(b"x" * 20)
    assembler = Assembler(len, size_limit=LIMIT_BYTES)
    assembler.feed(first)
    assembler.feed(rest[0])
    assembler.again()
    with pytest.raises(StreamError, match="another header than the one that broke off"):
        assembler.feed(other)


def test_a_stream_that_goes_on_begins_with_its_header():
    first, *rest = split(bytes(20))
    assembler = Assembler(len, size_limit=LIMIT_BYTES)
    for chunk in (first, rest[0]):
        assembler.feed(chunk)
    assembler.again()
    with pytest.raises(StreamError, match="first chunk must be a header"):
        assembler.feed(rest[1])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_blob_may_be_any_kind_of_bytes(kind):
    assert assemble(split(kind(b"abcdefghijk")))[0] == b"abcdefghijk"


def test_sending_copies_no_more_than_a_chunk(full_size):
    blob = bytes(16 * CHUNK_BYTES)
    tracemalloc.start()
    try:
        header_of(memoryview(blob))
        for _ in data_chunks(blob):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * CHUNK_BYTES


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, CHUNK_BYTES, (1 << 21) - 1, 1 << 21])
def test_a_chunks_size_is_known_without_serialising_it(length):
    chunk = Chunk(data=bytes(length))
    assert data_wire_size(length) == wire_size(chunk) == len(chunk.SerializeToString())
    header = header_chunk(length, bytes(32), UpdateHeader(run_id="r"))
    assert wire_size(header) == len(header.SerializeToString())
