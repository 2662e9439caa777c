"""Tables and their cells. A cell is the HTML of a <td>."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.report.numbers import SPACE, Formatter, escaped, number_in, show_backing
from coordinator.report.runs import Record

UNMEASURED, UNREACHED = "not measured", "not reached"


def cell(value: object, show: Formatter, unit: str = "", missing: str = UNMEASURED) -> str:
    """A number in words, exact where one points at it."""
    number = number_in(value)
    if number is None:
        return f'<td class="none">{missing}</td>'
    exact = f"{number:,}" if isinstance(number, int) else repr(number)
    return f'<td title="{exact}{SPACE if unit else ""}{unit}">{show(number)}</td>'


def backed(score: str, examples: object) -> str:
    """A score's cell with how many examples stand behind it."""
    words = show_backing(examples)
    return score.replace("</td>", f"<small>{words}</small></td>") if words and number_in(examples) else score


def plain(value: object, missing: str = UNMEASURED) -> str:
    words = escaped(value)
    return f"<td>{words}</td>" if words else f'<td class="none">{missing}</td>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, box: str = "", kind: str = "") -> str:
    """A table in a box that scrolls. Each row is its head's inner HTML, then cells; the heads are plain text."""
    top = "".join(f'<th scope="col">{escaped(head)}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(row[1:])}</tr>' for row in rows)
    label = f'role="region" tabindex="0" aria-label="{escaped(caption)}"'
    return (
        f'<div class="scroll {box}" {label}><table class="{kind}"><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def fold(summary: str, content: str, kind: str = "fold") -> str:
    return f'<details class="{kind}"><summary>{escaped(summary)}</summary>{content}</details>'


def behind(content: str) -> str:
    return f"<details><summary>The numbers behind this figure</summary>{content}</details>"


def method_dot(run: Record) -> str:
    """The run's method as a coloured dot, as HTML."""
    return f'<span class="dot" data-method="{escaped(run.get("method"))}" aria-hidden="true"></span>'
