"""The live report and metrics over HTTP: what is there, while a run goes on, and whatever a client does."""

from __future__ import annotations

import asyncio
import base64
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
from report_samples import make_result, make_run

from coordinator.experiment_runner import View
from coordinator.service import http_connections
from coordinator.service import http_server as web_module
from coordinator.service.http_connections import MAX_CONNECTIONS
from coordinator.service.http_server import HttpServer
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
    """Run `scenario(live, web, ask)` beside a coordinator that also serves HTTP."""

    async def around(live):
        web = HttpServer(live.coordinator, "127.0.0.1:0")
        try:
            await scenario(live, web, lambda *what: asyncio.to_thread(ask, web.address, *what))
        finally:
            await web.close()

    serving(path, around, **options)


def test_a_run_can_be_watched_from_before_it_begins_until_it_is_over(tmp_path):
    async def scenario(live, web, ask):
        status, headers, body = await ask("/healthz")
        assert (status, body, headers["Content-Type"]) == (200, b"ok\n", "text/plain; charset=utf-8")
        assert json.loads((await ask("/result.json"))[2])["runs"] == []
        assert b"No run has been recorded yet." in (await ask("/"))[2]
        assert b"federa_devices_connected 0.0" in (await ask("/metrics"))[2]

        live.experiment_id = await live.submit(experiment(clients=1, clients_per_round=1, rounds=2))
        worker = await live.training()
        await asyncio.sleep(web_module.FRESH_S)
        (run,) = json.loads((await ask("/result.json"))[2])["runs"]
        assert (run["state"], run["rounds"], [device["name"] for device in run["devices"]]) == ("running", 0, ["ada"])
        metrics = (await ask("/metrics"))[2].decode()
        for line in ("federa_devices_connected 1.0", "federa_round 1.0", "federa_rounds_planned 2.0"):
            assert line in metrics.splitlines()

        await worker.upload(0)
        await worker.released()
        await live.end()
        await asyncio.sleep(web_module.FRESH_S)
        whole = json.loads((await ask("/result.json"))[2])
        assert whole == json.loads((tmp_path / live.experiment_id / "result.json").read_text())
        assert b'federa_accuracy{metric="accuracy"}' in (await ask("/metrics"))[2]
        status, headers, page = await ask("/")
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8" and b"<html" in page

    with_web(tmp_path, scenario)


def test_only_what_is_there_is_answered_and_only_to_be_read(tmp_path):
    async def scenario(live, web, ask):
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
    async def scenario(live, web, ask):
        before = threading.active_count()
        silent = []
        for number in range(5 * MAX_CONNECTIONS):
            peer = await asyncio.to_thread(connect, web.address)
            silent.append(peer)
            # Some say nothing, some half a line, some ask for the page and do not read it.
            with contextlib.suppress(OSError):
                peer.sendall((b"", b"GET / HT", b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 100)[number % 4])
        assert (await ask("/healthz"))[0] == 200
        assert (await ask("/metrics"))[0] == 200
        # One may be on its way out for each that is on its way in.
        assert threading.active_count() - before <= 2 * MAX_CONNECTIONS + 8
        worker = await live.worker()
        for peer in silent:
            peer.close()
        worker.call.cancel()

    with_web(tmp_path, scenario)


def test_a_silent_client_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(http_connections, "TIMEOUT_S", 0.2)

    async def scenario(live, web, ask):
        peer = await asyncio.to_thread(connect, web.address)
        assert await asyncio.to_thread(peer.recv, 1) == b""
        peer.close()

    with_web(tmp_path, scenario)


def test_a_request_that_comes_in_drops_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(http_connections, "TIMEOUT_S", 0.5)

    def drip(address):
        peer = connect(address)
        sent = 0
        with contextlib.suppress(OSError):
            for byte in b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 1000:
                peer.sendall(bytes([byte]))
                sent += 1
                time.sleep(0.05)  # each well within the time that a silent one has
        peer.close()
        return sent

    async def scenario(live, web, ask):
        assert await asyncio.to_thread(drip, web.address) < 500

    with_web(tmp_path, scenario)


def test_a_reader_that_takes_nothing_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(http_connections, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(web_module, "render_report", lambda result: "x" * (64 << 20))

    def unread(address):
        peer = connect(address)
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        time.sleep(2.0)
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := peer.recv(1 << 20):
                size += len(piece)
        peer.close()
        return size

    async def scenario(live, web, ask):
        assert await asyncio.to_thread(unread, web.address) < 64 << 20
        assert len((await ask("/"))[2]) == 64 << 20, "one that reads gets all"

    with_web(tmp_path, scenario)


def exchange(address, request):
    """What is answered to these bytes, until the end of the connection."""
    with contextlib.closing(connect(address)) as peer:
        peer.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := peer.recv(1 << 16):
                answer += piece
        return answer


def test_a_request_that_is_none_or_too_long_is_400_and_no_line_of_the_log(tmp_path, capfd, caplog):
    async def scenario(live, web, ask):
        for head in (b"\xff\xfe", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, b"GET /" + b"x" * 20_000):
            answer = await asyncio.to_thread(exchange, web.address, head + b"\r\n\r\n")
            assert answer.split(b" ", 2)[1] == b"400", head[:40]
        answer = await asyncio.to_thread(
            exchange, web.address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789"
        )
        assert answer.startswith(b"HTTP/1.1 405 ") and answer.count(b"HTTP/1.1") == 1
        two = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2
        assert (await asyncio.to_thread(exchange, web.address, two)).count(b"HTTP/1.1") == 1, "one request a connection"

    with_web(tmp_path, scenario)
    assert "Traceback" not in capfd.readouterr().err and not caplog.records


def test_neither_the_coordinator_nor_other_readers_wait_for_a_ledger_that_is_read(tmp_path, monkeypatch):
    reading, go_on = threading.Event(), threading.Event()

    def slow(view):
        reading.set()
        go_on.wait(20)
        return {"schema": 1, "environment": {}, "runs": []}

    monkeypatch.setattr(View, "result", slow)

    async def scenario(live, web, ask):
        waiting = [asyncio.ensure_future(ask("/result.json")) for _ in range(4)]
        await asyncio.to_thread(reading.wait, 10)
        assert (await ask("/healthz"))[0] == 200
        worker = await live.worker()  # the coordinator answers
        assert not any(task.done() for task in waiting)
        go_on.set()
        assert {(await task)[0] for task in waiting} == {200}
        worker.call.cancel()

    with_web(tmp_path, scenario)


def test_nothing_of_a_text_is_read_over_http(tmp_path, monkeypatch):
    """A refusal of data may quote it. The metrics are made of the same result, and have no words of it."""
    run = make_run() | {
        "state": "failed",
        "failure": "data: reviews.csv line 1 has no column 'text' (data.text_column); it has My doctor told me\nthat",
        "setbacks": [
            {"round": 1, "attempt": 1, "client": 0, "device": "a", "kind": "failed",
             "reason": "data: reviews.csv has the label 'My doctor', which is none of ham, spam"},
            {"round": 1, "attempt": 1, "client": 1, "device": "b", "kind": "failed", "reason": "model: not here"},
        ],
    }  # fmt: skip
    monkeypatch.setattr(View, "result", lambda view: make_result(run))

    async def scenario(live, web, ask):
        for path in ("/", "/result.json"):
            status, _, body = await ask(path)
            assert status == 200 and b"doctor" not in body and b"reviews.csv" not in body
        found = json.loads((await ask("/result.json"))[2])["runs"][0]
        assert found["failure"].startswith("data: ")
        assert [entry["reason"] for entry in found["setbacks"]] == [found["failure"], "model: not here"]

    with_web(tmp_path, scenario)


def test_a_page_is_made_once_for_all_who_ask_meanwhile(tmp_path, monkeypatch):
    made = []

    def render(result):
        made.append(result)
        time.sleep(0.5)
        return "page"

    monkeypatch.setattr(web_module, "render_report", render)

    async def scenario(live, web, ask):
        assert {(await task)[0] for task in [asyncio.ensure_future(ask("/")) for _ in range(8)]} == {200}
        assert len(made) == 1

    with_web(tmp_path, scenario)


TOKEN = "a token of 16 and more"


def test_a_token_is_asked_for_and_taken_as_bearer_or_password(tmp_path):
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()

    async def scenario(live):
        web = HttpServer(live.coordinator, "127.0.0.1:0", TOKEN)

        async def status(path, authorization=b""):
            head = b"Authorization: " + authorization + b"\r\n" if authorization else b""
            request = b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n"
            return await asyncio.to_thread(exchange, web.address, request)

        try:
            assert b" 200 " in await status("/healthz")
            for path in ("/result.json", "/", "/x", "/healthz/../result.json", "//healthz", "/%68ealthz"):
                answer = await status(path)
                assert answer.startswith(b"HTTP/1.1 401 "), path
                assert b'WWW-Authenticate: Basic realm="federa", charset="UTF-8"\r\n' in answer
                assert b"WWW-Authenticate: Bearer\r\n" in answer
            for good in (f"Bearer {TOKEN}", f"bearer  {TOKEN} ", f"Basic {basic}"):
                assert b" 200 " in (await status("/result.json", good.encode()))[:20], good
            for bad in (f"Bearer {TOKEN}x", "Bearer", "Basic ???", f"Token {TOKEN}"):
                assert b" 401 " in (await status("/result.json", bad.encode()))[:20], bad
            assert b" 401 " in (await status("/result.json", b"Bearer \xff\xe9"))[:20]
        finally:
            await web.close()

    serving(tmp_path, scenario)


def test_a_report_that_fails_is_an_answer_too(tmp_path, monkeypatch):
    def fail(result):
        raise ValueError("no such run")

    monkeypatch.setattr(web_module, "render_report", fail)

    async def scenario(live, web, ask):
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
    assert str(caught.value).startswith(f"--http: must be HOST:PORT with a port from 0 to 65535, not {address!r}")


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
