"""Simulated workers, many in one process: they speak the real protocol over connections of their own and train nothing.

    python -m tests.doubles.simulated_workers HOST:PORT FIRST COUNT

For benchmarks.scale, which holds the other end of stdin and stdout. They say `ready`, and connect at the next line in;
`connected` when all are welcomed and have their orders, and at the next line they are prepared; at the run's end, as
JSON, the heartbeats' round trips and when each round's first order came.

Each has a control stream and a data channel, downloads, checks and uploads whole states, and sends the reports of a
real worker. What it uploads is the broadcast moved by a constant, made once a round for all of a process's workers.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence

import grpc
import numpy as np

from federa.errors import FederaError
from federa.tensors.state import pack, unpack
from federa.versions import versions
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, HEARTBEAT_S, PROTOCOL, client_options, raise_file_limit
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.streams import Assembler, data_chunks, header_of

PROBE_S = 0.05
"""The first worker of a process beats so often, in place of every 5 s: a short run has a figure, too."""

STATE_LIMIT_BYTES = 1 << 30


class SimulatedWorkers:
    """The workers of one process, and what they share."""

    def __init__(self, address: str, first: int, count: int) -> None:
        self.address = address
        self.round_trips_s: list[float] = []
        """Seconds to the answer of every heartbeat since `go`."""
        self.rounds_began: dict[int, float] = {}
        """When the first order of a round came, in time.monotonic(), which all processes of a Linux machine share."""
        self.go = asyncio.Event()
        self.versions = versions()
        self._workers = [
            SimulatedWorker(self, f"worker-{first + index:05}", HEARTBEAT_S if index else PROBE_S)
            for index in range(count)
        ]
        self._update: tuple[int, bytes] = (0, b"")

    async def run(self) -> None:
        """Connect all, say so, wait for the word, and serve until the run is over. Raises FederaError when a worker's
        stream or a transfer of its fails."""
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        serving = [asyncio.ensure_future(worker.run()) for worker in self._workers]
        try:
            await self._all_ordered(serving)
            print("connected", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            self.go.set()
            await asyncio.gather(*serving)
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    async def _all_ordered(self, serving: Sequence[asyncio.Future[None]]) -> None:
        async def ordered() -> None:
            for worker in self._workers:
                await worker.ordered.wait()

        waiting = asyncio.ensure_future(ordered())
        await asyncio.wait([waiting, *serving], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in serving:
            if task.done():
                task.result()

    def update_of(self, round_: int, state: bytes) -> bytes:
        """What a client makes of that round's state."""
        if self._update[0] != round_:
            moved = {name: value + np.float32(1 / (7 * round_)) for name, value in unpack(state).items()}
            self._update = (round_, pack(moved))
        return self._update[1]


class SimulatedWorker:
    """One worker: `run` it until its run is over. `ordered` is set when it has been welcomed and told to prepare."""

    def __init__(self, workers: SimulatedWorkers, name: str, heartbeat_s: float) -> None:
        self.ordered = asyncio.Event()
        self._workers = workers
        self._name = name
        self._key = secrets.token_hex(16)
        self._heartbeat_s = heartbeat_s
        self._waiting: asyncio.Queue[pb.WorkerMessage] = asyncio.Queue()
        self._sent_at: dict[int, float] = {}
        self._prepare = pb.Prepare()
        self._installed = False
        self._epoch = secrets.randbits(64)
        self._batches = 0

    async def run(self) -> None:
        """Raises FederaError with the reason when the stream or a transfer fails."""
        options = client_options()
        tasks: set[asyncio.Task[None]] = set()
        released = False
        async with (
            grpc.aio.insecure_channel(self._workers.address, options=options) as control,
            grpc.aio.insecure_channel(self._workers.address, options=options) as data,
        ):
            self._data = WorkerServiceStub(data)
            admitted = asyncio.Event()
            call = WorkerServiceStub(control).Control(self._outgoing(admitted))
            try:
                if ADMITTED in dict(await call.initial_metadata() or ()):
                    admitted.set()
                async for message in call:
                    for task in [task for task in tasks if task.done()]:
                        tasks.discard(task)
                        task.result()
                    match message.WhichOneof("message"):
                        case "welcome":
                            tasks.add(asyncio.ensure_future(self._beat()))
                        case "heartbeat":
                            self._answered(message.heartbeat.sequence)
                        case "prepare":
                            self._prepare = message.prepare
                            self.ordered.set()
                            tasks.add(asyncio.ensure_future(self._send_prepared()))
                        case "train":
                            self._workers.rounds_began.setdefault(message.train.round, time.monotonic())
                            tasks.add(asyncio.ensure_future(self._train(message.train)))
                        case "release":
                            released = True
                            self._send(pb.WorkerMessage(released=pb.Released(run_id=message.release.run_id)))
                if not released:
                    raise FederaError(f"{self._name}: the coordinator ended the stream")
            except grpc.aio.AioRpcError as error:
                if not released:
                    raise FederaError(f"{self._name}: {error.code().name}: {error.details()}") from None
            finally:
                for task in tasks:
                    task.cancel()

    async def _outgoing(self, admitted: asyncio.Event) -> AsyncIterator[pb.WorkerMessage]:
        await admitted.wait()
        hello = pb.Hello(
            protocol=PROTOCOL,
            name=self._name,
            key=self._key,
            versions=self._workers.versions,
            process=secrets.token_hex(16),
            connection=1,
        )
        hello.device.update(device="simulated", board="no board")
        yield pb.WorkerMessage(hello=hello)
        while True:
            yield await self._waiting.get()

    def _send(self, message: pb.WorkerMessage) -> None:
        self._waiting.put_nowait(message)

    # ---- heartbeats

    async def _beat(self) -> None:
        sequence = 0
        while True:
            sequence += 1
            self._sent_at[sequence] = time.perf_counter()
            self._send(pb.WorkerMessage(heartbeat=pb.Heartbeat(sequence=sequence)))
            await asyncio.sleep(self._heartbeat_s)

    def _answered(self, sequence: int) -> None:
        round_trip_s = time.perf_counter() - self._sent_at.pop(sequence)
        if self._workers.go.is_set():
            self._workers.round_trips_s.append(round_trip_s)

    # ---- the work

    async def _send_prepared(self) -> None:
        await self._workers.go.wait()
        order = self._prepare
        examples = {shard.client: len(shard.indices) for shard in order.shards}
        prepared = pb.Prepared(run_id=order.run_id, precision="fp32", device="simulated", examples=examples)
        self._send(pb.WorkerMessage(prepared=prepared))

    async def _train(self, order: pb.Train) -> None:
        client = order.clients[0]
        self._activity(order, client, "download")
        state = await self._download(order.run_id, order.state_sha256)
        if not self._installed and order.state_sha256 != self._prepare.start_sha256:
            await self._download(order.run_id, self._prepare.start_sha256)
        self._installed = True
        self._activity(order, client, "load")
        for client in order.clients:
            self._activity(order, client, "train")
            self._activity(order, client, "upload")
            await self._upload(order, client, self._workers.update_of(order.round, state))
        self._activity(order, client, "idle")
        self._send_telemetry(order)

    async def _download(self, run_id: str, sha256: bytes) -> bytes:
        blob = io.BytesIO()
        assembler = Assembler(blob.write, size_limit=STATE_LIMIT_BYTES)
        request = pb.DownloadRequest(run_id=run_id, sha256=sha256, worker=self._name, key=self._key)
        async for chunk in self._data.Download(request):
            assembler.feed(chunk)
        assembler.finish()
        return blob.getvalue()

    async def _upload(self, order: pb.Train, client: int, blob: bytes) -> None:
        (shard,) = (shard for shard in self._prepare.shards if shard.client == client)
        update = pb.UpdateHeader(
            run_id=order.run_id,
            round=order.round,
            client=client,
            worker=self._name,
            key=self._key,
            examples=len(shard.indices),
            loss=1.0,
            step_ms=[1.0] * 4,
        )
        wanted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def chunks() -> AsyncIterator[pb.Chunk]:
            yield header_of(blob, update)
            for chunk in data_chunks(blob, await wanted):
                yield chunk

        call = self._data.Upload(chunks())
        metadata = dict(await call.initial_metadata() or ())
        if ADMITTED in metadata:
            wanted.set_result(int(metadata[ADMITTED]))
        await call

    # ---- reports

    def _send_telemetry(self, order: pb.Train) -> None:
        """Report a whole order at once: as many batches as a worker has whose rounds are short."""
        self._batches += 1
        telemetry = pb.Telemetry(run_id=order.run_id, epoch=self._epoch, sequence=self._batches)
        telemetry.phases.add(round=order.round, phase="idle", seconds=0.001)
        telemetry.phases.add(round=order.round, client=order.clients[0], phase="download", seconds=0.001)
        for client in order.clients:
            for phase in ("load", "train", "upload"):
                telemetry.phases.add(round=order.round, client=client, phase=phase, seconds=0.001)
        self._send(pb.WorkerMessage(telemetry=telemetry))

    def _activity(self, order: pb.Train, client: int, phase: str) -> None:
        now = pb.Activity(run_id=order.run_id, round=order.round, client=client, phase=phase)
        self._send(pb.WorkerMessage(activity=now))


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    address, first, count = arguments
    raise_file_limit()

    async def work() -> dict[str, object]:
        workers = SimulatedWorkers(address, int(first), int(count))
        await workers.run()
        return {"round_trips_s": workers.round_trips_s, "rounds_began": workers.rounds_began}

    try:
        print(json.dumps(asyncio.run(work())), flush=True)
    except FederaError as error:
        print(f"tests.doubles.simulated_workers: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
