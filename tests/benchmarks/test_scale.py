"""The benchmark of many simulated workers: its arithmetic, its refusals, and one small run of it."""

from __future__ import annotations

import dataclasses
import json
import socket

import pytest

from benchmarks import scale
from benchmarks.scale import ScaleRow, first_orders
from coordinator.operator.child import Child
from federa.errors import FederaError


def test_a_rounds_first_order_is_the_earliest_of_all_processes():
    reports = [
        {"rounds_began": {"1": 1.0, "2": 5.0, "3": 9.5, "10": 30.0}},
        {"rounds_began": {"1": 0.5, "2": 5.5, "3": 9.0}},
    ]
    assert first_orders(reports) == [5.0, 9.0, 30.0]


LINE = ScaleRow(
    workers=1000,
    clients=100,
    connected_s=1.0,
    connected_cpu_s=0.5,
    round_s=4.9,
    period_s=5.0,
    cpu_s=3.0,
    cores=0.6,
    start_bytes=1,
    connected_bytes=2,
    peak_bytes=3,
    round_trip_s={"p50": 0.001, "p99": 0.002, "max": 0.003},
)


def test_what_the_readme_promises_is_checked():
    assert LINE.broken() == []
    slow = dataclasses.replace(LINE, round_s=5.0)
    assert slow.broken() == ["1000 workers: 5.00 s a round, under 5 s"]
    assert dataclasses.replace(slow, workers=100).broken() == []  # promised for 1,000


def test_simulated_workers_that_nobody_answers_fail_aloud(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    child = Child(["tests.doubles.simulated_workers", address, "0", "3"], tmp_path / "log")
    try:
        child.receive("ready")
        child.send("connect")
        with pytest.raises(FederaError, match=r"worker-0000[0-2]: UNAVAILABLE"):
            child.receive("connected")
    finally:
        child.kill()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_small_run_from_end_to_end(processes, tmp_path, capfd):
    out, file = tmp_path / "out", tmp_path / "rows.json"
    out.mkdir()
    arguments = ["--workers", "3,5", "--clients-per-round", "4", "--rounds", "3", "--processes", str(processes)]
    code = scale.main([*arguments, "--out", str(out), "--json", str(file)])
    reports = capfd.readouterr()
    assert code == 0, reports.err
    assert list(out.iterdir()) == []
    rows = json.loads(file.read_text())["rows"]
    assert [(line["workers"], line["clients"]) for line in rows] == [(3, 3), (5, 4)]
    for line in rows:
        assert 0 < line["round_s"] < line["period_s"] + 0.5
        assert 0 < line["start_bytes"] <= line["connected_bytes"] <= line["peak_bytes"]
        trips = line["round_trip_s"]
        assert 0 < trips["p50"] <= trips["p99"] <= trips["max"] < 5
        assert line["cpu_s"] > 0
        assert line["cores"] <= 3
    assert "simulated" in reports.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "10,many"], "--workers: must be numbers by a comma, not '10,many'"),
        (["--workers", "1"], "--workers: must be at least --processes"),
        (["--clients-per-round", "0"], "--clients-per-round: must be at least 1"),
        (["--rounds", "1"], "--rounds at least 2"),
    ],
)
def test_bad_arguments_end_with_2(arguments, words, capsys):
    assert scale.main(arguments) == 2
    assert words in capsys.readouterr().err
