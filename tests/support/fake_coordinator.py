"""One coordinator that says what a test tells it to, over real gRPC, with a worker that runs against it."""

from __future__ import annotations

import asyncio
import hashlib

import grpc

from edge.worker.worker import Worker
from federa.config import Experiment
from federa.tensors.state import pack
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, server_options
from protos.federation_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server
from protos.streams import Assembler, data_chunks, header_chunk
from tests.doubles.noop import BASE_DIGEST, NoopRuntime, equal_shapes, start_state

PATIENCE_S = 20.0
KEY = "0123456789abcdef" * 2
START = pack(start_state(equal_shapes(2, 8)))
SHA = hashlib.sha256(START).digest()


class FakeCoordinator(WorkerServiceServicer):
    """`script(hear, say, number)` is its side of a control stream, `number` counts from 1. Uploads that break off are
    kept, and go on where they were.

    `refuse_downloads` and `refuse_uploads` have a status for each of the next calls, None to take it. A number in
    `break_downloads` or `break_uploads` breaks the next call after so many of its data chunks.
    """

    def __init__(self, script=None):
        self.script = script
        self.streams = 0
        self.hellos = []
        self.states = {SHA: START}
        self.updates = []
        self.partials = {}
        self.offsets = []
        """The byte that each upload was asked to go on from."""
        self.bytes_up = 0
        self.bytes_down = 0
        self.downloads = []
        self.uploads = []
        self.refuse_uploads = []
        self.refuse_downloads = []
        self.break_downloads = []
        self.break_uploads = []
        self.downloads_go_on = asyncio.Event()
        self.uploads_go_on = asyncio.Event()
        """Both cleared by a test that wants such transfers to stand still after their header."""
        self.downloads_go_on.set()
        self.uploads_go_on.set()
        self.answers_heartbeats = True
        self.tap = lambda message: None
        """Hears every message of the worker's, also those that the script passes over."""

    async def Control(self, requests, context):
        await context.send_initial_metadata(((ADMITTED, "0"),))
        self.streams += 1
        number = self.streams
        queue = asyncio.Queue()

        async def receive(*kinds):
            """The next message of one of these kinds."""
            while True:
                message = await requests.__anext__()
                kind = message.WhichOneof("message")
                self.tap(message)
                if kind == "heartbeat" and self.answers_heartbeats:
                    queue.put_nowait(pb.CoordinatorMessage(heartbeat=message.heartbeat))
                if kind in kinds:
                    return getattr(message, kind)

        async def play():
            try:
                self.hellos.append(await receive("hello"))
                queue.put_nowait(pb.CoordinatorMessage(welcome=pb.Welcome()))
                await self.script(receive, lambda **words: queue.put_nowait(pb.CoordinatorMessage(**words)), number)
            finally:
                queue.put_nowait(None)

        playing = asyncio.ensure_future(play())
        try:
            while (message := await queue.get()) is not None:
                yield message
            await playing
        finally:
            playing.cancel()

    async def Download(self, request, context):
        copy = pb.DownloadRequest()
        copy.CopyFrom(request)
        self.downloads.append(copy)
        if self.refuse_downloads and (status := self.refuse_downloads.pop(0)):
            await context.abort(status, "not now")
        most = self.break_downloads.pop(0) if self.break_downloads else None
        blob = self.states[request.sha256]
        yield header_chunk(len(blob), request.sha256)
        await self.downloads_go_on.wait()
        for number, chunk in enumerate(data_chunks(blob, request.offset)):
            if number == most:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the link breaks")
            self.bytes_down += len(chunk.data)
            yield chunk

    async def Upload(self, chunks, context):
        header = (await chunks.__anext__()).header
        self.uploads.append(header)
        if self.refuse_uploads and (status := self.refuse_uploads.pop(0)):
            await context.abort(status, "not now")
        most = self.break_uploads.pop(0) if self.break_uploads else None
        partial = self.partials.setdefault(header.sha256, bytearray())
        assembler = Assembler(partial.extend, size_limit=1 << 28)
        assembler.feed(pb.Chunk(header=header))
        assembler.restore(bytes(partial))
        self.offsets.append(len(partial))
        await context.send_initial_metadata(((ADMITTED, str(len(partial))),))
        await self.uploads_go_on.wait()
        number = 0
        async for chunk in chunks:
            if number == most:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the link breaks")
            self.bytes_up += len(chunk.data)
            assembler.feed(chunk)
            number += 1
        if len(partial) < header.size:
            # A link that breaks ends the chunks just as a client does.
            await context.abort(grpc.StatusCode.ABORTED, "it broke off")
        if hashlib.sha256(partial).digest() != header.sha256:
            del self.partials[header.sha256]
            await context.abort(grpc.StatusCode.DATA_LOSS, "what was here was not its beginning")
        self.updates.append((assembler.finish().update, bytes(partial)))
        return pb.UploadReply()

    async def start(self):
        """Serve on a port of this machine; returns server and address."""
        server = grpc.aio.server(options=server_options())
        add_WorkerServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, f"127.0.0.1:{port}"


def work(script, *, runtime=None, prepare=lambda fake: None, **options):
    """A worker against a fake coordinator until `script(hear, say, number, fake)` returns. Returns the coordinator; its
    `worker` is that worker."""

    async def run():
        done = asyncio.Event()

        async def play(receive, send, number):
            await script(receive, send, number, fake)
            done.set()
            await asyncio.Event().wait()

        fake = FakeCoordinator(play)
        prepare(fake)
        server, address = await fake.start()
        fake.worker = Worker(
            runtime=runtime or NoopRuntime(),
            address=address,
            name="ada",
            key=KEY,
            **{"give_up_after_s": 30.0, **options},
        )
        working = asyncio.ensure_future(fake.worker.run())
        waiting = asyncio.ensure_future(done.wait())
        try:
            finished, _ = await asyncio.wait(
                {working, waiting}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
            )
            if working in finished:
                working.result()
            assert finished, "nothing came of it"
        finally:
            for task in (working, waiting):
                task.cancel()
            await asyncio.wait({working, waiting})
            await server.stop(grace=0)
        return fake

    return asyncio.run(run())


def prepare_order(run_id="r1", clients=(0, 1), start=SHA, **experiment):
    shards = [pb.Shard(client=client, indices=range(client + 1)) for client in clients]
    return pb.Prepare(
        run_id=run_id, experiment_json=Experiment(**experiment).model_dump_json(), base_digest=BASE_DIGEST,
        start_sha256=start, shards=shards,
    )  # fmt: skip


def train_order(round_=1, clients=(0, 1), run_id="r1", state=SHA):
    return pb.Train(run_id=run_id, round=round_, state_sha256=state, clients=clients)


def updates_of(fake):
    return [(update.round, update.client) for update, _ in fake.updates]
