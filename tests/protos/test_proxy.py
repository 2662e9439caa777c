"""Proxies on the way to a coordinator: those of the environment do not count, the one of --proxy does."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest
from certificates import CertificateFixture
from live_coordinator import serving
from processes import NOOP, Process, ended, until

from protos import federation_pb2 as pb
from protos.address import BadAddress
from protos.channel import PROTOCOL, client_options, dial
from protos.federation_pb2_grpc import WorkerServiceStub
from protos.handshake import find_obstacle
from protos.proxy import Proxy, parse_proxy

DEAD = "http://127.0.0.1:9"
VARIABLES = (
    "http_proxy",
    "https_proxy",
    "grpc_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "GRPC_PROXY",
    "ALL_PROXY",
)


@pytest.fixture
def no_proxy_is_unset(monkeypatch):
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


class ConnectProxy:
    """A small HTTP proxy that knows CONNECT. `asked` has the heads of its requests; it answers with `status` and lets
    200 through."""

    def __init__(self, status=200):
        self.asked = []
        self.status = status

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        writer.write(f"HTTP/1.1 {self.status} x\r\n\r\n".encode())
        if self.status == 200:
            host, port = re.match(r"CONNECT (\S+):(\d+) ", head).groups()
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        writer.close()


async def _pipe(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _greeted(address, credentials, proxy):
    async with dial(address, credentials, proxy) as channel:
        return await WorkerServiceStub(channel).Greet(pb.GreetRequest(protocol=PROTOCOL), timeout=10)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_proxy_of_the_environment_is_not_used(tmp_path, monkeypatch, no_proxy_is_unset, name):
    monkeypatch.setenv(name, DEAD)

    async def scenario(live):
        reply = await _greeted(live.address, None, None)
        assert reply.protocol == PROTOCOL

    serving(tmp_path, scenario)


def test_a_proxy_that_is_asked_for_is_used_and_its_login_is_shown_to_it_alone(tmp_path, no_proxy_is_unset):
    async def scenario(live):
        async with ConnectProxy() as server:
            proxy = parse_proxy(f"http://ada:secret@{server.address}", live.address)
            assert "secret" not in f"{proxy} {proxy!r}"
            assert (await _greeted(live.address, None, proxy)).protocol == PROTOCOL
            assert await asyncio.to_thread(find_obstacle, live.address, None, proxy) is None
            assert len(server.asked) == 2, "by gRPC, and by the look for obstacles"
            for head in server.asked:
                assert head.startswith(f"CONNECT {live.address} HTTP/1.1\r\n")
                assert "proxy-authorization: basic ywrhonnly3jlda==" in head.lower()

    serving(tmp_path, scenario)


def test_mutual_tls_goes_through_a_proxy_and_what_is_wrong_with_it_is_told(tmp_path, no_proxy_is_unset):
    pki, other = CertificateFixture(tmp_path / "certs"), CertificateFixture(tmp_path / "other")
    (tmp_path / "out").mkdir()

    async def scenario(live):
        async with ConnectProxy() as server:
            proxy = parse_proxy(server.address, live.address)
            assert (await _greeted(live.address, pki.of("ada"), proxy)).protocol == PROTOCOL
            assert await asyncio.to_thread(find_obstacle, live.address, pki.of("ada"), proxy) is None
            found = await asyncio.to_thread(find_obstacle, live.address, other.of("ada"), proxy)
            assert "does not fit the authority" in str(found)
            found = await asyncio.to_thread(find_obstacle, live.address, None, proxy)
            assert "takes TLS connections only" in str(found)

    serving(tmp_path / "out", scenario, credentials=pki.coordinator, shown=pki.of("ada"))


@pytest.mark.parametrize(
    ("status", "words", "lasting"),
    [
        (403, "does not let this machine through to 10.0.0.5:1 (HTTP status 403): it must allow CONNECT", True),
        (407, "does not let this machine through to 10.0.0.5:1 (HTTP status 407): it must allow CONNECT", True),
        (503, "cannot reach 10.0.0.5:1 (HTTP status 503): is the coordinator running there?", False),
    ],
)
def test_a_proxy_that_refuses_is_named(status, words, lasting):
    async def scenario():
        async with ConnectProxy(status) as server:
            found = await asyncio.to_thread(find_obstacle, "10.0.0.5:1", None, Proxy(server.address))
            assert str(found) == f"the proxy at {server.address} {words}"
            assert found.lasting is lasting

    asyncio.run(scenario())


def test_a_dead_proxy_is_named():
    found = find_obstacle("10.0.0.5:1", None, Proxy("127.0.0.1:9"))
    assert str(found).startswith("the proxy at 127.0.0.1:9 does not answer (Connection refused): check --proxy")
    assert not found.lasting


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("socks5://p:1", "must be an HTTP proxy, http://HOST:PORT, not one of 'socks5'"),
        ("https://p:1", "must be an HTTP proxy"),
        ("http://p", "must be HOST:PORT, not 'p'"),
        ("p:0", "must be HOST:PORT"),
    ],
)
def test_what_is_no_http_proxy_is_refused(text, words):
    with pytest.raises(BadAddress, match=re.escape(words)):
        parse_proxy(text, "h:1", {})


@pytest.mark.parametrize(
    ("coordinator", "variable", "value"),
    [
        ("10.0.0.5:1", "no_proxy", "localhost, 10.0.0.0/8"),
        ("h.lan:1", "no_proxy", ".lan"),
        ("[::1]:1", "no_grpc_proxy", "::1"),
    ],
)
def test_a_proxy_that_grpc_would_go_past_is_refused(coordinator, variable, value):
    with pytest.raises(BadAddress, match=f"is in {variable} of the environment: leave --proxy out"):
        parse_proxy("p:1", coordinator, {variable: value})
    assert parse_proxy("p:1", coordinator, {variable: "elsewhere", "NO_PROXY": value}).address == "p:1"
    assert dict(client_options())["grpc.enable_http_proxy"] == 0


def test_a_worker_with_a_dead_proxy_in_its_environment_joins_and_one_that_asks_for_it_names_it(tmp_path):
    env = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), DEAD) | {"no_proxy": ""}
    coordinator = Process(
        [*NOOP, "coordinator", "--serve", "--out", str(tmp_path), "--listen", "127.0.0.1:0"], tmp_path
    )
    with ended(coordinator):
        until(lambda: "listening on" in coordinator.out, "the coordinator listens")
        address = coordinator.out.split()[-1]
        arguments = [*NOOP, "worker", "--coordinator", address, "--name", "ada", "--state", str(tmp_path / "s")]
        direct = Process([*arguments, "--power", "none"], tmp_path, env)
        with ended(direct):
            until(lambda: "connected to" in direct.err, "it joins", 60)
        asking = [*arguments, "--power", "none", "--proxy", DEAD, "--give-up-after", "1"]
        bare = Process(asking, tmp_path, env)
        with ended(bare):
            assert bare.wait() == 2 and "--proxy: give --certs DIR too, or --insecure" in bare.err
        through = Process([*asking, "--insecure"], tmp_path, env)
        with ended(through):
            assert through.wait() == 1
            assert "the proxy at 127.0.0.1:9 does not answer" in through.err.splitlines()[-1]
