"""The page: its parts put together, with what its script needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from coordinator.report.cells import fold, method_dot
from coordinator.report.devices import run_devices
from coordinator.report.energy import Kind, has_energy, kind_of_device
from coordinator.report.numbers import FRACTIONS, escaped, in_words, number_in
from coordinator.report.runs import (
    Record,
    config_of,
    devices_of,
    distinct,
    goal_of,
    joined,
    link_of,
    method_of,
    metric_of,
    run_labels,
)
from coordinator.report.sentences import gap_sentences, lede, run_sentence
from coordinator.report.tables import (
    comparison_table,
    configuration_tables,
    curve_figure,
    energy_curves,
    environment_table,
    held_out_table,
    setback_table,
)
from coordinator.run_folder import write_durably
from federa.phases import PHASES

# As the script draws links and seeds: solid, dot, dash, dashdot, longdash; circle, square, diamond, triangle, x, star.
DASHES, MARKS = ("none", "2 3", "6 4", "6 3 2 3", "10 5"), "●■◆▲✕★"


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write the page to `path`, all of it or nothing. Raises OSError where the folder cannot be written."""
    write_durably(path, render_report(result).encode())


def render_report(result: dict[str, Any]) -> str:
    """The page as text. What is missing or null is said in words; no key is required."""
    from plotly.offline import get_plotlyjs

    runs: list[Record] = list(result.get("runs") or [])
    labels = run_labels(runs)
    # The browser folds a carriage return into a newline, after which the script's hash would no longer fit.
    scripts = {"plotly": get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n"), "script": _part("js")}
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts.values()]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    names = {in_words(config_of(run).get("name")) for run in runs} - {""}
    parts = {
        "policy": f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:",
        "title": escaped(names.pop() if len(names) == 1 else "Federated fine-tuning"),
        "lede": escaped(lede(runs)),
        "css": _part("css"),
        "body": _body(result, runs, labels),
        "result": _json(result),
        "view": _json(_view(runs, labels)),
        **scripts,
    }
    # One pass: what is put in is never searched for further marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _part("html"))


def _json(value: object) -> str:
    """JSON in ASCII that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _part(suffix: str) -> str:
    return resources.files("coordinator.report").joinpath(f"page.{suffix}").read_text(encoding="utf-8")


def _facets(run: Record) -> list[tuple[str, str]]:
    return [("method", method_of(run)), ("link", link_of(run)), ("seed", f"seed {in_words(run.get('seed'))}")]


def _view(runs: Sequence[Record], labels: Sequence[str]) -> dict[str, Any]:
    """What the script needs beside the result: names, places in the order of links and seeds, and shared scales."""
    orders = [distinct(words[place][1] for words in map(_facets, runs)) for place in range(3)]
    entries = []
    for run, label in zip(runs, labels, strict=True):
        facets = _facets(run)
        link, seed = (orders[place].index(facets[place][1]) for place in (1, 2))
        entries.append({"label": label, "facets": [":".join(f) for f in facets], "link": link, "seed_index": seed})
    metrics = distinct(map(metric_of, runs))
    percent = bool(metrics) and all(metric in FRACTIONS for metric in metrics)
    return {"runs": entries, "metric": " / ".join(metrics) or "score", "percent": percent}


def _scales(runs: Sequence[Record]) -> dict[object, float | None]:
    """The end of a scale that all runs' bars can share, of seconds and of each kind of energy; None where the short
    ones would vanish on it."""
    kinds = dict.fromkeys(kind_of_device(d) for run in runs for d in devices_of(run) if has_energy(d))
    return {"seconds": _shared(runs, "seconds", None), **{kind: _shared(runs, "joules", kind) for kind in kinds}}


def _shared(runs: Sequence[Record], key: str, kind: Kind | None) -> float | None:
    longest = [
        max((sum(number_in(v) or 0 for v in (d.get(key) or {}).values()) for d in found), default=0)
        for run in runs
        for found in [[d for d in devices_of(run) if kind in (None, kind_of_device(d))]]
    ]
    some = [value for value in longest if value > 0]
    return max(some) if some and max(some) <= 5 * min(some) else None


def _filters(runs: Sequence[Record]) -> str:
    """Buttons that show and hide methods, links and seeds in the figures; they are the figures' legend too."""
    buttons = []
    for place in range(3):
        found = {words[place]: run for run, words in ((run, _facets(run)) for run in runs)}
        if place and len(found) < 2:
            continue
        for order, ((kind, name), run) in enumerate(found.items()):
            dashes, mark = DASHES[order % len(DASHES)], MARKS[order % len(MARKS)]
            sample = {
                "method": method_dot(run),
                "link": f'<svg viewBox="0 0 28 4"><path d="M0 2h28" stroke-dasharray="{dashes}"/></svg>',
                "seed": f'<span aria-hidden="true">{mark}</span>',
            }[kind]
            facet = f'data-facet="{escaped(f"{kind}:{name}")}"'
            buttons.append(f'<button type="button" aria-pressed="true" {facet}>{sample}{escaped(name)}</button>')
    return f'<div class="filters" role="group" aria-label="Runs shown in the figures">{"".join(buttons)}</div>'


def _section(title: str, note: str, content: str) -> str:
    words = f'<p class="note">{escaped(note)}</p>' if note else ""
    return f"<section><h2>{escaped(title)}</h2>{words}{content}</section>"


def _body(result: Record, runs: Sequence[Record], labels: Sequence[str]) -> str:
    environment = fold("Environment", environment_table(result.get("environment")))
    if not runs:
        return f'<p class="empty">No run has been recorded yet.</p><section>{environment}</section>'
    name = next(map(metric_of, runs))
    gaps = "".join(f"<li>{escaped(gap)}</li>" for gap in gap_sentences(runs, labels))
    title = name.capitalize()
    targets = joined(distinct(goal_of(run) for run in runs if number_in(run.get("target")) is not None))
    dashed = f"Dashed: the target, {targets}." if targets else "No target was set."
    over_time = curve_figure(runs, labels, "time", "value", f"{title} over time", dashed)
    traffic = "Down and up together. Dashed: target reached."
    curves = (
        over_time,
        '<div class="pair">',
        curve_figure(runs, labels, "time", "bytes", "Bytes over time", traffic),
        curve_figure(runs, labels, "bytes", "value", f"{title} over bytes", dashed),
        "</div>",
        energy_curves(runs, labels, title, dashed),
    )
    key = "".join(f'<li><i style="background:var(--{phase})"></i>{phase}</li>' for phase in PHASES)
    pairs = enumerate(zip(runs, labels, strict=True))
    scales = _scales(runs)
    devices = "".join(run_devices(run, index, label, len(runs) <= 4, scales) for index, (run, label) in pairs)
    scale = "The runs share one scale." if scales["seconds"] else "Each run has a scale of its own."
    scale = scale if len(runs) > 1 else ""
    recorded = f'<ul class="key">{key}</ul>{devices}' if devices else '<p class="note">No device was recorded.</p>'
    energy = " and energy" if any(has_energy(device) for run in runs for device in devices_of(run)) else ""
    setbacks, held_out = setback_table(runs, labels), held_out_table(runs, labels)
    counted = "Every client scored the last state on documents of its own; what left the devices are these counts."
    circle = "A ring marks the round that reached the target. Press a name to hide it."
    return "".join(
        (
            _section("In short", "", f'<ul class="summary">{"".join(map(run_sentence, runs, labels))}</ul>'),
            _section("Comparison", "", comparison_table(runs, labels)),
            _section("The way to the target", circle, _filters(runs) + "".join(curves)),
            _section(f"Where the devices' time{energy} went", scale, recorded),
            _section("What the devices counted", counted, held_out) if held_out else "",
            _section("Updates that were not taken", "", setbacks) if setbacks else "",
            _section(
                "What was not measured", "", f'<ul class="gaps">{gaps}</ul>' if gaps else "<p>Nothing is missing.</p>"
            ),
            _section(
                "How it was made",
                "",
                environment + fold("Configuration", configuration_tables(runs, labels)),
            ),
        )
    )
