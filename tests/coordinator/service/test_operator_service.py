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
    async def scenario(live):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await live.operation.Submit(pb.SubmitRequest(experiment_json=text, protocol=PROTOCOL))
        assert caught.value.code() is Status.INVALID_ARGUMENT
        details = caught.value.details()
        assert "\n" not in details
        for word in words:
            assert word in details.lower()
        assert live.coordinator.experiments == {}

    serving(tmp_path, scenario)


def test_an_operator_of_another_protocol_is_refused(tmp_path):
    async def scenario(live):
        request = pb.SubmitRequest(experiment_json=experiment().model_dump_json(), protocol=PROTOCOL + 1)
        async with refused(Status.FAILED_PRECONDITION, f"speaks protocol {PROTOCOL + 1}", "install the same federa"):
            await live.operation.Submit(request)
        assert live.coordinator.experiments == {}

    serving(tmp_path, scenario)


@pytest.mark.parametrize("bad", ["../x", "/etc", "X", "0" * 33, "a.b", "ab\n", "."])
def test_an_id_is_no_path(tmp_path, bad):
    async def scenario(live):
        async with refused(Status.INVALID_ARGUMENT, "experiment_id: must be up to 32 hex digits"):
            await live.submit(experiment(), bad)
        assert list(tmp_path.iterdir()) == []

    serving(tmp_path, scenario)


def test_the_operator_s_id_is_the_experiment_s(tmp_path):
    async def scenario(live):
        assert await live.submit(experiment(), "abc") == "abc"
        assert read_record(tmp_path / "abc").experiment == experiment()
        # Submitted again it is the same one, and not another.
        assert await live.submit(experiment(), "abc") == "abc"
        assert list(live.coordinator.experiments) == ["abc"]
        async with refused(Status.INVALID_ARGUMENT, "experiment abc is another one here", "id of its own"):
            await live.submit(experiment(seed=1), "abc")
        assert read_record(tmp_path / "abc").experiment == experiment()

    serving(tmp_path, scenario)


def test_an_experiment_that_was_ended_early_goes_on_when_it_is_submitted_again(tmp_path):
    async def scenario(live):
        await live.submit(experiment(), "abc")
        await live.until(waiting, "abc")
        await live.operation.Cancel(pb.CancelRequest(experiment_id="abc"))
        assert (await live.end("abc")).outcome.exit_code == 130
        await live.submit(experiment(), "abc")
        await live.until(waiting, "abc")
        worker = await live.training()
        assert worker.train.run_id == "abc-federa"
        for client in range(3):
            await worker.upload(client)
        await worker.released()
        assert (await live.end("abc")).outcome.exit_code == 0
        # What is finished is not done again.
        before = (tmp_path / "abc" / "result.json").stat().st_mtime_ns
        await live.submit(experiment(), "abc")
        assert (await live.end("abc")).outcome.exit_code == 0
        assert (tmp_path / "abc" / "result.json").stat().st_mtime_ns == before

    serving(tmp_path, scenario)


def test_no_more_than_so_many_experiments_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_QUEUED", 2)

    async def scenario(live):
        first = await live.submit(experiment())
        await live.until(waiting, first)
        for _ in range(2):
            await live.submit(experiment())
        before = sorted(tmp_path.iterdir())
        async with refused(Status.INVALID_ARGUMENT, "2 experiments are waiting already"):
            await live.submit(experiment())
        assert sorted(tmp_path.iterdir()) == before

    serving(tmp_path, scenario)


def test_submitting_and_cancelling_one_experiment_again_and_again_fills_no_queue(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_QUEUED", 2)

    async def scenario(live):
        first = await live.submit(experiment())
        await live.until(waiting, first)
        with pytest.raises(grpc.aio.AioRpcError, match="2 experiments are waiting already"):
            for _ in range(4):
                await live.submit(experiment(), "abc")
                await live.operation.Cancel(pb.CancelRequest(experiment_id="abc"))

    serving(tmp_path, scenario)


def test_an_experiment_that_waits_in_the_queue_shows_what_runs_before_it(tmp_path):
    async def scenario(live):
        def behind(*names):
            count = "1 experiment" if len(names) == 1 else f"{len(names)} experiments"
            words = f"{count} before this one: {', '.join(names)}"
            return lambda snapshot: (snapshot.run.stage, snapshot.run.note) == ("queued", words)

        async def cancel(experiment_id):
            await live.operation.Cancel(pb.CancelRequest(experiment_id=experiment_id))

        first = await live.submit(experiment())
        await live.until(waiting, first)
        second, third = await live.submit(experiment()), await live.submit(experiment())
        title = "bbc-news by federa"
        await live.until(behind(f"{title} (under way)"), second)
        await live.until(behind(f"{title} (under way)", title), third)
        await cancel(second)
        await live.until(behind(f"{title} (under way)"), third)
        await cancel(first)
        await live.until(waiting, third)

    serving(tmp_path, scenario)


def test_a_coordinator_of_one_experiment_takes_no_other(tmp_path):
    async def scenario(live):
        live.coordinator.takes_experiments = False
        async with refused(Status.INVALID_ARGUMENT, "runs one experiment of its own (--experiment)", "with --serve"):
            await live.submit(experiment(seed=1))
        assert len(list(tmp_path.iterdir())) == 1
        assert (await live.submit(experiment(), live.experiment_id)) == live.experiment_id

    serving(tmp_path, scenario, experiment=experiment())


# ---------------------------------------------------------------- watch, cancel


def test_a_watcher_sees_a_cancelled_experiment_end(tmp_path):
    async def scenario(live):
        snapshots = []
        async for snapshot in live.watch():
            snapshots.append(snapshot)
            if waiting(snapshot):
                await live.operation.Cancel(pb.CancelRequest(experiment_id=live.experiment_id))
        assert [snapshot.over for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
        last = snapshots[-1]
        assert (last.outcome.exit_code, last.outcome.message) == (130, "ended early by the user")
        assert "0 of 1 devices" in snapshots[-2].run.note or last.run.stage == "stopped"
        assert "result.json" in last.files
        # Watching what is over ends at once.
        assert [snapshot async for snapshot in live.watch()] == [last]

    serving(tmp_path, scenario, experiment=experiment())


def test_an_experiment_that_is_cancelled_in_the_queue_never_begins(tmp_path):
    async def scenario(live):
        first, second = await live.submit(experiment()), await live.submit(experiment())
        await live.operation.Cancel(pb.CancelRequest(experiment_id=second))
        (last,) = [snapshot async for snapshot in live.watch(second)]
        assert (last.over, last.outcome.exit_code, list(last.files)) == (True, 130, [])
        await live.operation.Cancel(pb.CancelRequest(experiment_id=first))
        # The queue goes on past it.
        third = await live.submit(experiment())
        await live.until(waiting, third)
        assert [path.name for path in (tmp_path / second).iterdir()] == ["experiment.json"]
        assert read_record(tmp_path / second).exit_code == 130

    serving(tmp_path, scenario)


@pytest.mark.parametrize("call", ["Watch", "Cancel", "Fetch"])
def test_an_unknown_experiment_is_not_found(tmp_path, call):
    async def scenario(live):
        async with refused(Status.NOT_FOUND, "no experiment 'x' here"):
            if call == "Cancel":
                await live.operation.Cancel(pb.CancelRequest(experiment_id="x"))
            elif call == "Watch":
                await live.operation.Watch(pb.WatchRequest(experiment_id="x")).read()
            else:
                await live.fetch("result.json", "x")

    serving(tmp_path, scenario)


# ---------------------------------------------------------------- results


def test_only_files_of_the_result_can_be_fetched(tmp_path):
    (tmp_path / "secret").write_text("secret")

    async def scenario(live):
        async with refused(Status.NOT_FOUND, "result.json"):  # not before it is over
            await live.fetch("result.json")
        await live.until(waiting)
        await live.operation.Cancel(pb.CancelRequest(experiment_id=live.experiment_id))
        await live.end()
        assert (await live.fetch("result.json")).startswith(b"{")
        folder = live.coordinator.path / live.experiment_id
        bad = ("../secret", str(tmp_path / "secret"), "/etc/passwd", "./result.json", "ledger.sqlite", "", ".", "spool")
        assert (folder / "../secret").exists() and (folder / "ledger.sqlite").exists()
        for path in (*bad, "experiment.json"):
            async with refused(Status.NOT_FOUND, repr(path)):
                await live.fetch(path)

    serving(tmp_path, scenario, experiment=experiment())


def test_a_reference_model_that_cannot_prepare_ends_the_experiment_and_not_the_coordinator(tmp_path):
    class Unprepared(NoopReferenceModel):
        def prepare(self, recorded=None):
            raise BadInput("model: no such model folder: ./x")

    async def scenario(live):
        last = await live.end()
        assert (last.outcome.exit_code, last.outcome.message) == (2, "model: no such model folder: ./x")
        await live.worker()

    serving(tmp_path, scenario, experiment=experiment(), make_model=Unprepared)


def test_results_that_cannot_be_written_end_the_experiment_and_not_the_coordinator(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coordinator.experiment_runner.write_report", full)

    async def scenario(live):
        worker = await live.training()
        for client in range(3):
            await worker.upload(client)
        await worker.released()
        outcome = (await live.end()).outcome
        assert outcome.exit_code == 1
        assert "cannot write the results" in outcome.message and "No space left on device" in outcome.message
        # The next one has its turn.
        second = await live.submit(experiment())
        await live.until(lambda snapshot: snapshot.run.stage == "preparing", second)

    serving(tmp_path, scenario, experiment=experiment())


# ---------------------------------------------------------------- a coordinator that was away


def test_a_restarted_coordinator_goes_on_with_what_was_under_way_and_what_waited(tmp_path):
    async def first(live):
        one, two, ended = [await live.submit(experiment(seed=seed)) for seed in range(3)]
        await live.operation.Cancel(pb.CancelRequest(experiment_id=ended))
        worker = await live.training()
        await worker.upload(0)
        begun.extend((one, two, ended, worker.train))

    async def again(live):
        one, two, ended, train = begun
        assert list(live.coordinator.experiments) == [one, two, ended]
        assert (await live.end(ended)).outcome.exit_code == 130
        for experiment_id in (one, two):
            worker = await live.worker()
            await worker.get_ready()
            assert worker.train.run_id == f"{experiment_id}-federa"
            if experiment_id == one:
                assert (worker.train.round, worker.train.state_sha256) == (1, train.state_sha256)
                assert list(worker.train.clients) == [1, 2]  # client 0's update was durable
            for client in worker.train.clients:
                await worker.upload(client)
            await worker.released()
            assert (await live.end(experiment_id)).outcome.exit_code == 0
        (run,) = json.loads(await live.fetch("result.json", one))["runs"]
        assert run["restarts"] == 1 and run["state"] == "finished"

    async def third_time(live):
        # What is over can still be asked for.
        for experiment_id in begun[:2]:
            (last,) = [snapshot async for snapshot in live.watch(experiment_id)]
            assert (last.over, last.outcome.exit_code) == (True, 0)
            assert (await live.fetch("result.json", experiment_id)).startswith(b"{")

    begun = []
    for scenario in (first, again, third_time):
        serving(tmp_path, scenario)


def test_a_worker_that_is_back_before_the_experiment_is_told_to_wait(tmp_path):
    async def first(live):
        one, two = await live.submit(experiment(seed=1)), await live.submit(experiment(seed=2))
        worker = await live.training()
        begun.extend((one, two, worker.train, worker.state))

    async def again(live):
        _, two, train, state = begun
        worker = await live.worker()
        worker.train, worker.state = train, state
        worker.train.run_id = f"{two}-federa"
        # A worker that is told that its run is over drops the update that it brings.
        async with refused(Status.UNAVAILABLE, f"run {two}-federa is not under way yet"):
            await worker.upload(1)

    begun = []
    for scenario in (first, again):
        serving(tmp_path, scenario)


def test_a_folder_of_one_experiment_is_not_served_from(tmp_path, capsys):
    async def leave(live):
        await live.until(waiting)

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


def test_an_experiment_of_two_methods_goes_on_with_the_second(tmp_path):
    both = experiment(target=1.0).model_copy(
        update={"methods": (experiment().methods[0], experiment().methods[0].model_copy(update={"name": "lora"}))}
    )

    async def train(live, method):
        worker = await live.worker()
        await worker.get_ready()
        assert worker.train.run_id == f"abc-{method}"
        for client in range(3):
            await worker.upload(client)
        await worker.released()

    async def first(live):
        await live.submit(both, "abc")
        await train(live, "federa")
        await live.until(lambda snapshot: snapshot.run_number == 2, "abc")

    async def again(live):
        await train(live, "lora")
        last = await live.end("abc")
        assert (last.outcome.exit_code, last.run_number, last.run_count) == (0, 2, 2)
        result = json.loads(await live.fetch("result.json", "abc"))
        assert [(run["method"], run["reached"], run["restarts"]) for run in result["runs"]] == [
            ("federa", True, 0),
            ("lora", True, 1),
        ]
        assert [path for path in last.files if path.startswith("federa/")] == [
            "federa/final/bundle.json", "federa/final/start.safetensors", "federa/final/state.safetensors",
            "federa/report.html", "federa/result.json",
        ]  # fmt: skip

    for scenario in (first, again):
        serving(tmp_path, scenario)
