"""A coordinator in this process, over a real connection, with a worker and an operator that are driven by hand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools

import grpc
import numpy as np
import pytest

from coordinator.service.server import Coordinator
from edge.worker.transfer import Link, Upload
from federa.config import Experiment, Federation, Target
from federa.tensors.state import pack, unpack
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, PROTOCOL, dial
from protos.federation_pb2_grpc import OperatorServiceStub, WorkerServiceStub
from protos.streams import Assembler, header_of
from tests.doubles.noop import NoopReferenceModel, equal_shapes, start_state, trained_state

PATIENCE_S = 20.0
Status = grpc.StatusCode


def experiment(target=0.9, wire="fp32", seed=0, **federation):
    """One device that hosts three clients, all of which train in the only round."""
    federation = {"devices": 1, "clients": 3, "clients_per_round": 3, "rounds": 1, **federation}
    return Experiment(federation=Federation(**federation), target=Target(value=target), wire=wire, seed=seed)


def averaged(rounds, clients, tensors=4, values=16):
    """The state that so many rounds of these clients end with: FedAvg, written down once more, in ten lines."""
    state = start_state(equal_shapes(tensors, values))
    for round_ in range(1, rounds + 1):
        trained = {client: trained_state(state, round_, client) for client in clients}
        examples = {client: client + 1 for client in clients}
        for name in state:
            total = sum(trained[client][name].astype(np.float64) * examples[client] for client in clients)
            state[name] = (total / sum(examples.values())).astype(np.float32)
    return pack(state)


def key_of(name):
    """A worker's key, always the same."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


_connections = itertools.count(1)


def hello(**changes):
    """Of a process that every name has, on its next stream."""
    name = changes.get("name", "ada")
    known = {"protocol": PROTOCOL, "name": name, "key": key_of(name), "process": key_of(f"the process of {name}")}
    return pb.WorkerMessage(hello=pb.Hello(**{**known, "connection": next(_connections), **changes}))


async def iter_async(things):
    for thing in things:
        yield thing


@contextlib.asynccontextmanager
async def refused(status, *words):
    """The block must be answered with that status, in one line that has these words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is status, caught.value
    for word in words:
        assert word in caught.value.details()
    assert "\n" not in caught.value.details()


def serving(
    path,
    scenario,
    *,
    experiment=None,
    make_model=NoopReferenceModel,
    patience_s=PATIENCE_S,
    credentials=None,
    shown=None,
):
    """Run `scenario(live)` against a coordinator that serves what `path` holds, and `experiment` if there is one. With
    `credentials` it demands certificates, and is called with those that are `shown`."""

    async def run():
        coordinator = Coordinator(path, make_model)
        coordinator.recover()
        server, address = await coordinator.serve("127.0.0.1:0", credentials)
        working = asyncio.ensure_future(coordinator.work())
        async with dial(address, shown) as channel:
            live = LiveCoordinator(address, channel, coordinator)
            if experiment is not None:
                live.experiment_id = (await coordinator.submit(experiment)).experiment_id
            try:
                playing = asyncio.ensure_future(asyncio.wait_for(scenario(live), patience_s))
                done, _ = await asyncio.wait({playing, working}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                assert playing in done, "the coordinator stopped working"
            finally:
                playing.cancel()
                # A run under way writes its result before its folder goes.
                if coordinator.stop():
                    await asyncio.wait([working], timeout=5)
                working.cancel()
                coordinator.sessions.close()
                await server.stop(grace=0)

    asyncio.run(run())


class LiveCoordinator:
    """What a scenario works with. `coordinator` is None where that is another process."""

    def __init__(self, address, channel, coordinator=None):
        self.coordinator = coordinator
        self.address = address
        self.federation = WorkerServiceStub(channel)
        self.operation = OperatorServiceStub(channel)
        self.experiment_id = ""

    @property
    def run(self):
        return self.coordinator.run()

    async def worker(self, name="ada", **facts):
        """A worker that has said hello and was welcomed."""
        worker = HandWorker(self, name)
        await worker.call.write(hello(name=name, **facts))
        await worker.receive("welcome")
        return worker

    async def training(self, name="ada", **facts):
        """A worker with its orders of a round."""
        worker = await self.worker(name, **facts)
        await worker.get_ready()
        return worker

    async def fetch(self, path, experiment_id=None):
        blob = bytearray()
        assembler = Assembler(blob.extend, size_limit=64 << 20)
        request = pb.FetchRequest(experiment_id=experiment_id or self.experiment_id, path=path)
        async for chunk in self.operation.Fetch(request):
            assembler.feed(chunk)
        assembler.finish()
        return bytes(blob)

    async def submit(self, experiment, experiment_id=""):
        request = pb.SubmitRequest(
            experiment_json=experiment.model_dump_json(), protocol=PROTOCOL, experiment_id=experiment_id
        )
        return (await self.operation.Submit(request)).experiment_id

    async def watch(self, experiment_id=None):
        """Snapshots until the end."""
        request = pb.WatchRequest(experiment_id=experiment_id or self.experiment_id)
        async for snapshot in self.operation.Watch(request):
            yield snapshot

    async def until(self, true, experiment_id=None):
        """The first snapshot of which that is true."""
        async for snapshot in self.watch(experiment_id):
            if true(snapshot):
                return snapshot
        raise AssertionError(f"it ended before: {snapshot}")

    async def end(self, experiment_id=None):
        """The last snapshot."""
        return await self.until(lambda snapshot: snapshot.over, experiment_id)


class HandWorker:
    """One control stream, a message at a time."""

    def __init__(self, live, name):
        self.live = live
        self.name = name
        self.key = key_of(name)
        self.call = live.federation.Control()

    async def send(self, **message):
        await self.call.write(pb.WorkerMessage(**message))

    async def receive(self, kind):
        """The next message, which must be of that kind. A worker that joins while a run gets ready may be told to
        prepare by both, so a second Prepare is passed over, as the real worker does; so is a Wait."""
        while True:
            message = await self.call.read()
            assert message is not grpc.aio.EOF, f"the stream ended before {kind}: {await self.call.details()}"
            if message.WhichOneof("message") == kind or message.WhichOneof("message") not in ("prepare", "wait"):
                break
        assert message.WhichOneof("message") == kind, message
        return getattr(message, kind)

    async def prepared(self):
        """Wait for the order to prepare, and say that it is done."""
        self.prepare = await self.receive("prepare")
        examples = {shard.client: len(shard.indices) for shard in self.prepare.shards}
        message = pb.Prepared(run_id=self.prepare.run_id, device="hand", precision="fp32", examples=examples)
        await self.send(prepared=message)

    async def get_ready(self):
        """The same, up to a round's order and state."""
        await self.prepared()
        self.train = await self.receive("train")
        self.state = await self.download(self.train.state_sha256)

    async def download(self, sha256, **changes):
        blob = bytearray()
        assembler = Assembler(blob.extend, size_limit=64 << 20)
        asked = {"run_id": self.train.run_id, "sha256": sha256, "worker": self.name, "key": self.key, **changes}
        async for chunk in self.live.federation.Download(pb.DownloadRequest(**asked)):
            assembler.feed(chunk)
        assert assembler.finish().sha256 == sha256
        return bytes(blob)

    def trained(self, client):
        """An honest update of the state that the last order named."""
        return pack(trained_state(unpack(self.state), self.train.round, client))

    def header(self, client, **changes):
        known = {"run_id": self.train.run_id, "round": self.train.round, "worker": self.name, "key": self.key}
        return pb.UpdateHeader(client=client, **{**known, "examples": client + 1, "loss": 0.5, **changes})

    async def upload(self, client, blob=None, **changes):
        """Send an update of this round, as the real worker does."""
        blob = self.trained(client) if blob is None else blob
        return await Upload(self.live.federation, blob, self.header(client, **changes), Link(None)).attempt()

    async def begin(self, client, blob=None, **changes):
        """The call of an upload of which nothing but the header was sent, and the byte that it is to go on from."""
        blob = self.trained(client) if blob is None else blob
        call = self.live.federation.Upload()
        await call.write(header_of(blob, self.header(client, **changes)))
        metadata = dict(tuple(entry) for entry in await call.initial_metadata())
        return call, int(metadata[ADMITTED])

    async def released(self):
        """Wait for the run's end, and let it go."""
        release = await self.receive("release")
        await self.send(released=pb.Released(run_id=release.run_id))
        return release
