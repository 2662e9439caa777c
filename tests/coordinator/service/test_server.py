"""The workers' calls, over a real connection in one process: control streams, orders, transfers."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from pathlib import Path

import grpc
import pytest
from live_coordinator import Status, experiment, hello, iter_async, key_of, refused, serving

from coordinator import main as coordinator_main
from coordinator.clients import cohort
from coordinator.service.server import Coordinator
from edge.worker.transfer import Download, Link
from federa.config import parse_json
from federa.errors import BadInput
from federa.tensors.state import digest_of, unpack
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL
from protos.streams import Assembler, header_of
from tests.doubles.noop import NoopReferenceModel


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch):
    # A worker that is driven by hand does not always say that it released the run.
    monkeypatch.setattr(cohort, "RELEASE_WAIT_S", 0.2)


# ---------------------------------------------------------------- hello


@pytest.mark.parametrize(
    ("messages", "status", "words"),
    [
        # Not a refusal: a link may have been cut just here, and an honest worker tries again.
        ([], Status.ABORTED, ["must begin with a hello", "nothing came"]),
        ([pb.WorkerMessage(heartbeat=pb.Heartbeat())], Status.INVALID_ARGUMENT, ["hello"]),
        ([pb.WorkerMessage()], Status.INVALID_ARGUMENT, ["hello"]),
        ([hello(name="")], Status.INVALID_ARGUMENT, ["a name of 1 to 100 printable characters"]),
        ([hello(name="x" * 101)], Status.INVALID_ARGUMENT, ["a name"]),
        ([hello(name="a\nb")], Status.INVALID_ARGUMENT, ["a name"]),
        ([hello(key="")], Status.INVALID_ARGUMENT, ["the worker's key and its process, 32 hex digits each"]),
        ([hello(key="x" * 32)], Status.INVALID_ARGUMENT, ["the worker's key"]),
        ([hello(key="0" * 33)], Status.INVALID_ARGUMENT, ["the worker's key"]),
        ([hello(process="")], Status.INVALID_ARGUMENT, ["its process, 32 hex digits each"]),
        (
            [hello(protocol=PROTOCOL + 1, versions={"federa": "9.9"})],
            Status.FAILED_PRECONDITION,
            [f"worker ada speaks protocol {PROTOCOL + 1} (federa 9.9)", f"the coordinator {PROTOCOL}", "install"],
        ),
        ([hello(protocol=0)], Status.FAILED_PRECONDITION, ["(federa unknown)"]),
    ],
)
def test_a_bad_hello_is_refused_in_words(tmp_path, messages, status, words):
    async def scenario(live):
        async with refused(status, *words):
            async for _ in live.federation.Control(iter_async(messages)):
                pytest.fail("was welcomed")
        assert live.coordinator.sessions.names == []

    serving(tmp_path, scenario)


def test_a_worker_that_says_nothing_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("coordinator.service.worker_service.HELLO_WAIT_S", 0.1)

    async def scenario(live):
        call = live.federation.Control()
        async with refused(Status.DEADLINE_EXCEEDED, "must begin with a hello", "nothing came for 0.1 s"):
            await call.read()

    serving(tmp_path, scenario)


def test_of_too_many_calls_that_say_nothing_the_oldest_is_ended_and_a_worker_gets_in(tmp_path, monkeypatch):
    monkeypatch.setattr("coordinator.service.worker_service.MAX_SILENT", 2)

    async def scenario(live):
        silent, codes = [], []
        for make in (live.federation.Control, live.federation.Upload):
            silent.append(make())
            codes.append(asyncio.ensure_future(silent[-1].code()))
            await asyncio.wait(codes, timeout=0.2)
        assert not any(code.done() for code in codes)
        await live.worker()
        assert await asyncio.wait_for(codes[0], 5) is Status.DEADLINE_EXCEEDED
        assert not codes[1].done()
        silent[1].cancel()

    serving(tmp_path, scenario)


def test_a_taken_name_is_refused_while_its_owner_is_here(tmp_path):
    async def scenario(live):
        first = await live.worker()
        async with refused(Status.ALREADY_EXISTS, "'ada'", "connected already", "--name"):
            async for _ in live.federation.Control(iter_async([hello(key=key_of("another"))])):
                pytest.fail("was welcomed")
        # The one who was here is not disturbed.
        await first.send(heartbeat=pb.Heartbeat(sequence=7))
        assert (await first.receive("heartbeat")).sequence == 7
        await first.call.done_writing()
        assert await first.call.read() is grpc.aio.EOF
        await live.worker(key=key_of("another"))

    serving(tmp_path, scenario)


def test_a_name_of_the_run_under_way_is_its_key_s_even_while_the_worker_is_away(tmp_path):
    async def scenario(live):
        worker = await live.training()
        changed = asyncio.ensure_future(live.coordinator.sessions.change())
        await asyncio.sleep(0)
        worker.call.cancel()
        await changed
        async with refused(Status.ALREADY_EXISTS, "belongs to another worker of the run under way", "--state"):
            async for _ in live.federation.Control(iter_async([hello(key=key_of("another"))])):
                pytest.fail("was welcomed")
        back = await live.training()
        assert back.train == worker.train

    serving(tmp_path, scenario, experiment=experiment())


def test_a_reconnecting_worker_fences_its_own_old_stream(tmp_path):
    async def scenario(live):
        old = await live.worker()
        new = await live.worker()
        assert await old.call.read() is grpc.aio.EOF
        assert await old.call.code() is Status.OK
        assert live.coordinator.sessions.names == ["ada"]
        await new.send(heartbeat=pb.Heartbeat(sequence=3))
        assert (await new.receive("heartbeat")).sequence == 3

    serving(tmp_path, scenario)


def test_a_copy_of_a_key_is_refused_and_log_display_and_result_say_so(tmp_path, caplog):
    async def scenario(live):
        worker = await live.training()

        async def answer():
            assert await worker.receive("ping")
            await worker.send(ping=pb.Ping(number=1))

        answering = asyncio.ensure_future(answer())
        async with refused(Status.FAILED_PRECONDITION, "'ada' and its key are in use twice", "(127.0.0.1)", "--name"):
            async for _ in live.federation.Control(iter_async([hello(process=key_of("the card's copy"))])):
                pytest.fail("was welcomed")
        await answering
        words = "a second worker named ada with the same key was refused: name and key are in use twice"
        assert list((await live.until(lambda snapshot: snapshot.warnings)).warnings) == [words]
        assert "a second worker named ada with the same key, at 127.0.0.1, was refused" in caplog.text
        for client in (0, 1, 2):
            await worker.upload(client)
        await worker.released()
        await live.end()
        (run,) = json.loads(await live.fetch("result.json"))["runs"]
        assert run["copied_keys"] == ["ada"]
        assert b"A second worker named ada with the same key was refused" in await live.fetch("report.html")

    serving(tmp_path, scenario, experiment=experiment())


def test_a_worker_that_hangs_up_is_gone(tmp_path):
    async def scenario(live):
        worker = await live.worker()
        changed = asyncio.ensure_future(live.coordinator.sessions.change())
        await asyncio.sleep(0)
        worker.call.cancel()
        await changed
        assert live.coordinator.sessions.names == []

    serving(tmp_path, scenario)


def test_a_worker_that_falls_silent_is_taken_for_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("coordinator.service.worker_service.SILENCE_S", 0.2)

    async def scenario(live):
        worker = await live.worker()
        assert await worker.call.read() is grpc.aio.EOF
        assert live.coordinator.sessions.names == []

    serving(tmp_path, scenario)


# ---------------------------------------------------------------- a run


def test_a_run_by_hand_from_hello_to_result(tmp_path):
    async def scenario(live):
        worker = await live.training()
        assert worker.prepare.start_sha256 == worker.train.state_sha256
        assert parse_json(worker.prepare.experiment_json).data.labels == ("no", "yes"), "what was found is sent"
        assert [(shard.client, list(shard.indices)) for shard in worker.prepare.shards] == [
            (0, [0]),
            (1, [1, 2]),
            (2, [3, 4, 5]),
        ]
        assert (worker.train.round, list(worker.train.clients)) == (1, [0, 1, 2])
        for client in (2, 0, 1):
            assert (await worker.upload(client)).already_accepted is False
        assert (await worker.released()).run_id == worker.train.run_id
        last = await live.end()
        assert (last.outcome.exit_code, last.outcome.message) == (0, "")
        bundle = ["final/bundle.json", "final/start.safetensors", "final/state.safetensors"]
        assert list(last.files) == [*bundle, "report.html", "result.json"]
        final = unpack(await live.fetch("final/state.safetensors"))
        # Clients 0, 1, 2 with 1, 2, 3 examples moved every value by 1/7, 2/7, 3/7.
        start = unpack(worker.state)
        for name, value in final.items():
            assert value == pytest.approx(start[name] + (1 * 1 + 2 * 2 + 3 * 3) / 7 / 6, rel=1e-6)
        async with refused(Status.FAILED_PRECONDITION, f"run {worker.train.run_id} is not under way"):
            await worker.upload(0)

    serving(tmp_path, scenario, experiment=experiment())


def test_a_returning_worker_is_told_only_what_is_missing(tmp_path):
    async def scenario(live):
        worker = await live.training()
        await worker.upload(1)
        again = await live.training()
        assert (worker.prepare.trial, again.prepare.trial) == (True, False), "once a run"
        again.prepare.trial = True
        assert again.prepare == worker.prepare
        assert (again.train.round, again.train.state_sha256) == (1, worker.train.state_sha256)
        assert list(again.train.clients) == [0, 2]

    serving(tmp_path, scenario, experiment=experiment())


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ({0: 1, 1: 2}, "it has 0 examples of client 2"),
        ({0: 1, 1: 2, 2: 0}, "it has 0 examples of client 2"),
        ({0: 1, 1: 2, 2: 4}, "it has 4 examples of client 2, must be the 3 that were dealt to it"),
        ({0: 1, 1: 2, 2: 2**64 - 1}, "must be the 3 that were dealt to it"),
    ],
)
def test_a_worker_that_announces_other_examples_than_were_dealt_to_it_takes_no_part(tmp_path, examples, words):
    async def scenario(live):
        worker = await live.worker()
        prepare = await worker.receive("prepare")
        await worker.send(prepared=pb.Prepared(run_id=prepare.run_id, examples=examples))
        last = await live.end()
        # Nobody else could come: the run cannot begin.
        assert last.outcome.exit_code == 2
        assert last.outcome.message.startswith("worker ada, preparing: ") and words in last.outcome.message

    serving(tmp_path, scenario, experiment=experiment())


@pytest.mark.parametrize("first", [None, pb.Chunk(), pb.Chunk(data=b"x"), header_of(b"x")])
def test_an_upload_without_a_header_for_an_update_is_refused(tmp_path, first):
    async def scenario(live):
        status = Status.ABORTED if first is None else Status.INVALID_ARGUMENT
        async with refused(status, "must begin with a header for an update"):
            await live.federation.Upload(iter_async([] if first is None else [first]))

    serving(tmp_path, scenario)


def test_only_the_states_of_the_run_can_be_downloaded(tmp_path):
    async def scenario(live):
        worker = await live.training()
        run_id, start = worker.train.run_id, worker.train.state_sha256
        for digest in (bytes(32), b"", b"../../../../etc/passwd"):
            async with refused(Status.NOT_FOUND, f"run {run_id} has no state"):
                await worker.download(digest)
        for run in ("another", ""):
            async with refused(Status.FAILED_PRECONDITION, f"run {run} is not under way"):
                await worker.download(start, run_id=run)
        assert await worker.download(start) == worker.state

    serving(tmp_path, scenario, experiment=experiment())


def test_a_download_goes_on_from_any_byte_and_none_behind_the_last(tmp_path):
    async def scenario(live):
        worker = await live.training()
        asked = {"run_id": worker.train.run_id, "sha256": worker.train.state_sha256, "worker": "ada", "key": worker.key}
        blob = worker.state
        for offset in (0, 1, len(blob) - 1, len(blob)):
            rest = bytearray()
            assembler = Assembler(rest.extend, size_limit=1 << 20)
            call = live.federation.Download(pb.DownloadRequest(**asked, offset=offset))
            assembler.feed(await call.read())
            assembler.restore(blob[:offset])
            while (chunk := await call.read()) is not grpc.aio.EOF:
                assembler.feed(chunk)
            assembler.finish()
            assert rest == blob[offset:]
        async with refused(Status.OUT_OF_RANGE, f"has {len(blob)} bytes"):
            await worker.download(worker.train.state_sha256, offset=len(blob) + 1)
        # The worker's own code, from the first byte.
        download = Download(live.federation, pb.DownloadRequest(**asked), Link(None))
        assert await download.attempt() == blob

    serving(tmp_path, scenario, experiment=experiment())


def test_a_download_is_counted_as_it_went_over_the_wire(tmp_path):
    async def scenario(live):
        worker = await live.training()
        ledger = live.run.storage.ledger
        assert len(worker.state) < ledger.bytes_down < len(worker.state) + 100
        assert ledger.bytes_up == 0
        assert live.coordinator.current.board.snapshot().run.bytes_down == ledger.bytes_down

    serving(tmp_path, scenario, experiment=experiment())


def test_a_state_on_disk_is_the_state_on_the_wire(tmp_path):
    async def scenario(live):
        worker = await live.training()
        path = Path(live.run.storage.folder.state(digest_of(worker.state)))
        assert path.read_bytes() == worker.state
        assert shapes_of_file(path) == {f"layer.{index:03}": (16,) for index in range(4)}

    serving(tmp_path, scenario, experiment=experiment())


def shapes_of_file(path):
    return {name: value.shape for name, value in unpack(path.read_bytes()).items()}


def test_reports_of_another_run_are_not_this_runs(tmp_path):
    async def scenario(live):
        worker = await live.training()
        await worker.send(client_error=pb.ClientError(run_id="an earlier one", round=1, message="late"))
        spent = [
            pb.PhaseEnergy(round=1, phase="train", seconds=seconds) for seconds in (99.0, 0.5, -1.0, math.nan, math.inf)
        ]
        await worker.send(telemetry=pb.Telemetry(run_id="an earlier one", epoch=1, sequence=1, phases=spent[:1]))
        # No clock says the last three.
        await worker.send(telemetry=pb.Telemetry(run_id=worker.train.run_id, epoch=1, sequence=1, phases=spent[1:]))
        await worker.send(heartbeat=pb.Heartbeat(sequence=1))
        await worker.receive("heartbeat")  # all before it was read
        run = live.run.storage
        run.ledger.flush()
        assert [(row["device"], row["phase"], row["seconds"]) for row in run.ledger.phases()] == [("ada", "train", 0.5)]
        assert run.ledger.client_failures() == []
        assert (await worker.upload(0)).already_accepted is False

    serving(tmp_path, scenario, experiment=experiment())


# ---------------------------------------------------------------- failure


def test_a_client_that_fails_is_recorded_in_its_worker_s_words_and_drawn_again(tmp_path):
    async def scenario(live):
        worker = await live.training()
        words = "no such file:\n  x.csv"
        await worker.send(client_error=pb.ClientError(run_id=worker.train.run_id, round=1, client=2, message=words))
        # Another worker's client, and another round: nobody's business.
        await worker.send(
            client_error=pb.ClientError(run_id=worker.train.run_id, round=1, client=7, message="not mine")
        )
        await worker.send(
            client_error=pb.ClientError(run_id=worker.train.run_id, round=9, client=0, message="too early")
        )
        for client in (0, 1):
            await worker.upload(client)
        again = await worker.receive("train")
        assert (again.round, list(again.clients)) == (1, [2])
        (failure,) = live.run.storage.ledger.client_failures()
        assert {key: failure[key] for key in ("round", "attempt", "client", "device", "kind", "reason")} == {
            "round": 1, "attempt": 1, "client": 2, "device": "ada", "kind": "failed", "reason": "no such file: x.csv",
        }  # fmt: skip
        await worker.upload(2)
        await worker.released()
        assert (await live.end()).outcome.exit_code == 0

    serving(tmp_path, scenario, experiment=experiment())


def test_a_round_below_its_quorum_pauses_and_says_why_and_goes_on_when_a_worker_comes(tmp_path):
    async def scenario(live):
        worker = await live.training()
        for attempt in (1, 2):
            for client in worker.train.clients:
                told = {"round": 1, "client": client, "message": "the link is cut", "passing": True}
                await worker.send(client_error=pb.ClientError(run_id=worker.train.run_id, **told))
            if attempt == 1:
                worker.train = await worker.receive("train")
        paused = (await live.until(lambda snapshot: snapshot.run.stage == "paused")).run.note
        for words in ("round 1 has 0 of the 3 updates it needs after 2 attempts", "waiting for", "the link is cut"):
            assert words in paused
        assert "client 2 on ada" in paused
        # It is mended, and comes back.
        mended = await live.training()
        assert list(mended.train.clients) == [0, 1, 2]
        for client in range(3):
            await mended.upload(client)
        await mended.released()
        assert (await live.end()).outcome.exit_code == 0

    serving(tmp_path, scenario, experiment=experiment(attempts=2))


@pytest.mark.parametrize(("bad_input", "code"), [(True, 2), (False, 1)])
def test_the_same_failure_of_all_clients_ends_the_run_and_its_worker_has_the_next_one(tmp_path, bad_input, code):
    async def scenario(live):
        worker = await live.training()
        for client in worker.train.clients:
            told = {"round": 1, "client": client, "message": "index out of range\x1b[2J", "bad_input": bad_input}
            await worker.send(client_error=pb.ClientError(run_id=worker.train.run_id, **told))
        await worker.released()
        last = await live.end()
        assert last.outcome.exit_code == code
        assert "every client fails in the same way: client 0 on ada: index out of range\\x1b[2J" in last.outcome.message
        assert "\n" not in last.outcome.message
        (run,) = json.loads(await live.fetch("result.json"))["runs"]
        assert (run["state"], run["failure"]) == ("failed", last.outcome.message)
        assert [row["client"] for row in run["setbacks"]] == [0, 1, 2]
        # The same worker, on the same stream, and the next experiment.
        live.experiment_id = await live.submit(experiment(seed=1))
        await worker.get_ready()
        for client in worker.train.clients:
            await worker.upload(client)
        await worker.released()
        assert (await live.end()).outcome.exit_code == 0

    serving(tmp_path, scenario, experiment=experiment())


def test_what_ended_with_a_failure_that_all_had_goes_on_when_it_is_submitted_again(tmp_path):
    async def fails(live):
        live.experiment_id = await live.submit(experiment(), "abc")
        worker = await live.training()
        for client in worker.train.clients:
            told = {"round": 1, "client": client, "message": "no kernel image"}
            await worker.send(client_error=pb.ClientError(run_id=worker.train.run_id, **told))
        await worker.released()
        assert (await live.end()).outcome.exit_code == 1

    async def mended(live):
        assert await live.submit(experiment(), "abc") == "abc"
        live.experiment_id = "abc"
        worker = await live.training()
        assert sorted(worker.train.clients) == [0, 1, 2]
        for client in worker.train.clients:
            await worker.upload(client)
        await worker.released()
        assert (await live.end()).outcome.exit_code == 0

    serving(tmp_path, fails)
    serving(tmp_path, mended)


@pytest.mark.parametrize(("bad_input", "code"), [(True, 2), (False, 1)])
def test_a_worker_that_cannot_prepare_ends_a_run_that_has_nobody_else(tmp_path, bad_input, code):
    async def scenario(live):
        worker = await live.worker()
        prepare = await worker.receive("prepare")
        await worker.send(
            client_error=pb.ClientError(run_id=prepare.run_id, message="no such file: x.csv", bad_input=bad_input)
        )
        assert (await worker.receive("release")).run_id == prepare.run_id
        last = await live.end()
        assert last.outcome.exit_code == code
        assert last.outcome.message == "worker ada, preparing: no such file: x.csv"
        # What there is can be read: a result without a final state.
        assert list(last.files) == ["report.html", "result.json"]

    serving(tmp_path, scenario, experiment=experiment())


# ---------------------------------------------------------------- listening


def test_a_port_in_use_is_refused_with_exit_code_2(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code = coordinator_main.main(["--serve", "--out", str(tmp_path), "--listen", address], NoopReferenceModel)
    assert code == 2
    assert (
        capsys.readouterr().err.splitlines()[-1].startswith(f"federa-coordinator: --listen: cannot listen on {address}")
    )


def test_a_second_coordinator_does_not_share_the_firsts_port(tmp_path):
    # By default gRPC opens ports so that two servers can have the same one.
    async def scenario(live):
        with pytest.raises(BadInput, match="the port is in use"):
            await Coordinator(tmp_path).serve(live.address)

    serving(tmp_path, scenario)


@pytest.mark.parametrize(
    "address", ["", "50051", ":50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "h:65536", "h:-1"]
)
def test_a_bad_address_is_refused(tmp_path, address, capsys):
    code = coordinator_main.main(["--serve", "--out", str(tmp_path), "--listen", address], NoopReferenceModel)
    assert code == 2
    assert "--listen: must be HOST:PORT" in capsys.readouterr().err


def test_the_port_that_was_taken_is_told(tmp_path):
    async def scenario(live):
        host, _, port = live.address.rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0

    serving(tmp_path, scenario)
