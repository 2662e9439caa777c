"""gRPC settings of both ends: that they fit together, and what silent peers cost."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket

import grpc
import pytest

from protos import channel
from protos.channel import client_options, raise_file_limit, server_options, valid_key


def test_the_server_tolerates_more_pings_than_clients_send():
    client, server = dict(client_options()), dict(server_options())
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]
    # Long silent trainings: pings go on without a call or a byte.
    for options in (client, server):
        assert options["grpc.keepalive_permit_without_calls"] == 1
        assert options["grpc.http2.max_pings_without_data"] == 0
        # A dead link is found within 40 s, whichever of the two this gRPC heeds.
        assert options["grpc.keepalive_timeout_ms"] == options["grpc.http2.ping_timeout_ms"] == 20_000
        assert options["grpc.keepalive_time_ms"] == 20_000


def test_connections_leave_files_for_the_ledger(monkeypatch):
    for files, connections in ((1024, 768), (100_000, 16_384), (-1, 16_384), (64, 256)):
        monkeypatch.setattr(channel.resource, "getrlimit", lambda kind, files=files: (files, files))
        assert dict(server_options())["grpc.max_allowed_incoming_connections"] == connections


def test_the_limit_of_open_files_is_raised_to_what_is_allowed():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert raise_file_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("key", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "٣" * 32, "0" * 31 + "\n"])
def test_what_is_no_key(key):
    assert not valid_key(key)
    assert valid_key("0123456789abcdef" * 2)


def test_peers_that_connect_and_say_nothing_are_closed(monkeypatch):
    monkeypatch.setattr(channel, "_HANDSHAKE_MS", 500)

    async def echo(request, context):
        return request

    async def scenario():
        server = grpc.aio.server(options=server_options())
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=client_options()) as stub:
                assert await stub.unary_unary("/test/Echo")(b"hello") == b"hello"
                for reader, writer in silent:
                    # What is there to read is the server's settings; then it ends.
                    with contextlib.suppress(ConnectionError):
                        await asyncio.wait_for(reader.read(), 10)
                    writer.close()
                assert await stub.unary_unary("/test/Echo")(b"still") == b"still"
        finally:
            await server.stop(grace=0)

    asyncio.run(scenario())


def test_a_taken_port_is_not_shared():
    async def scenario():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = grpc.aio.server(options=server_options())
            with pytest.raises(RuntimeError):
                server.add_insecure_port(f"127.0.0.1:{taken.getsockname()[1]}")

    asyncio.run(scenario())
