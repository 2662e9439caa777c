"""The gRPC side of the coordinator: control streams, transfers, and an operator's calls."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from coordinator.campaign import Campaign, LearnerFactory
from coordinator.intake import Late, Refused
from coordinator.learner import ModelLearner
from coordinator.run import Run
from coordinator.sessions import NameTaken, Session, Sessions
from federa.config import Experiment, parse_json
from federa.errors import BadInput
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, HEARTBEAT_S, PROTOCOL, server_options, valid_name
from protos.federation_pb2_grpc import (
    FederationServicer,
    OperationServicer,
    add_FederationServicer_to_server,
    add_OperationServicer_to_server,
)
from protos.streams import CHUNK_BYTES, header_chunk

log = logging.getLogger("federa.coordinator")

HELLO_WAIT_S = 10.0
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

    def queue(self, experiment: Experiment, path: Path | None = None) -> Campaign:
        """Take an experiment in. Its folder is `path`, or one named by its id below the coordinator's."""
        experiment_id = uuid.uuid4().hex[:12]
        folder = path or self.path / experiment_id
        campaign = Campaign(experiment_id, experiment, folder, self.sessions, self._make_learner)
        self.campaigns[experiment_id] = campaign
        self._queue.put_nowait(campaign)
        return campaign

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
        self.current.cancel()
        return True

    def run(self, run_id: str | None = None) -> Run | None:
        """The run under way, when it has that id or any is meant."""
        run = self.current.run if self.current else None
        return run if run is not None and not run.over and run_id in (None, run.run_id) else None

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

    async def Control(self, requests: AsyncIterator[pb.WorkerMessage], context: Context) -> AsyncIterator[Any]:
        await context.send_initial_metadata((ADMITTED,))
        session = await self._admit(requests, context)
        yield pb.CoordinatorMessage(welcome=pb.Welcome(heartbeat_s=HEARTBEAT_S, versions=versions()))
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
        try:
            first = await asyncio.wait_for(requests.__anext__(), HELLO_WAIT_S)
        except (asyncio.TimeoutError, StopAsyncIteration):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a control stream must begin with a hello")
        if first.WhichOneof("message") != "hello" or not valid_name(first.hello.name):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "the first message must be a hello with a name of 1 to 100 printable characters",
            )
        hello = first.hello
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
            async for message in requests:
                session.received(message)
                kind = message.WhichOneof("message")
                if kind == "heartbeat":
                    session.send(pb.CoordinatorMessage(heartbeat=message.heartbeat))
                elif kind is not None and kind != "hello":
                    run = self._coordinator.run(getattr(message, kind).run_id)
                    if run is not None:
                        run.crew.heard(session, message)
        except Exception:
            log.exception("the control stream of %s broke", session.name)
        finally:
            session.close()

    async def Download(self, request: pb.DownloadRequest, context: Context) -> AsyncIterator[pb.Chunk]:
        run = self._coordinator.run(request.run_id)
        digest = request.sha256.hex()
        if run is None or not run.state_to_send(digest):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"run {request.run_id} has no state {digest[:12]}")
            return
        path = run.folder.state(digest)
        wire_bytes = 0
        with path.open("rb") as file:
            size = path.stat().st_size
            chunk = header_chunk(size, request.sha256)
            while True:
                wire_bytes += chunk.ByteSize()
                yield chunk
                data = await asyncio.to_thread(file.read, CHUNK_BYTES)
                if not data:
                    break
                chunk = pb.Chunk(data=data)
        run.sent(request.worker, wire_bytes, size)

    async def Upload(self, chunks: AsyncIterator[pb.Chunk], context: Context) -> pb.UploadReply:
        try:
            first = await chunks.__anext__()
        except StopAsyncIteration:
            first = pb.Chunk()
        if first.WhichOneof("part") != "header" or not first.header.HasField("update"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an upload must begin with a header for an update")
        run = self._coordinator.run(first.header.update.run_id)
        if run is None:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"run {first.header.update.run_id} is not under way"
            )
        else:
            try:
                return await run.upload(first, chunks, lambda: context.send_initial_metadata((ADMITTED,)))
            except Refused as error:
                log.warning("refused: %s", error)
                # The worker goes on after the first and reports the second: without that update no round closes.
                late = isinstance(error, Late)
                status = grpc.StatusCode.FAILED_PRECONDITION if late else grpc.StatusCode.INVALID_ARGUMENT
                await context.abort(status, str(error))
        raise AssertionError("abort raises")


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
            experiment = parse_json(request.experiment_json)
        except BadInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        campaign = self._coordinator.queue(experiment)
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
