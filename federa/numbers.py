"""Numbers in units that people read: seconds, bytes, joules, watts, shares; and the names of metrics.

The `show_` functions give three digits and a non-breaking space before the unit, for pages and sentences. The `human_`
functions give a fixed number of decimals, so that a column or a line that is redrawn keeps its width, and a dash for
None.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Formatter = Callable[[float], str]
DASH, MINUS, SPACE = "\u2013", "\u2212", "\u00a0"
_F_SCORE = re.compile(r"\bf1\b")
_PREFIXES = ("", "k", "M", "G", "T")


def show_seconds(value: float) -> str:
    """Seconds as '12.3 s', '4 min 12 s' or '2 h 05 min'."""
    if value < 59.95:
        return f"{value:.1f}{SPACE}s" if value >= 9.95 else f"{value:.3g}{SPACE}s"
    return _minutes(value).replace(" ", SPACE)


def human_seconds(value: float | None) -> str:
    """Seconds as '12.3 s', '0.0 s', '4 min 12 s' or '2 h 05 min'."""
    if value is None:
        return DASH
    return f"{value:.1f} s" if value < 59.95 else _minutes(value)


def _minutes(value: float) -> str:
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02d} min"


def scaled(unit: str) -> Formatter:
    """A formatter to three digits with decimal prefixes: 12345678 is '12.3 MB' for the unit 'B'."""

    def show(value: float) -> str:
        step = 0
        while abs(value) >= 999.5 and step < len(_PREFIXES) - 1:
            value, step = value / 1000, step + 1
        digits = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
        return f"{digits}{SPACE}{_PREFIXES[step]}{unit}".rstrip()

    return show


show_bytes, show_joules, show_count = scaled("B"), scaled("J"), scaled("")


def human_bytes(count: float | None) -> str:
    """Bytes in decimal units, as networks count them: '999 B', '1.2 MB', '1.50 TB'."""
    if count is None:
        return DASH
    for prefix in _PREFIXES[:-1]:
        if count < 1000:
            return f"{count:.0f} B" if not prefix else f"{count:.1f} {prefix}B"
        count /= 1000
    return f"{count:.2f} TB"


def human_goal(target: str, lower: bool) -> str:
    """A target, which is written already: '0.9', or '≤ 0.9' where `lower` is better."""
    return f"≤ {target}" if lower else target


def metric_words(name: str) -> str:
    """A metric's name as people write it: 'entity_f1' is 'entity F1'."""
    return _F_SCORE.sub("F1", name.replace("_", " "))


def show_watts(value: float) -> str:
    """Watts to three digits."""
    return f"{value:.3g}{SPACE}W" if value < 999.5 else f"{value:.0f}{SPACE}W"


def show_ms(value: float) -> str:
    """Milliseconds, which `value` is in, to four digits."""
    return f"{value:.4g}{SPACE}ms"


def show_share(value: float) -> str:
    """A share of 1 as percent: 100 only where nothing is missing."""
    percent = min(99.9, 100 * value) if value < 1 else 100.0
    return f"{percent:.1f}".removesuffix(".0") + f"{SPACE}%"


def show_change(ratio: float) -> str:
    """A ratio as a change: 0.25 is '−75 %', 3 is '×3'. Two decimals near −100 %, where one would round to it."""
    if ratio >= 2:
        return f"×{ratio:.3g}" if ratio < 999.5 else f"×{ratio:.0f}"
    change = 100 * (ratio - 1)
    digits = f"{abs(change):.{2 if change < -99.9 else 1}f}".rstrip("0").rstrip(".")
    sign = "" if digits == "0" else (MINUS if change < 0 else "+")
    return f"{sign}{digits}{SPACE}%"
