"""Why no TLS connection comes about. gRPC says little more than "Socket closed"; the standard library's TLS knows."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from protos.address import host_port, plain_host
from protos.credentials import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Credentials
from protos.proxy import Proxy, ProxyFailed, tunnel

CONNECT_WAIT_S = 1.0
"""A coordinator that takes longer to answer is taken for away: there may be no time to lose on finding out."""
ANSWER_WAIT_S = 5.0
AGAIN_S = 0.5

# X509_V_ERR_*, openssl/x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = {62, 64}
# What OpenSSL makes of an answer that is no TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """`message` is one line: what is wrong, and what to do. A `lasting` one does not go away by waiting."""

    message: str
    lasting: bool = True

    def __str__(self) -> str:
        return self.message


def find_obstacle(address: str, credentials: Credentials | None, proxy: Proxy | None = None) -> Obstacle | None:
    """What keeps a client with these credentials (None: plaintext) from a TLS server at HOST:PORT, or a plaintext one;
    None where nothing does, or nobody answers there. Takes some seconds at most."""
    try:
        if credentials is None:
            return _without_certificate(address, proxy)
        return _with_certificate(address, credentials, proxy)
    except ProxyFailed as error:
        return Obstacle(str(error), lasting=error.lasting)
    except (OSError, ValueError):  # ValueError: a host that is no name
        return None


def _without_certificate(address: str, proxy: Proxy | None) -> Obstacle | None:
    try:
        _welcome(address, _context(None, verify=False), proxy)
    except (ssl.SSLEOFError, ConnectionError):
        return None
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return None  # what answers speaks no TLS
    return Obstacle(
        f"the coordinator at {address} takes TLS connections only: give --certs DIR with a certificate of its authority"
    )


def _with_certificate(address: str, credentials: Credentials, proxy: Proxy | None) -> Obstacle | None:
    try:
        if _welcome(address, _context(credentials, verify=True), proxy):
            return None
        # A coordinator that ends just now looks the same, but only once.
        time.sleep(AGAIN_S)
        known = _welcome(address, _context(credentials, verify=True), proxy)
        return None if known else _of_client(address, credentials)
    except ssl.SSLCertVerificationError as error:
        obstacle = _of_server(address, credentials, error)
        with contextlib.suppress(OSError):
            # Let it judge our certificate too: its log then has a line of this.
            _welcome(address, _context(credentials, verify=False), proxy)
        return obstacle
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _of_client(address, credentials)
        if error.reason in _NO_TLS:
            return Obstacle(
                f"what answers at {address} speaks no TLS: start the coordinator with --certs, or check the port"
            )
    return None


def _of_server(address: str, credentials: Credentials, error: ssl.SSLCertVerificationError) -> Obstacle:
    whose = f"the coordinator at {address} has a certificate that"
    if error.verify_code == _EXPIRED:
        return Obstacle(
            f"{whose} has expired: federa-certs issue coordinator makes another (or is the clock wrong here?)"
        )
    if error.verify_code == _NOT_YET_VALID:
        return Obstacle(f"{whose} is not valid yet: is the clock wrong here?", lasting=False)
    if error.verify_code in _OTHER_NAME:
        host, _ = host_port(address)
        return Obstacle(
            f"{whose} is not for {host}: federa-certs issue coordinator --host {host} makes one that is, "
            "or call it by a name that its certificate has"
        )
    return Obstacle(
        f"{whose} does not fit the authority in {credentials.folder / CA_FILE} ({error.verify_message}): "
        "take the certificates of the authority that made the coordinator's"
    )


def _of_client(address: str, credentials: Credentials) -> Obstacle:
    # It closes the connection and does not say why. Its own certificate fits our authority, and so does ours.
    why = credentials.untimely(datetime.now(timezone.utc))
    if not why:
        until = f"{credentials.not_before:%Y-%m-%d %H:%M} to {credentials.not_after:%Y-%m-%d %H:%M} UTC"
        why = f"is of another authority than its {CA_FILE}, or does not count by its clock (it is valid {until})"
    return Obstacle(
        f"the coordinator at {address} refuses the {credentials} in {credentials.folder}: "
        f"it {why}; federa-certs issue makes another"
    )


def _context(credentials: Credentials | None, *, verify: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.check_hostname = verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if credentials is not None:
        context.load_verify_locations(credentials.folder / CA_FILE)
        context.load_cert_chain(credentials.folder / CERTIFICATE_FILE, credentials.folder / KEY_FILE)
    return context


def _welcome(address: str, context: ssl.SSLContext, proxy: Proxy | None) -> bool:
    """Whether the server goes on after a handshake: in TLS 1.3 it looks at our certificate only then, and gRPC's closes
    the connection without a word. Raises OSError, ssl.SSLError among them."""
    host, port = host_port(address)
    host = plain_host(host)
    if proxy is None:
        connection = socket.create_connection((host, port), timeout=CONNECT_WAIT_S)
    else:
        connection = tunnel(proxy, address, ANSWER_WAIT_S)
    with connection as plain:
        plain.settimeout(ANSWER_WAIT_S)
        with context.wrap_socket(plain, server_hostname=host) as talking:
            try:
                return bool(talking.recv(1))  # HTTP/2 begins with the settings of both ends
            except ConnectionError:
                return False
