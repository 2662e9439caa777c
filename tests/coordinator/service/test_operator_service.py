"""An operator's calls: submit, watch, cancel and fetch, also over a restart of the coordinator that serves."""

from __future__ import annotations

import json

import grpc
import pytest
from live_coordinator import Status, experiment, refused, serving

from coordinator import main as coordinator_main
from coordinator.clients import cohort
from coordinator.service import server
from coordinator.storage.experiment_record import read_record
from federa.errors import BadInput
from protos import federation_pb2 as pb
from protos.channel import PROTOCOL
from tests.doubles.noop import NoopReferenceModel


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch):
    monkeypatch.setattr(cohort, "RELEASE_WAIT_S", 0.2)


def waiting(snapshot):
    """For a device: nobody is here."""
    return snapshot.run.stage == "waiting"


# ---------------------------------------------------------------- submit


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
        assert house.coordinator.experiments == {}

    serving(tmp_path, scenario)


def test_an_operator_of_another_protocol_is_refused(tmp_path):
    async def scenario(house):
        request = pb.SubmitRequest(experiment_json=experiment().model_dump_json(), protocol=PROTOCOL + 1)
        async with refused(Status.FAILED_PRECONDITION, f"speaks protocol {PROTOCOL + 1}", "install the same federa"):
            await house.operation.Submit(request)
        assert house.coordinator.experiments == {}

    serving(tmp_path, scenario)


@pytest.mark.parametrize("bad", ["../x", "/etc", "X", "0" * 33, "a.b", "ab\n", "."])
def test_an_id_is_no_path(tmp_path, bad):
    async def scenario(house):
        async with refused(Status.INVALID_ARGUMENT, "experiment_id: must be up to 32 hex digits"):
            await house.submit(experiment(), bad)
        assert list(tmp_path.iterdir()) == []

    serving(tmp_path, scenario)


def test_the_operator_s_id_is_the_experiment_s(tmp_path):
    async def scenario(house):
        assert await house.submit(experiment(), "abc") == "abc"
        assert read_record(tmp_path / "abc").experiment == experiment()
        # Submitted again it is the same one, and not another.
        assert await house.submit(experiment(), "abc") == "abc"
        assert list(house.coordinator.experiments) == ["abc"]
        async with refused(Status.INVALID_ARGUMENT, "experiment abc is another one here", "id of its own"):
            await house.submit(experiment(seed=1), "abc")
        assert read_record(tmp_path / "abc").experiment == experiment()

    serving(tmp_path, scenario)


def test_an_experiment_that_was_ended_early_goes_on_when_it_is_submitted_again(tmp_path):
    async def scenario(house):
        await house.submit(experiment(), "abc")
        await house.until(waiting, "abc")
        await house.operation.Cancel(pb.CancelRequest(experiment_id="abc"))
        assert (await house.end("abc")).outcome.exit_code == 130
        await house.submit(experiment(), "abc")
        await house.until(waiting, "abc")
        worker = await house.training()
        assert worker.train.run_id == "abc-federa"
        for client in range(3):
            await worker.upload(client)
        await worker.released()
        assert (await house.end("abc")).outcome.exit_code == 0
        # What is finished is not done again.
        before = (tmp_path / "abc" / "result.json").stat().st_mtime_ns
        await house.submit(experiment(), "abc")
        assert (await house.end("abc")).outcome.exit_code == 0
        assert (tmp_path / "abc" / "result.json").stat().st_mtime_ns == before

    serving(tmp_path, scenario)


def test_no_more_than_so_many_experiments_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_QUEUED", 2)

    async def scenario(house):
        first = await house.submit(experiment())
        await house.until(waiting, first)
        for _ in range(2):
            await house.submit(experiment())
        before = sorted(tmp_path.iterdir())
        async with refused(Status.INVALID_ARGUMENT, "2 experiments are waiting already"):
            await house.submit(experiment())
        assert sorted(tmp_path.iterdir()) == before

    serving(tmp_path, scenario)


def test_submitting_and_cancelling_one_experiment_again_and_again_fills_no_queue(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_QUEUED", 2)

    async def scenario(house):
        first = await house.submit(experiment())
        await house.until(waiting, first)
        with pytest.raises(grpc.aio.AioRpcError, match="2 experiments are waiting already"):
            for _ in range(4):
                await house.submit(experiment(), "abc")
                await house.operation.Cancel(pb.CancelRequest(experiment_id="abc"))

    serving(tmp_path, scenario)


# ---------------------------------------------------------------- watch, cancel


def test_a_watcher_sees_a_cancelled_experiment_end(tmp_path):
    async def scenario(house):
        snapshots = []
        async for snapshot in house.watch():
            snapshots.append(snapshot)
            if waiting(snapshot):
                await house.operation.Cancel(pb.CancelRequest(experiment_id=house.experiment_id))
        assert [snapshot.over for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
        last = snapshots[-1]
        assert (last.outcome.exit_code, last.outcome.message) == (130, "ended early by the user")
        assert "0 of 1 devices" in snapshots[-2].run.note or last.run.stage == "stopped"
        assert "result.json" in last.files
        # Watching what is over ends at once.
        assert [snapshot async for snapshot in house.watch()] == [last]

    serving(tmp_path, scenario, experiment=experiment())


def test_an_experiment_that_is_cancelled_in_the_queue_never_begins(tmp_path):
    async def scenario(house):
        first, second = await house.submit(experiment()), await house.submit(experiment())
        await house.operation.Cancel(pb.CancelRequest(experiment_id=second))
        (last,) = [snapshot async for snapshot in house.watch(second)]
        assert (last.over, last.outcome.exit_code, list(last.files)) == (True, 130, [])
        await house.operation.Cancel(pb.CancelRequest(experiment_id=first))
        # The queue goes on past it.
        third = await house.submit(experiment())
        await house.until(waiting, third)
        assert [path.name for path in (tmp_path / second).iterdir()] == ["experiment.json"]
        assert read_record(tmp_path / second).exit_code == 130

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


# ---------------------------------------------------------------- results


def test_only_files_of_the_result_can_be_fetched(tmp_path):
    (tmp_path / "secret").write_text("secret")

    async def scenario(house):
        async with refused(Status.NOT_FOUND, "result.json"):  # not before it is over
            await house.fetch("result.json")
        await house.until(waiting)
        await house.operation.Cancel(pb.CancelRequest(experiment_id=house.experiment_id))
        await house.end()
        assert (await house.fetch("result.json")).startswith(b"{")
        folder = house.coordinator.path / house.experiment_id
        bad = ("../secret", str(tmp_path / "secret"), "/etc/passwd", "./result.json", "ledger.sqlite", "", ".", "spool")
        assert (folder / "../secret").exists() and (folder / "ledger.sqlite").exists()
        for path in (*bad, "experiment.json"):
            async with refused(Status.NOT_FOUND, repr(path)):
                await house.fetch(path)

    serving(tmp_path, scenario, experiment=experiment())


def test_a_learner_that_cannot_prepare_ends_the_experiment_and_not_the_coordinator(tmp_path):
    class Unprepared(NoopReferenceModel):
        def prepare(self, recorded=None):
            raise BadInput("model: no such model folder: ./x")

    async def scenario(house):
        last = await house.end()
        assert (last.outcome.exit_code, last.outcome.message) == (2, "model: no such model folder: ./x")
        await house.worker()

    serving(tmp_path, scenario, experiment=experiment(), make_model=Unprepared)


def test_results_that_cannot_be_written_end_the_experiment_and_not_the_coordinator(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coordinator.experiment_runner.write_report", full)

    async def scenario(house):
        worker = await house.training()
        for client in range(3):
            await worker.upload(client)
        await worker.released()
        outcome = (await house.end()).outcome
        assert outcome.exit_code == 1
        assert "cannot write the results" in outcome.message and "No space left on device" in outcome.message
        # The next one has its turn.
        second = await house.submit(experiment())
        await house.until(lambda snapshot: snapshot.run.stage == "preparing", second)

    serving(tmp_path, scenario, experiment=experiment())


# ---------------------------------------------------------------- a coordinator that was away


def test_a_restarted_coordinator_goes_on_with_what_was_under_way_and_what_waited(tmp_path):
    async def first(house):
        one, two, ended = [await house.submit(experiment(seed=seed)) for seed in range(3)]
        await house.operation.Cancel(pb.CancelRequest(experiment_id=ended))
        worker = await house.training()
        await worker.upload(0)
        begun.extend((one, two, ended, worker.train))

    async def again(house):
        one, two, ended, train = begun
        assert list(house.coordinator.experiments) == [one, two, ended]
        assert (await house.end(ended)).outcome.exit_code == 130
        for experiment_id in (one, two):
            worker = await house.worker()
            await worker.get_ready()
            assert worker.train.run_id == f"{experiment_id}-federa"
            if experiment_id == one:
                assert (worker.train.round, worker.train.state_sha256) == (1, train.state_sha256)
                assert list(worker.train.clients) == [1, 2]  # client 0's update was durable
            for client in worker.train.clients:
                await worker.upload(client)
            await worker.released()
            assert (await house.end(experiment_id)).outcome.exit_code == 0
        (run,) = json.loads(await house.fetch("result.json", one))["runs"]
        assert run["restarts"] == 1 and run["state"] == "finished"

    async def third_time(house):
        # What is over can still be asked for.
        for experiment_id in begun[:2]:
            (last,) = [snapshot async for snapshot in house.watch(experiment_id)]
            assert (last.over, last.outcome.exit_code) == (True, 0)
            assert (await house.fetch("result.json", experiment_id)).startswith(b"{")

    begun = []
    for scenario in (first, again, third_time):
        serving(tmp_path, scenario)


def test_a_worker_that_is_back_before_the_experiment_is_told_to_wait(tmp_path):
    async def first(house):
        one, two = await house.submit(experiment(seed=1)), await house.submit(experiment(seed=2))
        worker = await house.training()
        begun.extend((one, two, worker.train, worker.state))

    async def again(house):
        _, two, train, state = begun
        worker = await house.worker()
        worker.train, worker.state = train, state
        worker.train.run_id = f"{two}-federa"
        # A worker that is told that its run is over drops the update that it brings.
        async with refused(Status.UNAVAILABLE, f"run {two}-federa is not under way yet"):
            await worker.upload(1)

    begun = []
    for scenario in (first, again):
        serving(tmp_path, scenario)


def test_a_folder_of_one_experiment_is_not_served_from(tmp_path, capsys):
    async def leave(house):
        await house.until(waiting)

    serving(tmp_path, leave, experiment=experiment())
    (folder,) = tmp_path.iterdir()
    arguments = ["--serve", "--out", str(folder), "--listen", "127.0.0.1:0"]
    assert coordinator_main.main(arguments, NoopReferenceModel) == 2
    assert f"--out: {folder} holds one experiment" in capsys.readouterr().err


def test_a_record_that_cannot_be_read_is_named(tmp_path, capsys):
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "experiment.json").write_text('{"experiment_id": "abc"')
    arguments = ["--serve", "--out", str(tmp_path), "--listen", "127.0.0.1:0"]
    assert coordinator_main.main(arguments, NoopReferenceModel) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"--out: {tmp_path / 'abc' / 'experiment.json'} is not a record that this federa reads" in line


def test_a_campaign_of_two_methods_goes_on_with_the_second(tmp_path):
    both = experiment(target=1.0).model_copy(
        update={"methods": (experiment().methods[0], experiment().methods[0].model_copy(update={"name": "lora"}))}
    )

    async def train(house, method):
        worker = await house.worker()
        await worker.get_ready()
        assert worker.train.run_id == f"abc-{method}"
        for client in range(3):
            await worker.upload(client)
        await worker.released()

    async def first(house):
        await house.submit(both, "abc")
        await train(house, "federa")
        await house.until(lambda snapshot: snapshot.run_number == 2, "abc")

    async def again(house):
        await train(house, "lora")
        last = await house.end("abc")
        assert (last.outcome.exit_code, last.run_number, last.run_count) == (0, 2, 2)
        result = json.loads(await house.fetch("result.json", "abc"))
        assert [(run["method"], run["reached"], run["restarts"]) for run in result["runs"]] == [
            ("federa", True, 0),
            ("lora", True, 1),
        ]
        assert [path for path in last.files if path.startswith("federa/")] == [
            "federa/final/state.safetensors", "federa/report.html", "federa/result.json",
        ]  # fmt: skip

    for scenario in (first, again):
        serving(tmp_path, scenario)
