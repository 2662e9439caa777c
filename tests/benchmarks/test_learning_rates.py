"""The grid of learning rates: resumable, and judged on the validation part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.learning_rates import main, read_rows, score, spread, table

WORDS = ("match goal team", "bank market shares", "film music good")


def _row(**values: object) -> dict[str, object]:
    row = {"task": "t", "data": "d", "method": "ft", "rate": 0.1, "seed": 0, "better": "higher", "curve": [0.1, 0.2]}
    return row | values


@pytest.fixture
def arguments(tmp_path: Path, tiny_folder: Callable[[str], str]) -> list[str]:
    rows = [{"text": f"{WORDS[number % 3]} {number}", "label": "abc"[number % 3]} for number in range(60)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "--out", str(tmp_path / "grid.jsonl"), "--rates", "1e-3,1e-2", "--training", "24", "--validation", "6",
        "--method", "bitfit,federa", "--data", str(tmp_path / "data.jsonl"), "--model", tiny_folder("bert"),
        "--rounds", "2", "--clients", "3", "--set", "federation.clients_per_round=2", "--set", "lora.r=2",
    ]  # fmt: skip


def test_every_method_and_rate_is_a_line_and_an_interrupted_grid_goes_on(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    out = tmp_path / "grid.jsonl"
    first = out.read_text().splitlines()
    rows = read_rows(out)
    assert [(row["method"], row["rate"]) for row in rows] == [
        ("bitfit", 1e-3), ("bitfit", 1e-2), ("federa", 1e-3), ("federa", 1e-2),
    ]  # fmt: skip
    assert all(len(row["curve"]) == len(row["losses"]) == 2 and row["validation"] == 6 for row in rows)
    assert capsys.readouterr().out.count("| text-classification | data |") == 4
    out.write_text("\n".join(first[:3]) + "\n" + first[3][:20])  # killed in the last line
    assert main(arguments) == 0
    again = read_rows(out)
    assert again[:3] == rows[:3]
    assert again[3]["curve"] == rows[3]["curve"] and again[3]["losses"] == rows[3]["losses"]


def test_the_table_says_which_rate_is_best_over_its_seeds_and_last_rounds() -> None:
    rows = [
        _row(rate=0.1, curve=[0.9, 0.2, 0.4]),
        _row(rate=0.3, curve=[0.1, 0.5, 0.5]),
        _row(rate=0.3, seed=1, curve=[0.1, 0.3, 0.3]),
        _row(method="lora", better="lower", rate=0.1, curve=[2.0, 1.0]),
        _row(method="lora", better="lower", rate=0.3, curve=[3.0, 2.0]),
    ]
    assert score(rows[3]) == -1.5
    assert table(rows).splitlines()[2:] == [
        "| t | d | ft | 0.1 | 0.900 0.200 0.400 | 0.300 |",
        "| t | d | ft | **0.3** | 0.100 0.500 0.500; 0.100 0.300 0.300 | 0.400 |",
        "| t | d | lora | **0.1** | 2.000 1.000 | 1.500 |",
        "| t | d | lora | 0.3 | 3.000 2.000 | 2.500 |",
    ]


def test_records_are_taken_from_all_of_the_data() -> None:
    assert spread(range(10), 20) == list(range(10))
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]


def test_a_file_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "none"), "--table"]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "none"), "--method", "nothing"]) == 2
