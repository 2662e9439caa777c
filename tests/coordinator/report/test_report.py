"""The report: what it says of whole, unfinished, empty and hostile results."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import markupsafe
import pytest
from report_samples import (
    FINISHED,
    HOSTILE,
    LOOKED_FOR,
    error_run,
    hostile_result,
    make_result,
    make_run,
    replayed_result,
    rich_result,
    with_energy,
)

from coordinator.report import render_report, write_report
from coordinator.report.runs import run_labels
from federa.numbers import scaled, show_seconds


class Page(HTMLParser):
    """The words of a page, its embedded JSON by id, its elements' attributes and its inline scripts' count."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.words, self.scripts = "", 0
        self.embedded: dict[str, Any] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside: str | None = None
        self.feed(source)
        self.words = " ".join(self.words.replace("\u00a0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.words += "" if tag in ("strong", "span") else " "
        self.tags.append((tag, values))
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script" and values.get("type") == "application/json":
            self._inside = f"json {values['id']}"
        elif tag == "script":
            self.scripts += 1

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.words += data
        elif self._inside.startswith("json "):
            self.embedded[self._inside[5:]] = json.loads(data)


def test_finished_result_says_what_was_reached_and_saved() -> None:
    page = Page(render_report(FINISHED))
    assert "FeDeRA reached accuracy 80 % in 2 min 00 s after 6 rounds, with 480 kB on the wire" in page.words
    assert "LoRA reached accuracy 80 % in 2 min 30 s" in page.words
    assert "time 0.2 (\u221280 %) bytes 0.01 (\u221299 %)" in page.words
    assert "Energy was not measured." in page.words
    assert "Time and bytes to the target do not exist" not in page.words


def test_saving_compares_only_runs_alike() -> None:
    page = Page(render_report(make_result(make_run("ft", seed=1), make_run("federa", seed=2))))
    assert "FT = 1" in page.words and "no such run" in page.words
    page = Page(render_report(make_result(make_run("ft", rounds=3), make_run("federa"))))
    assert "not both reached" in page.words
    assert " = 1" not in Page(render_report(make_result(make_run("federa"), make_run("federa", seed=2)))).words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("running", "is still running after 3 rounds and has not reached accuracy 80 % yet; its best is 50 %"),
        ("stopped", "was stopped after 3 rounds, before it reached accuracy 80 %"),
        ("failed", "failed after 3 rounds, before it reached accuracy 80 %; its best is 50 %. Reason: made up & odd"),
        ("finished", "did not reach accuracy 80 % after 3 rounds"),
        (None, "did not reach accuracy 80 % after 3 rounds"),
    ],
)
def test_unreached_run_is_said_in_words(state: str | None, words: str) -> None:
    run = make_run("federa", rounds=3) | {"state": state}
    if state == "failed":
        run["failure"] = "made up & odd"
    page = Page(render_report(make_result(run)))
    assert words in page.words
    assert "not reached" in page.words and "not measured" in page.words
    assert "Time and bytes to the target do not exist for FeDeRA" in page.words
    assert not re.search(r"\b(None|null|NaN|undefined)\b", page.words)


def test_empty_results_render() -> None:
    for result in ({"schema": 1, "environment": {}, "runs": []}, {}, {"runs": None}):
        assert "No run has been recorded yet." in Page(render_report(result)).words


def test_run_with_almost_no_key_renders() -> None:
    page = Page(render_report({"runs": [{"method": "new"}, {}, {"devices": [{}], "curve": [{}], "target": 0.5}]}))
    assert "new" in page.words and "unnamed method" in page.words and "No round was evaluated for" in page.words


@pytest.mark.parametrize("count", [0, 1, 3])
def test_embedded_result_round_trips(count: int) -> None:
    result = make_result(*FINISHED["runs"][:count])
    result["environment"]["text"] = HOSTILE + "\ud800\x00é"
    assert Page(render_report(result)).embedded["result"] == result


def test_hostile_texts_stay_texts() -> None:
    source = render_report(hostile_result())
    page = Page(source)
    assert page.scripts == 2
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "embed", "form")]
    assert not [name for _, values in page.tags for name in values if name.startswith("on")]
    assert page.embedded["result"] == hostile_result()
    assert str(markupsafe.escape(HOSTILE)) in source


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = Page(render_report(FINISHED))
    loads = [
        (tag, name, value) for tag, values in page.tags for name, value in values.items() if name in ("src", "href")
    ]
    assert loads == [("link", "href", "data:,")]
    (policy,) = (
        values["content"] for tag, values in page.tags if values.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy and "'unsafe-eval'" not in policy


def test_page_is_accessible() -> None:
    page = Page(render_report(FINISHED))
    names = [tag for tag, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags
    assert names.count("h1") == 1 and names.count("table") == names.count("caption") > 0
    assert all(values.get("scope") in ("row", "col") for tag, values in page.tags if tag == "th")
    plots = [values for _, values in page.tags if "plot" in (values.get("class") or "").split()]
    assert len(plots) == 3 + 3 and all(values.get("aria-label") for values in plots)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.1234, "0.123 s"),
        (42.06, "42.1 s"),
        (59.97, "1 min 00 s"),
        (252.3, "4 min 12 s"),
        (7499, "2 h 05 min"),
    ],
)
def test_seconds_are_shown_in_human_units(seconds: float, words: str) -> None:
    assert show_seconds(seconds).replace("\u00a0", " ") == words


@pytest.mark.parametrize(("size", "words"), [(0, "0 B"), (999, "999 B"), (999_900, "1 MB"), (12_345_678, "12.3 MB")])
def test_bytes_are_shown_in_decimal_units(size: int, words: str) -> None:
    assert scaled("B")(size).replace("\u00a0", " ") == words


def test_labels_tell_runs_apart() -> None:
    runs = [make_run(seed=seed, bandwidth=rate) for seed in (1, 2) for rate in (None, 10.0)]
    assert len(set(run_labels(runs + runs))) == 8
    assert run_labels([make_run("ft"), make_run("federa")]) == ["FT", "FeDeRA"]


def test_write_replaces_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old", encoding="utf-8")
    write_report(FINISHED, target)
    assert target.read_text(encoding="utf-8") == render_report(FINISHED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_what_was_not_taken_is_named_with_its_reason_and_a_restart_is_told():
    run = make_run()
    refused = {"round": 3, "attempt": 1, "client": 7, "device": "d", "kind": "refused", "reason": f"tensor {HOSTILE}"}
    run["setbacks"] = [refused, {**refused, "kind": "late", "reason": "round 3 is closed"}]
    run["restarts"], run["downtime_s"] = 2, 31.0
    page = Page(render_report(make_result(run)))
    assert "Updates that were not taken" in page.words
    assert "update refused tensor </script>" in page.words
    assert "update came too late round 3 is closed" in page.words
    assert "taken up again 2 times, after 31.0 s of downtime" in page.words
    assert "not taken" not in Page(render_report(make_result(make_run()))).words


def test_every_energy_stands_with_its_scope_and_its_coverage():
    page = Page(render_report(rich_result()))
    assert "and 6.3 kJ (module, 100 % covered, largest gap 0.125 s)" in page.words
    assert "1.57 kJ, module 90 % covered, largest gap 20.0 s" in page.words
    assert "Energy by phase (module)" in page.words and "Energy by phase (board)" in page.words
    assert "Accuracy over energy (module)" in page.words
    assert f"not measured on device-a (BitFit) and device-b (BitFit): {LOOKED_FOR}." in page.words
    assert "no sum of joules for Adapter: device-a measures the module, device-b the board." in page.words
    assert "Above idle" in page.words and "Step p99" in page.words and "MAXN_SUPER" in page.words
    assert "6.2 % of the time" in page.words and "never" in page.words, "throttling"
    assert "548 MHz most 624.8" in page.words and "Temperature tj" in page.words


def test_savings_of_energy_compare_one_kind_only():
    alike = Page(render_report(make_result(with_energy("lora"), with_energy("federa")))).words
    assert "energy \u221220 %" in alike
    for other in (with_energy("federa", scope="board"), with_energy("federa", source="replay of a.txt")):
        words = Page(render_report(make_result(with_energy("lora"), other))).words
        assert "energy \u221220 %" not in words
        assert "of unlike scope" in words or "only one is a replay" in words
        assert words.count("Accuracy over energy") >= 2, "a figure for each"


def test_replay_is_marked_wherever_its_joules_are():
    source = render_report(replayed_result())
    cells = re.findall(r'<td title="[\d.,e-]+\u00a0J">(.*?)</td>', source)
    federa = source[source.index("<summary>FeDeRA</summary>") :]
    marked = re.findall(r'<td title="[\d.,e-]+\u00a0J">(.*?)</td>', federa[: federa.index("</section>")])
    assert marked and all("replay" in cell for cell in marked)
    assert len(cells) > len(marked)
    assert "replay of orin_nano.txt, not measured on this device" in Page(source).words


def test_an_interval_that_is_assumed_stands_beside_every_joule_of_a_replay():
    result = replayed_result()
    for device in result["runs"][1]["devices"]:
        device["interval_assumed"] = True
    page = render_report(result)
    section = page[page.index("<summary>FeDeRA</summary>") :]
    marked = re.findall(r'<td title="[\d.,e-]+\u00a0J">(.*?)</td>', section[: section.index("</section>")])
    assert marked and all("replay, interval assumed" in cell for cell in marked)
    assert "replay of orin_nano.txt, interval assumed, not measured on this device" in Page(page).words


def test_power_that_nobody_measured_has_no_figure_but_a_sentence():
    words = Page(render_report(FINISHED)).words
    assert "Power of" not in words and "No figure over energy" in words


def test_reasons_of_every_source_stand_once() -> None:
    run = make_run() | {"energy_note": f"power was not measured on device-a and device-b: {LOOKED_FOR}"}
    for device in run["devices"]:
        device["power_detail"] = LOOKED_FOR
    words = Page(render_report(make_result(run))).words
    assert words.count(LOOKED_FOR) == 1 and f"Energy was not measured: {LOOKED_FOR}." in words
    assert "no run has a sum of joules. Power was not measured on device-a and device-b." in words


def test_unpaced_network_is_called_so() -> None:
    words = Page(render_report(make_result(make_run(bandwidth=None)))).words
    assert "Network: not paced." in words and "Links" not in words


def test_all_metrics_of_the_task_stand_in_a_table() -> None:
    run = make_run() | {"test_metrics": {"accuracy": 0.75, "micro_f1": 0.5}}
    run["curve"][-1]["metrics"] = {"accuracy": 0.9, "micro_f1": None}
    words = Page(render_report(make_result(run))).words
    shown = "Part Accuracy Micro F1 FeDeRA validation, last, round 8 0.9000 not measured FeDeRA test 0.7500 0.5000"
    assert shown in words
    run["curve"][7]["metrics"] = {"accuracy": 0.9, "micro_f1": 0.25}
    assert "FeDeRA validation, best, round 7 0.9000 0.2500" in Page(render_report(make_result(run))).words
    run["curve"][-1]["value"] = run["best"] = 0.95
    assert "FeDeRA validation, best and last, round 8" in Page(render_report(make_result(run))).words
    assert "All metrics" not in Page(render_report(FINISHED)).words


def twins() -> list[dict[str, Any]]:
    """Two runs of one method, link and seed, with another aggregator and target, and a run of another method."""
    one, two = make_run() | {"folder": "t1"}, make_run() | {"folder": "t2", "target": 0.7}
    for run, aggregator in ((one, "fedavg"), (two, "median")):
        run["config"] = {**run["config"], "aggregator": aggregator, "evaluation": "coordinator"}
    return [one, two]


def test_runs_of_one_method_are_told_apart() -> None:
    lora = make_run("lora")
    lora["config"] |= {"aggregator": "fedavg", "evaluation": "coordinator"}
    page = Page(render_report(make_result(*twins(), lora)))
    chips = [values["data-facet"] for tag, values in page.tags if tag == "button"]
    assert chips == ["run:FeDeRA · t1", "run:FeDeRA · t2", "method:LoRA"]
    drawn = page.embedded["view"]["runs"]
    assert [run["variant"] for run in drawn] == [0, 1, 0]
    assert [run["facets"][0] for run in drawn] == chips
    assert "Dashed: the target, 80 % (FeDeRA · t1 and LoRA) and 70 % (FeDeRA · t2)." in page.words
    seeds = Page(render_report(make_result(make_run(), make_run(seed=2))))
    assert next(values["data-facet"] for tag, values in seeds.tags if tag == "button") == "method:FeDeRA"


def test_what_differs_stands_near_the_top_and_says_when_values_cannot_be_compared() -> None:
    runs = twins()
    top = Page(render_report(make_result(*runs))).words.partition("Comparison")[0]
    assert "Run aggregator FeDeRA · t1 fedavg FeDeRA · t2 median" in top and "not comparable" not in top
    runs[1]["config"]["evaluation"] = "devices"
    top = Page(render_report(make_result(*runs))).words.partition("Comparison")[0]
    assert "values are not comparable: `evaluation` differs" in top
    runs[1]["config"]["data"] = {"alpha": 0.1}
    top = Page(render_report(make_result(*runs))).words.partition("Comparison")[0]
    assert "values are not comparable: `data` and `evaluation` differ" in top and "data.alpha" in top
    assert "What differs beside" not in Page(render_report(FINISHED)).words


def test_damaged_trace_is_no_figure():
    run = with_energy("federa")
    for trace in ({}, {"bin_s": None}, {"bin_s": 1.0, "power_w": [None]}):
        run["devices"][0]["trace"] = trace
        assert "Power of device-a" not in Page(render_report(make_result(run))).words


def test_what_was_measured_and_has_no_sum_is_not_called_unmeasured() -> None:
    comparison = render_report(rich_result()).partition(">Comparison<")[2].partition("</table>")[0]
    adapter, bitfit = (re.search(rf"{name}</th>.*?</tr>", comparison, re.DOTALL) for name in ("Adapter", "BitFit"))
    assert adapter is not None and "no sum" in adapter[0] and "not measured" not in adapter[0]
    assert bitfit is not None and "not measured" in bitfit[0]


def test_how_many_examples_stand_behind_each_figure_is_said() -> None:
    run = make_run("federa")
    for point in run["curve"]:
        point["examples"] = 1334
    counts = [{"device": "orin-a", "client": 0, "correct": 61, "examples": 70}]
    run |= {"evaluation": "devices", "test_examples": 350, "held_out": {"validation": [], "test": counts}}
    page = Page(render_report(make_result(run)))
    assert "On the test part: 75 % of 350 examples that the devices hold out." in page.words
    assert page.words.count("of 1,334 examples") >= len(run["curve"]) and "of 350 examples" in page.words
    assert "What the devices counted" in page.words and "orin-a 0 61 70" in page.words
    silent = Page(render_report(FINISHED))
    assert "What the devices counted" not in silent.words and "of 0 example" not in silent.words


def test_metric_that_is_better_when_lower_is_a_plain_number_below_its_target() -> None:
    page = Page(render_report(make_result(error_run("ft"), error_run())))
    assert "FeDeRA reached mean squared error ≤ 0.5 in 2 min 00 s after 6 rounds" in page.words
    assert "to a target of mean squared error ≤ 0.5." in page.words and "Dashed: the target, ≤ 0.5." in page.words
    assert "On the test part: 0.375." in page.words and "Mean squared error over time" in page.words
    assert not re.search(r"(0\.25|0\.5|0\.375|2|200|50) %", page.words)
    assert [run["percent"] for run in page.embedded["view"]["runs"]] == [False, False]
    short = Page(render_report(make_result(error_run(rounds=3)))).words
    assert "did not reach mean squared error ≤ 0.5 after 3 rounds; its best is 1.25." in short


def test_share_is_percent_and_what_lies_beyond_one_is_not() -> None:
    for values, shown in (((0.25, 0.5), "50 %"), ((0.25, 50.0), "50")):
        run = make_run(rounds=1) | {"metric": "f1", "target": values[1], "best": values[1]}
        for point, value in zip(run["curve"], values, strict=True):
            point["value"] = value
        page = Page(render_report(make_result(run)))
        assert f"its best is {shown}." in page.words
        assert page.embedded["view"]["runs"][0]["percent"] is (shown == "50 %")


def test_counters_of_any_task_are_columns() -> None:
    run = make_run()
    run["held_out"] = {"test": [{"device": "orin-a", "client": 3, "squared_error": 12.5, "examples": 70}]}
    page = Page(render_report(make_result(run)))
    assert "Device Client Squared error Examples FeDeRA test orin-a 3 12.5 70" in page.words


def test_no_text_of_a_result_is_a_template() -> None:
    run = make_run() | {"failure": "{{ 7 * 7 }}{% raw %}", "state": "failed"}
    assert "{{ 7 * 7 }}{% raw %}" in Page(render_report(make_result(run))).words
