"""From an upload's first byte to its acknowledgement: spooled, checked, on the disk, recorded."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np

from coordinator.ledger import Ledger
from coordinator.run_folder import RunFolder, sync
from federa.errors import BadInput, FederaError
from federa.state import Shapes, StateFile, check_shapes, shapes_of
from protos.federation_pb2 import Chunk, UpdateHeader, UploadReply
from protos.streams import Assembler, StreamError

HEADER_SLACK_BYTES = 1 << 16
"""An update has the state's tensors, but its safetensors header may be laid out otherwise."""


class Refused(FederaError):
    """An update that cannot be used; the message says why."""


class Late(Refused):
    """An update that the run does not wait for: of another round, or of a client that has no part in this one."""


class Intake:
    """Takes the updates of one run. `size_limit` follows from the start state: nobody can send more."""

    def __init__(self, folder: RunFolder, ledger: Ledger, shapes: Shapes, state_bytes: int) -> None:
        self._folder = folder
        self._ledger = ledger
        self._shapes = shapes
        self._size_limit = state_bytes + HEADER_SLACK_BYTES

    async def take(self, first: Chunk, rest: AsyncIterator[Chunk], admit: Callable[[], Awaitable[None]]) -> UploadReply:
        """Receive one update that belongs to this round; `admit` has the rest of it sent. Raises Refused; nothing of a
        refused one stays."""
        update = first.header.update
        incoming = self._folder.path / "spool" / f"incoming-{uuid.uuid4().hex}"
        try:
            with incoming.open("wb") as file:
                assembler = Assembler(file.write, size_limit=self._size_limit)
                assembler.feed(first)
                await admit()
                async for chunk in rest:
                    # Hashing a megabyte takes a millisecond, and so does writing it: not on the event loop.
                    await asyncio.to_thread(assembler.feed, chunk)
                header = assembler.finish()
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(_check_tensors, incoming, self._shapes)
            fresh = await asyncio.to_thread(
                self._accept, incoming, update, header.sha256.hex(), assembler.wire_bytes, header.size
            )
        except (StreamError, BadInput) as error:
            raise Refused(f"update of client {update.client} for round {update.round}: {error}") from None
        finally:
            incoming.unlink(missing_ok=True)
        return UploadReply(already_accepted=not fresh)

    def _accept(self, incoming: Path, update: UpdateHeader, sha256: str, wire_bytes: int, state_bytes: int) -> bool:
        kept = self._folder.update(update.round, update.client, sha256)
        # Of a client's second update only the bytes are counted: its round may be folded by now, and nobody would
        # remove the file.
        if not self._ledger.has_accepted(update.round, update.client):
            # The file and its folder are on the disk before the ledger says so, and that before the worker hears it.
            os.replace(incoming, kept)
            sync(kept.parent)
        return self._ledger.accepted(
            round_=update.round,
            client=update.client,
            device=update.worker,
            examples=update.examples,
            loss=update.loss,
            sha256=sha256,
            step_ms=update.step_ms,
            wire_bytes=wire_bytes,
            state_bytes=state_bytes,
        )


def _check_tensors(path: Path, shapes: Shapes) -> None:
    check_shapes(shapes_of(path), shapes)
    file = StateFile(path)
    for name in file.names:
        if not np.isfinite(file.tensor(name)).all():
            raise BadInput(f"tensor {name} holds values that are not finite")
