"""The gRPC side of the coordinator: control streams, transfers, and an operator's calls."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from coordinator.campaign import Campaign, LearnerFactory
from coordinator.desk import NotYet, Stranger
from coordinator.intake import Broken, Late, Refused
from coordinator.learner import ModelLearner
from coordinator.record import Record, new_record, read_record
from coordinator.run import Run
from coordinator.sessions import NameTaken, Session, Sessions
from federa.config import Experiment, parse_json
from federa.errors import BadInput, FederaError
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, HEARTBEAT_S, PROTOCOL, server_options, valid_key, valid_name
from protos.federation_pb2_grpc import (
    FederationServicer,
    OperationServicer,
    add_FederationServicer_to_server,
    add_OperationServicer_to_server,
)
from protos.streams import CHUNK_BYTES, header_chunk, wire_size

log = logging.getLogger("federa.coordinator")

HELLO_WAIT_S = 10.0
MOST_SILENT = 1_000
"""Calls that may wait for their first message at a time: peers that say nothing must not fill the memory."""
SILENCE_S = 8 * HEARTBEAT_S
"""A worker that sends nothing for so long is taken for gone."""
MOST_QUEUED = 100
MOST_WORDS_BYTES = 64 << 10
"""Of an experiment, and of a hello without its list of clients."""
_REFUSALS = {
    Stranger: grpc.StatusCode.PERMISSION_DENIED,
    NotYet: grpc.StatusCode.UNAVAILABLE,
    Broken: grpc.StatusCode.ABORTED,
    # After the first of these the worker goes on without that update, and so does the round; the second counts.
    Late: grpc.StatusCode.FAILED_PRECONDITION,
    Refused: grpc.StatusCode.INVALID_ARGUMENT,
}
"""What an upload or a download is told. Of any other error of ours it is told UNAVAILABLE: the run has stopped, and
goes on when it is started again."""
Context = Any  # grpc.aio.ServicerContext, which has no type parameters at run time


class Coordinator:
    """Everything that one process serves: workers, and experiments one after the other."""

    def __init__(self, path: Path, make_learner: LearnerFactory = ModelLearner) -> None:
        self.path = path
        self.sessions = Sessions()
        self.campaigns: dict[str, Campaign] = {}
        self.current: Campaign | None = None
        self.stopping = False
        self._make_learner = make_learner
        self._queue: asyncio.Queue[Campaign] = asyncio.Queue()

    def recover(self) -> None:
        """Take up what an earlier process served from this folder: what it left unfinished is queued again, in the
        order in which it was submitted, and what is over can be asked for. Raises BadInput for what cannot be read."""
        if read_record(self.path) is not None:
            raise BadInput(f"--out: {self.path} holds one experiment, not those of a coordinator that serves")
        found = [(record, path) for path in self.path.iterdir() if path.is_dir() and (record := read_record(path))]
        for record, path in sorted(found, key=lambda entry: entry[0].submitted_at):
            self.queue(record, path)

    def queue(self, record: Record, path: Path) -> Campaign:
        """Take an experiment in, with `path` as its folder. One that is over is not run again."""
        campaign = Campaign(record, path, self.sessions, self._make_learner)
        self.campaigns[record.experiment_id] = campaign
        if not campaign.over:
            self._queue.put_nowait(campaign)
        return campaign

    def submit(self, experiment: Experiment, experiment_id: str = "") -> Campaign:
        """Take a new experiment in, or the one of that id again: it goes on where it is, also where it had failed or
        been ended early. Raises BadInput for an id that belongs to another experiment."""
        known = self.campaigns.get(experiment_id)
        if known is not None:
            if known.experiment != experiment:
                raise BadInput(
                    f"experiment {experiment_id} is another one here; submit this one under an id of its own"
                )
            if known.finished or not known.over:
                return known
        if self._queue.qsize() >= MOST_QUEUED:
            raise BadInput(f"{MOST_QUEUED} experiments are waiting already; wait for one to end")
        record = new_record(experiment, experiment_id)
        folder = self.path / record.experiment_id
        folder.mkdir(parents=True, exist_ok=True)
        record.write(folder)
        return self.queue(record, folder)

    async def work(self) -> None:
        """Run what is queued, one after the other, until `stop`."""
        while not self.stopping:
            await self.work_once()

    async def work_once(self) -> pb.Outcome:
        """Run the next experiment of the queue."""
        self.current = await self._queue.get()
        try:
            return await self.current.execute()
        finally:
            self.current = None

    def stop(self) -> bool:
        """Start nothing more and end what is under way, its result kept. False when there was nothing."""
        self.stopping = True
        if self.current is None:
            return False
        self.current.cancel(shut_down=True)
        return True

    def run(self, run_id: str | None = None) -> Run | None:
        """The run under way, when it has that id or any is meant."""
        run = self.current.run if self.current else None
        return run if run is not None and not run.over and run_id in (None, run.run_id) else None

    def expects(self, run_id: str) -> bool:
        """Whether a run of that id will be under way again, or for the first time."""
        return any(campaign.expects(run_id) for campaign in self.campaigns.values())

    async def serve(self, address: str) -> tuple[grpc.aio.Server, str]:
        """Start listening; returns the server and the address with the port that was taken. Raises BadInput."""
        server = grpc.aio.server(options=server_options())
        add_FederationServicer_to_server(FederationService(self), server)
        add_OperationServicer_to_server(OperationService(self), server)
        host, colon, port = address.rpartition(":")
        if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise BadInput(f"--listen: must be HOST:PORT with a port from 0 to 65535, not {address!r}")
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise BadInput(
                f"--listen: cannot listen on {address}: the port is in use or the address is not this host's"
            )
        await server.start()
        return server, f"{host}:{bound}"


class FederationService(FederationServicer):
    """What workers call."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._silent = 0

    async def Control(self, requests: AsyncIterator[pb.WorkerMessage], context: Context) -> AsyncIterator[Any]:
        await context.send_initial_metadata(((ADMITTED, "0"),))
        session = await self._admit(requests, context)
        yield pb.CoordinatorMessage(welcome=pb.Welcome(versions=versions()))
        log.info("worker %s joined", session.name)
        run = self._coordinator.run()
        if run is not None:
            run.crew.joined(session)
        reader = asyncio.ensure_future(self._read(session, requests))
        try:
            async for message in session.outgoing():
                yield message
        finally:
            reader.cancel()
            if self._coordinator.sessions.leave(session):
                log.info("worker %s left", session.name)
                run = self._coordinator.run()
                if run is not None:
                    run.crew.left(session.name)

    async def _admit(self, requests: AsyncIterator[pb.WorkerMessage], context: Context) -> Session:
        first = await self._first(requests, context, "a control stream must begin with a hello")
        if first.WhichOneof("message") != "hello" or not valid_name(first.hello.name):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "the first message must be a hello with a name of 1 to 100 printable characters",
            )
        hello = first.hello
        if hello.ByteSize() - 5 * len(hello.clients) > MOST_WORDS_BYTES:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a hello must have at most {MOST_WORDS_BYTES} bytes")
        if not valid_key(hello.key):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a hello must carry the worker's key, 32 hex digits")
        if hello.protocol != PROTOCOL:
            ours = versions()["federa"]
            theirs = hello.versions.get("federa", "unknown")
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"worker {hello.name} speaks protocol {hello.protocol} (federa {theirs}), "
                f"the coordinator {PROTOCOL} (federa {ours}): install the same federa on both",
            )
        try:
            return self._coordinator.sessions.join(hello)
        except NameTaken as error:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, str(error))
            raise  # abort raises already

    async def _read(self, session: Session, requests: AsyncIterator[pb.WorkerMessage]) -> None:
        try:
            while not session.closed:
                message = await asyncio.wait_for(requests.__anext__(), SILENCE_S)
                session.received(message)
                kind = message.WhichOneof("message")
                if kind == "heartbeat":
                    session.send(pb.CoordinatorMessage(heartbeat=pb.Heartbeat(sequence=message.heartbeat.sequence)))
                elif kind is not None and kind != "hello":
                    run = self._coordinator.run(getattr(message, kind).run_id)
                    if run is not None:
                        run.crew.heard(session, message)
        except StopAsyncIteration:
            pass
        except asyncio.TimeoutError:
            log.warning("worker %s has been silent for %g s, its stream is ended", session.name, SILENCE_S)
        except Exception:
            log.exception("the control stream of %s broke", session.name)
        finally:
            session.close()

    async def Download(self, request: pb.DownloadRequest, context: Context) -> AsyncIterator[pb.Chunk]:
        run = await self._run(request.run_id, context)
        try:
            path = run.desk.state(request)
        except FederaError as error:
            await self._refuse(error, context)
            raise
        digest = request.sha256.hex()
        if path is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"run {request.run_id} has no state {digest[:12]} now")
            return
        wire_bytes = size = 0
        whole = False
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                if request.offset > size:
                    await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"state {digest[:12]} has {size} bytes")
                file.seek(request.offset)
                chunk = header_chunk(size, request.sha256)
                while True:
                    wire_bytes += wire_size(chunk)
                    yield chunk
                    data = await asyncio.to_thread(file.read, CHUNK_BYTES)
                    if not data:
                        break
                    chunk = pb.Chunk(data=data)
            whole = True
        finally:
            run.desk.sent(request.worker, wire_bytes, size if whole else 0)

    async def Upload(self, chunks: AsyncIterator[pb.Chunk], context: Context) -> pb.UploadReply:
        wants = "an upload must begin with a header for an update"
        first = await self._first(chunks, context, wants)
        if first.WhichOneof("part") != "header" or not first.header.HasField("update"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wants)
        run = await self._run(first.header.update.run_id, context)

        async def admit(offset: int) -> None:
            await context.send_initial_metadata(((ADMITTED, str(offset)),))

        try:
            return await run.desk.upload(first, chunks, admit)
        except FederaError as error:
            await self._refuse(error, context)
            raise

    async def _run(self, run_id: str, context: Context) -> Run:
        run = self._coordinator.run(run_id)
        if run is None:
            if self._coordinator.expects(run_id):
                await context.abort(grpc.StatusCode.UNAVAILABLE, f"run {run_id} is not under way yet")
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"run {run_id} is not under way")
        assert run is not None
        return run

    async def _refuse(self, error: FederaError, context: Context) -> None:
        log.warning("refused: %s", error)
        await context.abort(_REFUSALS.get(type(error), grpc.StatusCode.UNAVAILABLE), str(error))

    async def _first(self, messages: AsyncIterator[Any], context: Context, wants: str) -> Any:
        if self._silent >= MOST_SILENT:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls wait for their first message")
        self._silent += 1
        try:
            return await asyncio.wait_for(messages.__anext__(), HELLO_WAIT_S)
        except asyncio.TimeoutError:
            # Not a refusal: an honest worker's link may have been cut just here, and it tries again.
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"{wants}; nothing came for {HELLO_WAIT_S:g} s")
        except StopAsyncIteration:
            await context.abort(grpc.StatusCode.ABORTED, f"{wants}; nothing came")
        finally:
            self._silent -= 1


class OperationService(OperationServicer):
    """What an operator calls."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitReply:
        if request.protocol != PROTOCOL:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"federa-bench speaks protocol {request.protocol}, the coordinator {PROTOCOL} "
                f"(federa {versions()['federa']}): install the same federa on both",
            )
        try:
            if len(request.experiment_json) > MOST_WORDS_BYTES:
                raise BadInput(f"experiment_json: must have at most {MOST_WORDS_BYTES} bytes")
            if request.experiment_id and not re.fullmatch("[0-9a-f]{1,32}", request.experiment_id):
                raise BadInput("experiment_id: must be up to 32 hex digits, or empty")
            campaign = self._coordinator.submit(parse_json(request.experiment_json), request.experiment_id)
        except BadInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        return pb.SubmitReply(experiment_id=campaign.experiment_id)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.Progress]:
        campaign = await self._campaign(request.experiment_id, context)
        async for snapshot in campaign.board.watch():
            yield snapshot

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelReply:
        (await self._campaign(request.experiment_id, context)).cancel()
        return pb.CancelReply()

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> AsyncIterator[pb.Chunk]:
        campaign = await self._campaign(request.experiment_id, context)
        if request.path not in campaign.board.snapshot().files:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the experiment has no file {request.path!r}")
        path = campaign.path / request.path
        digest = await asyncio.to_thread(file_digest, path)
        yield header_chunk(path.stat().st_size, digest)
        with path.open("rb") as file:
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield pb.Chunk(data=data)

    async def _campaign(self, experiment_id: str, context: Context) -> Campaign:
        campaign = self._coordinator.campaigns.get(experiment_id)
        if campaign is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no experiment {experiment_id!r} here")
        assert campaign is not None
        return campaign


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            sha.update(data)
    return sha.digest()
