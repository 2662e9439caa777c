"""The report in a browser, offline: it draws, answers and fits a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_samples import FINISHED, hostile_result, make_result, make_run

from coordinator.report import render_report, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]


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
