"""The transport benchmark: its echoes move the bytes they say, its arithmetic, its footprint, and a small run of it."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from processes import until

from benchmarks import transport
from benchmarks.echo import BLOB, KINDS, Echo
from benchmarks.footprint import Footprint
from benchmarks.transport import FederationTurn, State, first_trainings, periods, row
from coordinator.operator.child import Child
from edge.training.run_order import RunOrder
from federa.config import Experiment
from federa.errors import FederaError
from federa.tensors.state import pack
from tests.doubles.noop import NoopReferenceModel, NoopRuntime, equal_shapes, start_state, trained_state
from tests.doubles.noop_coordinator import check_bytes, round_seconds

SIZE = (3 << 20) + 17
"""Three chunks and a part of one."""

# ---------------------------------------------------------------- echoes


@pytest.mark.parametrize("kind", KINDS)
def test_an_echo_runs_again_and_again(kind, tmp_path):
    with Echo(kind, clients=2, size=SIZE, folder=tmp_path) as echo:
        assert all(0 < echo.once() < 60 for _ in range(3))


def test_what_a_durable_echo_receives_is_what_it_served(tmp_path):
    with Echo("durable", clients=2, size=SIZE, folder=tmp_path) as echo:
        echo.once()
        echo.once()
        received = echo.received()
    assert [path.read_bytes() for path in received] == 2 * [(tmp_path / BLOB).read_bytes()]
    assert received[0].stat().st_size == SIZE


@pytest.mark.parametrize("kind", ["bare", "durable"])
def test_an_echo_of_other_bytes_is_no_echo(kind, tmp_path):
    server = Child(["benchmarks.echo", "server", kind, str(SIZE), str(tmp_path)], tmp_path / "server.log")
    try:
        port = server.receive("listening on")
        client = Child(["benchmarks.echo", "client", kind, str(SIZE + 1), port], tmp_path / "client.log")
        try:
            client.receive("ready")
            client.send("go")
            with pytest.raises(FederaError, match=f"{SIZE} of {SIZE + 1} bytes"):
                client.receive("done")
        finally:
            client.kill()
    finally:
        server.kill()


def test_a_durable_echo_notices_a_byte_that_changed(tmp_path):
    with Echo("durable", clients=1, size=SIZE, folder=tmp_path) as echo:
        with (tmp_path / BLOB).open("r+b") as file:
            first = file.read(1)
            file.seek(0)
            file.write(bytes([first[0] ^ 1]))
        with pytest.raises(FederaError, match="other bytes"):
            echo.once()


# ---------------------------------------------------------------- arithmetic

SMALL = State(name="small", tensors=48, values=6_250, rounds=10)
LARGE = State(name="large", tensors=197, values=629_441, rounds=2)


def turn(rounds_s, peak_bytes=150, state_bytes=10):
    return FederationTurn(
        state_bytes=state_bytes,
        rounds_s=rounds_s,
        periods_s=[2 * seconds for seconds in rounds_s],
        start_bytes=100,
        peak_bytes=peak_bytes,
        rounds_peak_bytes=peak_bytes - 20,
    )


def test_a_row_has_medians_over_all_turns_and_the_highest_memory():
    turns = [turn([1.0, 2.0, 9.0], peak_bytes=140), turn([3.0, 4.0], peak_bytes=125)]
    echo_s = {"bare": [1.0, 2.0, 8.0], "durable": [1.5, 1.5], "tcp": [0.25]}
    line = row(SMALL, 4, turns, echo_s)
    assert (line.round_s, line.period_s, line.workers, line.state_bytes) == (3.0, 6.0, 4, 10)
    assert {kind: line.ratio(kind) for kind in KINDS} == {"bare": 1.5, "durable": 2.0, "tcp": 12.0}
    assert (line.memory_bytes, line.rounds_memory_bytes) == (40, 20)


def broken(state, workers, round_s, durable_s=1.0, beyond=0, state_bytes=1000):
    turns = [turn([round_s], peak_bytes=100 + beyond, state_bytes=state_bytes)]
    return row(state, workers, turns, {"bare": [1.0], "durable": [durable_s], "tcp": [1.0]}).broken()


def test_what_the_readme_promises_is_checked():
    assert broken(LARGE, 2, 1.5) == []
    assert broken(LARGE, 2, 1.51) == ["large, 2 workers: 1.51 x the durable echo, at most 1.5"]
    assert broken(SMALL, 2, 0.199, durable_s=0.01) == []
    assert broken(SMALL, 2, 0.2) == ["small, 2 workers: 0.200 s a round, under 0.2 s"]
    assert broken(SMALL, 8, 0.9) == []  # promised for two
    assert broken(SMALL, 2, 0.1, beyond=3 * 1000 + (64 << 20)) == []
    assert len(broken(SMALL, 2, 0.1, beyond=3 * 1000 + (64 << 20) + 1)) == 1


def test_periods_run_from_first_training_to_first_training_from_round_2_on():
    began = first_trainings("1 0 10.0\n1 1 10.5\n2 1 20.0\n2 0 20.25\n3 0 23.5\n3 1 23.0\n4 0 24.0\n")
    assert began == [10.0, 20.0, 23.0, 24.0]
    assert periods(began) == [3.0, 1.0]


def run_of(*points):
    curve = [
        {"round": index + 1, "elapsed_s": elapsed_s, "bytes_down": down, "bytes_up": up}
        for index, (elapsed_s, down, up) in enumerate(points)
    ]
    return {"curve": curve, "state_bytes": 1000}


def test_the_first_round_is_left_out():
    assert round_seconds(run_of((9.0, 0, 0), (10.0, 0, 0), (10.5, 0, 0))) == [1.0, 0.5]


def test_a_round_that_moved_other_bytes_counts_for_nothing():
    check_bytes(run_of((1.0, 4000, 2000), (2.0, 6010, 4010), (3.0, 8050, 6050)), 2)
    with pytest.raises(FederaError, match="round 2 counts 1000 bytes_down, 2000 were to move"):
        check_bytes(run_of((1.0, 2000, 2000), (2.0, 3000, 4000)), 2)
    with pytest.raises(FederaError, match="round 2 counts 3000 bytes_down"):
        check_bytes(run_of((1.0, 0, 0), (2.0, 3000, 2000)), 2)
    check_bytes(run_of((1.0, 0, 0), (2.0, 3000, 2000)), 2, newcomers=1)
    with pytest.raises(FederaError, match="round 2 counts 3000 bytes_up"):
        check_bytes(run_of((1.0, 0, 0), (2.0, 3000, 3000)), 2, newcomers=1)
    with pytest.raises(FederaError, match="round 3 counts 2041 bytes_up"):
        check_bytes(run_of((1.0, 2000, 2000), (2.0, 4000, 4000), (3.0, 6000, 6041)), 2)


# ---------------------------------------------------------------- footprint

EATER = """
import mmap, sys, time
file = open(sys.argv[1], "r+b")
mapped = mmap.mmap(file.fileno(), 0)
print("ready", flush=True)
sys.stdin.readline()
sum(mapped[place] for place in range(0, len(mapped), 4096))  # resident, and not anonymous
eaten = bytearray(48 << 20)
began = time.process_time()
while time.process_time() - began < 0.5:
    pass
print("eaten", flush=True)
sys.stdin.readline()
del eaten
print("gone", flush=True)
sys.stdin.readline()
"""


def test_a_footprint_is_anonymous_memory_at_its_peak_and_processor_time(tmp_path, monkeypatch):
    (tmp_path / "eater.py").write_text(EATER)
    (tmp_path / "mapped").write_bytes(bytes(96 << 20))
    child = Child(["eater", str(tmp_path / "mapped")], tmp_path / "log", {"PYTHONPATH": str(tmp_path)})
    try:
        child.receive("ready")
        footprint = Footprint(child.pid)
        began = time.monotonic()
        child.send("eat")
        child.receive("eaten")
        time.sleep(0.2)
        ended = time.monotonic()
        child.send("forget")
        child.receive("gone")
        forgotten = time.monotonic()
        time.sleep(0.2)
        footprint.stop()
    finally:
        child.kill()
    assert 48 << 20 <= footprint.peak_bytes() - footprint.start_bytes < 64 << 20
    assert footprint.peak_bytes(since=forgotten) < footprint.peak_bytes() - (40 << 20)
    assert 0.45 < footprint.cpu_s(began, ended) < 1.5


def test_a_footprint_ends_with_its_process(tmp_path):
    (tmp_path / "brief.py").write_text("print('here', flush=True); input()")
    child = Child(["brief"], tmp_path / "log", {"PYTHONPATH": str(tmp_path)})
    child.receive("here")
    footprint = Footprint(child.pid)
    child.kill()
    footprint.stop()
    assert footprint.peak_bytes() >= footprint.start_bytes > 0
    with pytest.raises(ProcessLookupError):
        Footprint(child.pid)


def test_a_child_that_fails_is_told_with_its_last_words(tmp_path):
    (tmp_path / "failing.py").write_text("raise SystemExit('no milk today')")
    child = Child(["failing"], tmp_path / "log", {"PYTHONPATH": str(tmp_path)})
    try:
        with pytest.raises(FederaError, match="failing said '' in place of 'ready': no milk today"):
            child.receive("ready")
        until(lambda: child.code is not None, "its end")
        assert child.code == 1
    finally:
        child.kill()


# ---------------------------------------------------------------- the trainer that trains nothing


def fails(runtime, round_, client):
    experiment = Experiment().model_dump_json()
    shards = {client: [1, 2]}
    runtime.prepare(RunOrder(run_id="run", experiment_json=experiment, base_digest="", data_digest="", shards=shards))
    try:
        runtime.train(round_, client, start_state(equal_shapes()), lambda progress: None)
    except FederaError as error:
        return str(error)
    return None


def test_a_noop_failure_is_for_everybody_or_a_client_or_some_rounds():
    everybody = NoopRuntime(failure="the disk is full")
    assert fails(everybody, 1, 0) == fails(everybody, 7, 3) == "the disk is full"
    third = NoopRuntime(failure="3:the disk is full", failure_rounds=(1, 2))
    assert [fails(third, *where) for where in [(1, 3), (2, 3), (3, 3), (1, 2)]] == 2 * ["the disk is full"] + 2 * [None]
    assert fails(NoopRuntime(failure="note: the disk is full"), 1, 0) == "note: the disk is full"


def test_a_noop_training_moves_all_tensors_or_the_first_ones():
    start = start_state(equal_shapes(4, 3))
    moved = trained_state(start, 1, 6)
    assert all(np.array_equal(moved[name], start[name] + np.float32(1)) for name in start)
    first = trained_state(start, 1, 6, moved=1)
    assert np.array_equal(first["layer.000"], start["layer.000"] + np.float32(1))
    assert all(first[name] is start[name] for name in list(start)[1:])
    assert trained_state(start, 1, 6, moved=0) == start


def test_a_noop_reference_model_takes_the_start_that_was_recorded():
    reference_model = NoopReferenceModel(Experiment())
    made = reference_model.prepare()
    assert made == pack(start_state(equal_shapes()))
    assert reference_model.prepare(b"recorded") == b"recorded"


# ---------------------------------------------------------------- all of it


def test_a_small_run_from_end_to_end(tmp_path, capfd):
    out, file = tmp_path / "out", tmp_path / "rows.json"
    out.mkdir()
    arguments = ["--states", "small", "--workers", "1,2", "--turns", "1", "--rounds", "2", "--out", str(out)]
    assert transport.main([*arguments, "--json", str(file)]) == 0, capfd.readouterr().err
    assert list(out.iterdir()) == []
    rows = json.loads(file.read_text())["rows"]
    assert [line["workers"] for line in rows] == [1, 2]
    for line in rows:
        assert 1.2e6 < line["state_bytes"] < 1.21e6
        assert 0 < line["round_s"] < line["period_s"] + 0.5
        assert line["ratio"] == {kind: line["round_s"] / line["echo_s"][kind] for kind in KINDS}
        assert 0 < line["rounds_memory_bytes"] <= line["memory_bytes"]
    assert "48 tensors, 1.2 MB" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--states", "huge"], "--states: must be some of small,medium,large, not 'huge'"),
        (["--workers", "2,x"], "--workers: must be numbers by a comma, not '2,x'"),
        (["--workers", "0"], "must be at least 1"),
        (["--rounds", "1"], "--rounds at least 2"),
    ],
)
def test_bad_arguments_end_with_2(arguments, words, capsys):
    assert transport.main(arguments) == 2
    assert words in capsys.readouterr().err
