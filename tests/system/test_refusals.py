"""An update that is not what was asked for is refused by name, and leaves nothing."""

from __future__ import annotations

import hashlib
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from update_fixtures import GOOD, START, UpdateFixture, int8, state, with_header

from coordinator.clients.errors import UpdateRefused, UploadBroken
from coordinator.clients.update_spool import HEADER_SLACK_BYTES
from federa.tensors.codec import encode
from federa.tensors.state import digest_of, pack
from protos.federation_pb2 import Chunk
from protos.streams import data_chunks, header_chunk, header_of


@pytest.fixture
def fixture(tmp_path):
    fixture = UpdateFixture(tmp_path)
    yield fixture
    fixture.ledger.close()


NAN, INFINITE = np.zeros(4, np.float32), np.zeros((2, 3), np.float32)
NAN[3], INFINITE[1, 2] = np.nan, -np.inf
NO_STATE = "not a safetensors state"


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (pack(state(b=NAN)), "tensor b holds values that are not finite"),
        (pack(state(a=INFINITE)), "tensor a holds values that are not finite"),
        (pack(state(b=np.zeros(5, np.float32))), r"tensor b must have shape \[4\], not \[5\]"),
        (pack(state(a=np.zeros((3, 2), np.float32))), r"tensor a must have shape \[2, 3\], not \[3, 2\]"),
        (pack(state(b=None)), "tensor b is missing"),
        (pack(state(c=np.zeros(1, np.float32))), "tensor c is not part of this state"),
        (save(state(b=np.zeros(4, np.float16))), "tensor b must be F32, not F16"),
        (save(state(b=np.zeros(4, np.float64))), "tensor b has a dtype that is none of F32, BF16, F16, I8"),
        (save(state(a=np.zeros((2, 3), np.int32))), "tensor a has a dtype that is none of"),
        (int8(state(1.0), digest_of(START)), "the wire must be fp32, not int8"),
        (b"", NO_STATE),
        (b"\0", NO_STATE),
        (b"garbage that is no tensor file", NO_STATE),
        (GOOD[:-1], NO_STATE),
        (GOOD + b"\0", NO_STATE),
        (struct.pack("<Q", 2**63) + GOOD[8:], NO_STATE),
        (with_header(b"[]"), NO_STATE),
        (with_header(b'{"a": \xff}'), NO_STATE),
        (with_header(b'{"__metadata__": {"wire": "int4", "reference": "0"}}', 0), "the wire of a blob of differences"),
        (with_header({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 9**12]}}), NO_STATE),
        (with_header({"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 24]}}), NO_STATE),
        (with_header({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [24, 0]}}), NO_STATE),
    ],
)
def test_what_is_not_this_state_is_refused_by_name_and_leaves_nothing(fixture, blob, words):
    with pytest.raises(UpdateRefused, match=rf"update of client 2 for round 1: .*{words}") as caught:
        fixture.upload(blob)
    assert "\n" not in str(caught.value)
    assert fixture.files == []
    assert fixture.ledger.contributions(1) == []
    assert fixture.upload().already_accepted is False


NAN_DIFFERENCE = encode(state(b=NAN), "bf16", reference=state(), reference_sha256=digest_of(START))


@pytest.mark.parametrize(
    ("wire", "blob", "words"),
    [
        ("int8", GOOD, "the wire must be int8, not fp32"),
        ("bf16", int8(state(1.0), digest_of(START)), "the wire must be bf16, not int8"),
        ("int8", int8(state(1.0), "0" * 64), f"the reference must be {digest_of(START)}, not 0000"),
        ("int8", int8(state(1.0), ""), f"the reference must be {digest_of(START)}"),
        ("bf16", NAN_DIFFERENCE, "tensor b holds values that are not finite"),
    ],
)
def test_an_update_in_another_wire_or_from_another_reference_is_refused(tmp_path, wire, blob, words):
    fixture = UpdateFixture(tmp_path, wire=wire)
    with pytest.raises(UpdateRefused, match=words):
        fixture.upload(blob)
    assert fixture.files == []
    right = encode(state(1.0), wire, reference=state(), reference_sha256=digest_of(START))
    assert fixture.upload(right).already_accepted is False
    fixture.ledger.close()


@pytest.mark.parametrize("size", [len(START) + HEADER_SLACK_BYTES + 1, 10 * 10**9, 2**64 - 1])
def test_an_oversized_update_is_refused_at_its_header(fixture, size):
    limit = len(START) + HEADER_SLACK_BYTES
    with pytest.raises(UpdateRefused, match=f"announces {size} bytes, the limit is {limit}"):
        fixture.upload(chunks=lambda update: [header_chunk(size, bytes(32), update), Chunk(data=b"x")])
    assert fixture.files == []
    assert fixture.offsets == []  # not a byte of it was asked for


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        (lambda update: [header_of(GOOD, update), *data_chunks(GOOD), Chunk(data=b"more")], "sends more than"),
        (lambda update: [header_chunk(len(GOOD), bytes(32), update), *data_chunks(GOOD)], "SHA-256"),
        (lambda update: [header_chunk(len(GOOD), b"", update), *data_chunks(GOOD)], "SHA-256 of 32 bytes"),
        (lambda update: [header_of(GOOD, update), *data_chunks(GOOD), header_of(GOOD, update)], "must carry data"),
        (lambda update: [header_of(GOOD, update), Chunk(data=b""), *data_chunks(GOOD)], "must carry data"),
        (lambda update: [header_of(GOOD, update), Chunk(), *data_chunks(GOOD)], "must carry data"),
    ],
)
def test_a_stream_that_breaks_its_word_is_refused_and_leaves_nothing(fixture, chunks, words):
    with pytest.raises(UpdateRefused, match=words):
        fixture.upload(chunks=chunks)
    assert fixture.files == []
    assert fixture.ledger.contributions(1) == []


def test_a_file_can_be_laid_out_otherwise(fixture):
    # Another program may order the tensors otherwise and add a description of itself.
    blob = save(state(1.0), metadata={"made": "elsewhere"})
    assert len(blob) > len(GOOD)
    assert fixture.upload(blob).already_accepted is False


@pytest.fixture(scope="module")
def clients():
    """A client of its own for each example: an fixture takes longer to open than an update to come."""
    return itertools.count(1)


@pytest.fixture(scope="module")
def open_all_day(tmp_path_factory):
    fixture = UpdateFixture(tmp_path_factory.mktemp("fixture"))
    yield fixture
    fixture.ledger.close()


@settings(max_examples=80)
@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), length=st.integers(0, len(GOOD)))
def test_damage_before_hashing_is_refused_or_is_a_state(open_all_day, clients, position, value, length):
    # A worker with bad memory hashes what it damaged: then the digest is right and the tensors must be looked at.
    damaged = bytearray(GOOD)
    damaged[position] = value
    blob = bytes(damaged[:length] if length % 3 == 0 else damaged)
    client, before = next(clients), open_all_day.files
    try:
        open_all_day.upload(blob, client=client)
    except UpdateRefused:
        assert open_all_day.files == before
    else:
        kept = open_all_day.folder.update(1, client, digest_of(blob))
        assert set(open_all_day.files) - set(before) == {kept}
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest_of(blob)


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, len(GOOD) - 1), max_size=4))
def test_wherever_it_breaks_off_it_arrives_whole_and_once(open_all_day, clients, cuts):
    client, before = next(clients), open_all_day.files
    there = 0
    for cut in cuts:
        with pytest.raises(UploadBroken):
            open_all_day.upload(most=cut, client=client)
        assert open_all_day.offsets[-1] == there
        there = max(there, cut)
    assert open_all_day.upload(client=client).already_accepted is False
    assert open_all_day.offsets[-1] == there
    (kept,) = set(open_all_day.files) - set(before)
    assert kept.read_bytes() == GOOD
