"""The site of docs/: it builds strictly, and a reader's browser fetches all of it from one host."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")

ROOT = Path(__file__).resolve().parents[2]
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
"""What a browser fetches by itself; `link` unless it is a mere statement, such as rel=canonical."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        # Without --quiet, which would hide the warnings from --strict too.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


class _Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in _FETCHED and named.get("rel") not in ("canonical", "next", "prev", "edit"):
            self.addresses.append(named.get(_FETCHED[tag]) or "")


def test_every_page_of_the_navigation_is_there(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in site.glob("*.html")}
    assert {"index", "quickstart", "concepts", "troubleshooting", "figures"} <= pages


def test_nothing_is_fetched_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        parser = _Fetched()
        parser.feed(page.read_text())
        assert parser.addresses and not [it for it in parser.addresses if re.match(r"(https?:)?//", it)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_the_figures_are_the_recorded_results(site):
    page = (site / "figures.html").read_text()
    for heading in re.findall(r"^## (.+)$", (ROOT / "benchmarks/results/README.md").read_text(), re.MULTILINE):
        assert heading in page


def test_links_out_of_the_documentation_are_plain_text(site):
    page = (site / "extending.html").read_text()
    assert "examples/layer_norm.py" in page and 'href="../' not in page
    assert not (site / "site_links.py").exists()
