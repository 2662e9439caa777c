"""What a tegrastats log says, on the terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.tegrastats_log import Spread, TegrastatsLog
from federa.errors import shown
from federa.numbers import human_seconds, show_joules, show_share

_SHOWN = 12


def print_log(log: TegrastatsLog, name: str, console: Console) -> None:
    """After its samples were read to the end."""

    def show(line: str, style: str = "") -> None:
        console.print(line.replace("\u00a0", " "), style=style, highlight=False, markup=False, soft_wrap=True)

    ending = log.ending()
    timed = {"dates": "by the log's dates", "timestamps": "by the timestamps beside its lines"}.get(
        log.time_from, f"at {'an assumed ' if log.is_assumed else ''}{1000 * log.interval_s:g} ms"
    )
    show(f"{shown(name)}: {log.samples_read} {'sample' if log.samples_read == 1 else 'samples'}, "
        f"{human_seconds(log.duration_s)}, {timed}", "bold")  # fmt: skip
    energy = log.energy
    if not log.samples_read:
        show("no line of it is tegrastats'")
    elif energy is None:
        show(f"no energy: {log.why_no_energy()}")
    else:
        scope = log.scope or "scope not known"
        if ending["energy_j"] is None:
            show(f"energy: not measured, no two samples with a total are close enough in time ({scope})")
        else:
            assumed = f"; the interval of {1000 * log.interval_s:g} ms is assumed" if log.is_assumed else ""
            show(f"energy: {show_joules(ending['energy_j'])}, {scope}; mean {ending['mean_mw'] / 1000:.3g} W, "
                f"peak {ending['peak_mw'] / 1000:.3g} W; {show_share(ending['coverage'])} covered, "
                f"largest gap {human_seconds(energy.largest_gap_s)}{assumed}")  # fmt: skip
        console.print(_power(log, energy.power))
    if log.temps:
        console.print(_spreads("temperature (°C)", log.temps, 1.0))
    if gpu := {key: spread for key, spread in log.gpu.items() if spread.count}:
        console.print(_spreads("GPU", gpu, 1.0))
    if energy is None and log.rails:
        console.print(_spreads("rail (W)", log.rails, 1000.0))
    for line in _remarks(log):
        show(line, "dim")


def _remarks(log: TegrastatsLog) -> list[str]:
    """What was not understood, or does not fit, a line each."""
    lines = []
    if log.skipped:
        lines.append(f"lines that were not understood: {log.skipped}")
    lines += log.remarks()
    named = (
        ("words that were not understood", log.unknown),
        ("names that came again in a line (the first one counts)", log.repeated),
        ("sensors that are off", log.offline),
    )
    return lines + [f"{title}: {_listed(counter)}" for title, counter in named if counter]


def _listed(counter: Counter[str]) -> str:
    entries = [f"{shown(word, 80)} ({count} x)" for word, count in counter.most_common(_SHOWN)]
    more = len(counter) - len(entries)
    return ", ".join(entries) + (f" and {more} more" if more > 0 else "")


def _power(log: TegrastatsLog, total: Spread) -> Table:
    return _spreads("power (W)", {**log.rails, f"total, {log.scope or 'scope not known'}": total}, 1000.0)


def _spreads(title: str, spreads: dict[str, Spread], unit: float) -> Table:
    table = Table(header_style="bold")
    table.add_column(title)
    for column in ("least", "mean of samples", "most"):
        table.add_column(column, justify="right")
    for name, spread in spreads.items():
        table.add_row(
            escape(shown(name, 60)), *(f"{value / unit:.4g}" for value in (spread.low, spread.mean, spread.high))
        )
    return table
