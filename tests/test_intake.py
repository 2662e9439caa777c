"""From an upload's first byte to its acknowledgement: accepted means durable, refused means nothing stays."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from coordinator.intake import HEADER_SLACK_BYTES, Intake, Refused
from coordinator.ledger import Ledger
from coordinator.run_folder import RunFolder
from federa.state import digest_of, pack
from protos.federation_pb2 import Chunk, UpdateHeader
from protos.streams import header_chunk, split

SHAPES = {"a": (2, 3), "b": (4,)}


def state(**changes):
    tensors = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()} | changes
    return {name: value for name, value in tensors.items() if value is not None}


GOOD = pack(state())
OTHER = pack(state(b=np.ones(4, np.float32)))


async def admit():
    """The coordinator's word that the rest may come; nobody waits for it here."""


class Office:
    """An intake with its folder and ledger."""

    def __init__(self, path):
        self.folder = RunFolder(path)
        self.ledger = Ledger(self.folder.ledger)
        self.intake = Intake(self.folder, self.ledger, SHAPES, len(GOOD))

    def take(self, blob=GOOD, chunks=None, round_=1, client=2):
        update = UpdateHeader(run_id="r", round=round_, client=client, worker="ada", examples=5, loss=0.5)
        first, *rest = split(blob, update) if chunks is None else chunks(update)

        async def arriving():
            for chunk in rest:
                yield chunk

        return asyncio.run(self.intake.take(first, arriving(), admit))

    @property
    def spool(self):
        return sorted((self.folder.path / "spool").iterdir())


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    yield office
    office.ledger.close()


def test_an_update_is_kept_and_recorded(office):
    assert office.take().already_accepted is False
    path = office.folder.update(1, 2, digest_of(GOOD))
    assert office.spool == [path]
    assert path.read_bytes() == GOOD
    (row,) = office.ledger.contributions(1)
    assert (row["client"], row["device"], row["examples"], row["sha256"]) == (2, "ada", 5, digest_of(GOOD))
    wire_bytes = office.ledger.bytes_moved()[1]
    assert len(GOOD) < wire_bytes < len(GOOD) + 200


def test_the_disk_has_it_before_the_ledger_and_the_ledger_before_the_worker_hears(office, monkeypatch):
    calls = []
    fsync, replace, accepted = os.fsync, os.replace, Ledger.accepted

    def recorded_fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        # Nothing of it waits in a buffer of ours, or the disk would not have it.
        assert path.is_dir() or path.read_bytes() == GOOD
        fsync(descriptor)
        calls.append(("fsync", path))

    def recorded_replace(source, target):
        replace(source, target)
        calls.append(("replace", Path(source), Path(target)))

    def recorded_accepted(ledger, **update):
        calls.append(("ledger",))
        fresh = accepted(ledger, **update)
        calls.append(("recorded",))
        return fresh

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    monkeypatch.setattr(Ledger, "accepted", recorded_accepted)
    office.take()
    calls.append(("reply",))
    kept = office.folder.update(1, 2, digest_of(GOOD))
    incoming = calls[0][1]
    assert incoming.parent == kept.parent
    assert calls == [
        ("fsync", incoming),
        ("replace", incoming, kept),
        ("fsync", kept.parent),
        ("ledger",),
        ("recorded",),
        ("reply",),
    ]


@pytest.mark.parametrize("step", ["fsync", "replace", "ledger"])
def test_a_failing_disk_is_never_acknowledged(office, monkeypatch, step):
    def broken(*arguments, **named):
        raise OSError(5, "Input/output error")

    if step == "ledger":
        monkeypatch.setattr(Ledger, "accepted", broken)
    else:
        monkeypatch.setattr(os, step, broken)
    with pytest.raises(OSError, match="Input/output"):
        office.take()
    monkeypatch.undo()
    assert office.ledger.contributions(1) == []
    assert not [path for path in office.spool if path.name.startswith("incoming")]
    # The worker tries again when the disk is well.
    assert office.take().already_accepted is False


def test_the_same_update_again_is_acknowledged_again(office):
    assert office.take().already_accepted is False
    assert office.take().already_accepted is True
    assert len(office.spool) == 1
    assert len(office.ledger.contributions(1)) == 1


def test_another_update_of_the_same_client_leaves_the_first_untouched(office):
    office.take(GOOD)
    kept = office.folder.update(1, 2, digest_of(GOOD))
    before = kept.stat().st_ino, kept.stat().st_mtime_ns
    assert office.take(OTHER).already_accepted is True
    assert kept.read_bytes() == GOOD
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == before
    (row,) = office.ledger.contributions(1)
    assert row["sha256"] == digest_of(GOOD)


@pytest.mark.parametrize("late", [GOOD, OTHER])
def test_a_second_update_that_comes_after_its_round_was_folded_leaves_nothing(office, late):
    # A retry over a bad link can arrive so late. Nobody would empty the spool of that round again.
    office.take(GOOD)
    office.folder.drop_updates(1)
    assert office.take(late).already_accepted is True
    assert office.spool == []


def test_other_clients_and_rounds_stand_beside_it(office):
    for which in ({"client": 2}, {"client": 3}, {"round_": 2}):
        assert office.take(**which).already_accepted is False
    assert len(office.spool) == 3


def with_header(text, size=24):
    """A safetensors file of this header and so many zero bytes."""
    header = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


NAN, INFINITE = np.zeros(4, np.float32), np.zeros((2, 3), np.float32)
NAN[3], INFINITE[1, 2] = np.nan, -np.inf


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
        (save(state(b=np.zeros(4, np.float64))), "tensor b must be F32, not F64"),
        (save(state(a=np.zeros((2, 3), np.int32))), "tensor a must be F32, not I32"),
        (b"", "not a safetensors state"),
        (b"\0", "not a safetensors state"),
        (b"garbage that is no tensor file", "not a safetensors state"),
        (GOOD[:-1], "not a safetensors state"),
        (GOOD + b"\0", "not a safetensors state"),
        (struct.pack("<Q", 2**63) + GOOD[8:], "not a safetensors state"),
        (with_header(b"[]"), "not a safetensors state"),
        (with_header(b'{"a": \xff}'), "not a safetensors state"),
        (with_header({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 9**12]}}), "not a safetensors state"),
        (with_header({"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 24]}}), "not a safetensors state"),
        (with_header({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [24, 0]}}), "not a safetensors state"),
    ],
)
def test_what_is_not_this_state_is_refused_by_name_and_leaves_nothing(office, blob, words):
    with pytest.raises(Refused, match=rf"update of client 2 for round 1: {words}") as caught:
        office.take(blob)
    assert "\n" not in str(caught.value)
    assert office.spool == []
    assert office.ledger.contributions(1) == []
    assert office.take().already_accepted is False


def test_an_oversized_update_is_refused_at_its_header(office):
    limit = len(GOOD) + HEADER_SLACK_BYTES

    def chunks(update):
        return [header_chunk(limit + 1, bytes(32), update), Chunk(data=b"x")]

    with pytest.raises(Refused, match=f"announces {limit + 1} bytes, the limit is {limit}"):
        office.take(chunks=chunks)
    assert office.spool == []


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        (lambda update: list(split(GOOD, update))[:-1], "ends after 0 of"),
        (lambda update: [*split(GOOD, update), Chunk(data=b"more")], "sends more than"),
        (lambda update: [header_chunk(len(GOOD), bytes(32), update), Chunk(data=GOOD)], "SHA-256"),
        (lambda update: [header_chunk(len(GOOD), b"", update), Chunk(data=GOOD)], "SHA-256 of 32 bytes"),
        (lambda update: [*split(GOOD, update), *split(GOOD, update)], "must carry data"),
    ],
)
def test_a_broken_stream_is_refused_and_leaves_nothing(office, chunks, words):
    with pytest.raises(Refused, match=words):
        office.take(chunks=chunks)
    assert office.spool == []
    assert office.ledger.contributions(1) == []


def test_a_connection_that_breaks_leaves_nothing(office):
    first, second = split(GOOD, UpdateHeader(round=1, client=2))

    async def breaking():
        yield Chunk(data=second.data[:10])
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(office.intake.take(first, breaking(), admit))
    assert office.spool == []


def test_a_file_can_be_laid_out_otherwise(office):
    # Another program may order the tensors otherwise and add a description of itself.
    blob = save(state(), metadata={"made": "elsewhere"})
    assert len(blob) > len(GOOD)
    assert office.take(blob).already_accepted is False


@settings(max_examples=80)
@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), length=st.integers(0, len(GOOD)))
def test_damage_before_hashing_is_refused_or_is_a_state(tmp_path_factory, position, value, length):
    # A worker with bad memory hashes what it damaged: then the digest is right and the tensors must be looked at.
    damaged = bytearray(GOOD)
    damaged[position] = value
    blob = bytes(damaged[:length] if length % 3 == 0 else damaged)
    office = Office(tmp_path_factory.mktemp("office"))
    try:
        office.take(blob)
    except Refused:
        assert office.spool == []
    else:
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in office.spool] == [digest_of(blob)]
    finally:
        office.ledger.close()
