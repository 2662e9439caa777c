"""Objects that were taken apart: the columns `answers.text` and `answers.answer_start` are parts of one, `answers`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping


def whole_columns(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The columns that are not there but have two parts or more, each with its parts' columns by their own names."""
    found = list(names)
    wholes: dict[str, dict[str, str]] = defaultdict(dict)
    for name in found:
        whole, dot, part = name.partition(".")
        if dot and whole not in found:
            wholes[whole][part] = name
    return {whole: parts for whole, parts in wholes.items() if len(parts) > 1}


def with_wholes(values: Mapping[str, object]) -> Mapping[str, object]:
    """A row's values, and the objects that its columns are parts of."""
    if not any("." in name for name in values):
        return values
    wholes = whole_columns(values)
    return {
        **values,
        **{whole: {part: values[name] for part, name in parts.items()} for whole, parts in wholes.items()},
    }
