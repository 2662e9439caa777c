"""Tags of words, and the entities that a sequence of them says.

A tag is O, or a prefix with the type of an entity, such as B-PER; or a type alone (plain tags: parts of speech, too).
IOB2 begins every entity with B-; IOB1 does so only behind another one of its type; IOBES and BILOU mark an entity's
last word, and that of one word, too. Entities are read as seqeval reads them by default, and conlleval before it: one
begins wherever the sequence, valid or not, cannot go on with the one before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeVar

Scheme = Literal["iob2", "iob1", "iobes", "bilou", "plain"]

OUTSIDE = "O"
NO_TYPE = "_"
"""The type of a prefix alone, as seqeval calls it."""
_PREFIXED = re.compile(r"([BIESLU])(?:[-_](.+))?", re.DOTALL)
_AS_IOBES = {"L": "E", "U": "S"}
_PREFIXES = {"iob2": "BI", "iob1": "BI", "iobes": "BIES", "bilou": "BILU"}

T = TypeVar("T")
Tag = tuple[str, T]
"""A tag in two: one of O, B, I, E and S, and the type."""


def split_tag(tag: str, scheme: Scheme) -> tuple[str, str] | None:
    """Prefix and type of a tag; None where it is none of the scheme's. A plain tag is what IOB1 calls I-."""
    if tag == OUTSIDE:
        return OUTSIDE, NO_TYPE
    if scheme == "plain":
        return "I", tag
    match = _PREFIXED.fullmatch(tag)
    if match is None or match[1] not in _PREFIXES[scheme]:
        return None
    return _AS_IOBES.get(match[1], match[1]), match[2] or NO_TYPE


def join_tag(prefix: str, kind: str) -> str:
    """The tag of a prefix and a type."""
    return prefix if prefix == OUTSIDE or kind == NO_TYPE else f"{prefix}-{kind}"


def entities(tags: Sequence[Tag[T]]) -> list[tuple[T, int, int]]:
    """Type, first and last word of each entity in a sequence of tags."""
    found: list[tuple[T, int, int]] = []
    before: Tag[T] | None = None
    first = 0
    for index, tag in enumerate(tags):
        prefix, kind = tag
        if before is not None and (prefix in "OBS" or before[0] in "ES" or kind != before[1]):
            found.append((before[1], first, index - 1))
            before = None
        if prefix != OUTSIDE:
            if before is None:
                first = index
            before = tag
    if before is not None:
        found.append((before[1], first, len(tags) - 1))
    return found


def iob2(tags: Sequence[Tag[str]]) -> list[str]:
    """The same entities as tags of IOB2."""
    found = [OUTSIDE] * len(tags)
    for kind, first, last in entities(tags):
        found[first] = join_tag("B", kind)
        found[first + 1 : last + 1] = [join_tag("I", kind)] * (last - first)
    return found


def has_prefix(tag: str) -> bool:
    """Whether a tag has the form of one with a prefix, or is a prefix alone."""
    return _PREFIXED.fullmatch(tag) is not None


def scheme_of(sentences: Sequence[Sequence[str]]) -> Scheme:
    """The scheme of sequences of tags that all have prefixes: by the prefixes that there are, and by where B stands.
    What is none of them is called IOB2."""
    letters = {tag[0] for tags in sentences for tag in tags if tag != OUTSIDE}
    if letters & {"L", "U"}:
        return "bilou"
    if letters & {"E", "S"}:
        return "iobes"
    inside = False
    for tags in sentences:
        before = (OUTSIDE, NO_TYPE)
        for tag in tags:
            prefix, kind = split_tag(tag, "iob2") or (OUTSIDE, NO_TYPE)
            follows_its_type = before[0] != OUTSIDE and before[1] == kind
            if prefix == "B" and not follows_its_type:
                return "iob2"
            inside |= prefix == "I" and not follows_its_type
            before = (prefix, kind)
    return "iob1" if inside else "iob2"
