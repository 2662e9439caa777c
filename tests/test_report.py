"""The report: what it says of whole, unfinished, empty and hostile results, and that it draws in a browser, offline."""

from __future__ import annotations

import copy
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coordinator.report import render_report, run_labels, scaled, show_seconds, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">\u2028'\"&{{css}}"
)
PHASES = {"idle": 0.30, "download": 0.08, "load": 0.04, "train": 0.46, "upload": 0.07, "evaluate": 0.05}


def make_run(
    method: str = "federa", *, seed: int = 1, bandwidth: float | None = 10.0, rounds: int = 8
) -> dict[str, Any]:
    """A run of made-up round numbers that reaches its target of 0.8 in its sixth round."""
    cost = {"ft": 4_000_000, "lora": 40_000, "federa": 40_000}.get(method, 100_000)
    pace = {"ft": 100.0, "lora": 25.0, "federa": 20.0}.get(method, 30.0)
    curve: list[dict[str, Any]] = [
        {
            "round": index,
            "elapsed_s": pace * index + 0.125,
            "value": round(0.2 + 0.1 * min(index, 7), 4),
            "bytes_down": cost * index,
            "bytes_up": cost * index,
            "energy_j": None,
        }
        for index in range(rounds + 1)
    ]
    reached = rounds >= 6
    total = curve[-1]["elapsed_s"]
    devices = [
        {
            "name": f"device-{letter}",
            "board": "synthetic board",
            "power_source": None,
            "scope": None,
            "idle_w": None,
            "peak_w": None,
            "energy_j": None,
            "coverage": None,
            "largest_gap_s": None,
            "seconds": {phase: share * total for phase, share in PHASES.items()},
            "joules": dict.fromkeys(PHASES),
            "step_ms": {"p50": 100.5, "p95": 120.25, "p99": 150.0},
        }
        for letter in "ab"
    ]
    return {
        "method": method,
        "seed": seed,
        "learning_rate": 0.001,
        "bandwidth": bandwidth,
        "metric": "accuracy",
        "target": 0.8,
        "reached": reached,
        "time_to_target_s": 6 * pace + 0.125 if reached else None,
        "rounds": rounds,
        "rounds_to_target": 6 if reached else None,
        "bytes_to_target": 12 * cost if reached else None,
        "joules_to_target": None,
        "best": curve[-1]["value"],
        "test": 0.75 if reached else None,
        "trainable_parameters": cost // 4,
        "state_bytes": cost,
        "bytes_down": cost * rounds,
        "bytes_up": cost * rounds,
        "curve": curve,
        "devices": devices,
        "config": {"name": "synthetic", "seed": seed, "methods": [method], "data": {"alpha": 0.5, "labels": None}},
    }


def make_result(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "environment": {"python": "0.0", "gpu": None}, "runs": list(runs)}


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


FINISHED = make_result(make_run("ft"), make_run("lora"), make_run("federa"))


def test_finished_result_says_what_was_reached_and_saved() -> None:
    page = Page(render_report(FINISHED))
    assert "FeDeRA reached accuracy 80 % in 2 min 00 s after 6 rounds, with 480 kB on the wire" in page.words
    assert "LoRA reached accuracy 80 % in 2 min 30 s" in page.words
    assert "time \u221280 % bytes \u221299 %" in page.words
    assert "time \u221220 % bytes 0 %" in page.words, "equal bytes are no increase"
    assert "Energy was not measured on any device" in page.words
    assert "Time and bytes to the target do not exist" not in page.words


def test_saving_compares_only_runs_alike() -> None:
    page = Page(render_report(make_result(make_run("ft", seed=1), make_run("federa", seed=2))))
    assert "Against FT" in page.words and "no such run" in page.words
    page = Page(render_report(make_result(make_run("ft", rounds=3), make_run("federa"))))
    assert "not both reached" in page.words
    assert "Against" not in Page(render_report(make_result(make_run("federa"), make_run("federa", seed=2)))).words


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


def test_not_a_number_becomes_not_measured() -> None:
    run = make_run() | {"test": float("nan"), "best": float("inf")}
    page = Page(render_report(make_result(run)))
    assert page.embedded["result"]["runs"][0]["test"] is None and "test score was not measured" in page.words


def hostile_result() -> dict[str, Any]:
    """Every text of a result, keys included, is an attempt to break out."""
    result = copy.deepcopy(FINISHED)
    result["environment"] = {HOSTILE: {HOSTILE: HOSTILE}}
    for run in result["runs"]:
        run |= {
            "method": HOSTILE,
            "metric": HOSTILE,
            "failure": HOSTILE,
            "state": "failed",
            "config": {"name": HOSTILE},
        }
        for device in run["devices"]:
            device |= {"name": HOSTILE, "board": HOSTILE, "power_source": HOSTILE, "scope": HOSTILE}
            device["seconds"][HOSTILE] = 1.0
            device["joules"] = {HOSTILE: 1.0}
    return result


def test_hostile_texts_stay_texts() -> None:
    source = render_report(hostile_result())
    page = Page(source)
    assert page.scripts == 2
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "embed", "form")]
    assert not [name for _, values in page.tags for name in values if name.startswith("on")]
    assert page.embedded["result"] == hostile_result()
    assert html.escape(HOSTILE) in source


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


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError):
        write_report(FINISHED, tmp_path / "report.html")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what the browser's console said."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--window-size=390,800", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
@pytest.mark.parametrize("kind", ["finished", "unfinished", "hostile", "empty"])
def test_browser_draws_without_an_error(kind: str, tmp_path: Path) -> None:
    unfinished = make_result(make_run("ft", rounds=2) | {"state": "running", "curve": []}, make_run(rounds=0))
    results = {"finished": FINISHED, "unfinished": unfinished, "hostile": hostile_result(), "empty": make_result()}
    write_report(results[kind], tmp_path / "report.html")
    document, console = browse(tmp_path / "report.html", tmp_path / "profile")
    assert console == []
    assert "<title>taken" not in document
    drawn = {"finished": 3 * 4, "hostile": 3 * 4, "unfinished": 1, "empty": 0}[kind]
    lines = re.findall(r'<path class="js-line"[^>]* d="M[^"]+"', document)
    bars = re.findall(r'<g class="point"><path d="M[^"]+"', document)
    assert len(lines) >= (9 if kind == "finished" else 0)
    assert len(bars) >= drawn


# Runs inside the page's frame, in place of its security policy, and tells the page around it what a reader would see.
PROBE = """<script>
const listeners = [];
window.matchMedia = () => ({ addEventListener: (_, heard) => listeners.push(heard) });
const lines = () => [...document.querySelectorAll(".plot.curve .js-line")];
window.addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement;
  const seen = { width: root.clientWidth, content: root.scrollWidth, lines: lines().length };
  root.style.setProperty("--ft", "rgb(1, 2, 3)");
  listeners.forEach((heard) => heard());
  seen.recoloured = lines().some((line) => line.style.stroke === "rgb(1, 2, 3)");
  document.querySelector(".filters button").click();
  seen.filtered = lines().length;
  seen.drawn = Math.max(...[...document.querySelectorAll(".plot")].map((plot) => plot.scrollWidth - plot.clientWidth));
  parent.postMessage(JSON.stringify(seen), "*");
}, 500));
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_phone_page_fits_and_answers(tmp_path: Path) -> None:
    """At 390 px nothing but the tables' boxes scrolls sideways; a change of scheme and a filter redraw the figures."""
    source = re.sub(r"<meta http-equiv[^>]+>", lambda _: PROBE, render_report(FINISHED))
    (tmp_path / "inner.html").write_text(source, encoding="utf-8")
    frame = '<p id="seen"></p><script>onmessage = (m) => { seen.textContent = m.data; };</script>'
    frame += '<iframe src="inner.html" style="width: 390px; height: 5000px; border: 0"></iframe>'
    (tmp_path / "outer.html").write_text(frame, encoding="utf-8")
    document, console = browse(tmp_path / "outer.html", tmp_path / "profile")
    found = re.search(r'<p id="seen">(\{.*?\})</p>', document)
    assert found is not None and console == []
    seen = json.loads(found[1])
    assert seen["content"] <= seen["width"] <= 390
    assert seen["drawn"] <= 0 and seen["recoloured"]
    assert 0 < seen["filtered"] < seen["lines"]
