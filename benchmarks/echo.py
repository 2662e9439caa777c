"""What machine and gRPC cost by themselves: the same bytes to and fro between processes on loopback, without federa.

    python -m benchmarks.echo [--bytes 496000000] [--clients 2] [--turns 3]

A server sends a blob of random bytes to every client at once, and each sends it back, in chunks of 1 MiB:

    bare      over grpc.aio with federa's channel options; what comes back is counted and dropped
    durable   the same, hashed with SHA-256 on both ends, read from a file, written to one, and that one and its folder
              fsynced before the server answers; hash and disk stay off the event loop, as in the coordinator
    tcp       over sockets, from memory, counted and dropped
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import secrets
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, Literal, get_args

import grpc

from coordinator.operator.child import Child
from federa.errors import FederaError
from protos.channel import client_options, raise_file_limit, server_options
from protos.federation_pb2 import Chunk, DownloadRequest, StreamHeader, UploadReply
from protos.federation_pb2_grpc import WorkerServiceServicer, WorkerServiceStub, add_WorkerServiceServicer_to_server
from protos.streams import CHUNK_BYTES, data_chunks

Kind = Literal["bare", "durable", "tcp"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BLOB = "blob"
"""The file that a durable server serves, beside those it receives."""


class Echo:
    """A server and its clients, each a process, connected when the block is entered; `once` as often as wanted. What a
    durable server receives lies in `folder` until the next `once`."""

    def __init__(self, kind: Kind, *, clients: int, size: int, folder: Path) -> None:
        self._kind, self._count, self._size, self._folder = kind, clients, size, folder
        self._children: list[Child] = []

    def __enter__(self) -> Echo:
        try:
            port = self._start("server", str(self._folder)).receive("listening on")
            self._clients = [self._start("client", port) for _ in range(self._count)]
            for client in self._clients:
                client.receive("ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()

    def once(self) -> float:
        """Seconds until every client has the blob and the server has every answer. Raises FederaError when bytes are
        missing or wrong."""
        for path in self.received():
            path.unlink()
        began = time.perf_counter()
        for client in self._clients:
            client.send("go")
        for client in self._clients:
            client.receive("done")
        return time.perf_counter() - began

    def received(self) -> list[Path]:
        """The files of a durable server, of the last `once`."""
        return sorted(self._folder.glob("received-*"))

    def _start(self, role: str, where: str) -> Child:
        log = self._folder / f"{role}-{len(self._children)}.log"
        self._children.append(Child(["benchmarks.echo", role, self._kind, str(self._size), where], log))
        return self._children[-1]


# ---------------------------------------------------------------- over gRPC


class _Bare(WorkerServiceServicer):
    """Serves from memory and drops what it receives."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    async def Download(self, request: DownloadRequest, context: Any) -> AsyncIterator[Chunk]:
        yield Chunk(header=StreamHeader(size=len(self._blob)))
        for chunk in data_chunks(self._blob):
            yield chunk

    async def Upload(self, chunks: AsyncIterator[Chunk], context: Any) -> UploadReply:
        size = (await chunks.__anext__()).header.size
        received = 0
        async for chunk in chunks:
            received += len(chunk.data)
        if received != size:
            await context.abort(grpc.StatusCode.DATA_LOSS, f"{received} of {size} bytes came back")
        return UploadReply()


class _Durable(WorkerServiceServicer):
    """Serves from a file, and has on the disk what it receives before it answers."""

    def __init__(self, blob: bytes, folder: Path) -> None:
        self._folder = folder
        self._size, self._sha256 = len(blob), hashlib.sha256(blob).digest()
        (folder / BLOB).write_bytes(blob)

    async def Download(self, request: DownloadRequest, context: Any) -> AsyncIterator[Chunk]:
        yield Chunk(header=StreamHeader(size=self._size, sha256=self._sha256))
        with (self._folder / BLOB).open("rb") as file:
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield Chunk(data=data)

    async def Upload(self, chunks: AsyncIterator[Chunk], context: Any) -> UploadReply:
        header = (await chunks.__anext__()).header
        sha = hashlib.sha256()
        with (self._folder / f"received-{secrets.token_hex(8)}").open("wb") as file:

            def take(data: bytes) -> None:
                sha.update(data)
                file.write(data)

            async for chunk in chunks:
                await asyncio.to_thread(take, chunk.data)
            await asyncio.to_thread(self._sync, file)
        if sha.digest() != header.sha256:
            await context.abort(grpc.StatusCode.DATA_LOSS, "other bytes came back")
        return UploadReply()

    def _sync(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


async def _grpc_server(durable: bool, size: int, folder: Path) -> None:
    raise_file_limit()
    server = grpc.aio.server(options=server_options())
    blob = secrets.token_bytes(size)
    servicer = _Durable(blob, folder) if durable else _Bare(blob)
    del blob
    add_WorkerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on {port}", flush=True)
    await server.wait_for_termination()


async def _grpc_client(durable: bool, size: int, port: str) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=client_options()) as channel:
        await channel.channel_ready()
        stub = WorkerServiceStub(channel)
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            blob = await _fetch(stub, durable, size)
            await stub.Upload(_answer(blob, durable))
            print("done", flush=True)


async def _fetch(stub: WorkerServiceStub, durable: bool, size: int) -> bytearray:
    blob = bytearray(size)
    sha = hashlib.sha256()
    expected = b""
    here = 0
    async for chunk in stub.Download(DownloadRequest()):
        if chunk.WhichOneof("part") == "header":
            expected = chunk.header.sha256
            continue
        data = chunk.data
        if durable:
            await asyncio.to_thread(sha.update, data)
        blob[here : here + len(data)] = data
        here += len(data)
    if here != size or len(blob) != size or (durable and sha.digest() != expected):
        raise FederaError(f"{here} of {size} bytes came, or other bytes")
    return blob


async def _answer(blob: bytearray, durable: bool) -> AsyncIterator[Chunk]:
    sha256 = (await asyncio.to_thread(hashlib.sha256, blob)).digest() if durable else b""
    yield Chunk(header=StreamHeader(size=len(blob), sha256=sha256))
    for chunk in data_chunks(blob):
        yield chunk


# ---------------------------------------------------------------- over sockets


def _tcp_server(size: int) -> None:
    blob = memoryview(secrets.token_bytes(size))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"listening on {server.getsockname()[1]}", flush=True)
        while True:
            client, _ = server.accept()
            threading.Thread(target=_tcp_serve, args=(client, blob), daemon=True).start()


def _tcp_serve(client: socket.socket, blob: memoryview) -> None:
    scratch = memoryview(bytearray(CHUNK_BYTES))
    while client.recv(1):
        _send(client, blob)
        left = len(blob)
        while left:
            left -= _some(client, scratch[:left])
        client.sendall(b"!")


def _tcp_client(size: int, port: str) -> None:
    with socket.create_connection(("127.0.0.1", int(port))) as server:
        print("ready", flush=True)
        while sys.stdin.readline():
            blob = memoryview(bytearray(size))
            server.sendall(b"?")
            here = 0
            while here < size:
                here += _some(server, blob[here : here + CHUNK_BYTES])
            _send(server, blob)
            _some(server, memoryview(bytearray(1)))
            print("done", flush=True)


def _send(peer: socket.socket, blob: memoryview) -> None:
    for start in range(0, len(blob), CHUNK_BYTES):
        peer.sendall(blob[start : start + CHUNK_BYTES])


def _some(peer: socket.socket, buffer: memoryview) -> int:
    received = peer.recv_into(buffer)
    if not received:
        raise FederaError("the other end is gone")
    return received


# ---------------------------------------------------------------- command line


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.echo", description=(__doc__ or "").split("\n")[0])
    parse.add_argument("--bytes", type=int, default=496_000_000, metavar="N", help="of the blob (default: %(default)s)")
    parse.add_argument("--clients", type=int, default=2, help="processes at once (default: %(default)s)")
    parse.add_argument("--turns", type=int, default=3, help="the median of so many (default: %(default)s)")
    parse.add_argument("--out", type=Path, default=Path.cwd(), help="where the durable one writes, for a while")
    return parse.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    match arguments:
        case ["server", "tcp", size, _]:
            _tcp_server(int(size))
        case ["server", kind, size, folder]:
            asyncio.run(_grpc_server(kind == "durable", int(size), Path(folder)))
        case ["client", "tcp", size, port]:
            _tcp_client(int(size), port)
        case ["client", kind, size, port]:
            asyncio.run(_grpc_client(kind == "durable", int(size), port))
        case _:
            options = _arguments(arguments)
            with tempfile.TemporaryDirectory(prefix="echo-", dir=options.out) as folder:
                for kind in KINDS:
                    with Echo(kind, clients=options.clients, size=options.bytes, folder=Path(folder)) as echo:
                        seconds = [echo.once() for _ in range(options.turns)]
                    shown = ", ".join(f"{value:.3f}" for value in seconds)
                    print(f"{kind:8} {statistics.median(seconds):.3f} s (median of {shown})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
