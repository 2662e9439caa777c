"""Receiving an update, from its first byte to its acknowledgement: spooled, checked, on the disk, recorded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from coordinator.clients.errors import UpdateLate, UpdateRefused, UploadBroken
from coordinator.storage.broadcast import Broadcast
from coordinator.storage.ledger import Ledger
from coordinator.storage.run_folder import RunFolder
from coordinator.threads import in_thread, to_its_end
from federa.durable import sync
from federa.errors import BadInput
from federa.tensors.codec import Encoded, check_update, distance
from protos.federation_pb2 import Chunk, UpdateHeader, UploadReply
from protos.streams import CHUNK_BYTES, Assembler, StreamError

HEADER_SLACK_BYTES = 1 << 16
"""An update has the state's tensors, but its safetensors header may be laid out otherwise."""
IDLE_LIMIT_S = 1200.0
"""An upload that brings nothing for so long is ended; what came of it stays, and the worker may go on. Longer than any
worker waits for a chunk to get through: of a dead connection keepalive tells sooner."""

Admit = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What the updates of a round must be. `distance_limit` bounds the 2-norm of update minus broadcast; `state_bytes`
    is the size of the state in fp32; `elapsed_s` says how long the round has been open, and `wanted` whether
    it still is, and takes this client's update. `accepted` is called when the update is recorded, and `failed` where it
    cannot be: also when nobody waits for the answer any more."""

    wire: str
    broadcast: Broadcast
    state_bytes: int
    distance_limit: float | None
    elapsed_s: Callable[[], float]
    wanted: Callable[[], bool]
    accepted: Callable[[], None]
    failed: Callable[[Exception], object]


@dataclass(slots=True)
class _Upload:
    """One update on its way in. `recorded` says that its bytes are in the ledger, with the update or, where another one
    was first, without it."""

    update: UpdateHeader
    partial: Path
    assembler: Assembler
    expected: Expected
    recorded: bool = False


class UpdateSpool:
    """Takes in the updates of one run, and keeps them until their round is aggregated."""

    def __init__(self, folder: RunFolder, ledger: Ledger) -> None:
        self._folder = folder
        self._ledger = ledger
        self._locks: dict[tuple[int, int], asyncio.Lock] = {}
        self._receiving: dict[tuple[int, int], asyncio.Task[object] | None] = {}
        self._keeping: set[asyncio.Future[bool]] = set()
        self._taken_over: set[asyncio.Task[object]] = set()

    async def has_accepted(self, round_: int, client: int) -> bool:
        """Whether an update of that round and client is recorded."""
        return await in_thread(self._ledger.has_accepted, round_, client)

    async def receive(self, first: Chunk, rest: AsyncIterator[Chunk], admit: Admit, expected: Expected) -> UploadReply:
        """Receive one update that belongs to this round; `admit` has it sent, from the byte that is missing. A second
        stream for the same update takes over from the first, which may be a dead connection.

        Raises UpdateRefused, of which nothing stays, UpdateLate, UploadBroken, and OSError or LedgerFailure where it
        cannot be kept.
        """
        update = first.header.update
        slot = (update.round, update.client)
        earlier = self._receiving.get(slot)
        if earlier is not None:
            self._taken_over.add(earlier)
            earlier.cancel()
        async with self._locks.setdefault(slot, asyncio.Lock()):
            # From here on it can be taken over, until it is whole.
            self._receiving[slot] = asyncio.current_task()
            try:
                if await self.has_accepted(*slot):
                    return UploadReply(already_accepted=True)
                return await self._receive(first, rest, admit, expected)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task in self._taken_over:
                    self._taken_over.discard(task)
                    raise UploadBroken(f"update of client {update.client}: another stream goes on with it") from None
                raise
            finally:
                self._receiving[slot] = None

    async def settled(self) -> None:
        """Wait until nothing is being recorded. Once a round takes no more updates, those are all it has."""
        while self._keeping:
            await asyncio.wait(self._keeping)

    async def forget(self, round_: int) -> None:
        """Drop what broke off of the uploads of a round that is aggregated: it is of no more use."""
        self._locks = {slot: lock for slot, lock in self._locks.items() if slot[0] != round_ or lock.locked()}

        def unlink() -> None:
            for partial in self._folder.partials(round_):
                partial.unlink(missing_ok=True)

        await in_thread(unlink)

    async def _receive(self, first: Chunk, rest: AsyncIterator[Chunk], admit: Admit, expected: Expected) -> UploadReply:
        update = first.header.update
        partial = self._folder.partial(update.round, update.client, first.header.sha256.hex())
        with partial.open("ab") as file:
            assembler = Assembler(file.write, size_limit=expected.state_bytes + HEADER_SLACK_BYTES)
            upload = _Upload(update, partial, assembler, expected)
            try:
                await self._collect(upload, file, first, rest, admit)
                self._receiving[update.round, update.client] = None
                file.flush()
                return UploadReply(already_accepted=not await self._accept(upload))
            except FileNotFoundError:
                # Its beginning is gone where the round was closed and aggregated meanwhile: `forget`.
                if expected.wanted():
                    raise
                raise _late(update) from None
            except (StreamError, BadInput) as error:
                partial.unlink(missing_ok=True)
                raise UpdateRefused(f"update of client {update.client} for round {update.round}: {error}") from None
            finally:
                if not upload.recorded:
                    self._ledger.uploaded_in_vain(
                        round_=update.round,
                        device=update.worker,
                        client=update.client,
                        wire_bytes=assembler.wire_bytes,
                    )

    async def _collect(
        self, upload: _Upload, file: BinaryIO, first: Chunk, rest: AsyncIterator[Chunk], admit: Admit
    ) -> None:
        """Have the missing bytes sent and spool them, to the end of the update."""
        assembler, partial = upload.assembler, upload.partial
        assembler.feed(first)
        for stale in self._folder.partials(first.header.update.round, first.header.update.client):
            if stale != partial:
                stale.unlink()
        if file.tell() > first.header.size:
            file.seek(0)
            file.truncate()
        offset = file.tell()
        if offset:
            await in_thread(_restore, assembler, partial)
        await admit(offset)
        while (chunk := await _next(rest)) is not None:
            # Hashing a megabyte takes a millisecond, and so does writing it: not on the event loop.
            await in_thread(assembler.feed, chunk)
        try:
            assembler.finish()
        except StreamError as error:
            name = f"the upload of client {first.header.update.client} for round {first.header.update.round}"
            if assembler.received < first.header.size:
                raise UploadBroken(f"{name} broke off: {error}") from None
            if offset:
                # The beginning came earlier, perhaps before a power cut: it may be that which is wrong.
                partial.unlink(missing_ok=True)
                raise UploadBroken(f"{name} must be sent anew: {error}") from None
            raise

    async def _accept(self, upload: _Upload) -> bool:
        """Check an update that is whole and keep it, durably; False when another of its client's was there before."""
        update, partial, assembler, expected = upload.update, upload.partial, upload.assembler, upload.expected
        header = assembler.header
        assert header is not None
        _, moved = await asyncio.gather(in_thread(sync, partial), in_thread(_inspect, partial, expected))
        limit = expected.distance_limit
        if limit is not None and moved > limit:
            raise BadInput(
                f"it is {moved:.3g} from the broadcast (2-norm), at most {limit:.3g} is taken (federation.norm_limit)"
            )

        def keep() -> bool:
            # The file and its folder are on the disk before the ledger says so, and that before it is acknowledged.
            kept = self._folder.update(update.round, update.client, header.sha256.hex())
            os.replace(partial, kept)
            sync(kept.parent)
            fresh = self._ledger.accepted(
                round_=update.round,
                client=update.client,
                device=update.worker,
                examples=update.examples,
                loss=update.loss,
                sha256=header.sha256.hex(),
                step_ms=update.step_ms,
                micro_batch=update.micro_batch,
                distance=moved,
                after_s=expected.elapsed_s(),
                wire_bytes=assembler.wire_bytes,
                state_bytes=header.size,
            )
            upload.recorded = True
            return fresh

        if not expected.wanted():
            partial.unlink(missing_ok=True)
            raise _late(update)
        keeping = asyncio.get_running_loop().run_in_executor(None, keep)
        self._keeping.add(keeping)

        def kept(future: asyncio.Future[bool]) -> None:
            self._keeping.discard(future)
            error = future.exception()
            if isinstance(error, Exception):
                expected.failed(error)
            elif future.result():
                expected.accepted()

        keeping.add_done_callback(kept)
        return await to_its_end(keeping)


def _late(update: UpdateHeader) -> UpdateLate:
    return UpdateLate(f"update of client {update.client}: round {update.round} was closed while it came")


def _restore(assembler: Assembler, partial: Path) -> None:
    with partial.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            assembler.restore(data)


def _inspect(path: Path, expected: Expected) -> float:
    encoded = Encoded(path)
    broadcast = expected.broadcast
    check_update(encoded, wire=expected.wire, shapes=broadcast.shapes, reference_sha256=broadcast.sha256)
    return distance(encoded, broadcast.reference)


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    try:
        return await asyncio.wait_for(chunks.__anext__(), IDLE_LIMIT_S)
    except StopAsyncIteration:
        return None
    except asyncio.TimeoutError:
        raise UploadBroken(f"the upload brought nothing for {IDLE_LIMIT_S:g} s") from None
