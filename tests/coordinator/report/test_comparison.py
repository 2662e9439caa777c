"""What is compared with what: runs of the same data, seed, metric and target, and no others."""

from __future__ import annotations

import re
from typing import Any

import pytest
from report_samples import (
    error_run,
    five_methods_result,
    make_result,
    make_run,
    of_task,
    several_tasks_result,
    with_energy,
)

from coordinator.report.comparison import base_of, fastest_other, method_sentences
from coordinator.report.groups import are_comparable, groups_of, variants
from coordinator.report.page import render_report
from coordinator.report.run_tables import comparison_table
from coordinator.report.runs import Entry, run_labels
from coordinator.report.terminal import comparison_lines, metric_lines, summary


def sentences(*runs: Entry) -> list[str]:
    return [text.replace("\u00a0", " ") for text in method_sentences(runs, run_labels(runs))]


def changed(run: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {**run, "config": {**run["config"], **config}}


# ---- which runs are comparable


@pytest.mark.parametrize(
    "other",
    [
        make_run("lora", seed=2),
        make_run("lora", bandwidth=None),
        make_run("lora") | {"metric": "macro_f1"},
        make_run("lora") | {"target": 0.75},
        make_run("lora") | {"better": "lower"},
        make_run("lora") | {"data_digest": "another"},
        changed(make_run("lora"), data={"alpha": 0.1, "labels": None}),
        changed(make_run("lora"), task="token-classification"),
        changed(make_run("lora"), model="another"),
        changed(make_run("lora"), evaluation="devices"),
        changed(make_run("lora"), federation={"clients": 100}),
    ],
)
def test_runs_of_unlike_data_seed_metric_or_target_are_not_compared(other: dict[str, Any]) -> None:
    federa = make_run() | {"data_digest": "one"}
    assert base_of(federa, [federa, make_run("lora") | {"data_digest": "one"}], "lora") is not None
    assert not are_comparable(federa, other) and not are_comparable(other, federa)
    assert fastest_other(federa, [federa, other]) is None
    (line,) = sentences(federa, other)
    assert "is compared with no run of LoRA: none has the same data, model, seed, link, metric and target." in line


def test_the_same_records_may_lie_elsewhere_on_another_machine() -> None:
    here, there = (changed(make_run(), data={"source": source, "alpha": 1.0}) for source in ("/a/x.csv", "/b/x.csv"))
    assert not are_comparable(here, there)
    digest = {"data_digest": "one"}
    assert are_comparable(here | digest, there | digest)
    assert not are_comparable(here | digest, there), "of one it is not known what they are"


def test_what_a_method_has_of_its_own_keeps_no_run_from_comparison() -> None:
    lora = changed(make_run("lora"), lora={"r": 32}, methods=["lora"], name="one", training={"epochs": 2})
    assert are_comparable(make_run(), lora)


# ---- what is said


def test_federa_against_lora_and_against_the_fastest_other_method() -> None:
    lines = comparison_lines(five_methods_result())
    assert lines == [
        "FeDeRA against LoRA: time −20 %, bytes 0 %, energy −20 %.",
        "FeDeRA against Adapter, the fastest other PEFT method: time −8 %, bytes −60 %, energy −33.3 %.",
    ]


def test_lora_may_be_the_fastest_other_method() -> None:
    runs = [make_run("ft"), make_run("adapter"), make_run("lora"), make_run()]
    assert sentences(*runs) == ["FeDeRA against LoRA, the fastest other PEFT method: time −20 %, bytes 0 %."]


def test_a_target_that_was_missed_is_said_and_is_nobodys_fastest() -> None:
    missed, reached = make_run("lora", rounds=3), make_run()
    assert sentences(missed, reached) == ["FeDeRA against LoRA: it reached the target, the other did not."]
    assert sentences(make_run("lora"), make_run(rounds=3)) == [
        "FeDeRA against LoRA, the fastest other PEFT method: it did not reach the target."
    ]
    assert sentences(missed, make_run(rounds=3)) == ["FeDeRA against LoRA: neither reached the target."]
    assert sentences(make_run("ft"), make_run()) == []


def test_a_run_of_the_same_folder_comes_first() -> None:
    slow = make_run("lora") | {"time_to_target_s": 1200.0, "folder": "b"}
    quick = make_run("lora") | {"folder": "a"}
    runs = [slow, quick, make_run() | {"folder": "b"}]
    assert sentences(*runs)[0].startswith("FeDeRA against LoRA · b, the fastest other PEFT method: time −90 %")


@pytest.mark.parametrize("other", [with_energy("lora", scope="board"), with_energy("lora", source="replay of a.txt")])
def test_joules_of_unlike_kind_are_in_no_sentence(other: dict[str, Any]) -> None:
    assert "energy −20 %" in sentences(with_energy("lora"), with_energy("federa"))[0]
    assert "energy" not in sentences(other, with_energy("federa"))[0]


def test_the_ways_of_all_methods_stand_against_that_of_full_fine_tuning_as_1() -> None:
    runs = five_methods_result()["runs"]
    table = comparison_table(runs, run_labels(runs))
    place = table.heads.index("FT = 1") - 1
    column = {row.head: [text.replace("\u00a0", " ") for text, _ in row.cells[place].more] for row in table.rows}
    assert column["FT"] == ["time 1", "bytes 1", "energy 1"]
    assert column["FeDeRA"] == ["time 0.2 (−80 %)", "bytes 0.01 (−99 %)", "energy 0.2 (−80 %)"]
    assert "FT = 1" in summary(make_result(*runs)).columns
    assert "LoRA = 1" in summary(make_result(*runs[1:])).columns, "without FT"
    assert not any(" = 1" in head for head in summary(make_result(*runs[1:3])).columns)


# ---- several tasks and metrics


def test_runs_of_other_tasks_metrics_or_data_are_groups_of_their_own() -> None:
    runs = several_tasks_result()["runs"]
    assert [(group.name, group.places) for group in groups_of(runs)] == [
        ("accuracy, synthetic", (0, 1)),
        ("entity F1, token classification, wnut2017", (2, 3)),
        ("mean squared error, synthetic", (4, 5)),
    ]
    assert [group.name for group in groups_of(runs[:2])] == [""]
    other = [runs[0], of_task(make_run(), "a-task", "accuracy", "a", {}), runs[1] | {"data_digest": "b"}]
    assert [group.places for group in groups_of(other)] == [(0,), (1,), (2,)]
    assert [group.name for group in groups_of([runs[0], runs[1] | {"data_digest": "b"}])] == [
        "accuracy, synthetic (1)", "accuracy, synthetic (2)",
    ]  # fmt: skip


def test_a_run_has_its_methods_colour_in_every_group_and_its_own_dot_in_every_table() -> None:
    result = several_tasks_result()
    assert variants(result["runs"]) == [0] * 6 and variants([*result["runs"][:2], make_run()]) == [0, 0, 1]
    page = render_report(result)
    dots = re.findall(r'data-method="(\w+)" data-place="(\d)"', page)
    places = [str(place) for place in range(6)]
    assert [place for _, place in dots] == places * 3, "in short, what differs, and the comparisons"
    assert all(method == result["runs"][int(place)]["method"] for method, place in dots)
    assert page.count('data-facet="method:LoRA"') == 1 and 'data-facet="run:' not in page


def test_the_other_metrics_stand_in_a_line_and_the_targets_own_in_the_table() -> None:
    result = several_tasks_result()
    others = "entity precision 0.5000, entity recall 0.6250"
    assert metric_lines(result) == [
        f"metrics: {method} · wnut2017: round 7: {others}; test: {others}" for method in ("LoRA", "FeDeRA")
    ]
    assert metric_lines(make_result(make_run(), error_run())) == []
    reached = [str(row[1]) for row in summary(result).rows]
    assert reached == [
        "yes, accuracy 0.8", "yes, accuracy 0.8", "yes, entity F1 0.6", "yes, entity F1 0.6",
        "yes, mean squared error ≤ 0.5", "yes, mean squared error ≤ 0.5",
    ]  # fmt: skip
