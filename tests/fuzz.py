"""Coverage-guided fuzzing of everything that reads what others wrote: chunks, states, control messages, ledgers.

    make fuzz [MINUTES=10]

A finding is an exception that is not one of ours, or a hang. The first byte of an input chooses the reader.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["federa", "protos", "coordinator"]):
    from google.protobuf.message import DecodeError

    from coordinator.report.result import environment, run_result
    from coordinator.storage.experiment_record import RECORD, read_record
    from coordinator.storage.ledger import Ledger
    from coordinator.storage.recovery import recover
    from coordinator.storage.run_folder import RunFolder
    from federa.config import Experiment, parse_json
    from federa.errors import FederaError
    from federa.tensors.codec import WIRES, Encoded, check_update, decode, distance, encode
    from protos.federation_pb2 import Chunk, UpdateHeader, WorkerMessage
    from protos.streams import Assembler, StreamError, data_chunks, header_of

STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(200, np.float32)}
SHAPES = {name: value.shape for name, value in STATE.items()}
REFERENCE = {name: np.zeros_like(value) for name, value in STATE.items()}
FOLDER = Path(tempfile.mkdtemp(prefix="federa-fuzz-"))


def stream(data: bytes) -> None:
    """Messages of a length of two bytes each, as the chunks of one upload."""
    assembler = Assembler(lambda piece: None, size_limit=1 << 20)
    restored = False
    while len(data) >= 2:
        (length,) = struct.unpack_from("<H", data)
        piece, data = data[2 : 2 + length], data[2 + length :]
        try:
            assembler.feed(Chunk.FromString(piece))
            if not restored and length % 7 == 0:
                restored = True
                assembler.restore(piece[:3])
        except (StreamError, DecodeError):
            return
    try:
        assembler.finish()
    except StreamError:
        return


def state(data: bytes) -> None:
    path = FOLDER / "state"
    path.write_bytes(data)
    for wire in WIRES:
        try:
            encoded = Encoded(path)
            check_update(encoded, wire=wire, shapes=SHAPES, reference_sha256="0" * 64)
            moved = distance(encoded, REFERENCE.__getitem__)
            assert moved >= 0, moved
        except FederaError:
            continue
    try:
        decode(data, REFERENCE)
    except FederaError:
        return


def message(data: bytes) -> None:
    try:
        WorkerMessage.FromString(data)
    except DecodeError:
        return


def experiment(data: bytes) -> None:
    try:
        parse_json(data.decode("utf-8", "replace"))
    except FederaError:
        return


def record(data: bytes) -> None:
    (FOLDER / RECORD).write_bytes(data)
    try:
        read_record(FOLDER)
    except FederaError:
        return


def _good_ledger() -> bytes:
    path = FOLDER / "good.sqlite"
    ledger = Ledger(path)
    ledger.note(config=Experiment().model_dump(mode="json"), environment=environment(), run_id="r", state="running")
    ledger.note(start_sha256="0" * 64)
    ledger.hosted({"a": "k"}, {0: "a", 1: "a"})
    ledger.prepared("a", {"device": "noop"}, {0: 1, 1: 2})
    ledger.selected(1, 1, [0, 1], "0" * 64)
    ledger.accepted(
        round_=1, client=0, device="a", examples=1, loss=0.5, sha256="1" * 64, step_ms=[1.0], distance=1.0, after_s=1.0,
        wire_bytes=10, state_bytes=9,
    )  # fmt: skip
    ledger.record_failure("failed", round_=1, attempt=1, client=1, device="a", reason="it rained")
    ledger.aggregated(1, 2.0, "2" * 64)
    ledger.evaluated(1, 0.5)
    ledger.selected(2, 1, [0], "2" * 64)
    ledger.close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


GOOD_LEDGER = _good_ledger()


def ledger(data: bytes) -> None:
    """A good ledger in which some bytes are others: each edit is a place of two bytes and a value."""
    damaged = bytearray(GOOD_LEDGER)
    for start in range(0, len(data) - 2, 3):
        place, value = struct.unpack_from("<HB", data, start)
        damaged[place % len(damaged)] = value
    for left in FOLDER.glob("ledger.sqlite*"):
        left.unlink()
    path = FOLDER / "ledger.sqlite"
    path.write_bytes(damaged)
    try:
        opened = Ledger(path)
    except FederaError:
        return
    try:
        recover(opened, RunFolder(FOLDER / "run"))
        run_result(opened)
    except FederaError:
        return
    finally:
        opened.close()


READERS: list[Callable[[bytes], None]] = [stream, state, message, experiment, record, ledger]


def one_input(data: bytes) -> None:
    """What the fuzzer calls."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def write_seeds(folder: Path) -> None:
    """Good inputs for the fuzzer to start from."""
    folder.mkdir(parents=True, exist_ok=True)
    blobs = [encode(STATE, wire, reference=REFERENCE, reference_sha256="0" * 64, seed=1) for wire in WIRES]
    for number, blob in enumerate(blobs):
        (folder / f"state-{number}").write_bytes(bytes([1]) + blob)
    chunks = [header_of(blobs[0], UpdateHeader(run_id="r", round=1)), *data_chunks(blobs[0])]
    pieces = [chunk.SerializeToString() for chunk in chunks]
    (folder / "stream").write_bytes(bytes([0]) + b"".join(struct.pack("<H", len(each)) + each for each in pieces))
    (folder / "experiment").write_bytes(bytes([3]) + Experiment().model_dump_json().encode())
    (folder / "ledger").write_bytes(bytes([5]) + struct.pack("<HB", 4000, 1))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[-1].startswith("-"):
        write_seeds(Path(sys.argv[-1]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
