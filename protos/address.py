"""HOST:PORT, as command lines name an address to listen on or to connect to."""

from __future__ import annotations

import ipaddress
import re


class BadAddress(Exception):
    """A text that is no address. The message says what it must be, in one line."""


def host_port(text: str, *, least_port: int = 0) -> tuple[str, int]:
    """The host, an IPv6 one in its brackets, and the port; 0 asks for any free one, `least_port` 1 is for an address to
    connect to. Raises BadAddress; where the meaning is plain, the message says how to write it."""
    host, _, port = text.rpartition(":")
    if not _is_host(host) or not _is_port(port) or int(port) < least_port:
        bounds = "" if least_port else " with a port from 0 to 65535"
        raise BadAddress(f"must be HOST:PORT{bounds}, not {text[:200]!r}{_hint(text, connects=least_port > 0)}")
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


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= 65535


def _is_host(text: str) -> bool:
    if text.startswith("["):
        return text.endswith("]") and _is_ipv6(text[1:-1])
    return bool(text) and text.isprintable() and not re.search(r"[\s:/\\?#@\[\]]", text)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _hint(text: str, *, connects: bool) -> str:
    """How the address is written that a text seems to mean; empty where it means none."""
    # http://HOST:PORT/path, grpc://HOST:PORT, dns:///HOST:PORT, USER@HOST:PORT
    bare = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:/+", "", text.strip())
    bare = re.split(r"[/?#]", bare, maxsplit=1)[0].rpartition("@")[2].strip()
    host, colon, port = bare.rpartition(":")
    host, port = host.strip(), port.strip()
    if _is_ipv6(host) and _is_port(port):
        return f": write [{host}]:{port}"
    if _is_ipv6(plain_host(bare)):
        return f": write [{plain_host(bare)}]:PORT"
    if not colon and not _is_port(bare) and _is_host(bare):
        return f": write {bare}:PORT"
    if not host and _is_port(port):
        here = f"127.0.0.1:{port} for this machine"
        return f": write {here}" if connects else f": write {here} alone, 0.0.0.0:{port} for all of its addresses"
    if _is_host(host) and (not port or (_is_port(port) and int(port) >= connects and f"{host}:{port}" != text)):
        return f": write {host}:{port or 'PORT'}"
    return ""
