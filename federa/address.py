"""HOST:PORT, as command lines name an address to listen on."""

from __future__ import annotations

from federa.errors import BadInput


def host_port(option: str, address: str) -> tuple[str, int]:
    """The host, an IPv6 one in its brackets, and the port. Raises BadInput in the name of the option."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise BadInput(f"{option}: must be HOST:PORT with a port from 0 to 65535, not {address!r}")
    return host, int(port)
