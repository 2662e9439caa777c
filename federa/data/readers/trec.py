"""TREC's question classification: a question a line behind its two labels, `COARSE:fine question`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from federa.data.row import Row

_LABELS = re.compile(r"([^\s:]+):[^\s:]+")
_FORM = ": a line is COARSE:fine question, such as LOC:city What is the capital of Iceland ?"


def is_trec(lines: list[str]) -> bool:
    """Whether most lines begin with two labels as TREC has them."""
    return 2 * sum(bool(re.match(r"[A-Z]+:[a-z]+ \S", line)) for line in lines) > len(lines)


def trec_rows(text: str, source: str, *, private: bool) -> Iterator[Row]:
    """The questions of a TREC file, as rows: `text`, `label` (the coarse one) and `fine_label` (both, as they stand:
    fine labels such as `other` stand behind several coarse ones)."""
    for number, line in enumerate(text.split("\n"), start=1):
        fine, _, question = line.strip().partition(" ")
        if not fine:
            continue
        labels = _LABELS.fullmatch(fine)
        yield Row(
            values={"text": question.strip(), "label": labels and labels[1], "fine_label": fine},
            source=source,
            at=f"line {number}",
            private=private,
            headed=True,
            named=True,
            fault=None if labels else ("does not begin with labels and a colon between them", _FORM),
        )
