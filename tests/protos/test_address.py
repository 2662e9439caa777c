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


NO_ADDRESSES = ["", "host:x", "host:65536", "host:-1", "host:٣", "a b:1", "[zz]:1", "host:1:2", "http://", "host:x/y"]


@pytest.mark.parametrize("text", [*NO_ADDRESSES, "host:" + "1" * 5000])
def test_what_is_no_address_is_told_with_what_it_must_be(text):
    with pytest.raises(BadAddress) as caught:
        host_port(text)
    assert str(caught.value) == f"must be HOST:PORT with a port from 0 to 65535, not {text[:200]!r}"
    with pytest.raises(BadAddress) as caught:
        host_port(text, least_port=1)
    assert str(caught.value) == f"must be HOST:PORT, not {text[:200]!r}"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("http://10.0.0.5:50051", "10.0.0.5:50051"), ("https://coordinator.lan:50051/", "coordinator.lan:50051"),
        ("grpc://h:1", "h:1"), ("dns:///h:1", "h:1"), ("h:1/path?q", "h:1"), ("me@h:1", "h:1"),
        ("ssh://me@h", "h:PORT"), (" h:1 ", "h:1"), ("h : 1", "h:1"), ("h:1\n", "h:1"), ("h", "h:PORT"),
        ("h:", "h:PORT"), ("10.0.0.5", "10.0.0.5:PORT"), ("::1", "[::1]:PORT"), ("[::1]", "[::1]:PORT"),
        ("::1:7000", "[::1]:7000"), ("fe80::1%eth0", "[fe80::1%eth0]:PORT"), ("http://::1:7000", "[::1]:7000"),
        (":7000", "127.0.0.1:7000 for this machine"),
        ("7000", "127.0.0.1:7000 for this machine"),
    ],
)  # fmt: skip
def test_an_address_whose_meaning_is_plain_is_told_with_how_to_write_it(text, written):
    with pytest.raises(BadAddress) as caught:
        host_port(text, least_port=1)
    assert str(caught.value) == f"must be HOST:PORT, not {text!r}: write {written}"
    address = written.split(" ")[0].replace("PORT", "1")
    assert ":".join(map(str, host_port(address, least_port=1))) == address


def test_who_listens_is_told_on_which_addresses_it_can():
    with pytest.raises(
        BadAddress, match=r"write 127.0.0.1:7 for this machine alone, 0.0.0.0:7 for all of its addresses"
    ):
        host_port(":7")


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
