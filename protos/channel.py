"""gRPC settings that both ends must agree on, and the protocol's version."""

from __future__ import annotations

PROTOCOL = 2
"""Raised with every change that an older peer would misunderstand; peers of two versions refuse each other."""

HEARTBEAT_S = 5.0
MAX_MESSAGE_BYTES = 16 << 20
"""Far above a chunk; a Prepare lists the examples of every hosted client and can grow to some megabytes."""

ADMITTED = "federa-admitted"
"""Initial metadata with which the server asks the client to go on; its value is the byte to go on from (of a control
stream, 0). A client that writes while the server is refusing loses the reason: gRPC's Python then reports the write
that failed, INTERNAL, in place of the server's status."""

# The client pings every 20 s, the server tolerates a ping every 10 s: a server that tolerates less often than its
# clients ping closes their connections with too_many_pings, minutes into a long local training.
_CLIENT_PING_MS = 20_000
_SERVER_TOLERATES_MS = 10_000

Options = list[tuple[str, int]]


def valid_name(name: str) -> bool:
    """Whether a worker may be called so: 1 to 100 printable characters."""
    return bool(name.strip()) and len(name) <= 100 and name.isprintable()


def valid_address(text: str) -> bool:
    """Whether a text is HOST:PORT with a port to connect to."""
    host, colon, port = text.rpartition(":")
    return bool(colon and host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536


def server_options() -> Options:
    """For grpc.aio.server."""
    return [
        # Without this a second server on a taken port starts without a word, and each gets some of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _CLIENT_PING_MS),
        ("grpc.keepalive_timeout_ms", _CLIENT_PING_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", _SERVER_TOLERATES_MS),
        ("grpc.http2.max_ping_strikes", 0),
    ]


def client_options() -> Options:
    """For a channel of its own: gRPC would put all channels to one address on a single TCP connection, where a
    heartbeat waits behind a state."""
    return [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _CLIENT_PING_MS),
        ("grpc.keepalive_timeout_ms", _CLIENT_PING_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
