"""The worker: its command line, how it gives up, and how it goes on when the coordinator comes and goes."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys

import grpc
import pytest
from fake_coordinator import KEY, PATIENCE_S, START, prepare_order, train_order, updates_of, work
from hypothesis import given
from hypothesis import strategies as st

from edge import main as edge_main
from edge.main import parse_clients
from federa import __version__
from federa.errors import BadInput, FederaError
from federa.tensors.state import unpack
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL
from tests.doubles.noop import STEPS, NoopRuntime, trained_state

NOOP = ("-m", "tests.doubles.noop")


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
        ({"--name": ""}, "--name: must be given, unless a certificate (--certs) says it"),
        ({"--name": "   "}, "--name: must be 1 to 100 printable characters"),
        ({"--name": "a\nb"}, "--name"),
        ({"--name": "a" * 101}, "--name"),
        ({"--give-up-after": "0"}, "--give-up-after: must be above 0"),
        ({"--give-up-after": "-1"}, "--give-up-after"),
        ({"--give-up-after": "nan"}, "--give-up-after"),
        ({"--threads": "0"}, "--threads: must be auto, or a number from 1 to 1024"),
        ({"--threads": "1025"}, "--threads"),
        ({"--data": "no/such/file.csv"}, "--data: no such file: no/such/file.csv"),
        ({"--clients": "4-2"}, "--clients"),
        ({"--power": "nuclear"}, "--power: "),
        ({"--power": "replay:no/such/log"}, "--power: "),
        ({"--power-hz": "0"}, "--power-hz: must be from 0.1 to 100"),
        ({"--power-hz": "101"}, "--power-hz"),
        ({"--power-hz": "nan"}, "--power-hz"),
    ],
)
def test_bad_arguments_end_with_2_and_a_line_that_names_them(capsys, changes, words):
    arguments = [part for pair in {**GOOD, **changes}.items() for part in pair]
    code = edge_main.main(arguments, lambda options, threads: pytest.fail("an runtime was made"))
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("federa-worker: ")
    assert words in line


@pytest.mark.parametrize("arguments", [[], ["--name", "ada"], [*GOOD, "--nonsense"], ["--device", "tpu"]])
def test_arguments_that_argparse_refuses_end_with_2_too(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        edge_main.main(arguments, NoopRuntime)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def test_neither_side_needs_torch_to_start():
    # Seconds and memory at every start, also of the tests of whole federations.
    code = (
        "import sys, tests.doubles.noop, coordinator.main, edge.main; "
        "print({'torch', 'transformers', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


# ---------------------------------------------------------------- giving up


@pytest.fixture
def start_worker(tmp_path):
    def start(address, give_up_after_s):
        command = [sys.executable, *NOOP, "worker", "--coordinator", address, "--name", "ada", "--state", str(tmp_path)]
        command += ["--power", "none"]
        return subprocess.Popen([*command, "--give-up-after", str(give_up_after_s)], stderr=subprocess.PIPE, text=True)

    return start


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def assert_gave_up(process, address):
    _, printed = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    last = printed.splitlines()[-1]
    assert last.startswith(f"federa-worker: gave up: no word from the coordinator at {address}")
    assert "(--give-up-after 1)" in last
    assert "Traceback" not in printed


def test_a_worker_gives_up_where_nobody_listens(start_worker):
    address = closed_port()
    assert_gave_up(start_worker(address, 1), address)


def test_a_worker_gives_up_where_somebody_listens_and_never_answers(start_worker):
    # The connection stands, so gRPC itself sees nothing wrong.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert_gave_up(start_worker(address, 1), address)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_a_worker_that_waits(start_worker, number, code):
    process = start_worker(closed_port(), 60)
    try:
        assert "power: --power none" in process.stderr.readline()
        assert "not connected" in process.stderr.readline()
        process.send_signal(number)
        _, printed = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == code
    assert "Traceback" not in printed


# ---------------------------------------------------------------- at work


def test_a_run_from_hello_to_release():
    runtime = NoopRuntime()
    phase_energies = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        prepared = await receive("prepared", "client_error")
        assert (prepared.run_id, prepared.device, prepared.precision) == ("r1", "noop", "fp32")
        assert dict(prepared.examples) == {0: 1, 1: 2}
        for round_ in (1, 2):
            send(train=train_order(round_))
            while len(fake.updates) < 2 * round_:
                assert (await receive("activity", "client_error")).DESCRIPTOR.name == "Activity"
        send(release=pb.Release(run_id="r1", reason="finished"))
        while (report := await receive("telemetry", "released")).DESCRIPTOR.name == "Telemetry":
            phase_energies.extend(report.phases)
        assert report.run_id == "r1"

    fake = work(script, runtime=runtime, clients=(0, 1), own_data=True)
    (hello,) = fake.hellos
    assert (hello.protocol, hello.name, list(hello.clients), hello.own_data) == (PROTOCOL, "ada", [0, 1], True)
    assert hello.versions["federa"] == __version__
    assert hello.device["board"] == "no board"
    assert hello.key == KEY
    # One download a round for both clients, one install a run.
    assert len(fake.downloads) == 2
    assert all((request.worker, request.key, request.offset) == ("ada", KEY, 0) for request in fake.downloads)
    assert runtime.calls == ["prepare", "install", "train", "train", "train", "train", "release"]
    assert runtime.trained == updates_of(fake) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for update, blob in fake.updates:
        assert (update.run_id, update.worker, update.key) == ("r1", "ada", KEY)
        assert update.examples == update.client + 1
        assert len(update.step_ms) == 4
        expected = trained_state(unpack(START), update.round, update.client)
        assert all((unpack(blob)[name] == value).all() for name, value in expected.items())
    seen = {(energy.round, energy.client, energy.phase) for energy in phase_energies}
    assert {
        (0, 0, "load"),
        (0, 0, "idle"),
        (1, 0, "download"),
        (1, 0, "load"),
        (1, 0, "train"),
        (1, 0, "upload"),
    } <= seen
    assert {phase for round_, client, phase in seen if (round_, client) == (2, 1)} == {"load", "train", "upload"}
    assert {energy.round for energy in phase_energies} == {0, 1, 2}
    assert all(
        energy.seconds > 0 and not energy.HasField("joules") and energy.covered_s == 0 for energy in phase_energies
    )


def test_an_error_is_reported_and_the_worker_stays():
    errors = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order(clients=(1,)))
        errors.append(await receive("client_error"))
        send(release=pb.Release(run_id="r1"))
        await receive("released")

    work(script, runtime=NoopRuntime(failure="the disk is full"))
    (client_error,) = errors
    assert (client_error.run_id, client_error.round, client_error.client) == ("r1", 1, 1)
    assert (client_error.message, client_error.bad_input) == ("the disk is full", False)


def test_what_cannot_be_prepared_is_told():
    class Unprepared(NoopRuntime):
        def prepare(self, order, model=None):
            raise BadInput("model: cannot load x")

    errors = []

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        errors.append(await receive("client_error"))

    work(script, runtime=Unprepared())
    (client_error,) = errors
    assert (client_error.round, client_error.message, client_error.bad_input) == (0, "model: cannot load x", True)


def test_a_release_ends_a_training_under_way():
    runtime = NoopRuntime(train_s=4.0)

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order())
        while (await receive("activity")).phase != "train":
            pass
        send(release=pb.Release(run_id="r1"))
        await receive("released")

    fake = work(script, runtime=runtime)
    # It ended at its next step, and the other client's never began.
    assert 1 <= runtime.steps < STEPS and len(runtime.trained) == 1
    assert fake.updates == []
    assert runtime.calls[-1] == "release"


def test_orders_of_another_run_are_left_alone():
    runtime = NoopRuntime()

    async def script(receive, send, number, fake):
        send(prepare=prepare_order())
        await receive("prepared")
        send(train=train_order(run_id="another"))
        send(release=pb.Release(run_id="another"))
        assert (await receive("released")).run_id == "another"
        send(train=train_order(clients=(0,)))
        while not fake.updates:
            await receive("activity")

    assert updates_of(work(script, runtime=runtime)) == [(1, 0)]
    assert "release" not in runtime.calls


def test_the_next_run_replaces_the_last():
    runtime = NoopRuntime()

    async def script(receive, send, number, fake):
        for run_id in ("r1", "r2"):
            send(prepare=prepare_order(run_id))
            assert (await receive("prepared")).run_id == run_id
        send(train=train_order(run_id="r2", clients=(0,)))
        while not fake.updates:
            await receive("activity")

    work(script, runtime=runtime)
    assert runtime.calls == ["prepare", "release", "prepare", "install", "train"]


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

        async def script(receive, send, number, fake):
            await asyncio.Event().wait()

        work(script, give_up_after_s=1.0)
