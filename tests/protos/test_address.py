"""HOST:PORT: what is one, and what of it stays on this machine."""

from __future__ import annotations

import pytest

from protos.address import BadAddress, host_port, is_loopback


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:65535", "[::1]", 65535), ("orin-1.lan:50051", "orin-1.lan", 50051),
        ("0.0.0.0:080", "0.0.0.0", 80),
    ],
)  # fmt: skip
def test_an_address_is_a_host_and_a_port(text, host, port):
    assert host_port(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":1", "host", "host:", "host:x", "host:65536", "host:-1", "host:٣", "host:1 "])
def test_what_is_no_address_is_told_with_what_it_must_be(text):
    with pytest.raises(BadAddress) as caught:
        host_port(text)
    assert str(caught.value) == f"must be HOST:PORT with a port from 0 to 65535, not {text!r}"
    with pytest.raises(BadAddress) as caught:
        host_port(text, least_port=1)
    assert str(caught.value) == f"must be HOST:PORT, not {text!r}"


def test_nobody_connects_to_any_free_port():
    with pytest.raises(BadAddress):
        host_port("host:0", least_port=1)


@pytest.mark.parametrize(
    ("address", "stays"),
    [
        ("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("unix:/run/x", True),
        ("LOCALHOST:1", True), ("0.0.0.0:1", False), ("[::]:1", False), ("10.0.0.5:1", False), ("orin:1", False),
        ("localhost.example:1", False), ("127.0.0.1.example:1", False), ("dns:///localhost:1", False), ("*:1", False),
    ],
)  # fmt: skip
def test_what_stays_on_this_machine(address, stays):
    assert is_loopback(address) is stays
