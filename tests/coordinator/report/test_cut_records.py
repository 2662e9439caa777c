"""How many records were cut: in result.json, on the terminal and on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_samples import HOSTILE, make_result, make_run

from coordinator.report.data import cut_lines
from coordinator.report.page import render_report
from coordinator.report.result import run_result
from coordinator.report.terminal import cut_record_lines
from coordinator.storage.ledger import Ledger
from federa.config import Experiment
from federa.tasks.composition import CutRecords

BOTH = {
    "max_length": 64,
    "devices": {"records": 3000, "cut": 33},
    "coordinator": {"records": 394, "cut": 4},
}
LINE = (
    "37 of 3,394 records lost tokens at data.max_length 64: 33 of 3,000 on the devices, "
    "4 of 394 held out by the coordinator."
)


def _cut(folder: Path, **facts: Any) -> Any:
    ledger = Ledger(folder / "ledger.sqlite")
    config = Experiment.model_validate({"data": {"max_length": 32}}).model_dump(mode="json")
    ledger.note(run_id="r", config=config, environment={}, state="running", **facts)
    ledger.hosted({"ada": "k", "bob": "k2"}, {0: "ada", 1: "ada", 2: "bob", 3: "bob"})
    if facts:
        ledger.prepared("ada", {}, {0: 5, 1: 5}, {0: CutRecords(6, 2), 1: CutRecords(5, 0)})
        ledger.prepared("bob", {}, {2: 5, 3: 5}, {2: CutRecords(7, 1)})
    ledger.flush()
    try:
        return run_result(ledger)["cut"]
    finally:
        ledger.close()


def test_the_result_sums_what_the_devices_say_and_what_is_held_out(tmp_path: Path) -> None:
    found = _cut(tmp_path, held_out_cut={"records": 9, "cut": 4})
    assert found == {
        "max_length": 32,
        "devices": {"records": 18, "cut": 3},
        "coordinator": {"records": 9, "cut": 4},
    }


def test_what_nobody_counted_is_not_zero(tmp_path: Path) -> None:
    assert _cut(tmp_path) == {"max_length": 32, "devices": None, "coordinator": None}
    assert cut_lines([make_run() | {"cut": _cut(tmp_path)}], ["FeDeRA"]) == []


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (CutRecords(3394, 37), "37 of 3,394 records lost tokens at data.max_length 1,024"),
        (CutRecords(1, 1), "1 of 1 record lost tokens at data.max_length 1,024"),
        (CutRecords(1200, 0), "none of 1,200 records lost tokens at data.max_length 1,024"),
    ],
)
def test_in_words(counted: CutRecords, words: str) -> None:
    assert counted.in_words(1024) == words


def test_it_is_said_once_for_runs_of_the_same_data_on_terminal_and_page() -> None:
    runs = [make_run("ft") | {"cut": BOTH}, make_run("lora") | {"cut": BOTH}]
    assert cut_record_lines(make_result(*runs)) == [f"data: {LINE}"]
    assert render_report(make_result(*runs)).count(LINE) == 1
    runs[1]["cut"] = {**BOTH, "max_length": 128, "coordinator": None}
    assert cut_lines(runs, ["FT", "LoRA"]) == [
        f"FT: {LINE}", "LoRA: 33 of 3,000 records lost tokens at data.max_length 128.",
    ]  # fmt: skip


def test_until_a_device_says_so_it_is_said_whose_records_they_are() -> None:
    (line,) = cut_lines([make_run() | {"cut": {**BOTH, "devices": None}}], ["FeDeRA"])
    assert line.endswith(": 4 of 394 held out by the coordinator.")


@pytest.mark.parametrize(
    "cut", [None, 1, HOSTILE, {}, {"max_length": HOSTILE}, {"max_length": 8, "devices": {"records": HOSTILE, "cut": 1}}]
)
def test_any_value_of_a_result_can_be_shown(cut: Any) -> None:
    assert cut_lines([make_run() | {"cut": cut}], ["FeDeRA"]) == []
    assert render_report(make_result(make_run() | {"cut": cut}))
