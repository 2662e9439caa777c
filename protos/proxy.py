"""An HTTP proxy on the way to a coordinator, where --proxy asks for one.

Proxies of the environment (http_proxy and the like) are for the web. They do not count here: a coordinator on loopback
or in the same network is dialled directly.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from protos.address import BadAddress, host_port, plain_host

_MAX_ANSWER_BYTES = 16 << 10
_PASSING = range(500, 600)
"""Answers of a proxy that cannot reach the coordinator now: it may be starting."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """`address` is HOST:PORT; `login` is NAME:PASSWORD, or empty."""

    address: str
    login: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """What gRPC takes, login included: not to be shown."""
        return f"http://{self.login}@{self.address}" if self.login else f"http://{self.address}"

    def __str__(self) -> str:
        return f"the proxy at {self.address}"


class ProxyFailed(OSError):
    """No tunnel through a proxy; the message is one line. A `lasting` failure does not go away by waiting."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


def parse_proxy(text: str, coordinator: str, environment: Mapping[str, str] = os.environ) -> Proxy:
    """The proxy of http://[NAME:PASSWORD@]HOST:PORT, the scheme may be left out. Raises BadAddress, also where gRPC
    would go past it."""
    scheme, separator, rest = text.strip().rpartition("://")
    if separator and scheme != "http":
        raise BadAddress(f"must be an HTTP proxy, http://HOST:PORT, not one of {scheme[:20]!r}")
    login, _, address = rest.rstrip("/").rpartition("@")
    host_port(address, least_port=1)
    host = plain_host(host_port(coordinator, least_port=1)[0])
    # As gRPC reads them: the first one alone, where there are both.
    name = next((name for name in ("no_grpc_proxy", "no_proxy") if name in environment), None)
    if name is not None and any(_covers(entry.strip(), host) for entry in environment[name].split(",")):
        raise BadAddress(f"{host} is in {name} of the environment: leave --proxy out, or take the host out of that")
    return Proxy(address, login)


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of no_proxy is for a host: the end of its name, or a network of its address."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return bool(entry) and host.lower().endswith(entry.lower())


def tunnel(proxy: Proxy, address: str, wait_s: float) -> socket.socket:
    """A connection to HOST:PORT through the proxy. Raises ProxyFailed."""
    host, port = host_port(proxy.address)
    request = f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"
    if proxy.login:
        token = base64.b64encode(unquote(proxy.login).encode()).decode()
        request += f"Proxy-Authorization: Basic {token}\r\n"
    try:
        connection = socket.create_connection((plain_host(host), port), timeout=wait_s)
    except OSError as error:
        why = f"{proxy} does not answer ({error.strerror or error}): check --proxy, or leave it out"
        raise ProxyFailed(why, lasting=False) from None
    try:
        connection.sendall(f"{request}\r\n".encode())
        answer = b""
        # A byte at a time: what follows is the coordinator's.
        while not answer.endswith(b"\r\n\r\n") and len(answer) < _MAX_ANSWER_BYTES and (byte := connection.recv(1)):
            answer += byte
        status = _status(answer)
        if status is None:
            why = f"what answers at {proxy.address} is no HTTP proxy: check --proxy, or leave it out"
            raise ProxyFailed(why, lasting=True)
        if status in _PASSING:
            why = f"{proxy} cannot reach {address} (HTTP status {status}): is the coordinator running there?"
            raise ProxyFailed(why, lasting=False)
        if not 200 <= status < 300:
            why = (
                f"{proxy} does not let this machine through to {address} (HTTP status {status}): it must allow CONNECT"
            )
            raise ProxyFailed(why, lasting=True)
    except ProxyFailed:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        why = f"{proxy} breaks off ({error.strerror or error}): check --proxy, or leave it out"
        raise ProxyFailed(why, lasting=False) from None
    return connection


def _status(answer: bytes) -> int | None:
    """The status of an HTTP answer."""
    words = answer.split(b"\r\n", 1)[0].split(b" ")
    is_http = words[0].startswith(b"HTTP/1.") and len(words) > 1 and len(words[1]) == 3 and words[1].isdigit()
    return int(words[1]) if is_http else None
