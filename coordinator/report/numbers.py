"""Numbers in units that people read, and any value as words."""

from __future__ import annotations

import html
import json
from collections.abc import Callable

Formatter = Callable[[float], str]
FRACTIONS = ("accuracy", "f1", "macro_f1")
MINUS, SPACE = "\u2212", "\u00a0"


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
        step = 0
        while abs(value) >= 999.5 and step < 4:
            value, step = value / 1000, step + 1
        digits = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
        return f"{digits}{SPACE}{('', 'k', 'M', 'G', 'T')[step]}{unit}".rstrip()

    return show


show_bytes, show_joules, show_count = scaled("B"), scaled("J"), scaled("")


def scored(metric: object) -> Formatter:
    """Percent for what lies between 0 and 1, four digits for everything else."""
    if metric in FRACTIONS:
        return lambda value: f"{100 * value:.2f}".rstrip("0").rstrip(".") + f"{SPACE}%"
    return lambda value: f"{value:.4g}"


def show_change(ratio: float) -> str:
    """A ratio as a change: 0.25 is '−75 %', 3 is '×3'. Two decimals near −100 %, where one would round to it."""
    if ratio >= 2:
        return f"×{ratio:.3g}" if ratio < 999.5 else f"×{ratio:.0f}"
    change = 100 * (ratio - 1)
    digits = f"{abs(change):.{2 if change < -99.9 else 1}f}".rstrip("0").rstrip(".")
    sign = "" if digits == "0" else (MINUS if change < 0 else "+")
    return f"{sign}{digits}{SPACE}%"


def number_in(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def sum_known(*values: object) -> float | None:
    """The sum, or None where a part is unknown: an unknown part is not 0."""
    numbers = [number_in(value) for value in values]
    return None if None in numbers else sum(number for number in numbers if number is not None)


def show_backing(examples: object) -> str:
    """'of 334 examples', or nothing where that is not known."""
    count = number_in(examples)
    return "" if count is None else f"of {count:,}{SPACE}{'example' if count == 1 else 'examples'}"


def in_words(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def escaped(value: object) -> str:
    return html.escape(in_words(value))
