"""The page: its sections as data, and the templates that make it a file.

The templates escape every text. What the page's script needs stands in it as JSON, in which nothing can end the script
element; the page's security policy lets only its own two scripts run and forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from coordinator.report.comparison import method_sentences
from coordinator.report.curves import curve_figure, energy_curves
from coordinator.report.data import class_tables, cut_lines, data_lines, split_lines
from coordinator.report.device_figures import shared_scales
from coordinator.report.devices import run_devices
from coordinator.report.elements import Figure, Fold, method_key
from coordinator.report.energy import has_energy
from coordinator.report.groups import Group, groups_of, variants
from coordinator.report.run_tables import (
    comparison_table,
    configuration_tables,
    counter_table,
    difference_table,
    environment_table,
    failure_table,
    metric_table,
)
from coordinator.report.runs import (
    Entry,
    as_text,
    config_of,
    devices_of,
    distinct,
    goal_of,
    initial_upper,
    is_share,
    joined,
    link_of,
    method_of,
    metric_of,
    metric_title,
    number_in,
    run_labels,
)
from coordinator.report.sentences import comparability_sentence, gap_sentences, lede, model_sentences, run_sentence
from coordinator.report.split_figure import split_figures
from federa.durable import write_file
from federa.phases import PHASES

# As the script draws links and seeds: solid, dot, dash, dashdot, longdash; circle, square, diamond, triangle, x, star.
DASHES, MARKS = ("none", "2 3", "6 4", "6 3 2 3", "10 5"), "●■◆▲✕★"
MAX_OPEN_RUNS = 4
"""The most runs whose devices are shown at once: with more, the reader opens each."""


@dataclass(frozen=True, slots=True)
class Facet:
    """What a reader can hide in the figures: a method, a link, a seed, or one run where a method's runs have no other
    difference. `sample` is the dash or the mark of it, `place` the run's."""

    kind: str
    name: str
    sample: str
    place: int | None = None

    @property
    def key(self) -> str:
        """What the script knows it by."""
        return f"{self.kind}:{self.name}"


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write the page to `path`, all of it or nothing. Raises OSError where the folder cannot be written."""
    write_file(path, render_report(result).encode())


def render_report(result: dict[str, Any]) -> str:
    """The page as text. What is missing or null is said in words; no key is required."""
    runs: list[Entry] = list(result.get("runs") or [])
    names = {as_text(config_of(run).get("name")) for run in runs} - {""}
    scripts = {"plotly": _plotly(), "script": _script()}
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in scripts.values())
    labels = run_labels(runs)
    return (
        _templates()
        .get_template("page.html")
        .render(
            policy=f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:",
            title=names.pop() if len(names) == 1 else "Federated fine-tuning",
            lede=lede(runs),
            environment=environment_table(result.get("environment")),
            result=result,
            view=_view(runs, labels),
            phases=PHASES,
            **(_sections(runs, labels) if runs else {}),
            **scripts,
        )
    )


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("coordinator.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return templates


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    # The browser folds a carriage return into a newline, after which the script's hash would no longer fit.
    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")


@cache
def _script() -> str:
    return _templates().get_template("script.js").render()


@cache
def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _sections(runs: Sequence[Entry], labels: Sequence[str]) -> dict[str, Any]:
    """What the page's sections show, by the names that the template knows."""
    scales = shared_scales(runs)
    devices = [
        run_devices(run, index, label, len(runs) <= MAX_OPEN_RUNS, scales)
        for index, (run, label) in enumerate(zip(runs, labels, strict=True))
    ]
    scale = "The runs share one scale." if scales[None] else "Each run has a scale of its own."
    groups = groups_of(runs)
    return {
        "sentences": list(map(run_sentence, runs, labels)),
        "comparisons": [
            comparison_table(group.of(runs), _at(labels, group), group.name, group.places) for group in groups
        ],
        "against": method_sentences(runs, labels),
        "metrics": [metric_table(group.of(runs), _at(labels, group), group.name) for group in groups],
        "facets": [facet for kind in _facets(runs, labels) for facet in kind],
        "differences": difference_table(runs, labels),
        "not_comparable": comparability_sentence(runs),
        "groups": [_curves(runs, labels, group) for group in groups],
        "devices": [entry for entry in devices if entry is not None],
        "has_energy": any(has_energy(device) for run in runs for device in devices_of(run)),
        "scale": scale if len(runs) > 1 else "",
        "data_lines": [line for lines in (data_lines, split_lines, cut_lines) for line in lines(runs, labels)],
        "splits": split_figures(runs, labels),
        "classes": Fold("Classes", class_tables(runs, labels), "The task has no classes, or none were recorded."),
        "counters": counter_table(runs, labels),
        "failures": failure_table(runs, labels),
        "model_notes": model_sentences(runs),
        "gaps": gap_sentences(runs, labels),
        "configuration": Fold("Configuration", configuration_tables(runs, labels), "No configuration was recorded."),
    }


def _at(labels: Sequence[str], group: Group) -> list[str]:
    return [labels[place] for place in group.places]


def _curves(runs: Sequence[Entry], labels: Sequence[str], group: Group) -> dict[str, Figure | list[Figure] | str]:
    """The figures of a group: what is of another task, metric or data is on no axis with it."""
    places = group.places
    title = metric_title(runs[places[0]])
    targets = _targets(group.of(runs), _at(labels, group))
    dashed = f"Dashed: the target, {targets}." if targets else "No target was set."
    traffic = "Down and up together. Dashed: target reached."
    energy, without = energy_curves(runs, labels, places, title, dashed)
    return {
        "name": initial_upper(group.name),
        "over_time": curve_figure(runs, labels, places, "time", "value", f"{title} over time", dashed),
        "over_bytes": [
            curve_figure(runs, labels, places, "time", "bytes", "Bytes over time", traffic),
            curve_figure(runs, labels, places, "bytes", "value", f"{title} over bytes", dashed),
        ],
        "over_energy": energy,
        "without_energy": without,
    }


def _targets(runs: Sequence[Entry], labels: Sequence[str]) -> str:
    """The target, or whose each is where there are several."""
    whose: dict[str, list[str]] = {}
    for run, label in zip(runs, labels, strict=True):
        if number_in(run.get("target")) is not None:
            whose.setdefault(goal_of(run), []).append(label)
    return joined(whose if len(whose) == 1 else (f"{goal} ({joined(names)})" for goal, names in whose.items()))


def _names(run: Entry) -> tuple[str, str, str]:
    """The run's method, link and seed."""
    return method_of(run), link_of(run), f"seed {as_text(run.get('seed'))}"


def _twins(runs: Sequence[Entry]) -> set[str]:
    """The methods of which runs differ neither by link nor by seed: each run of these is a facet of its own."""
    return {method_of(run) for run, variant in zip(runs, variants(runs), strict=True) if variant}


def _facets(runs: Sequence[Entry], labels: Sequence[str]) -> list[list[Facet]]:
    """Methods, or their runs, links and seeds; of links and seeds only where there are several."""
    twins = _twins(runs)
    methods: dict[str, Facet] = {}
    links, seeds = (distinct(_names(run)[place] for run in runs) for place in (1, 2))
    for place, (run, label, variant) in enumerate(zip(runs, labels, variants(runs), strict=True)):
        name = method_of(run)
        if name in twins:
            dash = DASHES[(links.index(link_of(run)) + variant) % len(DASHES)]
            methods[f"run {place}"] = Facet("run", label, dash, place)
        else:
            methods[name] = Facet("method", name, method_key(run))
    found = [
        list(methods.values()),
        [Facet("link", name, DASHES[order % len(DASHES)]) for order, name in enumerate(links)],
        [Facet("seed", name, MARKS[order % len(MARKS)]) for order, name in enumerate(seeds)],
    ]
    return [found[0], *(facets for facets in found[1:] if len(facets) > 1)]


def _view(runs: Sequence[Entry], labels: Sequence[str]) -> dict[str, Any]:
    """What the script needs beside the result: names, places in the order of links and seeds, and metrics."""
    links, seeds = (distinct(_names(run)[place] for run in runs) for place in (1, 2))
    entries, twins = [], _twins(runs)
    for run, label, variant in zip(runs, labels, variants(runs), strict=True):
        method, link, seed = _names(run)
        own = f"run:{label}" if method in twins else f"method:{method}"
        entry = {"label": label, "facets": [own, f"link:{link}", f"seed:{seed}"], "variant": variant}
        entry |= {"link": links.index(link), "seed_index": seeds.index(seed)}
        # Not "metric": that is the result's.
        entries.append({**entry, "metric_words": metric_of(run), "percent": is_share(run)})
    return {"runs": entries, "phases": PHASES}
