"""HOST:PORT, as command lines name an address to listen on or to connect to."""

from __future__ import annotations

import ipaddress


class BadAddress(Exception):
    """A text that is no address. The message says what it must be, in one line."""


def host_port(text: str, *, least_port: int = 0) -> tuple[str, int]:
    """The host, an IPv6 one in its brackets, and the port; 0 asks for any free one, `least_port` 1 is for an address to
    connect to. Raises BadAddress."""
    host, colon, port = text.rpartition(":")
    if not (colon and host) or not (port.isascii() and port.isdigit()) or not least_port <= int(port) <= 65535:
        bounds = "" if least_port else " with a port from 0 to 65535"
        raise BadAddress(f"must be HOST:PORT{bounds}, not {text!r}")
    return host, int(port)


def plain_host(host: str) -> str:
    """A host without the brackets of an IPv6 address."""
    return host.removeprefix("[").removesuffix("]")


def is_loopback(address: str) -> bool:
    """Whether what goes to HOST:PORT stays on this machine: 127.0.0.0/8, [::1], localhost, or a Unix socket. Names are
    not looked up."""
    if address.startswith("unix:"):
        return True
    host = plain_host(address.rpartition(":")[0])
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
