"""The coordinator's calls, over a real connection in one process: a worker and an operator that are driven by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import grpc
import pytest

from benchmarks.noop import NoopLearner, trained_state
from coordinator import crew as coordinator_crew
from coordinator import main as coordinator_main
from coordinator.server import Coordinator
from federa.config import Experiment, Federation, Target
from federa.errors import BadInput
from federa.state import digest_of, pack, shapes_of, unpack
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL, client_options
from protos.federation_pb2_grpc import FederationStub, OperationStub
from protos.streams import Assembler, split

PATIENCE_S = 20.0
EXPERIMENT = Experiment(
    federation=Federation(devices=1, clients=3, clients_per_round=3, rounds=1), target=Target(value=0.9)
)
Status = grpc.StatusCode


def serving(tmp_path, scenario, *, experiment=None, make_learner=NoopLearner):
    """Run `scenario(house)` against a coordinator that serves, and works on `experiment` if there is one."""

    async def run():
        coordinator = Coordinator(tmp_path, make_learner)
        server, address = await coordinator.serve("127.0.0.1:0")
        working = asyncio.ensure_future(coordinator.work())
        async with grpc.aio.insecure_channel(address, options=client_options()) as channel:
            house = House(coordinator, address, channel)
            if experiment is not None:
                house.campaign = coordinator.queue(experiment)
            try:
                playing = asyncio.ensure_future(asyncio.wait_for(scenario(house), PATIENCE_S))
                done, _ = await asyncio.wait({playing, working}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                assert playing in done, "the coordinator stopped working"
            finally:
                playing.cancel()
                # A run under way writes its result before its folder goes.
                if coordinator.stop():
                    await asyncio.wait([working], timeout=5)
                working.cancel()
                coordinator.sessions.close()
                await server.stop(grace=0)

    asyncio.run(run())


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch):
    # A worker that is driven by hand does not always say that it released the run.
    monkeypatch.setattr(coordinator_crew, "RELEASE_WAIT_S", 0.2)


class House:
    """What a scenario works with."""

    def __init__(self, coordinator, address, channel):
        self.coordinator = coordinator
        self.address = address
        self.federation = FederationStub(channel)
        self.operation = OperationStub(channel)
        self.campaign = None

    async def worker(self, name="ada", instance="1", **hello):
        """A worker that has said hello and was welcomed."""
        worker = Worker(self, name)
        await worker.say(hello=pb.Hello(protocol=PROTOCOL, name=name, instance=instance, **hello))
        await worker.hear("welcome")
        return worker

    async def training(self):
        """A worker with its orders of the first round."""
        worker = await self.worker()
        worker.prepare = await worker.hear("prepare")
        await worker.say(prepared=pb.Prepared(run_id=worker.prepare.run_id, device="hand", precision="fp32"))
        worker.train = await worker.hear("train")
        worker.state = await self.download(worker.train.run_id, worker.train.state_sha256)
        return worker

    async def download(self, run_id, sha256, worker="ada"):
        blob = bytearray()
        assembler = Assembler(blob.extend, size_limit=1 << 20)
        async for chunk in self.federation.Download(pb.DownloadRequest(run_id=run_id, sha256=sha256, worker=worker)):
            assembler.feed(chunk)
        assert assembler.finish().sha256 == sha256
        return bytes(blob)

    async def fetch(self, path, experiment_id=None):
        blob = bytearray()
        assembler = Assembler(blob.extend, size_limit=64 << 20)
        request = pb.FetchRequest(experiment_id=experiment_id or self.campaign.experiment_id, path=path)
        async for chunk in self.operation.Fetch(request):
            assembler.feed(chunk)
        assembler.finish()
        return bytes(blob)


class Worker:
    """One control stream, a message at a time."""

    def __init__(self, house, name):
        self.house = house
        self.name = name
        self.call = house.federation.Control()

    async def say(self, **message):
        await self.call.write(pb.WorkerMessage(**message))

    async def hear(self, kind):
        """The next message, which must be of that kind. A worker that joins while a run gets ready may be told to
        prepare by both, so a second Prepare is passed over, as the real worker does."""
        while True:
            message = await self.call.read()
            assert message is not grpc.aio.EOF, f"the stream ended before {kind}: {await self.call.details()}"
            if kind == "prepare" or message.WhichOneof("message") != "prepare":
                break
        assert message.WhichOneof("message") == kind, message
        return getattr(message, kind)

    async def upload(self, client, blob=None, **changes):
        """Send an update of this round."""
        header = {"run_id": self.train.run_id, "round": self.train.round, "worker": self.name, "examples": client + 1}
        if blob is None:
            blob = pack(trained_state(unpack(self.state), self.train.round, client))
        update = pb.UpdateHeader(client=client, **{**header, **changes})
        return await self.house.federation.Upload(iter_async(split(blob, update)))


async def iter_async(things):
    for thing in things:
        yield thing


@contextlib.asynccontextmanager
async def refused(status, *words):
    """The block must be answered with that status, in one line that has these words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is status, caught.value
    for word in words:
        assert word in caught.value.details()
    assert "\n" not in caught.value.details()


# ---------------------------------------------------------------- hello


def hello(**changes):
    return pb.WorkerMessage(hello=pb.Hello(**{"protocol": PROTOCOL, "name": "ada", "instance": "1", **changes}))


@pytest.mark.parametrize(
    ("messages", "status", "words"),
    [
        ([], Status.INVALID_ARGUMENT, ["must begin with a hello"]),
        ([pb.WorkerMessage(heartbeat=pb.Heartbeat())], Status.INVALID_ARGUMENT, ["hello"]),
        ([pb.WorkerMessage()], Status.INVALID_ARGUMENT, ["hello"]),
        ([hello(name="")], Status.INVALID_ARGUMENT, ["a name"]),
        (
            [hello(protocol=PROTOCOL + 1, versions={"federa": "9.9"})],
            Status.FAILED_PRECONDITION,
            [f"worker ada speaks protocol {PROTOCOL + 1} (federa 9.9)", f"the coordinator {PROTOCOL}", "install"],
        ),
        ([hello(protocol=0)], Status.FAILED_PRECONDITION, ["(federa unknown)"]),
    ],
)
def test_a_bad_hello_is_refused_in_words(tmp_path, messages, status, words):
    async def scenario(house):
        async with refused(status, *words):
            async for _ in house.federation.Control(iter_async(messages)):
                pytest.fail("was welcomed")
        assert house.coordinator.sessions.names == []

    serving(tmp_path, scenario)


def test_a_worker_that_says_nothing_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("coordinator.server.HELLO_WAIT_S", 0.1)

    async def scenario(house):
        call = house.federation.Control()
        async with refused(Status.INVALID_ARGUMENT, "must begin with a hello"):
            await call.read()

    serving(tmp_path, scenario)


def test_a_taken_name_is_refused_while_its_owner_is_here(tmp_path):
    async def scenario(house):
        first = await house.worker()
        async with refused(Status.ALREADY_EXISTS, "'ada'", "--name"):
            async for _ in house.federation.Control(iter_async([hello(instance="2")])):
                pytest.fail("was welcomed")
        # The one who was here is not disturbed.
        await first.say(heartbeat=pb.Heartbeat(sequence=7))
        assert (await first.hear("heartbeat")).sequence == 7
        await first.call.done_writing()
        assert await first.call.read() is grpc.aio.EOF
        await house.worker(instance="2")

    serving(tmp_path, scenario)


def test_a_reconnecting_worker_fences_its_own_old_stream(tmp_path):
    async def scenario(house):
        old = await house.worker()
        new = await house.worker()
        assert await old.call.read() is grpc.aio.EOF
        assert await old.call.code() is Status.OK
        assert house.coordinator.sessions.names == ["ada"]
        await new.say(heartbeat=pb.Heartbeat(sequence=3))
        assert (await new.hear("heartbeat")).sequence == 3

    serving(tmp_path, scenario)


def test_a_worker_that_hangs_up_is_gone(tmp_path):
    async def scenario(house):
        worker = await house.worker()
        changed = asyncio.ensure_future(house.coordinator.sessions.change())
        await asyncio.sleep(0)
        worker.call.cancel()
        await changed
        assert house.coordinator.sessions.names == []

    serving(tmp_path, scenario)


# ---------------------------------------------------------------- a run


def test_a_run_by_hand_from_hello_to_result(tmp_path):
    async def scenario(house):
        worker = await house.training()
        assert worker.prepare.start_sha256 == worker.train.state_sha256
        assert list(worker.prepare.labels) == ["no", "yes"]
        assert [(shard.client, list(shard.indices)) for shard in worker.prepare.shards] == [
            (0, [0]),
            (1, [1, 2]),
            (2, [3, 4, 5]),
        ]
        assert (worker.train.round, list(worker.train.clients)) == (1, [0, 1, 2])
        for client in (2, 0, 1):
            assert (await worker.upload(client)).already_accepted is False
        assert (await worker.hear("release")).run_id == worker.train.run_id
        await worker.say(released=pb.Released(run_id=worker.train.run_id))
        request = pb.WatchRequest(experiment_id=house.campaign.experiment_id)
        last = [snapshot async for snapshot in house.operation.Watch(request)][-1]
        assert last.over
        assert (last.outcome.exit_code, last.outcome.message) == (0, "")
        assert list(last.files) == ["final/state.safetensors", "report.html", "result.json"]
        final = unpack(await house.fetch("final/state.safetensors"))
        # Clients 0, 1, 2 with 1, 2, 3 examples moved every value by 1/7, 2/7, 3/7.
        start = unpack(worker.state)
        for name, value in final.items():
            assert value == pytest.approx(start[name] + (1 * 1 + 2 * 2 + 3 * 3) / 7 / 6, rel=1e-6)
        async with refused(Status.FAILED_PRECONDITION, f"run {worker.train.run_id} is not under way"):
            await worker.upload(0)

    serving(tmp_path, scenario, experiment=EXPERIMENT)


def test_a_returning_worker_is_told_only_what_is_missing(tmp_path):
    async def scenario(house):
        worker = await house.training()
        await worker.upload(1)
        again = await house.worker()
        prepare = await again.hear("prepare")
        assert prepare == worker.prepare
        await again.say(prepared=pb.Prepared(run_id=prepare.run_id))
        train = await again.hear("train")
        assert (train.round, train.state_sha256) == (1, worker.train.state_sha256)
        assert list(train.clients) == [0, 2]

    serving(tmp_path, scenario, experiment=EXPERIMENT)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run_id": "another"}, ["run another is not under way"]),
        ({"round": 0}, ["is for round 0", "the run is in round 1"]),
        ({"round": 2}, ["is for round 2", "the run is in round 1"]),
        ({"client": 3}, ["client 3 of worker ada has no part in round 1"]),
        ({"worker": "bob"}, ["client 0 of worker bob has no part"]),
        ({"worker": ""}, ["has no part"]),
        ({"examples": 0}, ["client 0", "example"]),
        # Beyond what SQLite counts to, and beyond what float64 weighs exactly.
        ({"examples": 2**64 - 1}, ["client 0", "example"]),
        ({"blob": b"no state"}, ["client 0", "not a safetensors state"]),
    ],
)
def test_an_upload_that_does_not_belong_here_is_refused_and_not_kept(tmp_path, changes, words):
    async def scenario(house):
        worker = await house.training()
        run = house.coordinator.run()
        # A worker shrugs at the first and reports the second, which ends the run: nobody else can bring that update.
        unusable = changes.keys() & {"examples", "blob"}
        async with refused(Status.INVALID_ARGUMENT if unusable else Status.FAILED_PRECONDITION, *words):
            await worker.upload(**{"client": 0, **changes})
        assert list((run.folder.path / "spool").iterdir()) == []
        assert run.ledger.contributions(1) == []
        assert run.ledger.bytes_moved()[1] == 0
        # The right one is welcome still.
        assert (await worker.upload(0)).already_accepted is False

    serving(tmp_path, scenario, experiment=EXPERIMENT)


def test_a_client_that_was_not_selected_has_no_part(tmp_path):
    federation = Federation(devices=1, clients=3, clients_per_round=1, rounds=1)

    async def scenario(house):
        worker = await house.training()
        (chosen,) = worker.train.clients
        async with refused(Status.FAILED_PRECONDITION, "has no part in round 1"):
            await worker.upload((chosen + 1) % 3)

    serving(tmp_path, scenario, experiment=EXPERIMENT.model_copy(update={"federation": federation}))


@pytest.mark.parametrize("first", [None, pb.Chunk(), pb.Chunk(data=b"x"), next(split(b"x"))])
def test_an_upload_without_a_header_for_an_update_is_refused(tmp_path, first):
    async def scenario(house):
        async with refused(Status.INVALID_ARGUMENT, "must begin with a header for an update"):
            await house.federation.Upload(iter_async([] if first is None else [first]))

    serving(tmp_path, scenario)


def test_an_update_that_comes_twice_is_acknowledged_twice(tmp_path):
    async def scenario(house):
        worker = await house.training()
        assert (await worker.upload(0)).already_accepted is False
        assert (await worker.upload(0)).already_accepted is True
        other = pack(trained_state(unpack(worker.state), 5, 0))
        assert (await worker.upload(0, other)).already_accepted is True
        run = house.coordinator.run()
        (row,) = run.ledger.contributions(1)
        assert row["sha256"] == digest_of(pack(trained_state(unpack(worker.state), 1, 0)))
        assert house.campaign.board.snapshot().run.updates == 1

    serving(tmp_path, scenario, experiment=EXPERIMENT)


def test_only_the_states_of_the_run_can_be_downloaded(tmp_path):
    async def scenario(house):
        worker = await house.training()
        run_id, start = worker.train.run_id, worker.train.state_sha256
        for run, digest in ((run_id, bytes(32)), (run_id, b""), ("another", start), ("", start)):
            async with refused(Status.NOT_FOUND, f"run {run} has no state"):
                await house.download(run, digest)
        assert await house.download(run_id, start) == worker.state

    serving(tmp_path, scenario, experiment=EXPERIMENT)


def test_a_download_is_counted_as_it_went_over_the_wire(tmp_path):
    async def scenario(house):
        worker = await house.training()
        down, up = house.coordinator.run().ledger.bytes_moved()
        assert len(worker.state) < down < len(worker.state) + 100
        assert up == 0
        assert house.campaign.board.snapshot().run.bytes_down == down

    serving(tmp_path, scenario, experiment=EXPERIMENT)


@pytest.mark.parametrize(("bad_input", "code"), [(True, 2), (False, 1)])
def test_a_workers_trouble_ends_the_run_with_its_words(tmp_path, bad_input, code):
    async def scenario(house):
        worker = await house.training()
        trouble = pb.Trouble(
            run_id=worker.train.run_id, round=1, client=2, message="no such file: x.csv", bad_input=bad_input
        )
        await worker.say(trouble=trouble)
        assert (await worker.hear("release")).run_id == worker.train.run_id
        request = pb.WatchRequest(experiment_id=house.campaign.experiment_id)
        last = [snapshot async for snapshot in house.operation.Watch(request)][-1]
        assert last.outcome.exit_code == code
        assert last.outcome.message == "worker ada, client 2 in round 1: no such file: x.csv"
        # What there is can be read: a result without a final state.
        assert list(last.files) == ["report.html", "result.json"]

    serving(tmp_path, scenario, experiment=EXPERIMENT)


def test_reports_of_another_run_are_not_this_runs(tmp_path):
    async def scenario(house):
        worker = await house.training()
        await worker.say(trouble=pb.Trouble(run_id="an earlier one", message="late"))
        await worker.say(phase_time=pb.PhaseTime(run_id="an earlier one", phase="train", seconds=99.0))
        await worker.say(phase_time=pb.PhaseTime(run_id=worker.train.run_id, round=1, phase="train", seconds=0.5))
        await worker.say(heartbeat=pb.Heartbeat(sequence=1))
        await worker.hear("heartbeat")  # all before it was read
        run = house.coordinator.run()
        assert run.ledger.phase_seconds() == {"ada": {"train": 0.5}}
        assert (await worker.upload(0)).already_accepted is False

    serving(tmp_path, scenario, experiment=EXPERIMENT)


def test_a_learner_that_cannot_prepare_ends_the_experiment(tmp_path):
    class Unprepared(NoopLearner):
        def prepare(self):
            raise BadInput("model: no such model folder: ./x")

    async def scenario(house):
        request = pb.WatchRequest(experiment_id=house.campaign.experiment_id)
        last = [snapshot async for snapshot in house.operation.Watch(request)][-1]
        assert (last.outcome.exit_code, last.outcome.message) == (2, "model: no such model folder: ./x")
        # The coordinator itself goes on.
        await house.worker()

    serving(tmp_path, scenario, experiment=EXPERIMENT, make_learner=Unprepared)


def test_results_that_cannot_be_written_end_the_experiment_and_not_the_coordinator(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coordinator.campaign.write_report", full)

    async def scenario(house):
        for _ in range(2):
            experiment_id = await submit(house)
            async for snapshot in house.operation.Watch(pb.WatchRequest(experiment_id=experiment_id)):
                if snapshot.run.stage == "waiting":
                    await house.operation.Cancel(pb.CancelRequest(experiment_id=experiment_id))
            assert snapshot.over
            assert snapshot.outcome.exit_code == 1
            assert "cannot write the results" in snapshot.outcome.message
            assert "No space left on device" in snapshot.outcome.message

    serving(tmp_path, scenario)


# ---------------------------------------------------------------- operation


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["json"]),
        ("{", ["json"]),
        ("[]", ["experiment"]),
        ('{"sead": 1}', ["sead is not a known field"]),
        ('{"federation": {"rounds": 0}}', ["federation.rounds"]),
        ('{"methods": [{"name": "magic"}]}', ["magic", "federa"]),
    ],
)
def test_a_bad_experiment_is_refused_in_one_line_that_names_the_field(tmp_path, text, words):
    async def scenario(house):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.operation.Submit(pb.SubmitRequest(experiment_json=text, protocol=PROTOCOL))
        assert caught.value.code() is Status.INVALID_ARGUMENT
        details = caught.value.details()
        assert "\n" not in details
        for word in words:
            assert word in details.lower()
        assert house.coordinator.campaigns == {}

    serving(tmp_path, scenario)


def test_an_operator_of_another_protocol_is_refused(tmp_path):
    async def scenario(house):
        request = pb.SubmitRequest(experiment_json=EXPERIMENT.model_dump_json(), protocol=PROTOCOL + 1)
        async with refused(Status.FAILED_PRECONDITION, f"speaks protocol {PROTOCOL + 1}", "install the same federa"):
            await house.operation.Submit(request)
        assert house.coordinator.campaigns == {}

    serving(tmp_path, scenario)


async def submit(house):
    request = pb.SubmitRequest(experiment_json=EXPERIMENT.model_dump_json(), protocol=PROTOCOL)
    return (await house.operation.Submit(request)).experiment_id


def test_a_watcher_sees_a_cancelled_experiment_end(tmp_path):
    async def scenario(house):
        experiment_id = await submit(house)
        snapshots = []
        async for snapshot in house.operation.Watch(pb.WatchRequest(experiment_id=experiment_id)):
            snapshots.append(snapshot)
            if snapshot.run.stage == "waiting":  # for a device: nobody is here
                await house.operation.Cancel(pb.CancelRequest(experiment_id=experiment_id))
        assert [snapshot.over for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
        last = snapshots[-1]
        assert (last.outcome.exit_code, last.outcome.message) == (130, "ended early by the user")
        assert "0 of 1 devices" in snapshots[-2].run.note or last.run.stage == "stopped"
        assert "result.json" in last.files
        # Watching what is over ends at once.
        again = [snapshot async for snapshot in house.operation.Watch(pb.WatchRequest(experiment_id=experiment_id))]
        assert again == [last]

    serving(tmp_path, scenario)


def test_an_experiment_that_is_cancelled_in_the_queue_never_begins(tmp_path):
    async def scenario(house):
        first, second = await submit(house), await submit(house)
        await house.operation.Cancel(pb.CancelRequest(experiment_id=second))
        request = pb.WatchRequest(experiment_id=second)
        (last,) = [snapshot async for snapshot in house.operation.Watch(request)]
        assert (last.over, last.outcome.exit_code, list(last.files)) == (True, 130, [])
        await house.operation.Cancel(pb.CancelRequest(experiment_id=first))
        # The queue goes on past it.
        third = await submit(house)
        async for snapshot in house.operation.Watch(pb.WatchRequest(experiment_id=third)):
            if snapshot.run.stage == "waiting":
                break
        assert not (house.coordinator.path / second).exists()

    serving(tmp_path, scenario)


@pytest.mark.parametrize("call", ["Watch", "Cancel", "Fetch"])
def test_an_unknown_experiment_is_not_found(tmp_path, call):
    async def scenario(house):
        async with refused(Status.NOT_FOUND, "no experiment 'x' here"):
            if call == "Cancel":
                await house.operation.Cancel(pb.CancelRequest(experiment_id="x"))
            elif call == "Watch":
                await house.operation.Watch(pb.WatchRequest(experiment_id="x")).read()
            else:
                await house.fetch("result.json", "x")

    serving(tmp_path, scenario)


def test_only_files_of_the_result_can_be_fetched(tmp_path):
    (tmp_path / "secret").write_text("secret")

    async def scenario(house):
        experiment_id = await submit(house)
        async with refused(Status.NOT_FOUND, "result.json"):  # not before it is over
            await house.fetch("result.json", experiment_id)
        async for snapshot in house.operation.Watch(pb.WatchRequest(experiment_id=experiment_id)):
            if snapshot.run.stage == "waiting":
                await house.operation.Cancel(pb.CancelRequest(experiment_id=experiment_id))
        assert (await house.fetch("result.json", experiment_id)).startswith(b"{")
        folder = house.coordinator.path / experiment_id
        bad = ("../secret", str(tmp_path / "secret"), "/etc/passwd", "./result.json", "ledger.sqlite", "", ".", "spool")
        assert (folder / "../secret").exists() and (folder / "ledger.sqlite").exists()
        for path in bad:
            async with refused(Status.NOT_FOUND, repr(path)):
                await house.fetch(path, experiment_id)

    serving(tmp_path, scenario)


# ---------------------------------------------------------------- listening


def test_a_port_in_use_is_refused_with_exit_code_2(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code = coordinator_main.main(["--serve", "--out", str(tmp_path), "--listen", address], NoopLearner)
    assert code == 2
    assert (
        capsys.readouterr().err.splitlines()[-1].startswith(f"federa-coordinator: --listen: cannot listen on {address}")
    )


def test_a_second_coordinator_does_not_share_the_firsts_port(tmp_path):
    # By default gRPC opens ports so that two servers can have the same one.
    async def scenario(house):
        with pytest.raises(BadInput, match="the port is in use"):
            await Coordinator(tmp_path).serve(house.address)

    serving(tmp_path, scenario)


@pytest.mark.parametrize(
    "address", ["", "50051", ":50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "h:65536", "h:-1"]
)
def test_a_bad_address_is_refused(tmp_path, address, capsys):
    code = coordinator_main.main(["--serve", "--out", str(tmp_path), "--listen", address], NoopLearner)
    assert code == 2
    assert "--listen: must be HOST:PORT" in capsys.readouterr().err


def test_the_port_that_was_taken_is_told(tmp_path):
    async def scenario(house):
        host, _, port = house.address.rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0

    serving(tmp_path, scenario)


def test_a_state_on_disk_is_the_state_on_the_wire(tmp_path):
    async def scenario(house):
        worker = await house.training()
        path = Path(house.coordinator.run().folder.state(digest_of(worker.state)))
        assert path.read_bytes() == worker.state
        assert shapes_of(path) == {f"layer.{index:03}": (16,) for index in range(4)}

    serving(tmp_path, scenario, experiment=EXPERIMENT)
