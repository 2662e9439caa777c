"""The options with which every command says how it speaks to the other side: --certs, --insecure and --proxy."""

from __future__ import annotations

import argparse
from pathlib import Path

from protos.address import BadAddress, host_port
from protos.credentials import BadCredentials, Credentials, credentials_for
from protos.proxy import Proxy, parse_proxy


def add_credential_options(parse: argparse.ArgumentParser, whose: str) -> None:
    """Add them to a command line; `whose` certificate it takes, such as "this device's"."""
    parse.add_argument(
        "--certs", type=Path, metavar="DIR", help=f"{whose} certificate (federa-certs makes it): mutual TLS"
    )
    parse.add_argument(
        "--insecure",
        action="store_true",
        help="plaintext also to and from other machines: anybody in between may join, read and change it",
    )


def add_proxy_option(parse: argparse.ArgumentParser) -> None:
    """Add --proxy to the command line of a client."""
    parse.add_argument(
        "--proxy", metavar="http://HOST:PORT",
        help="an HTTP proxy (CONNECT) on the way to the coordinator; those of the environment are not used for it",
    )  # fmt: skip


def proxy_of(options: argparse.Namespace) -> Proxy | None:
    """The proxy on the way to --coordinator. Raises BadAddress, naming the option."""
    if not options.proxy:
        return None
    try:
        proxy = parse_proxy(options.proxy, options.coordinator)
    except BadAddress as error:
        raise BadAddress(f"--proxy: {error}") from None
    if not options.insecure and options.certs is None:
        # Whatever the address: the proxy is another machine, and reads along.
        raise BadAddress("--proxy: give --certs DIR too, or --insecure for plaintext that the proxy may read")
    return proxy


def credentials_of(
    options: argparse.Namespace, *, address: str, option: str, role: str, least_port: int = 1
) -> Credentials | None:
    """What they say for the address that `option` gave: credentials of that role, or None for plaintext. Raises
    BadCredentials, naming the option, also for an address that is none."""
    try:
        host_port(address, least_port=least_port)
    except BadAddress as error:
        raise BadCredentials(f"{option}: {error}") from None
    return credentials_for(options.certs, insecure=options.insecure, address=address, option=option, role=role)
