"""An update spool with a real folder and ledger, and a round that is open."""

from __future__ import annotations

import asyncio
import json
import struct

import numpy as np

from coordinator.clients.update_checks import distance_limit
from coordinator.clients.update_spool import Expected, UpdateSpool
from coordinator.storage.broadcast import Broadcast
from coordinator.storage.ledger import Ledger
from coordinator.storage.run_folder import RunFolder
from federa.tensors.codec import encode
from federa.tensors.state import pack
from protos.federation_pb2 import UpdateHeader
from protos.streams import data_chunks, header_of

SHAPES = {"a": (2, 3), "b": (4,)}


def state(value=0.0, **changes):
    """Tensors of this run's shapes, all with one value; of `changes` None leaves a tensor out."""
    tensors = {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()} | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


START = pack(state())
GOOD = pack(state(1.0))
OTHER = pack(state(2.0))


def int8(tensors, reference_sha256):
    """An update in differences from the start."""
    return encode(tensors, "int8", reference=state(), reference_sha256=reference_sha256, seed=1)


def with_header(text, size=24):
    """A safetensors file of this header and so many zero bytes."""
    header = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


class UpdateFixture:
    """`wanted` can be set to False: the round is closed then."""

    def __init__(self, path, wire="fp32", norm_limit=None):
        self.folder = RunFolder(path)
        self.ledger = Ledger(self.folder.ledger)
        self.spool = UpdateSpool(self.folder, self.ledger)
        self.start = self.folder.keep_state(START)
        self.wanted = True
        self.recorded: list[int] = []
        self.failures: list[Exception] = []
        self.offsets = []
        """The byte that each stream was asked to go on from."""
        self._wire = wire
        self._norm_limit = norm_limit
        self._broadcast = Broadcast(self.folder, self.start, self.start)

    def update(self, round_=1, client=2):
        return UpdateHeader(run_id="r", round=round_, client=client, worker="ada", examples=5, loss=0.5, step_ms=[1.5])

    async def receiving(self, chunks, *, round_=1):
        """Give it a stream of chunks: its header, then what an async iterator brings, which hears the offset first."""
        first = await chunks.__anext__()
        admitted = asyncio.Event()

        async def admit(offset):
            self.offsets.append(offset)
            admitted.set()

        async def rest():
            await admitted.wait()
            async for chunk in chunks:
                yield chunk

        expected = Expected(
            wire=self._wire,
            broadcast=self._broadcast,
            state_bytes=len(START),
            distance_limit=distance_limit(self.ledger.distances(before=round_), self._norm_limit),
            elapsed_s=lambda: 0.25,
            wanted=lambda: self.wanted,
            accepted=lambda: self.recorded.append(round_),
            failed=self.failures.append,
        )
        return await self.spool.receive(first, rest(), admit, expected)

    def sending(self, blob=GOOD, *, round_=1, client=2, most=None):
        """What a worker sends: the header, then the rest from the byte that it is asked for, up to byte `most`."""

        async def chunks():
            yield header_of(blob, self.update(round_, client))
            for chunk in data_chunks(blob[:most], self.offsets[-1]):
                yield chunk

        return self.receiving(chunks(), round_=round_)

    def upload(self, blob=GOOD, chunks=None, **which):
        """One upload from beginning to end; `chunks` makes the stream of an update."""
        if chunks is None:
            return asyncio.run(self.sending(blob, **which))

        async def stream():
            for chunk in chunks(self.update()):
                yield chunk

        return asyncio.run(self.receiving(stream()))

    @property
    def files(self):
        return sorted((self.folder.path / "spool").iterdir())
