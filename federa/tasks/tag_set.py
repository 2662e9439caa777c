"""The tags of an experiment: those that its labels mean, those that a model tells apart, and those of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from federa.tasks.tag_scheme import OUTSIDE, Scheme, Tag, entities, has_prefix, join_tag, split_tag


def types_of(labels: Sequence[str], scheme: Scheme | Literal["auto"] = "auto") -> tuple[str, ...]:
    """The types of entities, where labels are types or tags, each once. Plain tags are types, but for O."""
    if scheme != "plain" and are_tags(labels):
        splits = [split_tag(label, "iobes") or split_tag(label, "bilou") for label in labels if label != OUTSIDE]
        return tuple(dict.fromkeys(split[1] for split in splits if split))
    return tuple(label for label in labels if label != OUTSIDE)


def are_tags(labels: Sequence[str]) -> bool:
    """Whether labels are tags with prefixes, not types."""
    return all(label == OUTSIDE or has_prefix(label) for label in labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class TagSet:
    """What a model tells apart. `names` are the tags of its columns: those of IOB2 over the types, or plain tags as
    they are. `columns` has the column of each tag in a record; those are of IOB2, by number: O is 0, B and I of the
    first type 1 and 2, and so on. Of plain tags two share a column. `meanings` has each column's prefix and type, by
    number."""

    types: tuple[str, ...]
    names: tuple[str, ...]
    columns: tuple[int, ...]
    meanings: tuple[Tag[int], ...]

    @classmethod
    def of(cls, labels: Sequence[str], scheme: Scheme | Literal["auto"]) -> TagSet:
        """That of the labels of an experiment and its scheme."""
        types = types_of(labels, scheme)
        if scheme == "plain":
            numbers = {kind: number for number, kind in enumerate(types)}
            outside = labels.index(OUTSIDE) if OUTSIDE in labels else 0  # no record has it then
            return cls(
                types=types,
                names=tuple(labels),
                columns=(outside, *(labels.index(kind) for kind in types for _ in "BI")),
                meanings=tuple((OUTSIDE, -1) if label == OUTSIDE else ("I", numbers[label]) for label in labels),
            )
        return cls(
            types=types,
            names=(OUTSIDE, *(join_tag(prefix, kind) for kind in types for prefix in "BI")),
            columns=tuple(range(1 + 2 * len(types))),
            meanings=((OUTSIDE, -1), *((prefix, number) for number in range(len(types)) for prefix in "BI")),
        )


def tag_numbers(tags: Sequence[Tag[str]], types: Sequence[str]) -> tuple[int, ...]:
    """Tags as a record has them: those of IOB2 that say the same entities, by number."""
    numbers = {kind: number for number, kind in enumerate(types)}
    found = [0] * len(tags)
    for kind, first, last in entities(tags):
        inside = 2 + 2 * numbers[kind]
        found[first : last + 1] = [inside - 1, *[inside] * (last - first)]
    return tuple(found)


def types_in(tags: Sequence[int]) -> list[int]:
    """The number of the type of each entity in a record's tags."""
    return [(tag - 1) // 2 for tag in tags if tag % 2]


def spans(tags: Sequence[int]) -> list[tuple[int, int]]:
    """The first and the last word of each entity in a record's tags."""
    begins = [index for index, tag in enumerate(tags) if tag % 2]
    ends = [
        next((index for index in range(first + 1, len(tags)) if tags[index] != tags[first] + 1), len(tags)) - 1
        for first in begins
    ]
    return list(zip(begins, ends, strict=True))
