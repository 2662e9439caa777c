"""Two entities that are marked in a text: where the markers stand, and which tokens stay when a text is cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

Markers = tuple[str, str, str, str]
"""The beginning and the end of the first entity, and of the second."""


def objection(text: str, markers: Markers) -> str:
    """What is wrong with a text's markers, in words that begin with a verb and quote none of the text; empty where each
    stands there once, and each pair around an entity of its own."""
    for marker in markers:
        count = text.count(marker)
        if count != 1:
            return f"has {'no marker' if not count else f'{count} markers'} {marker}"
    first, second = ((text.index(begin) + len(begin), text.index(end)) for begin, end in (markers[:2], markers[2:]))
    for (begin, end), (opening, closing) in ((first, markers[:2]), (second, markers[2:])):
        if begin > end:
            return f"has {closing} before {opening}"
        inside = [marker for marker in markers if marker in text[begin:end]]
        if inside:
            return f"has {inside[0]} between {opening} and {closing}"
        if not text[begin:end].strip():
            return f"has nothing between {opening} and {closing}"
    return ""


def moved_blanks(text: str, markers: Markers) -> str:
    """The text with the blank before an opening marker put behind it: then the words have the tokens that they have
    without markers, also where a token begins with its blank (RoBERTa)."""
    opening = "|".join(re.escape(marker) for marker in (markers[0], markers[2]))
    return re.sub(rf"(\s+)({opening})(?!\s)", r"\2\1", text)


def kept(tokens: Sequence[int], markers: Sequence[int], room: int) -> list[int]:
    """The positions of the tokens that stay where there is `room` for so many: the four markers always, then the
    entities from their beginnings on, then what stands between them, then what stands around them, the nearest first.
    `markers` has the markers' numbers as tokens, in the order of Markers."""
    if len(tokens) <= room:
        return list(range(len(tokens)))
    places = [tokens.index(marker) for marker in markers]
    spans = [(places[0], places[1]), (places[2], places[3])]
    low, high = min(places), max(places)

    def order(position: int) -> tuple[int, int]:
        if position in places:
            return 0, 0
        for begin, end in spans:
            if begin < position < end:
                return 1, position - begin
        distance = min(abs(position - place) for place in places)
        return (2 if low < position < high else 3), distance

    return sorted(sorted(range(len(tokens)), key=order)[:room])
