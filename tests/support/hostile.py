"""What hostile peers do, each by name: those that anybody on the network can do, and those of a worker of the run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import socket
import struct
import time
from enum import Enum, auto

import grpc
import numpy as np
import pytest
from live_coordinator import LiveCoordinator, Status, experiment, hello, refused
from processes import until

from federa.tensors.state import pack, unpack
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL, client_options
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.streams import header_chunk, header_of
from tests.doubles.noop import equal_shapes, start_state, trained_state

MEGABYTE = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Outsider(Enum):
    RANDOM_BYTES = auto()
    A_VALID_PREFIX_THEN_GARBAGE = auto()
    MESSAGES_THAT_ARE_NONE = auto()
    CONNECTIONS_THAT_SAY_NOTHING = auto()
    CONTROL_STREAMS_WITHOUT_A_HELLO = auto()
    A_HUGE_HELLO = auto()
    MANY_LARGE_HELLOS = auto()
    HEARTBEATS_WITHOUT_READING = auto()
    HEAVY_HEARTBEATS_WITHOUT_READING = auto()
    A_FLOOD_OF_EXPERIMENTS = auto()
    HUGE_EXPERIMENTS = auto()
    ANOTHER_WORKERS_NAME = auto()


class Insider(Enum):
    TEN_GIGABYTES_ANNOUNCED = auto()
    WRONG_SHAPES = auto()
    NAN = auto()
    INFINITE = auto()
    A_REPLAYED_UPDATE = auto()
    ANOTHER_ROUND = auto()
    ANOTHER_CLIENT = auto()
    ANOTHER_WORKER = auto()
    MORE_THAN_ANNOUNCED = auto()
    A_STREAM_THAT_NEVER_ENDS = auto()
    EMPTY_CHUNKS = auto()
    TELEMETRY_THAT_NO_METER_SAYS = auto()
    A_FLOOD_OF_TELEMETRY = auto()


# ---------------------------------------------------------------- outsiders: `live` and the coordinator's process


async def random_bytes(live, cluster):
    generator = random.Random(1)
    for _ in range(20):
        assert await _talk(live.address, generator.randbytes(1 << 16)) is not None


async def a_valid_prefix_then_garbage(live, cluster):
    settings = struct.pack(">I", 0)[1:] + b"\x04\x00" + bytes(4)
    generator = random.Random(2)
    for _ in range(20):
        # Its settings are answered: this is HTTP/2, until the garbage.
        assert await _talk(live.address, PREFACE + settings + generator.randbytes(1 << 14))


async def messages_that_are_none(live, cluster):
    for method in ("Upload", "Control"):
        for garbage in (b"\xff" * 100, os.urandom(1000), b"\x0a\xff\xff\xff\xff\x0f"):
            call = _raw(live, f"/federa.v1.WorkerService/{method}")()
            await call.write(garbage)
            assert await asyncio.wait_for(call.code(), 15) in (Status.INTERNAL, Status.INVALID_ARGUMENT, Status.UNKNOWN)


async def connections_that_say_nothing(live, cluster):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(10_000, hard - 500)
    host, _, port = live.address.rpartition(":")
    open_ = []
    try:
        for number in range(most):
            peer = socket.socket()
            # Closed by a reset: ten thousand ports in TIME_WAIT would be in everybody's way.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                peer.connect((host, int(port)))
            open_.append(peer)
            if number % 100 == 99:
                await asyncio.sleep(0.02)
        until_there = asyncio.get_running_loop().time() + 10
        while cluster.connections() < most and asyncio.get_running_loop().time() < until_there:
            await asyncio.sleep(0.2)
        print(f"{cluster.connections()} of {most} connections taken, {cluster.growth_bytes() / MEGABYTE:.0f} MiB more")
        assert cluster.connections() > most // 2
        # Somebody who has something to say is heard.
        async with refused(Status.NOT_FOUND, "no experiment 'x' here"):
            await live.operation.Cancel(pb.CancelRequest(experiment_id="x"), timeout=10)
    finally:
        for peer in open_:
            peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def control_streams_without_a_hello(live, cluster):
    async with contextlib.AsyncExitStack() as stack:
        calls = []
        for _ in range(11):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(live.address, options=client_options()))
            calls += [WorkerServiceStub(channel).Control() for _ in range(95)]
        codes = [asyncio.ensure_future(call.code()) for call in calls]
        # A thousand may wait; for each one beyond, the oldest is ended, so that an honest worker always gets in.
        beyond, since = len(calls) - 1000, time.monotonic()
        done, waiting = await asyncio.wait(codes, timeout=1)
        while len(done) < beyond and time.monotonic() < since + 8:  # before each has been silent for too long
            done, waiting = await asyncio.wait(codes, timeout=0.25)
        assert {code.result() for code in done} == {Status.DEADLINE_EXCEEDED}
        # Each call of an honest worker, too, ends the oldest of those that say nothing.
        assert 950 < len(waiting) <= 1000, len(waiting)
        for call in calls:
            call.cancel()
        for code in waiting:
            code.cancel()


async def a_huge_hello(live, cluster):
    for size in (5 * MEGABYTE, 40 * MEGABYTE):
        call = live.federation.Control()
        await call.write(hello(name="eve", versions={"federa": "9" * size}))
        assert await asyncio.wait_for(call.code(), 15) is Status.RESOURCE_EXHAUSTED
        assert "larger than max" in await call.details()


async def many_large_hellos(live, cluster):
    calls = []
    for number in range(40):
        call = live.federation.Control()
        calls.append(call)
        try:
            await call.write(hello(name=f"eve-{number}", versions={"federa": "9" * (3 * MEGABYTE)}))
            await call.read()
        except grpc.aio.AioRpcError as error:
            assert error.code() in (Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED)
    for call in calls:
        call.cancel()


async def heartbeats_without_reading(live, cluster):
    # A receive window of 4 KB: what is not read soon waits at the coordinator.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096)]
    async with grpc.aio.insecure_channel(live.address, options=options) as channel:
        eve = await LiveCoordinator(live.address, channel).worker("eve")
        with contextlib.suppress(asyncio.TimeoutError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
            for sequence in range(20_000):
                await asyncio.wait_for(eve.send(heartbeat=pb.Heartbeat(sequence=2**63 + sequence)), 1)
        # It is told once, not for every heartbeat more.
        until(lambda: "worker eve reads nothing" in cluster.coordinator.err, "its stream is ended", 5)
        assert cluster.coordinator.err.count("worker eve reads nothing") == 1
        # What was sent before is there for it still; then the stream is over.
        while await asyncio.wait_for(eve.call.read(), 15) is not grpc.aio.EOF:
            pass


async def heavy_heartbeats_without_reading(live, cluster):
    eve = await live.worker("eve")
    # A field that nobody knows is kept by protobuf, and sent along with a copy.
    padding = b"\x7a" + _varint(3 * MEGABYTE) + bytes(3 * MEGABYTE)
    heartbeat = pb.Heartbeat.FromString(b"\x08\x01" + padding)
    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        for _ in range(60):
            await eve.send(heartbeat=heartbeat)
    await asyncio.sleep(0.5)
    eve.call.cancel()


async def a_flood_of_experiments(live, cluster):
    ids = []
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            for _ in range(150):
                ids.append(await live.submit(experiment()))
        assert caught.value.code() is Status.INVALID_ARGUMENT
        assert caught.value.details() == "100 experiments are waiting already; wait for one to end"
        assert len(ids) == 100
    finally:
        for experiment_id in ids:
            await live.operation.Cancel(pb.CancelRequest(experiment_id=experiment_id))


async def huge_experiments(live, cluster):
    ids, text = [], experiment().model_copy(update={"name": "x" * (3 * MEGABYTE)}).model_dump_json()
    with contextlib.suppress(grpc.aio.AioRpcError):
        for _ in range(40):
            request = pb.SubmitRequest(experiment_json=text, protocol=PROTOCOL)
            ids.append((await live.operation.Submit(request)).experiment_id)
    for experiment_id in ids:
        await live.operation.Cancel(pb.CancelRequest(experiment_id=experiment_id))


async def another_workers_name(live, cluster):
    async with refused(Status.ALREADY_EXISTS, "the name 'a' belongs to another worker of the run under way"):
        await live.worker("a")


# ---------------------------------------------------------------- insiders: `mallory` has clients 4 and 5


def _forged(mallory, **changes):
    return pack({**unpack(mallory.trained(4)), **changes})


async def ten_gigabytes_announced(mallory, cluster):
    async with refused(Status.INVALID_ARGUMENT, "announces 10000000000 bytes, the limit is"):
        await _stream(mallory, header_chunk(10**10, bytes(32), mallory.header(4)))


async def wrong_shapes(mallory, cluster):
    for shape in ((17,), (4, 4), ()):
        async with refused(Status.INVALID_ARGUMENT, "update of client 4", "layer.001", "must have shape [16]"):
            await mallory.upload(4, _forged(mallory, **{"layer.001": np.zeros(shape, np.float32)}))


async def nan(mallory, cluster):
    async with refused(Status.INVALID_ARGUMENT, "tensor layer.002 holds values that are not finite"):
        await mallory.upload(4, _forged(mallory, **{"layer.002": np.full(16, np.nan, np.float32)}))


async def infinite(mallory, cluster):
    async with refused(Status.INVALID_ARGUMENT, "tensor layer.003 holds values that are not finite"):
        await mallory.upload(4, _forged(mallory, **{"layer.003": np.full(16, -np.inf, np.float32)}))


async def a_replayed_update(mallory, cluster):
    # What worker a sent for client 0, to the byte, with its key.
    blob = pack(trained_state(start_state(equal_shapes()), 1, 0))
    host, key = cluster.host_of(0)
    until(lambda: cluster.accepted(1, 0), "client 0's update is accepted", 20)
    for _ in range(3):
        assert (await mallory.upload(0, blob, worker=host, key=key, round=1, examples=1)).already_accepted is True


async def another_round(mallory, cluster):
    for round_ in (0, 99, 2**32 - 1):
        async with refused(Status.FAILED_PRECONDITION, f"client 4 for round {round_} comes too late, or was not asked"):
            await mallory.upload(4, round=round_)


async def another_client(mallory, cluster):
    for client in (0, 1, 2, 3, 6):
        async with refused(Status.FAILED_PRECONDITION, "worker mallory does not host this client"):
            await mallory.upload(client)


async def another_worker(mallory, cluster):
    for client in range(4):
        async with refused(Status.PERMISSION_DENIED, "this is not the worker 'a' of run", "another key"):
            await mallory.upload(client, worker="a")


async def more_than_announced(mallory, cluster):
    blob = mallory.trained(4)
    header = header_of(blob, mallory.header(4))
    async with refused(Status.INVALID_ARGUMENT, f"sends more than the {len(blob)} bytes it announced"):
        await _stream(mallory, header, pb.Chunk(data=bytes(MEGABYTE)))
    await _flood(mallory, header, pb.Chunk(data=bytes(MEGABYTE)))


async def a_stream_that_never_ends(mallory, cluster):
    blob = mallory.trained(4)
    call, _ = await mallory.begin(4, blob)
    for at in range(200):
        await call.write(pb.Chunk(data=blob[at : at + 1]))
    # It goes on, and nobody waits for it but its own round: the honest have theirs.
    cluster.trickling = call


async def empty_chunks(mallory, cluster):
    header = header_of(mallory.trained(4), mallory.header(4))
    async with refused(Status.INVALID_ARGUMENT, "a chunk after the header must carry data"):
        await _stream(mallory, header, pb.Chunk(data=b""))
    await _flood(mallory, header, pb.Chunk(data=b""))


async def telemetry_that_no_meter_says(mallory, cluster):
    run_id, numbers = mallory.train.run_id, (-1.0, float("nan"), float("inf"), 1e300)
    for sequence, number in enumerate(numbers, start=1):
        phase_energies = [
            pb.PhaseEnergy(round=1, client=4, phase="train", seconds=number, joules=number, covered_s=number)
        ]
        samples = [pb.Sample(at_s=number, round=1, client=4, phase="train", total_mw=number)]
        batch = pb.Telemetry(run_id=run_id, epoch=1, sequence=sequence, phases=phase_energies, samples=samples)
        await mallory.send(telemetry=batch)
    phase_energies = [
        pb.PhaseEnergy(round=2**31, client=0, phase="train", seconds=1.0),
        pb.PhaseEnergy(phase="x" * MEGABYTE, seconds=1.0),
    ]
    await mallory.send(
        telemetry=pb.Telemetry(run_id=run_id, epoch=2**64 - 1, sequence=2**32 - 1, phases=phase_energies)
    )
    assert cluster.seconds("mallory") == 0


async def a_flood_of_telemetry(mallory, cluster):
    samples = [
        pb.Sample(at_s=1e9 + at, round=1, client=4, phase="train", total_mw=at, rails_mw=[at] * 32)
        for at in range(5000)
    ]
    rails = [f"rail {number}" for number in range(32)]
    phase_energies = [pb.PhaseEnergy(round=1, client=4, phase="train", seconds=1e-3)] * 2000
    for sequence in range(1, 60):
        batch = pb.Telemetry(
            run_id=mallory.train.run_id,
            epoch=1,
            sequence=sequence,
            phases=phase_energies,
            samples=samples,
            rails=rails,
        )
        await mallory.send(telemetry=batch)


# ---------------------------------------------------------------- how they do it


async def _talk(address, data):
    """What the coordinator answers to these bytes until it closes the connection."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        answer = b""
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            while more := await asyncio.wait_for(reader.read(1 << 16), 15):
                answer += more
        return answer
    finally:
        writer.close()


async def _stream(mallory, *chunks):
    """An upload of exactly these chunks, until the coordinator has answered."""
    call = mallory.live.federation.Upload()
    status = asyncio.ensure_future(call.code())
    for chunk in chunks:
        await call.write(chunk)
        # A write into a call that is being refused would lose the reason.
        if (await asyncio.wait({status}, timeout=0.1))[0]:
            break
    await call


async def _flood(mallory, first, chunk):
    """The same without end, and without an ear for the answer."""
    call = mallory.live.federation.Upload()
    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        await call.write(first)
        for _ in range(500):
            await asyncio.wait_for(call.write(chunk), 5)
    assert await asyncio.wait_for(call.code(), 15) in (Status.INVALID_ARGUMENT, Status.INTERNAL)


def _raw(live, method):
    return live.channel.stream_unary(method, request_serializer=None, response_deserializer=None)


def _varint(value):
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
