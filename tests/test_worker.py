"""The worker: its command line, how it gives up, and how it goes on when the coordinator comes and goes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noop import BASE_DIGEST, NoopEngine, equal_shapes, start_state, trained_state

from edge import main as edge_main
from edge.main import parse_clients
from edge.worker import Worker
from federa import __version__
from federa.config import Experiment
from federa.errors import BadInput, FederaError
from federa.state import digest_of, pack, unpack
from protos import federation_pb2 as pb
from protos.channel import ADMITTED, PROTOCOL, server_options
from protos.federation_pb2_grpc import FederationServicer, add_FederationServicer_to_server
from protos.streams import Assembler, split

NOOP = Path(__file__).with_name("noop.py")
PATIENCE_S = 20.0


# ---------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("text", "clients"),
    [
        ("0", (0,)),
        ("0-4", (0, 1, 2, 3, 4)),
        ("1,3,5-7", (1, 3, 5, 6, 7)),
        ("7,1,7,0-1", (0, 1, 7)),
        (" 2 , 4 ", (2, 4)),
        ("3-3", (3,)),
    ],
)
def test_clients_are_read(text, clients):
    assert parse_clients(text) == clients


BAD_CLIENTS = ("x", "-", "-1", "1-", "4-2", "1,,2", ",", "1;2", "1.5", "0-4-8", "²", "1048576", "0-99999999999", " ")


@pytest.mark.parametrize("text", BAD_CLIENTS)
def test_what_is_no_list_of_clients_is_refused(text):
    with pytest.raises(BadInput, match=r"--clients: .*" + re.escape(repr(text))):
        parse_clients(text)


@given(text=st.text(alphabet="0123456789-, x٣", max_size=8))
def test_whatever_is_typed_is_clients_or_bad_input(text):
    try:
        clients = parse_clients(text)
    except BadInput:
        return
    assert clients == tuple(sorted(set(clients)))


GOOD = {"--coordinator": "127.0.0.1:1", "--name": "ada"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--coordinator": "somewhere"}, "--coordinator: must be HOST:PORT"),
        ({"--coordinator": ":50051"}, "--coordinator"),
        ({"--coordinator": "somewhere:"}, "--coordinator"),
        ({"--coordinator": "somewhere:0"}, "--coordinator"),
        ({"--coordinator": "somewhere:65536"}, "--coordinator"),
        ({"--coordinator": "somewhere:x"}, "--coordinator"),
        ({"--name": ""}, "--name: must be 1 to 100 printable characters"),
        ({"--name": "   "}, "--name"),
        ({"--name": "a\nb"}, "--name"),
        ({"--name": "a" * 101}, "--name"),
        ({"--give-up-after": "0"}, "--give-up-after: must be above 0"),
        ({"--give-up-after": "-1"}, "--give-up-after"),
        ({"--give-up-after": "nan"}, "--give-up-after"),
        ({"--threads": "0"}, "--threads: must be from 1 to 1024"),
        ({"--threads": "1025"}, "--threads"),
        ({"--data": "no/such/file.csv"}, "--data: no such file: no/such/file.csv"),
        ({"--clients": "4-2"}, "--clients"),
    ],
)
def test_bad_arguments_end_with_2_and_a_line_that_names_them(capsys, changes, words):
    arguments = [part for pair in {**GOOD, **changes}.items() for part in pair]
    code = edge_main.main(arguments, lambda options: pytest.fail("an engine was made"))
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("federa-worker: ")
    assert words in line


@pytest.mark.parametrize("arguments", [[], ["--name", "ada"], [*GOOD, "--nonsense"], ["--device", "tpu"]])
def test_arguments_that_argparse_refuses_end_with_2_too(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        edge_main.main(arguments, NoopEngine)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def test_neither_side_needs_torch_to_start():
    # Seconds and memory at every start, also of the tests of whole federations.
    code = (
        "import sys, noop, coordinator.main, edge.main; print({'torch', 'transformers', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=NOOP.parent, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


# ---------------------------------------------------------------- giving up


def start_worker(address, give_up_after_s):
    command = [sys.executable, str(NOOP), "worker", "--coordinator", address, "--name", "ada"]
    return subprocess.Popen(
        [*command, "--give-up-after", str(give_up_after_s)], stderr=subprocess.PIPE, text=True, env={**os.environ}
    )


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def assert_gave_up(process, address):
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    last = said.splitlines()[-1]
    assert last.startswith(f"federa-worker: gave up: no word from the coordinator at {address}")
    assert "(--give-up-after 1)" in last
    assert "Traceback" not in said


def test_a_worker_gives_up_where_nobody_listens():
    address = closed_port()
    assert_gave_up(start_worker(address, 1), address)


def test_a_worker_gives_up_where_somebody_listens_and_never_answers():
    # The connection stands, so gRPC itself sees nothing wrong.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert_gave_up(start_worker(address, 1), address)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_a_worker_that_waits(number, code):
    process = start_worker(closed_port(), 60)
    try:
        assert "not connected" in process.stderr.readline()
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == code
    assert "Traceback" not in said


# ---------------------------------------------------------------- at work

START = pack(start_state(equal_shapes(2, 8)))
SHA = bytes.fromhex(digest_of(START))


class FakeCoordinator(FederationServicer):
    """One coordinator that says what a test tells it to. `script(hear, say, streams)` is its side of a control stream;
    `streams` counts from 1."""

    def __init__(self, script):
        self.script = script
        self.streams = 0
        self.hellos = []
        self.updates = []
        self.downloads = []
        self.refuse_uploads = []
        self.refuse_downloads = []

    async def Control(self, requests, context):
        await context.send_initial_metadata((ADMITTED,))
        self.streams += 1
        number = self.streams
        outbox = asyncio.Queue()

        async def hear(*kinds):
            """The next message of one of these kinds."""
            while True:
                message = await requests.__anext__()
                kind = message.WhichOneof("message")
                if kind in kinds:
                    return getattr(message, kind)

        async def play():
            try:
                self.hellos.append(await hear("hello"))
                outbox.put_nowait(pb.CoordinatorMessage(welcome=pb.Welcome(heartbeat_s=1)))
                await self.script(hear, lambda **words: outbox.put_nowait(pb.CoordinatorMessage(**words)), number)
            finally:
                outbox.put_nowait(None)

        playing = asyncio.ensure_future(play())
        try:
            while (message := await outbox.get()) is not None:
                yield message
            await playing
        finally:
            playing.cancel()

    async def Download(self, request, context):
        self.downloads.append(request)
        if self.refuse_downloads:
            await context.abort(self.refuse_downloads.pop(), "not now")
        for chunk in split(START):
            yield chunk

    async def Upload(self, chunks, context):
        blob = bytearray()
        assembler = Assembler(blob.extend, size_limit=1 << 20)
        assembler.feed(await chunks.__anext__())
        if self.refuse_uploads:
            await context.abort(self.refuse_uploads.pop(), "not now")
        await context.send_initial_metadata((ADMITTED,))
        async for chunk in chunks:
            assembler.feed(chunk)
        self.updates.append((assembler.finish().update, bytes(blob)))
        return pb.UploadReply()


def work(script, *, engine=None, prepare=lambda fake: None, **options):
    """A worker against a fake coordinator until `script` sets `done`."""

    async def run():
        done = asyncio.Event()

        async def play(hear, say, number):
            await script(hear, say, number, fake)
            done.set()
            await asyncio.Event().wait()

        fake = FakeCoordinator(play)
        prepare(fake)
        server = grpc.aio.server(options=server_options())
        add_FederationServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        worker = Worker(
            engine=engine or NoopEngine(), address=f"127.0.0.1:{port}", name="ada",
            **{"give_up_after_s": 30.0, **options},
        )  # fmt: skip
        working = asyncio.ensure_future(worker.run())
        waiting = asyncio.ensure_future(done.wait())
        try:
            finished, _ = await asyncio.wait(
                {working, waiting}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
            )
            if working in finished:
                working.result()
            assert finished, "nothing came of it"
        finally:
            for task in (working, waiting):
                task.cancel()
            await asyncio.wait({working, waiting})
            await server.stop(grace=0)
        return fake

    return asyncio.run(run())


def prepare_order(run_id="r1", clients=(0, 1)):
    shards = [pb.Shard(client=client, indices=range(client + 1)) for client in clients]
    return pb.Prepare(
        run_id=run_id, experiment_json=Experiment().model_dump_json(), base_digest=BASE_DIGEST, start_sha256=SHA,
        shards=shards,
    )  # fmt: skip


def train_order(round_=1, clients=(0, 1), run_id="r1"):
    return pb.Train(run_id=run_id, round=round_, state_sha256=SHA, clients=clients)


def updates_of(fake):
    return [(update.round, update.client) for update, _ in fake.updates]


def test_a_run_from_hello_to_release():
    engine = NoopEngine()
    reports = []

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        prepared = await hear("prepared", "trouble")
        assert (prepared.run_id, prepared.device, prepared.precision) == ("r1", "noop", "fp32")
        for round_ in (1, 2):
            say(train=train_order(round_))
            for _ in range(2):
                while (report := await hear("phase_time", "trouble")).phase != "upload":
                    reports.append((report.round, report.client, report.phase))
                assert report.seconds >= 0
        say(release=pb.Release(run_id="r1", reason="finished"))
        assert (await hear("released")).run_id == "r1"

    fake = work(script, engine=engine, clients=(0, 1), own_data=True)
    (hello,) = fake.hellos
    assert (hello.protocol, hello.name, list(hello.clients), hello.own_data) == (PROTOCOL, "ada", [0, 1], True)
    assert hello.versions["federa"] == __version__
    assert hello.device["board"] == "no board"
    assert len(hello.instance) == 32
    # One download a round for both clients, one install a run.
    assert len(fake.downloads) == 2
    assert engine.calls == ["prepare", "install", "train", "train", "train", "train", "release"]
    assert engine.trained == updates_of(fake) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for update, blob in fake.updates:
        assert (update.run_id, update.worker, update.examples) == ("r1", "ada", update.client + 1)
        assert len(update.step_ms) == 4
        expected = trained_state(unpack(START), update.round, update.client)
        assert all((unpack(blob)[name] == value).all() for name, value in expected.items())
    assert reports[:4] == [(1, 0, "idle"), (1, 0, "download"), (1, 0, "load"), (1, 0, "load")]
    assert [phase for round_, client, phase in reports if (round_, client) == (2, 1)] == ["load", "train"]


def test_what_was_announced_already_is_not_trained_twice():
    # After a reconnect the coordinator announces again what it still misses; that may be in hand here.
    engine = NoopEngine()

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        for _ in range(3):
            say(train=train_order(clients=(0, 1)))
        say(train=train_order(round_=2, clients=(1,)))
        while len(fake.updates) < 3:
            await hear("phase_time")

    fake = work(script, engine=engine)
    assert engine.trained == updates_of(fake) == [(1, 0), (1, 1), (2, 1)]


def test_a_worker_reconnects_with_its_own_instance_and_goes_on():
    engine = NoopEngine()

    async def script(hear, say, number, fake):
        if number == 1:
            say(prepare=prepare_order())
            await hear("prepared")
            return_now.set()
            raise ConnectionError("the coordinator's stream breaks")
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        while len(fake.updates) < 2:
            await hear("phase_time")

    return_now = threading.Event()
    fake = work(script, engine=engine)
    assert return_now.is_set()
    first, second = fake.hellos[:2]
    assert first == second
    # The model was loaded once.
    assert engine.calls.count("prepare") == 1


def test_transfers_that_fail_in_passing_are_tried_again():
    def prepare(fake):
        fake.refuse_downloads = [grpc.StatusCode.UNAVAILABLE] * 2
        fake.refuse_uploads = [grpc.StatusCode.UNAVAILABLE]

    async def script(hear, say, number, fake):
        say(prepare=prepare_order(clients=(0,)))
        await hear("prepared")
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            assert (await hear("phase_time", "trouble")).DESCRIPTOR.name == "PhaseTime"

    fake = work(script, prepare=prepare)
    assert updates_of(fake) == [(1, 0)]
    assert len(fake.downloads) == 3


def test_a_refused_update_is_left_and_the_next_client_trained():
    # Too late for its round: the coordinator went on without it.
    def prepare(fake):
        fake.refuse_uploads = [grpc.StatusCode.FAILED_PRECONDITION]

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        while not fake.updates:
            assert (await hear("phase_time", "trouble")).DESCRIPTOR.name == "PhaseTime"

    assert updates_of(work(script, prepare=prepare)) == [(1, 1)]


def test_trouble_is_told_and_the_worker_stays():
    said = []

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order(clients=(1,)))
        said.append(await hear("trouble"))
        say(release=pb.Release(run_id="r1"))
        await hear("released")

    work(script, engine=NoopEngine(trouble="the disk is full"))
    (trouble,) = said
    assert (trouble.run_id, trouble.round, trouble.client) == ("r1", 1, 1)
    assert (trouble.message, trouble.bad_input) == ("the disk is full", False)


def test_what_cannot_be_prepared_is_told():
    class Unprepared(NoopEngine):
        def prepare(self, order):
            raise BadInput("model: cannot load x")

    said = []

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        said.append(await hear("trouble"))

    work(script, engine=Unprepared())
    (trouble,) = said
    assert (trouble.round, trouble.message, trouble.bad_input) == (0, "model: cannot load x", True)


def test_a_release_ends_a_training_under_way():
    engine = NoopEngine(train_s=8.0)
    took = []

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order())
        while (await hear("activity")).phase != "train":
            pass
        began = time.monotonic()
        say(release=pb.Release(run_id="r1"))
        await hear("released")
        took.append(time.monotonic() - began)

    fake = work(script, engine=engine)
    # A quarter of a client's training is a step; two clients would take sixteen seconds.
    assert took[0] < 6
    assert fake.updates == []
    assert engine.calls[-1] == "release"


def test_orders_of_another_run_are_left_alone():
    engine = NoopEngine()

    async def script(hear, say, number, fake):
        say(prepare=prepare_order())
        await hear("prepared")
        say(train=train_order(run_id="another"))
        say(release=pb.Release(run_id="another"))
        assert (await hear("released")).run_id == "another"
        say(train=train_order(clients=(0,)))
        while not fake.updates:
            await hear("phase_time")

    assert updates_of(work(script, engine=engine)) == [(1, 0)]
    assert "release" not in engine.calls


def test_the_next_run_replaces_the_last():
    engine = NoopEngine()

    async def script(hear, say, number, fake):
        for run_id in ("r1", "r2"):
            say(prepare=prepare_order(run_id))
            assert (await hear("prepared")).run_id == run_id
        say(train=train_order(run_id="r2", clients=(0,)))
        while not fake.updates:
            await hear("phase_time")

    work(script, engine=engine)
    assert engine.calls == ["prepare", "release", "prepare", "install", "train"]


@pytest.mark.parametrize(
    "status",
    [grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT],
)
def test_a_refused_hello_ends_the_worker_with_the_coordinators_words(status):
    def refuse(fake):
        async def control(requests, context):
            await context.abort(status, "give this one another --name")
            yield

        fake.Control = control

    with pytest.raises(BadInput, match="give this one another --name"):
        work(None, prepare=refuse)


def test_a_coordinator_that_falls_silent_is_taken_for_lost(monkeypatch):
    # It answers no heartbeat, while its connection stands.
    with pytest.raises(FederaError, match=r"gave up.*--give-up-after 1\): no answer to its heartbeats"):

        async def script(hear, say, number, fake):
            await asyncio.Event().wait()

        work(script, give_up_after_s=1.0)
