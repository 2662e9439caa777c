"""Labels: how one is read, in which order classes stand, and which labels are likely the same class spelled twice.

These rules hold wherever a label comes from: the experiment's `data.labels`, the coordinator's data, a device's own
file, a file that a bundle is evaluated on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from federa.errors import shown

MAX_LABEL = 200
"""The most characters of a label. What is longer is a text in the wrong column."""
MAX_QUOTED = 60
"""Characters of a label that a refusal quotes whole."""
MAX_LISTED = 8
"""The most classes that a line lists."""
_MAX_LISTED_LABEL = 40
_MAX_LISTED_SIGNS = 160

# Digits of ASCII alone: int() and Decimal() read more, and other programs do not.
_WHOLE = re.compile(r"([+-]?[0-9]{1,100})\.0*")
_NUMBER = re.compile(r"[+-]?[0-9]{1,100}(\.[0-9]{1,100})?")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,100})", re.DOTALL)
_MISSING = {"nan", "none", "null", "na", "n/a", "#n/a", "<na>"}
"""How programs write that there is no value."""
_NAME_THEM = "name all classes in data.labels where each of them is one"


def label_text(text: str) -> str:
    """A label as it is compared: without the blanks around it, and a whole number without its decimals, since a column
    of whole numbers in which one is missing is written as 0.0, 1.0. Empty for what is no label: blanks, NaN."""
    label = text.strip()
    if label.lower() == "nan" or not (label.isprintable() or visible(label)):
        return ""
    whole = _WHOLE.fullmatch(label)
    return str(int(whole[1])) if whole else label


def fixed_labels(labels: Sequence[str], least: int = 2) -> tuple[str, ...]:
    """The labels that an experiment names, as they are compared. Raises ValueError where they are fewer than `least`,
    one twice, two that nobody can tell apart, or one that is none."""
    found = tuple(map(label_text, labels))
    for given, label in zip(labels, found, strict=True):
        if not label or len(label) > MAX_LABEL:
            raise ValueError(f"must not hold {shown(repr(given), MAX_QUOTED)}, which stands for no class")
    if len(set(found)) < max(least, len(found)):
        many = "two different labels" if least == 2 else "one label, and each once"
        raise ValueError(f"must be at least {many}")
    seen: dict[str, str] = {}
    for label in found:
        other = seen.setdefault(visible(label), label)
        if other != label:
            both = f"{shown(ascii(other), MAX_QUOTED)} and {shown(ascii(label), MAX_QUOTED)}"
            raise ValueError(f"must not hold both {both}: nobody can tell them apart")
    return found


def numbers_as_text(labels: object) -> object:
    """What stands for labels in an experiment, where YAML and JSON read whole numbers."""
    if not isinstance(labels, list | tuple):
        return labels
    return [str(label) if type(label) is int else label for label in labels]


def in_order(labels: Iterable[str]) -> list[str]:
    """The classes in their order: numbers by their value, what is numbered behind one and the same beginning (LABEL_2,
    LABEL_10) by its number, all others as text."""
    found = sorted(labels)
    if all(map(_NUMBER.fullmatch, found)):
        return sorted(found, key=Decimal)
    matches = [_NUMBERED.fullmatch(label) for label in found]
    if all(matches) and len({match[1] for match in matches if match}) == 1:
        return sorted(found, key=lambda label: int(_NUMBERED.fullmatch(label)[2]))  # type: ignore[index]
    return found


def likeness(counts: Mapping[str, int]) -> tuple[str, str]:
    """What is doubtful about these labels, each with how many records have it: two that are hardly different, or one
    that says that there is none; and what to do about it. Both are empty where nothing is."""
    pairs: list[tuple[str, str]] = []
    first: dict[str, str] = {}
    for label in sorted(counts):
        other = first.setdefault(_folded(label), label)
        if other != label:
            pairs.append((other, label))
    if pairs:
        one, other = pairs[0]
        quote = repr if one.lower() == other.lower() else ascii
        more = f" ({len(pairs) - 1} more of the kind)" if len(pairs) > 1 else ""
        return (
            f"labels that differ {difference(one, other)}: {_quoted(one, quote)} ({counts[one]:,}) and "
            f"{_quoted(other, quote)} ({counts[other]:,}){more}",
            "write them alike" if visible(one) == visible(other) else f"write them alike, or {_NAME_THEM}",
        )
    words = [label for label in counts if label.lower() in _MISSING]
    others = [label for label in counts if label not in words]
    # "none" may well be a class beside words.
    doubtful = words if all(map(_NUMBER.fullmatch, others)) else [word for word in words if not word.isalpha()]
    if doubtful and others:
        return (
            f"the label {doubtful[0]!r} ({counts[doubtful[0]]:,}), as programs write that there is none",
            f"leave these rows out, or {_NAME_THEM}",
        )
    return "", ""


def alike(label: str, labels: Iterable[str]) -> str | None:
    """The one of `labels` that this label is hardly different from, if there is one."""
    folded = _folded(label)
    return next((other for other in labels if _folded(other) == folded), None)


def visible(label: str) -> str:
    """A label without what no reader sees: characters of format such as the zero-width space, and how many blanks of
    which kind stand between words."""
    composed = unicodedata.normalize("NFC", label)
    return " ".join("".join(sign for sign in composed if unicodedata.category(sign) != "Cf").split())


def difference(one: str, other: str) -> str:
    """In what two labels that are alike differ."""
    if one.lower() == other.lower():
        return "in upper and lower case alone"
    if _NUMBER.fullmatch(one) and _NUMBER.fullmatch(other):
        return "in how a number is written"
    if "".join(one.split()) == "".join(other.split()):
        return "in blanks alone"
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "in how Unicode composes their characters"
    return (
        "in characters that do not show"
        if visible(one) == visible(other)
        else "in characters that are hardly told apart"
    )


def listed(labels: Sequence[str]) -> str:
    """The first classes, and how many more there are."""
    return _first([shown(label, _MAX_LISTED_LABEL) for label in labels])


def counted(counts: Mapping[str, int]) -> str:
    """The first classes, each with how many records it has, and how many more there are."""
    return _first([f"{shown(label, _MAX_LISTED_LABEL)} ({count:,})" for label, count in counts.items()])


def _first(words: Sequence[str]) -> str:
    first = list(words[:MAX_LISTED])
    while len(first) > 1 and sum(map(len, first)) > _MAX_LISTED_SIGNS:
        first.pop()
    more = len(words) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")


def _quoted(label: str, quote: Callable[[str], str]) -> str:
    return shown(quote(label), _MAX_LISTED_LABEL)


def _folded(label: str) -> str:
    """What labels that are alike have in common."""
    compatible = unicodedata.normalize("NFKC", visible(label)).casefold()
    folded = "".join(unicodedata.normalize("NFKC", compatible).split())
    folded = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in folded)
    return str(Decimal(folded).normalize() + 0) if _NUMBER.fullmatch(folded) else folded
