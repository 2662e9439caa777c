"""gRPC settings that both ends must agree on, and the protocol's version."""

from __future__ import annotations

import contextlib
import resource

import grpc

from protos.credentials import Credentials
from protos.proxy import Proxy
from protos.streams import CHUNK_BYTES

PROTOCOL = 7
"""Raised with every change that an older peer would misunderstand; peers of two versions refuse each other."""

HEARTBEAT_S = 5.0
MAX_MESSAGE_BYTES = 16 << 20
"""What a client takes. Far above a chunk; a Prepare lists the examples of every hosted client and can grow to some
megabytes."""

MAX_REQUEST_BYTES = CHUNK_BYTES + (64 << 10)
"""What a server takes: chunks, and smaller messages."""

MAX_TEXT_BYTES = 64 << 10
"""The most bytes of an experiment's text, and of a hello without its list of clients."""

ADMITTED = "federa-admitted"
"""Initial metadata with which the server asks the client to go on; its value is the byte to go on from (of a control
stream, 0). A client that writes while the server is refusing loses the reason: gRPC's Python then reports the write
that failed, INTERNAL, in place of the server's status."""

# The client pings every 20 s, the server tolerates a ping every 10 s: a server that tolerates less often than its
# clients ping closes their connections with too_many_pings, minutes into a long local training. A link that answers no
# ping is given up 20 s later: by grpc.keepalive_timeout_ms in some versions, in others by grpc.http2.ping_timeout_ms,
# which is 60 s where nothing is said.
_PING_MS = 20_000
_TOLERATED_MS = 10_000
_KEEPALIVE: list[tuple[str, int | str]] = [
    ("grpc.keepalive_time_ms", _PING_MS),
    ("grpc.keepalive_timeout_ms", _PING_MS),
    ("grpc.http2.ping_timeout_ms", _PING_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

# Against peers that connect and say nothing: who has not spoken HTTP/2 after so long is closed, and so is a connection
# that has carried no call for so long (the client of one that lives opens the next with its next call). Versions of
# gRPC that do not know an option leave it alone.
_HANDSHAKE_MS = 10_000
_IDLE_MS = 600_000
_CALLS_PER_CONNECTION = 100
# Two for every worker, one for every operator. A silent one costs 13 KB; and some files stay for the ledger and the
# spool, however few may be open.
_MAX_CONNECTIONS = 16_384
_FILES_KEPT = 256

Options = list[tuple[str, int | str]]


def valid_name(name: str) -> bool:
    """Whether a worker may be called so: 1 to 100 printable characters."""
    return bool(name.strip()) and len(name) <= 100 and name.isprintable()


def valid_key(key: str) -> bool:
    """Whether it may be a worker's key: 128 bits as 32 hexadecimal digits in lower case."""
    return len(key) == 32 and not set(key) - set("0123456789abcdef")


def dial(address: str, credentials: Credentials | None, proxy: Proxy | None = None) -> grpc.aio.Channel:
    """A channel of its own to a coordinator: mutual TLS, or plaintext without credentials."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=client_options(proxy))
    return grpc.aio.secure_channel(address, credentials.channel(), options=client_options(proxy))


def raise_file_limit() -> int:
    """Let this process open as many files, connections among them, as it may; returns how many. For a program's start:
    the usual 1024 are spent at some 500 workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS reports a hard limit that it refuses to set.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def server_options() -> Options:
    """The options for grpc.aio.server. Call after `raise_file_limit`: it bounds the connections by the files that may
    be open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = _MAX_CONNECTIONS if files < 0 else max(_FILES_KEPT, min(_MAX_CONNECTIONS, files - _FILES_KEPT))
    return [
        *_KEEPALIVE,
        # Without this a second server on a taken port starts without a word, and each gets some of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.http2.min_ping_interval_without_data_ms", _TOLERATED_MS),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.max_concurrent_streams", _CALLS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", connections),
    ]


def client_options(proxy: Proxy | None = None) -> Options:
    """The options for a channel of its own: gRPC would put all channels to one address on one TCP connection, where a
    heartbeat waits behind a state."""
    return [
        *_KEEPALIVE,
        # gRPC would take the environment's proxy, which is for the web, for every address that is not in no_proxy.
        ("grpc.enable_http_proxy", 0) if proxy is None else ("grpc.http_proxy", proxy.url),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # When a link that was cut is back, it is found so within these: an attempt to connect sends its SYN at 0, 1, 3
        # and 7 s, and its 20 s by default would let 8 s pass between two of them.
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]


def other_protocol(address: str) -> str:
    """What is wrong where a server does not have this protocol's services, in one line."""
    return f"what answers at {address} is no coordinator of protocol {PROTOCOL}: install the same federa on both"
