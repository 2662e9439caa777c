"""The picture of the split: cells, bars, legend, tables, and what the page and the terminal say of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from report_samples import FINISHED, HOSTILE, hostile_result, make_result, make_run, with_clients

from coordinator.report.page import render_report
from coordinator.report.split_figure import MAX_CELLS, MAX_CLASSES, MAX_CLIENTS, split_figures, step_of
from coordinator.report.terminal import composition_lines


def run_with(counts: list[list[int]], classes: list[str] | None = None, by: str = "classes", **more: Any) -> Any:
    names = classes or [f"class {number}" for number in range(len(counts[0]))]
    return make_run() | {"data": {"clients": {"classes": names, "counts": counts, "by": by}}, **more}


def cells_of(path: str) -> set[tuple[int, int]]:
    return {(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path)}


def test_every_cell_has_the_colour_of_its_share() -> None:
    (figure,) = split_figures([run_with([[0, 10], [1, 5]])], ["FeDeRA"])
    assert [row.name for row in figure.rows] == ["class 0", "class 1"], "in their order, not by size"
    (figure,) = split_figures([run_with([[10, 0], [5, 5], [0, 0]])], ["FeDeRA"])
    colours = [cells_of(path) for path in figure.paths]
    assert colours == [set(), set(), set(), {(1, 0), (1, 1)}, set(), {(0, 0)}], "of a half, and of all; none of nothing"
    assert [(row.name, row.total) for row in figure.rows] == [("class 0", "15"), ("class 1", "5")]
    assert figure.columns == 3 and [text for text, _ in figure.ticks] == ["0", "1", "2"]


def test_the_scale_ends_where_hardly_any_share_is_larger() -> None:
    counts = [[1] * 50 for _ in range(100)]
    counts[0] = [50] + [0] * 49
    (figure,) = split_figures([run_with(counts)], ["FeDeRA"])
    assert figure.legend[0] == "0–0.25\u00a0%" and figure.legend[-1] == "over 3.75\u00a0%"
    assert cells_of(figure.paths[-1]) == {(0, 0)} and len(cells_of(figure.paths[3])) == 99 * 50, "2 % of 5 %"
    assert step_of(0.0, 1.0) is None and step_of(0.9, 0.05) == 5 and step_of(1e-9, 1.0) == 0


def test_sizes_are_the_training_records_where_these_are_known() -> None:
    (figure,) = split_figures([run_with([[30, 1], [2, 3]], shard_sizes=[4, 8])], ["FeDeRA"])
    assert figure.bars == "M0.1 1v-0.5h.8v0.5z" + "M1.1 1v-1h.8v1z" and figure.largest == "8"
    (figure,) = split_figures([run_with([[30, 1], [2, 3]], shard_sizes=[4])], ["FeDeRA"])
    assert figure.largest == "31"


def test_a_split_without_classes_has_bars_alone() -> None:
    (figure,) = split_figures([run_with([[3], [9]], ["documents"], "documents")], ["FeDeRA"])
    assert (figure.title, figure.rows, figure.largest) == ("Documents of each client", [], "9")
    assert 'class="cells"' not in render_report(make_result(run_with([[3], [9]], ["documents"], "documents")))


def test_what_there_is_no_room_for_is_said() -> None:
    clients, classes = MAX_CLIENTS + 50, MAX_CLASSES + 5
    (figure,) = split_figures([with_clients(make_run(), clients, classes)], ["FeDeRA"])
    assert f"Shown are the first {MAX_CLIENTS} of {clients} clients." in figure.note
    assert f"Shown are the {MAX_CLASSES} largest of {classes} classes." in figure.note
    assert figure.columns == MAX_CLIENTS and len(figure.rows) == MAX_CLASSES
    assert clients * classes > MAX_CELLS and len(figure.tables) == 1 and len(figure.tables[0].rows) == clients


def test_the_numbers_stand_in_tables() -> None:
    run = run_with([[10, 0], [5, 5], [0, 0]], ["no", "yes"], shard_sizes=[10, 10, 0])
    (figure,) = split_figures([run], ["FeDeRA"])
    clients, numbers = figure.tables
    assert [(row.head, *(cell.text.replace("\u00a0", " ") for cell in row.cells)) for row in clients.rows] == [
        ("0", "10", "0.25", "no (100 %)"), ("1", "10", "0.25", "no (50 %)"), ("2", "0", "none", "nothing"),
    ]  # fmt: skip
    assert numbers.heads == ["Client", "no", "yes"] and numbers.rows[-1].head == "all"
    assert [cell.text for cell in numbers.rows[-1].cells] == ["15", "5"]


def test_runs_of_one_split_share_a_picture() -> None:
    one, other = [[1, 2], [3, 4]], [[4, 3], [2, 1]]
    figures = split_figures([run_with(one), run_with(other), run_with(one), make_run()], ["FT", "LoRA", "FeDeRA", "x"])
    assert [figure.title for figure in figures] == ["Clients by class (FT and FeDeRA)", "Clients by class (LoRA)"]
    assert [figure.title for figure in split_figures([run_with(one)] * 2, ["a", "b"])] == ["Clients by class"]


def test_page_and_terminal_say_how_skewed_it_is() -> None:
    run = make_run() | run_with([[8, 0], [0, 24]], shard_sizes=[8, 24])
    run["data"] = {**make_run()["data"], **run["data"]}
    line = (
        "2 clients with 8 to 24 training records each (median 16); their mix of classes is 0.50 from that of all (mean "
        "total variation distance)."
    )
    assert f"data: {line}" in composition_lines(make_result(run))
    page = render_report(make_result(run))
    assert f"<li>{line}</li>" in page and page.count('<figure class="split">') == 1
    assert '<figure class="split">' not in render_report(FINISHED)


@pytest.mark.parametrize("clients", [None, 3, HOSTILE, {}, {"classes": ["a"], "counts": [[HOSTILE]]}])
def test_any_value_of_a_result_can_be_shown(clients: Any) -> None:
    run = make_run() | {"data": {**make_run()["data"], "clients": clients}, "shard_sizes": HOSTILE}
    assert '<figure class="split">' not in render_report(make_result(run))


def test_hostile_names_stay_text() -> None:
    before = render_report(hostile_result()).partition('<script type="application/json"')[0]
    assert '<figure class="split">' in before and HOSTILE not in before


def test_notes_about_the_base_model_stand_once_on_the_page() -> None:
    note = "has no pooler: one is made anew"
    runs = [make_run(method) | {"model_notes": [note]} for method in ("ft", "federa")]
    for run in runs:
        run["config"] = {**run["config"], "model": "a-model"}
    assert render_report(make_result(*runs)).count(f"<li>a-model {note}.</li>") == 1
