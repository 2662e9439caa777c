"""The report: one offline HTML page made from the contents of result.json.

Tables and sentences are written here, so that they can be read without scripts; the figures are drawn in the page, from
the result that is embedded in it. All that came from the result passes `_text` or `_json` on its way in, and the page's
security policy lets only its own two scripts run and forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
Formatter = Callable[[float], str]
NAMES = {"ft": "FT", "bitfit": "BitFit", "adapter": "Adapter", "lora": "LoRA", "federa": "FeDeRA"}
PHASES = ("idle", "download", "load", "train", "upload", "evaluate")
FRACTIONS = ("accuracy", "f1", "macro_f1")
GOALS = (("time", "time_to_target_s"), ("bytes", "bytes_to_target"), ("energy", "joules_to_target"))
# As the script draws links and seeds: solid, dot, dash, dashdot, longdash; circle, square, diamond, triangle, x, star.
DASHES, MARKS = ("none", "2 3", "6 4", "6 3 2 3", "10 5"), "●■◆▲✕★"
UNMEASURED, UNREACHED = "not measured", "not reached"
MINUS, SPACE = "\u2212", "\u00a0"


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write the page to `path`, all of it or nothing. Raises OSError where the folder cannot be written."""
    page = render_report(result)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        # mkstemp makes files that only their owner can read; a report is there to be passed on.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def render_report(result: dict[str, Any]) -> str:
    """The page as text. What is missing or null is said in words; no key is required."""
    from plotly.offline import get_plotlyjs

    result = _finite(result)
    runs: list[Record] = list(result.get("runs") or [])
    labels = run_labels(runs)
    # The browser folds a carriage return into a newline, after which the script's hash would no longer fit.
    scripts = {"plotly": get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n"), "script": _part("js")}
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts.values()]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    names = {_words(_config(run).get("name")) for run in runs} - {""}
    parts = {
        "policy": f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:",
        "title": _text(names.pop() if len(names) == 1 else "Federated fine-tuning"),
        "lede": _text(_lede(runs)),
        "css": _part("css"),
        "body": _body(result, runs, labels),
        "result": _json(result),
        "view": _json(_view(runs, labels)),
        **scripts,
    }
    # One pass: what is put in is never searched for further marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _part("html"))


def run_labels(runs: Sequence[Record]) -> list[str]:
    """A name for each run that tells it from the others: the method, and whatever else differs."""
    labels = [_method(run) for run in runs]
    if len({_link(run) for run in runs}) > 1:
        labels = [f"{label} · {_link(run)}" for label, run in zip(labels, runs, strict=True)]
    if len({_words(run.get("seed")) for run in runs}) > 1:
        labels = [f"{label} · seed {_words(run.get('seed'))}" for label, run in zip(labels, runs, strict=True)]
    return [f"{x} · run {i + 1}" if labels.count(x) > 1 else x for i, x in enumerate(labels)]


# Numbers in units that people read, with the exact value kept for the title.


def show_seconds(value: float) -> str:
    """Seconds as '12.3 s', '4 min 12 s' or '2 h 05 min'."""
    whole = round(value)
    if value < 59.95:
        return f"{value:.1f}{SPACE}s" if value >= 9.95 else f"{value:.3g}{SPACE}s"
    minutes, seconds = divmod(whole, 60)
    if whole < 3600:
        return f"{minutes}{SPACE}min{SPACE}{seconds:02d}{SPACE}s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours}{SPACE}h{SPACE}{minutes:02d}{SPACE}min"


def scaled(unit: str) -> Formatter:
    """A formatter to three digits with decimal prefixes: 12345678 is '12.3 MB' for the unit 'B'."""

    def show(value: float) -> str:
        prefix = ""
        for prefix in ("", "k", "M", "G", "T"):
            if abs(value) < 999.5 or prefix == "T":
                break
            value /= 1000
        digits = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
        return f"{digits}{SPACE}{prefix}{unit}".rstrip()

    return show


show_bytes, show_joules, show_count = scaled("B"), scaled("J"), scaled("")


def _score(metric: object) -> Formatter:
    """Percent for what lies between 0 and 1, four digits for everything else."""
    if metric in FRACTIONS:
        return lambda value: f"{100 * value:.2f}".rstrip("0").rstrip(".") + f"{SPACE}%"
    return lambda value: f"{value:.4g}"


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _sum(*values: object) -> float | None:
    """The sum, or None where a part is unknown: an unknown part is not 0."""
    numbers = [_number(value) for value in values]
    return None if None in numbers else sum(number for number in numbers if number is not None)


def _words(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: object) -> str:
    return html.escape(_words(value))


def _json(value: object) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or a line of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8; as an escape it comes back as it was.
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _finite(value: Any) -> Any:
    """The same tree with NaN and infinities, which JSON does not have, as null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _part(suffix: str) -> str:
    return resources.files("coordinator").joinpath(f"report_page.{suffix}").read_text(encoding="utf-8")


# Reading a run.


def _config(run: Record) -> Record:
    config = run.get("config")
    return config if isinstance(config, Mapping) else {}


def _method(run: Record) -> str:
    key = _words(run.get("method"))
    return NAMES.get(key, key or "unnamed method")


def _link(run: Record) -> str:
    rate = _number(run.get("bandwidth"))
    return "link as it is" if rate is None else f"{rate:g}{SPACE}Mbit/s"


def _metric(run: Record) -> str:
    return _words(run.get("metric")) or "score"


def _goal(run: Record) -> str:
    target = _number(run.get("target"))
    return "the target" if target is None else _score(run.get("metric"))(target)


def _devices(run: Record) -> list[Record]:
    return list(run.get("devices") or [])


def _curve(run: Record) -> list[Record]:
    return list(run.get("curve") or [])


def _join(names: Iterable[str], most: int = 6) -> str:
    listed = list(names)
    if len(listed) > most:
        return f"{', '.join(listed[:most])} and {len(listed) - most} more"
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# Sentences.


def _lede(runs: Sequence[Record]) -> str:
    if not runs:
        return "There is no run in this result yet."
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    goals = _distinct(f"{_metric(run)} {_goal(run)}" for run in runs if _number(run.get("target")) is not None)
    target = f", to a target of {_join(goals)}" if goals else ""
    return f"{count} of {_join(_distinct(map(_method, runs)))}{target}. Links: {_join(_distinct(map(_link, runs)))}."


def _sentence(run: Record, label: str) -> str:
    """How a run went, as HTML."""
    metric, score = _text(_metric(run)), _score(run.get("metric"))
    state = run.get("state") or "finished"
    seconds, best = _number(run.get("time_to_target_s")), _number(run.get("best"))
    goal = _goal(run) if run.get("target") is None else f"{metric} {_goal(run)}"
    rounds = _number(run.get("rounds_to_target" if run.get("reached") else "rounds"))
    after = "" if rounds is None else f" after {rounds:g} {'round' if rounds == 1 else 'rounds'}"
    if run.get("reached"):
        size, joules = _number(run.get("bytes_to_target")), _number(run.get("joules_to_target"))
        words = f"reached {goal}"
        words += f" in <strong>{show_seconds(seconds)}</strong>" if seconds is not None else ""
        words += after
        words += f", with <strong>{show_bytes(size)}</strong> on the wire" if size is not None else ""
        words += f" and <strong>{show_joules(joules)}</strong>" if joules is not None else ""
    else:
        tried = {
            "running": f"is still running{after} and has not reached {goal} yet",
            "stopped": f"was stopped{after}, before it reached {goal}",
            "failed": f"failed{after}, before it reached {goal}",
        }
        words = tried.get(str(state), f"did not reach {goal}{after}")
        words += "; nothing has been evaluated yet" if best is None else f"; its best is <strong>{score(best)}</strong>"
    test = _number(run.get("test"))
    later = {"failed": " It failed later.", "stopped": " It was stopped later.", "running": " It is still running."}
    words += "." + (f" On the test part: {score(test)}." if test is not None else "")
    words += later.get(str(state), "") if run.get("reached") else ""
    failure = f" Reason: {_text(run['failure'])}" if run.get("failure") else ""
    dot = f'<span class="dot" data-method="{_text(run.get("method"))}" aria-hidden="true"></span>'
    return f"<li>{dot}<span><strong>{_text(label)}</strong> {words}{failure}</span></li>"


def _gaps(runs: Sequence[Record], labels: Sequence[str]) -> list[str]:
    """What is not known, a sentence each, as plain text."""
    named = list(zip(runs, labels, strict=True))
    devices = [(device, f"{_words(device.get('name'))} ({label})") for run, label in named for device in _devices(run)]
    silent = [name for device, name in devices if _number(device.get("energy_j")) is None]
    found = []
    if devices and len(silent) == len(devices):
        found.append("Energy was not measured on any device, so the joules to the target are not known.")
    elif silent:
        found.append(f"Energy was not measured on {_join(silent)}.")
    for device, name in devices:
        coverage, gap = _number(device.get("coverage")), _number(device.get("largest_gap_s"))
        if coverage is not None and coverage < 0.95:
            hole = f"; the largest gap is {show_seconds(gap)}" if gap is not None else ""
            found.append(f"Power samples cover {100 * coverage:.1f}{SPACE}% of the time on {name}{hole}.")
    lists: tuple[tuple[str, Callable[[Record], bool]], ...] = (
        (
            "Time and bytes to the target do not exist for {}: the target was not reached.",
            lambda r: not r.get("reached"),
        ),
        ("The test score was not measured for {}.", lambda r: _number(r.get("test")) is None),
        ("No round was evaluated for {}.", lambda r: not _curve(r)),
        ("No device was recorded for {}.", lambda r: not _devices(r)),
    )
    for sentence, missing in lists:
        if names := [label for run, label in named if missing(run)]:
            found.append(sentence.format(_join(names)))
    untimed = [name for device, name in devices if not any(_steps(device))]
    return found + ([f"Step times were not measured on {_join(untimed)}."] if untimed else [])


def _steps(device: Record) -> list[float | None]:
    return [_number((device.get("step_ms") or {}).get(key)) for key in ("p50", "p95", "p99")]


# Tables. A cell is the HTML of a <td>.


def _cell(value: object, show: Formatter, unit: str = "", missing: str = UNMEASURED) -> str:
    number = _number(value)
    if number is None:
        return f'<td class="none">{missing}</td>'
    exact = f"{number:,}" if isinstance(number, int) else repr(number)
    return f'<td title="{exact}{SPACE if unit else ""}{unit}">{show(number)}</td>'


def _plain(value: object, missing: str = UNMEASURED) -> str:
    words = _text(value)
    return f'<td class="text">{words}</td>' if words else f'<td class="text none">{missing}</td>'


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, box: str = "", table: str = "") -> str:
    """A table in a box that scrolls. Each row is its head's inner HTML, then cells; the heads are plain text."""
    top = "".join(f'<th scope="col">{_text(head)}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(row[1:])}</tr>' for row in rows)
    label = f'role="region" tabindex="0" aria-label="{_text(caption)}"'
    return (
        f'<div class="scroll {box}" {label}><table class="{table}"><caption>{_text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _fold(summary: str, content: str) -> str:
    return f'<details class="fold"><summary>{_text(summary)}</summary>{content}</details>'


def _behind(content: str) -> str:
    return f"<details><summary>The numbers behind this figure</summary>{content}</details>"


def _against(run: Record, runs: Sequence[Record], method: str) -> str:
    """The cell that says by how much the way to the target is shorter than that of `method` in the same setting."""
    same = ("seed", "bandwidth", "metric", "target")
    alike = (other for other in runs if other.get("method") == method)
    base = next((other for other in alike if all(other.get(key) == run.get(key) for key in same)), None)
    if base is None or run.get("method") == method:
        return f'<td class="none">{"no such run" if base is None else "—"}</td>'
    if not (base.get("reached") and run.get("reached")):
        return '<td class="none">not both reached</td>'
    found = []
    for name, key in GOALS:
        mine, other = _number(run.get(key)), _number(base.get(key))
        if mine is not None and other:
            found.append(f'<span title="{mine / other:.6g} times">{name} {_percent(mine / other)}</span>')
    return f"<td>{'<br>'.join(found)}</td>" if found else f'<td class="none">{UNMEASURED}</td>'


def _percent(ratio: float) -> str:
    """A ratio as a change: 0.25 is '−75 %', 3 is '×3'. Two decimals near −100 %, where one would round to it."""
    if ratio >= 2:
        return f"×{ratio:.3g}" if ratio < 999.5 else f"×{ratio:.0f}"
    change = 100 * (ratio - 1)
    digits = f"{abs(change):.{2 if change < -99.9 else 1}f}".rstrip("0").rstrip(".")
    sign = "" if digits == "0" else (MINUS if change < 0 else "+")
    return f"{sign}{digits}{SPACE}%"


def _comparison(runs: Sequence[Record], labels: Sequence[str]) -> str:
    methods = {run.get("method") for run in runs}
    bases = [key for key in ("ft", "lora") if key in methods and len(methods) > 1]
    heads = ["Method", "Reached", "Time to target", "Rounds", "Bytes to target", "Energy to target"]
    heads += [*(f"Against {NAMES[key]}" for key in bases), "Best", "Test", "Trainable parameters", "State size"]
    rows = []
    for run, label in zip(runs, labels, strict=True):
        reached, score = bool(run.get("reached")), _score(run.get("metric"))
        missing = UNMEASURED if reached else UNREACHED
        state = str(run.get("state") or "finished")
        verdict = (
            "yes" if reached else {"running": "not yet", "failed": "failed", "stopped": "stopped"}.get(state, "no")
        )
        hue = "good" if reached else ("bad" if verdict in ("no", "failed") else "none")
        rows.append(
            [
                f'<span class="dot" data-method="{_text(run.get("method"))}" aria-hidden="true"></span>{_text(label)}',
                f'<td class="{hue}">{verdict}</td>',
                _cell(run.get("time_to_target_s"), show_seconds, "s", missing),
                _cell(run.get("rounds_to_target"), lambda value: f"{value:g}", "", missing),
                _cell(run.get("bytes_to_target"), show_bytes, "B", missing),
                _cell(run.get("joules_to_target"), show_joules, "J", missing),
                *(_against(run, runs, key) for key in bases),
                _cell(run.get("best"), score),
                _cell(run.get("test"), score),
                _cell(run.get("trainable_parameters"), show_count),
                _cell(run.get("state_bytes"), show_bytes, "B"),
            ]
        )
    return _table("Every run on the way to its target", heads, rows, table="comparison")


def _curve_figure(runs: Sequence[Record], labels: Sequence[str], x: str, y: str, title: str, note: str) -> str:
    metric = next(map(_metric, runs), "score")
    heads = {"time": ["Time"], "value": [metric.capitalize()], "bytes": ["Bytes down", "Bytes up", "Bytes"]}
    rows = []
    for run, label in zip(runs, labels, strict=True):
        for point in _curve(run):
            down, up = point.get("bytes_down"), point.get("bytes_up")
            cells = {
                "time": [_cell(point.get("elapsed_s"), show_seconds, "s")],
                "value": [_cell(point.get("value"), _score(run.get("metric")))],
                "bytes": [_cell(value, show_bytes, "B") for value in (down, up, _sum(down, up))],
            }
            joules = [_cell(point.get("energy_j"), show_joules, "J")]
            rows.append([_text(label), _cell(point.get("round"), "{:g}".format), *cells[x], *cells[y], *joules])
    table = _table(f"{title}, after each round", ["Run", "Round", *heads[x], *heads[y], "Energy"], rows, box="tall")
    return (
        f"<figure><figcaption><h3>{_text(title)}</h3>"
        f'<p>{_text(note)} <span class="scale"></span></p></figcaption>'
        f'<div class="plot curve" data-x="{x}" data-y="{y}" role="img" aria-label="{_text(title)}"></div>'
        f"{_behind(table)}</figure>"
    )


def _phase_figure(run: Record, index: int, label: str, kind: str) -> str:
    show, unit, title = (show_seconds, "s", "Time") if kind == "seconds" else (show_joules, "J", "Energy")
    tables = [(device, device.get(kind) or {}) for device in _devices(run)]
    phases = _distinct([*PHASES, *(phase for _, found in tables for phase in found)])
    rows = [
        [_text(device.get("name")), *(_cell(value, show, unit) for value in (*map(found.get, phases), total))]
        for device, found in tables
        for total in [_sum(*found.values()) if found else None]
    ]
    heads = ["Device", *(phase.capitalize() for phase in phases), "Total"]
    title = f"{title} by phase"
    drawn = f'data-kind="{kind}" data-run="{index}" role="img" aria-label="{title}, {_text(label)}"'
    return (
        f"<figure><figcaption><h3>{title}</h3></figcaption>"
        f'<div class="plot" {drawn}></div>'
        f"{_behind(_table(f'{title}, {label}', heads, rows))}</figure>"
    )


def _device_run(run: Record, index: int, label: str, is_open: bool) -> str:
    devices = _devices(run)
    if not devices:
        return ""
    energy = any(_number(value) is not None for d in devices for value in (d.get("joules") or {}).values())
    figures = "".join(_phase_figure(run, index, label, kind) for kind in ("seconds", *(["joules"] if energy else [])))
    heads = ["Device", "Board", "Step p50", "Step p95", "Step p99", "Energy"]
    heads += ["Idle", "Peak", "Covered", "Largest gap", "Power source", "Scope"] if energy else []

    def watts(value: float) -> str:
        return f"{value:.3g}{SPACE}W"

    rows = []
    for device in devices:
        row = [_text(device.get("name")), _plain(device.get("board"), "not known")]
        row += [_cell(step, lambda value: f"{value:.4g}{SPACE}ms", "ms") for step in _steps(device)]
        row += [_cell(device.get("energy_j"), show_joules, "J")]
        if energy:
            row += [_cell(device.get("idle_w"), watts, "W"), _cell(device.get("peak_w"), watts, "W")]
            row += [_cell(device.get("coverage"), lambda value: f"{100 * value:.1f}{SPACE}%")]
            row += [_cell(device.get("largest_gap_s"), show_seconds, "s")]
            row += [_plain(device.get("power_source"), "none"), _plain(device.get("scope"), "not known")]
        rows.append(row)
    steps = _table(f"Devices and their training steps, {label}", heads, rows, table="devices")
    mark = " open" if is_open else ""
    return f'<details class="run"{mark}><summary>{_text(label)}</summary>{figures}{steps}</details>'


def _flat(tree: object, prefix: str = "") -> dict[str, str]:
    """A tree of plain values as dotted keys and words. Lists of mappings count from 0."""
    if isinstance(tree, list) and any(isinstance(entry, Mapping) for entry in tree):
        tree = dict(enumerate(tree))
    if isinstance(tree, Mapping) and tree:
        entries = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items()]
        return {key: value for entry in entries for key, value in entry.items()}
    return {prefix: "not set" if tree is None else _words(tree)} if prefix else {}


def _pairs(caption: str, flat: Mapping[str, str]) -> str:
    rows = [[_text(key), _plain(value, "empty")] for key, value in flat.items()]
    return _table(caption, ["Field", "Value"], rows, table="pairs")


def _configuration(runs: Sequence[Record], labels: Sequence[str]) -> str:
    """What all runs share in one table, and what differs in another."""
    flats = [_flat(_config(run)) for run in runs]
    keys = _distinct(key for flat in flats for key in flat)
    differing = [key for key in keys if len({flat.get(key) for flat in flats}) > 1]
    shared = {key: flats[0][key] for key in keys if key not in differing}
    tables = _pairs("The same in every run", shared) if shared else ""
    if differing:
        rows = [
            [_text(label), *(_plain(flat.get(key), "not set") for key in differing)]
            for flat, label in zip(flats, labels, strict=True)
        ]
        tables += _table("What differs from run to run", ["Run", *differing], rows)
    return tables or '<p class="note">No configuration was recorded.</p>'


# The page.


def _facets(run: Record) -> list[tuple[str, str]]:
    return [("method", _method(run)), ("link", _link(run)), ("seed", f"seed {_words(run.get('seed'))}")]


def _view(runs: Sequence[Record], labels: Sequence[str]) -> dict[str, Any]:
    """What the script needs beside the result: names, places in the order of links and seeds, and shared scales."""
    orders = [_distinct(words[place][1] for words in map(_facets, runs)) for place in range(3)]
    entries = []
    for run, label in zip(runs, labels, strict=True):
        facets = _facets(run)
        link, seed = (orders[place].index(facets[place][1]) for place in (1, 2))
        entries.append({"label": label, "facets": [":".join(f) for f in facets], "link": link, "seed_index": seed})
    metrics = _distinct(map(_metric, runs))
    percent = bool(metrics) and all(metric in FRACTIONS for metric in metrics)
    largest = {kind: _shared(runs, kind) for kind in ("seconds", "joules")}
    return {"runs": entries, "metric": " / ".join(metrics) or "score", "percent": percent, "largest": largest}


def _shared(runs: Sequence[Record], kind: str) -> float | None:
    """The end of a scale that all runs' bars can share, or None where the short ones would vanish on it."""
    longest = [
        max((sum(_number(v) or 0 for v in (device.get(kind) or {}).values()) for device in _devices(run)), default=0)
        for run in runs
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
                "method": f'<span class="dot" data-method="{_text(run.get("method"))}" aria-hidden="true"></span>',
                "link": f'<svg viewBox="0 0 28 4"><path d="M0 2h28" stroke-dasharray="{dashes}"/></svg>',
                "seed": f'<span aria-hidden="true">{mark}</span>',
            }[kind]
            facet = f'data-facet="{_text(f"{kind}:{name}")}"'
            buttons.append(f'<button type="button" aria-pressed="true" {facet}>{sample}{_text(name)}</button>')
    return f'<div class="filters" role="group" aria-label="Runs shown in the figures">{"".join(buttons)}</div>'


def _section(title: str, note: str, content: str) -> str:
    words = f'<p class="note">{_text(note)}</p>' if note else ""
    return f"<section><h2>{_text(title)}</h2>{words}{content}</section>"


def _body(result: Record, runs: Sequence[Record], labels: Sequence[str]) -> str:
    environment = _flat(result.get("environment"))
    known = _pairs("Environment", environment) if environment else '<p class="note">No environment was recorded.</p>'
    if not runs:
        return f'<p class="empty">No run has been recorded yet.</p><section>{_fold("Environment", known)}</section>'
    name = next(map(_metric, runs))
    gaps = "".join(f"<li>{_text(gap)}</li>" for gap in _gaps(runs, labels))
    title = name.capitalize()
    targets = _join(_distinct(_goal(run) for run in runs if _number(run.get("target")) is not None))
    dashed = f"Dashed: the target, {targets}." if targets else "No target was set."
    over_time = _curve_figure(runs, labels, "time", "value", f"{title} over time", dashed)
    traffic = "Down and up together. Dashed: target reached."
    curves = (
        over_time,
        '<div class="pair">',
        _curve_figure(runs, labels, "time", "bytes", "Bytes over time", traffic),
        _curve_figure(runs, labels, "bytes", "value", f"{title} over bytes", dashed),
        "</div>",
    )
    key = "".join(f'<li><i style="background:var(--{phase})"></i>{phase}</li>' for phase in PHASES)
    pairs = enumerate(zip(runs, labels, strict=True))
    devices = "".join(_device_run(run, index, label, len(runs) <= 4) for index, (run, label) in pairs)
    scale = "The runs share one scale." if _shared(runs, "seconds") else "Each run has a scale of its own."
    scale = scale if len(runs) > 1 else ""
    recorded = f'<ul class="key">{key}</ul>{devices}' if devices else '<p class="note">No device was recorded.</p>'
    circle = "A ring marks the round that reached the target. Press a name to hide it."
    return "".join(
        (
            _section("In short", "", f'<ul class="summary">{"".join(map(_sentence, runs, labels))}</ul>'),
            _section("Comparison", "", _comparison(runs, labels)),
            _section("The way to the target", circle, _filters(runs) + "".join(curves)),
            _section("Where the devices' time went", scale, recorded),
            _section(
                "What was not measured", "", f'<ul class="gaps">{gaps}</ul>' if gaps else "<p>Nothing is missing.</p>"
            ),
            _section(
                "How it was made",
                "",
                _fold("Environment", known) + _fold("Configuration", _configuration(runs, labels)),
            ),
        )
    )
