"""The live report and metrics over HTTP: what is there, while a run goes on, and whatever a client does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from live_coordinator import experiment, serving
from processes import NOOP, Process

from coordinator.service import http_server as web_module
from coordinator.service.http_server import MAX_CONNECTIONS, HttpServer
from coordinator.service.server import Coordinator
from federa.errors import BadInput


def ask(address, path="/", method="GET"):
    """Status, headers and body."""
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def with_web(path, scenario, **options):
    """Run `scenario(house, web, ask)` beside a coordinator that also serves HTTP."""

    async def around(house):
        web = HttpServer(house.coordinator, "127.0.0.1:0")
        try:
            await scenario(house, web, lambda *what: asyncio.to_thread(ask, web.address, *what))
        finally:
            await web.close()

    serving(path, around, **options)


def test_a_run_can_be_watched_from_before_it_begins_until_it_is_over(tmp_path):
    async def scenario(house, web, ask):
        status, headers, body = await ask("/healthz")
        assert (status, body, headers["Content-Type"]) == (200, b"ok\n", "text/plain; charset=utf-8")
        assert json.loads((await ask("/result.json"))[2])["runs"] == []
        assert b"No run has been recorded yet." in (await ask("/"))[2]
        assert b"federa_devices_connected 0.0" in (await ask("/metrics"))[2]

        house.experiment_id = await house.submit(experiment(clients=1, clients_per_round=1, rounds=2))
        worker = await house.training()
        await asyncio.sleep(web_module.FRESH_S)
        (run,) = json.loads((await ask("/result.json"))[2])["runs"]
        assert (run["state"], run["rounds"], [device["name"] for device in run["devices"]]) == ("running", 0, ["ada"])
        metrics = (await ask("/metrics"))[2].decode()
        for line in ("federa_devices_connected 1.0", "federa_round 1.0", "federa_rounds_planned 2.0"):
            assert line in metrics.splitlines()

        await worker.upload(0)
        await worker.released()
        await house.end()
        await asyncio.sleep(web_module.FRESH_S)
        whole = json.loads((await ask("/result.json"))[2])
        assert whole == json.loads((tmp_path / house.experiment_id / "result.json").read_text())
        assert b'federa_accuracy{metric="accuracy"}' in (await ask("/metrics"))[2]
        status, headers, page = await ask("/")
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8" and b"<html" in page

    with_web(tmp_path, scenario)


def test_only_what_is_there_is_answered_and_only_to_be_read(tmp_path):
    async def scenario(house, web, ask):
        for path in ("/x", "/../etc/passwd", "/result.json/", "/%00"):
            assert (await ask(path))[0] == 404, path
        assert (await ask("/healthz?x=1"))[0] == 200
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            status, headers, _ = await ask("/healthz", method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD")
        for path in ("/", "/metrics", "/result.json"):
            status, headers, body = await ask(path, "HEAD")
            assert (status, body) == (200, b"") and int(headers["Content-Length"]) > 0
        assert (await ask("/healthz"))[1]["X-Content-Type-Options"] == "nosniff"

    with_web(tmp_path, scenario)


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_clients_that_say_nothing_or_read_nothing_hold_up_nobody(tmp_path):
    async def scenario(house, web, ask):
        before = threading.active_count()
        silent = []
        for number in range(5 * MAX_CONNECTIONS):
            peer = await asyncio.to_thread(connect, web.address)
            silent.append(peer)
            # Some say nothing, some half a line, some ask for the page and do not read it.
            with contextlib.suppress(OSError):
                peer.sendall((b"", b"GET / HT", b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 100)[number % 4])
        began = time.monotonic()
        assert (await ask("/healthz"))[0] == 200
        assert (await ask("/metrics"))[0] == 200
        assert time.monotonic() - began < 5
        # One may be on its way out for each that is on its way in.
        assert threading.active_count() - before <= 2 * MAX_CONNECTIONS + 8
        worker = await house.worker()
        for peer in silent:
            peer.close()
        worker.call.cancel()

    with_web(tmp_path, scenario)


def test_a_silent_client_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(web_module._Handler, "timeout", 0.2)

    async def scenario(house, web, ask):
        peer = await asyncio.to_thread(connect, web.address)
        assert await asyncio.to_thread(peer.recv, 1) == b""
        peer.close()

    with_web(tmp_path, scenario)


def test_a_report_that_fails_is_an_answer_too(tmp_path, monkeypatch):
    def fail(result):
        raise ValueError("no such run")

    monkeypatch.setattr(web_module, "render_report", fail)

    async def scenario(house, web, ask):
        status, _, body = await ask("/")
        assert (status, body) == (503, b"not now\n")
        assert (await ask("/healthz"))[0] == 200

    with_web(tmp_path, scenario)


@pytest.mark.parametrize("address", ["8080", ":8080", "localhost:", "localhost:x", "localhost:70000", ""])
def test_an_address_that_is_none_is_refused_in_words(tmp_path, address):
    async def make():
        HttpServer(Coordinator(tmp_path), address)

    with pytest.raises(BadInput) as caught:
        asyncio.run(make())
    assert str(caught.value) == f"--http: must be HOST:PORT with a port from 0 to 65535, not {address!r}"


@pytest.mark.parametrize("address", ["no-such-host.invalid:0", "192.0.2.1:0", "..:0"])
def test_an_address_that_cannot_be_had_is_refused_in_one_line(tmp_path, address):
    async def make():
        HttpServer(Coordinator(tmp_path), address)

    with pytest.raises(BadInput) as caught:
        asyncio.run(make())
    words = str(caught.value)
    assert words.startswith(f"--http: cannot listen on {address}: ") and "\n" not in words


def test_the_command_serves_it_and_says_where_and_a_port_in_use_is_2(tmp_path):
    common = [*NOOP, "coordinator", "--serve", "--listen", "127.0.0.1:0", "--http"]
    first = Process([*common, "127.0.0.1:0", "--out", str(tmp_path / "a")], tmp_path)
    try:
        end = time.monotonic() + 20
        while "listening on" not in first.out and time.monotonic() < end:
            time.sleep(0.05)
        address = first.err.partition("serving http on ")[2].split()[0]
        assert ask(address, "/healthz")[0] == 200
        second = Process([*common, address, "--out", str(tmp_path / "b")], tmp_path)
        assert second.wait(20) == 2
        assert second.err == f"federa-coordinator: --http: cannot listen on {address}: Address already in use\n"
        first.interrupt()
        assert first.wait(10) == 130, first.err
    finally:
        first.end()
    assert "Traceback" not in first.err
