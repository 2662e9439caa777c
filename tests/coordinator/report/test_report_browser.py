"""The report in a browser, offline: it draws, answers and fits a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_samples import FINISHED, hostile_result, make_result, make_run, rich_result, with_clients

from coordinator.report import render_report, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what the browser's console said."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--window-size=390,800", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


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


def test_phone_page_fits_and_answers(tmp_path: Path) -> None:
    """At 390 px nothing but the tables' boxes scrolls sideways, neither with 100 clients nor with long names; a change
    of scheme and a filter redraw the figures."""
    result = make_result(*(with_clients(run, 100, 50) for run in FINISHED["runs"]))
    source = re.sub(r"<meta http-equiv[^>]+>", lambda _: PROBE, render_report(result))
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


# Hovers over one point of every kind of figure and tells the words of its label, by figure.
HOVER = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const before = document.documentElement.clientWidth;
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  setTimeout(() => {
    const root = document.documentElement;
    const hover = (node, find) => {
      const curve = node.data.findIndex(find);
      const point = node.data[curve].text.findIndex((text, i) => text && i >= 60 % node.data[curve].text.length);
      Plotly.Fx.hover(node, [{ curveNumber: curve, pointNumber: point }]);
      return [point, [...node.querySelectorAll(".hoverlayer .hovertext tspan, .hoverlayer .hovertext text")]
        .map((text) => text.textContent).join(" ")];
    };
    const at = (selector) => document.querySelector(selector);
    const speaks = (trace) => trace.hoverinfo === "text";
    const trace = at('.plot[data-kind="trace"][data-run="1"][data-device="1"]');
    const trains = (found) => found.text.some((text) => /train/.test(text));
    const line = trace.data.find((found) => found.connectgaps === false);
    const seen = {
      before, width: root.clientWidth, content: root.scrollWidth,
      requests: performance.getEntriesByType("resource").length,
      traces: document.querySelectorAll('.plot[data-kind="trace"] .scatterlayer').length,
      drawn: Math.max(...[...document.querySelectorAll(".plot")].map((plot) => plot.scrollWidth - plot.clientWidth)),
      breaks: line.y.filter((value) => value === null).length,
      power: hover(trace, speaks),
      joules: hover(at('.plot[data-kind="joules"][data-run="1"]'), trains),
      seconds: hover(at('.plot[data-kind="seconds"][data-run="1"]'), trains),
      curve: hover(at('.plot[data-x="energy"]'), (found) => speaks(found) && /LoRA/.test(found.text[0])),
    };
    parent.postMessage(JSON.stringify(seen), "*");
  }, 2500);
}, 300));
</script>"""


@pytest.mark.parametrize("width", [360, 1280])
def test_energy_figures_say_what_the_result_says(width: int, tmp_path: Path) -> None:
    result = rich_result()
    source = re.sub(r"<meta http-equiv[^>]+>", lambda _: HOVER, render_report(result))
    (tmp_path / "inner.html").write_text(source, encoding="utf-8")
    frame = '<p id="seen"></p><script>onmessage = (m) => { seen.textContent = m.data; };</script>'
    frame += f'<iframe src="inner.html" style="width: {width}px; height: 20000px; border: 0"></iframe>'
    (tmp_path / "outer.html").write_text(frame, encoding="utf-8")
    document, console = browse(tmp_path / "outer.html", tmp_path / "profile")
    found = re.search(r'<p id="seen">(\{.*?\})</p>', document)
    assert found is not None and console == []
    seen = json.loads(html.unescape(found[1]))
    assert seen["content"] <= seen["width"] <= width and seen["drawn"] <= 0
    assert seen["before"] == seen["width"], "folds that open change no width"
    assert seen["requests"] == 0
    assert seen["traces"] == 8, "a power trace for each device that was measured"
    lora = result["runs"][1]
    device = lora["devices"][1]
    assert seen["breaks"] == 2 * device["trace"]["power_w"].count(None) > 0

    def shown(kind: str, unit: str) -> float:
        number = re.search(rf"([\d.,]+) {unit}", seen[kind][1].replace("\u00a0", " "))
        assert number is not None, seen[kind]
        return float(number[1].replace(",", ""))

    assert shown("power", "W, module") == device["trace"]["power_w"][seen["power"][0]]
    named = lora["devices"][seen["joules"][0]]
    assert shown("joules", "J, module") == pytest.approx(named["joules"]["train"], abs=1e-9)
    assert shown("seconds", "s") == pytest.approx(lora["devices"][seen["seconds"][0]]["seconds"]["train"], abs=1e-9)
    assert shown("curve", "J, module") == pytest.approx(lora["curve"][seen["curve"][0]]["energy_j"], abs=1e-9)
