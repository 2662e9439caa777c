"""python -m benchmarks.power, as short as it can be: its figures are written, whether they hold or not."""

from __future__ import annotations

import json
import math

import pytest
from processes import Process


@pytest.mark.slow
def test_the_cost_of_the_readings_is_written(tmp_path):
    file = tmp_path / "power.json"
    arguments = ["-m", "benchmarks.power", "--seconds", "5", "--pairs", "2", "--block", "1", "--json", str(file)]
    process = Process(arguments, tmp_path)
    # 3: a figure does not hold, which so short a run on a machine that does other things too says nothing about.
    assert process.wait(200) in (0, 3), process.err
    figures = json.loads(file.read_text())
    assert figures["hz"] == 10 and 0 < figures["cpu_percent"] < 100
    assert len(figures["training_change_percent"]["pairs"]) == 2
    assert all(map(math.isfinite, figures["training_change_percent"]["pairs"]))
    assert "sampling thread, of one core" in process.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--hz", "0"], "--hz: must be from 0.1 to 100, not 0"),
        (["--seconds", "1"], "--seconds: must be from 5 to 3600"),
        (["--pairs", "1"], "--pairs: must be 2 or more"),
        (["--json", "/nowhere/file"], "--json: must be a file in a folder that exists"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, why, capsys):
    from benchmarks import power

    assert power.main(arguments) == 2
    assert why in capsys.readouterr().err
