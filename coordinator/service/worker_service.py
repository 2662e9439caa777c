"""What workers call: their control streams, downloads and uploads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any, Protocol
from urllib.parse import unquote

import grpc

from coordinator.clients.errors import AuthError, RunNotReady, UpdateLate, UpdateRefused, UploadBroken
from coordinator.clients.sessions import KeyCopied, NameTaken, Session, Sessions
from coordinator.run_session import RunSession
from coordinator.service.auth import AuthInterceptor
from coordinator.service.file_stream import file_chunks
from federa.errors import FederaError, shown
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, HEARTBEAT_S, MAX_TEXT_BYTES, PROTOCOL, valid_key, valid_name
from protos.federation_pb2_grpc import WorkerServiceServicer
from protos.streams import wire_size

log = logging.getLogger("federa.coordinator")

HELLO_WAIT_S = 10.0
MAX_SILENT = 1_000
"""Calls that may wait for their first message at a time: peers that say nothing must not fill the memory."""
SILENCE_S = 8 * HEARTBEAT_S
"""A worker that sends nothing for so long is taken for gone."""
_REFUSALS = {
    AuthError: grpc.StatusCode.PERMISSION_DENIED,
    RunNotReady: grpc.StatusCode.UNAVAILABLE,
    UploadBroken: grpc.StatusCode.ABORTED,
    # After the first of these the worker goes on without that update, and so does the round; the second counts.
    UpdateLate: grpc.StatusCode.FAILED_PRECONDITION,
    UpdateRefused: grpc.StatusCode.INVALID_ARGUMENT,
}
"""The status that refuses an upload or a download. Any other error of ours is UNAVAILABLE: the run has stopped, and
goes on when it is started again."""
Context = Any  # grpc.aio.ServicerContext, which has no type parameters at run time


class Runs(Protocol):
    """The connected workers, and the runs that they can be for."""

    @property
    def sessions(self) -> Sessions: ...

    @property
    def auth(self) -> AuthInterceptor | None: ...

    def run(self, run_id: str | None = None) -> RunSession | None: ...

    def expects(self, run_id: str) -> bool: ...


class WorkerService(WorkerServiceServicer):
    """Answers what workers call."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._silent: OrderedDict[int, asyncio.Future[Any]] = OrderedDict()

    async def Control(self, requests: AsyncIterator[pb.WorkerMessage], context: Context) -> AsyncIterator[Any]:
        await context.send_initial_metadata(((ADMITTED, "0"),))
        session = await self._admit(requests, context)
        reader: asyncio.Future[None] | None = None
        # Nothing between the joining and this: a stream that breaks here must not leave its name behind.
        try:
            session.send(pb.CoordinatorMessage(welcome=pb.Welcome(versions=versions())))
            log.info("worker %s joined", session.name)
            run = self._runs.run()
            if run is not None:
                await run.clients.handler.joined(session)
            reader = asyncio.ensure_future(self._read(session, requests))
            async for message in session.outgoing():
                yield message
        finally:
            if reader is not None:
                reader.cancel()
            if self._runs.sessions.leave(session):
                log.info("worker %s left", session.name)
                run = self._runs.run()
                if run is not None:
                    run.clients.handler.left(session.name)

    async def _admit(self, requests: AsyncIterator[pb.WorkerMessage], context: Context) -> Session:
        first = await self._first(requests, context, "a control stream must begin with a hello")
        if first.WhichOneof("message") != "hello" or not valid_name(first.hello.name):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "the first message must be a hello with a name of 1 to 100 printable characters",
            )
        hello = first.hello
        if hello.ByteSize() - 5 * len(hello.clients) > MAX_TEXT_BYTES:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a hello must have at most {MAX_TEXT_BYTES} bytes")
        if not (valid_key(hello.key) and (valid_key(hello.process) or hello.protocol != PROTOCOL)):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "a hello must carry the worker's key and its process, 32 hex digits each",
            )
        if hello.protocol != PROTOCOL:
            ours = versions()["federa"]
            theirs = hello.versions.get("federa", "unknown")
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"worker {hello.name} speaks protocol {hello.protocol} (federa {theirs}), "
                f"the coordinator {PROTOCOL} (federa {ours}): install the same federa on both",
            )
        try:
            if self._runs.auth is not None:
                await self._runs.auth.vouch(context, hello.name, hello.key)
            return await self._runs.sessions.join(hello, _host_of(context))
        except NameTaken as error:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, str(error))
            raise  # abort raises already
        except KeyCopied as error:
            await self._tell_of_copy(hello, _host_of(context))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            raise

    async def _tell_of_copy(self, hello: pb.Hello, host: str) -> None:
        """Let log, display and report say that a worker was refused because its key is in use."""
        log.warning(
            "a second worker named %s with the same key, at %s, was refused: name and key are in use twice",
            hello.name,
            host,
        )
        run = self._runs.run()
        if run is not None:
            await run.clients.handler.key_copied(hello.name)

    async def _read(self, session: Session, requests: AsyncIterator[pb.WorkerMessage]) -> None:
        try:
            while not session.closed:
                message = await asyncio.wait_for(requests.__anext__(), SILENCE_S)
                session.received(message)
                kind = message.WhichOneof("message")
                if kind == "heartbeat":
                    session.send(pb.CoordinatorMessage(heartbeat=pb.Heartbeat(sequence=message.heartbeat.sequence)))
                elif kind == "ping":
                    session.answered(message.ping.number)
                elif kind is not None and kind != "hello":
                    run = self._runs.run(getattr(message, kind).run_id)
                    if run is not None:
                        run.clients.handler.received(session, message)
        except (StopAsyncIteration, grpc.aio.AbortError, grpc.aio.UsageError):
            pass  # the second from the auth interceptor; the third where the call was cut before it was read on
        except asyncio.TimeoutError:
            log.warning("worker %s has been silent for %g s, its stream is ended", session.name, SILENCE_S)
        except Exception:
            log.exception("the control stream of %s broke", session.name)
        finally:
            session.close()

    async def Download(self, request: pb.DownloadRequest, context: Context) -> AsyncIterator[pb.Chunk]:
        if self._runs.auth is not None:
            await self._runs.auth.vouch(context, request.worker, request.key)
        run = await self._run(request.run_id, context)
        try:
            path = run.clients.downloads.find(request)
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
            size = path.stat().st_size
            if request.offset > size:
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"the file {digest[:12]} has {size} bytes")
            async for chunk in file_chunks(path, request.sha256, request.offset):
                wire_bytes += wire_size(chunk)
                yield chunk
            whole = True
        finally:
            run.clients.downloads.count(request, wire_bytes, size if whole else 0)

    async def Upload(self, chunks: AsyncIterator[pb.Chunk], context: Context) -> pb.UploadReply:
        wants = "an upload must begin with a header for an update"
        first = await self._first(chunks, context, wants)
        if first.WhichOneof("part") != "header" or not first.header.HasField("update"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wants)
        update = first.header.update
        if self._runs.auth is not None:
            await self._runs.auth.vouch(context, update.worker, update.key)
        run = await self._run(update.run_id, context)

        async def admit(offset: int) -> None:
            await context.send_initial_metadata(((ADMITTED, str(offset)),))

        try:
            return await run.clients.receiver.receive(first, chunks, admit)
        except FederaError as error:
            await self._refuse(error, context)
            raise

    async def Greet(self, request: pb.GreetRequest, context: Context) -> pb.GreetReply:
        # Whatever the peer speaks: it asks in order to say what is wrong.
        return pb.GreetReply(protocol=PROTOCOL, versions=versions(), unix_s=time.time())

    async def _run(self, run_id: str, context: Context) -> RunSession:
        run = self._runs.run(run_id)
        if run is None:
            if self._runs.expects(run_id):
                await context.abort(grpc.StatusCode.UNAVAILABLE, f"run {run_id} is not under way yet")
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"run {run_id} is not under way")
        assert run is not None
        return run

    async def _refuse(self, error: FederaError, context: Context) -> None:
        log.warning("refused: %s", error)
        await context.abort(_REFUSALS.get(type(error), grpc.StatusCode.UNAVAILABLE), str(error))

    async def _first(self, messages: AsyncIterator[Any], context: Context, wants: str) -> Any:
        while len(self._silent) >= MAX_SILENT:
            # The one that has said nothing for longest: an honest peer speaks within milliseconds.
            self._silent.popitem(last=False)[1].cancel()
        waiting = asyncio.ensure_future(messages.__anext__())
        self._silent[id(waiting)] = waiting
        try:
            done, _ = await asyncio.wait([waiting], timeout=HELLO_WAIT_S)
            if done and not waiting.cancelled():
                return waiting.result()
        except StopAsyncIteration:
            await context.abort(grpc.StatusCode.ABORTED, f"{wants}; nothing came")
        finally:
            waiting.cancel()
            self._silent.pop(id(waiting), None)
        # Not a refusal: an honest worker's link may have been cut just here, and it tries again.
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"{wants}; nothing came for {HELLO_WAIT_S:g} s")


def _host_of(context: Context) -> str:
    """Where a call comes from, without its port: of ipv4:10.0.0.7:41234 it is 10.0.0.7."""
    _, _, address = unquote(context.peer()).partition(":")
    return shown(address.rpartition(":")[0], 60)
