"""Documents and classes in result.json, on the terminal and on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report_samples import HOSTILE, hostile_result, make_result, make_run

from coordinator.report.data import class_tables, data_lines
from coordinator.report.page import render_report
from coordinator.report.result import run_result
from coordinator.report.terminal import composition_lines
from coordinator.storage.ledger import Ledger
from federa.config import Experiment
from federa.tasks.composition import compose, unseen

CLASSES = ("no", "yes")


def _result(folder: Path, data: dict[str, Any] | None, evaluation: str, clients: int, counted: bool) -> Any:
    """What the result says of the data after a round of a run of clients with 5 training examples each, which hold
    out 2 for validation and 1 for the test."""
    ledger = Ledger(folder / f"{evaluation}{clients}{counted}.sqlite")
    federation = {"devices": 2, "clients": clients, "clients_per_round": 1}
    config = Experiment.model_validate({"evaluation": evaluation, "federation": federation})
    ledger.note(run_id="r", config=config.model_dump(mode="json"), environment={}, state="running", data=data)
    ledger.hosted({"ada": "k"}, dict.fromkeys(range(clients), "ada"))
    ledger.prepared("ada", {}, dict.fromkeys(range(clients), 5))
    ledger.selected(1, 1, [0], "b")
    ledger.aggregated(1, 1.0, "s")
    ledger.evaluated(1, 0.5, 8)
    for client in range(clients if counted else 1):
        for part, examples in (("validation", 2.0), ("test", 1.0)):
            ledger.counted(
                round_=1, part=part, client=client, device="ada", counters={"correct": 1.0, "examples": examples}
            )
    ledger.flush()
    try:
        return run_result(ledger)["data"]
    finally:
        ledger.close()


def test_the_result_holds_what_the_coordinator_read(tmp_path: Path) -> None:
    data = compose(CLASSES, [0, 0, 1, 1], {"training": [0, 2], "validation": [1], "test": [3]})
    assert _result(tmp_path, data, "coordinator", 2, True) == data
    assert _result(tmp_path, None, "coordinator", 3, True) is None


def test_devices_that_hold_records_out_say_how_many_and_nothing_of_classes(tmp_path: Path) -> None:
    parts = {"training": 10, "validation": 4, "test": 2}
    dealt = compose(CLASSES, [0] * 10 + [1] * 6)
    assert _result(tmp_path, dealt, "devices", 2, True) == {**dealt, "parts": parts}
    own = unseen(CLASSES)
    assert _result(tmp_path, own, "devices", 2, False) == own, "one has not said so yet"
    found = _result(tmp_path, own, "devices", 3, True)
    assert found == {"documents": 24, "parts": {"training": 15, "validation": 6, "test": 3}, "classes": own["classes"]}


def test_lines_are_said_once_for_runs_of_the_same_data() -> None:
    line = "40 documents, 2 classes: no (30), yes (10); 28 to train on, 6 for validation, 6 for the test"
    runs = [make_run("ft"), make_run("lora")]
    assert data_lines(runs, ["FT", "LoRA"]) == [line]
    runs[1]["data"] = compose(CLASSES, [0, 1])
    assert data_lines(runs, ["FT", "LoRA"]) == [f"FT: {line}", "LoRA: 2 documents, 2 classes: no (1), yes (1)"]
    del runs[1]["data"]
    assert composition_lines(make_result(*runs)) == [f"data: FT: {line}"]


def test_the_page_has_every_class_in_its_order() -> None:
    (table,) = class_tables([make_run("ft"), make_run("lora")], ["FT", "LoRA"])
    assert table.heads == ["Class", "Documents", "Training", "Validation", "Test"]
    assert [(row.head, [cell.text for cell in row.cells]) for row in table.rows] == [
        ("no", ["30", "21", "4", "5"]), ("yes", ["10", "7", "2", "1"]),
    ]  # fmt: skip
    own = make_run("ft") | {"data": unseen(("z", "a"))}
    (table,) = class_tables([own], ["FT"])
    assert [(row.head, [cell.text for cell in row.cells]) for row in table.rows] == [
        ("z", ["not counted"]), ("a", ["not counted"]),
    ]  # fmt: skip
    many = make_run("ft") | {"data": compose([f"class {n}" for n in range(150)], list(range(150)) * 4)}
    source = render_report(make_result(many))
    assert source.count("class 149") >= 1 and "600 documents, 150 classes: class 0 (4), " in source


def test_any_data_of_a_result_can_be_shown() -> None:
    for data in (None, [], "x", {}, {"classes": [1]}, {"classes": [{}]}, {"parts": {"training": 1}, "documents": "x"}):
        assert render_report(make_result(make_run("ft") | {"data": data}))
    lines = composition_lines(hostile_result())
    assert lines and all(line.isprintable() for line in lines)
    assert HOSTILE not in render_report(hostile_result()).partition("<script")[0]
