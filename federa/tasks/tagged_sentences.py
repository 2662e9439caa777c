"""Sentences as a source has them become records: the scheme of their tags, the types of entities, and what is doubtful
about them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from federa.data.dataset import Dataset
from federa.data.row import Row
from federa.errors import BadInput, shown
from federa.tasks.labels import counted, in_order, likeness
from federa.tasks.tag_scheme import OUTSIDE, Scheme, Tag, entities, has_prefix, scheme_of, split_tag
from federa.tasks.tag_set import are_tags, tag_numbers, types_of
from federa.tasks.token_data import TokenData

log = logging.getLogger("federa")

Words = tuple[tuple[str, ...], tuple[str, ...]]
"""A sentence's words, and their tags as they are written."""
MAX_TAGS = 500
MAX_FEW_TAGS = 50
"""More different tags than that may be words in the tags' column, where there are fewer than 20 words for each, and
fewer than two."""


class TaggedSentence(NamedTuple):
    """A record. `tags` are those of IOB2 by number: 0 is O, 1 and 2 are B and I of the first type, and so on."""

    words: tuple[str, ...]
    tags: tuple[int, ...]


class FirstPlaces:
    """Where each tag was met first."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Row, int]] = {}

    def add(self, row: Row, tags: Iterable[str]) -> None:
        for index, tag in enumerate(tags):
            if tag not in self._places:
                self._places[tag] = (row, index)

    def refused(self, tag: str, reason: str, advice: str = "") -> BadInput:
        """The error that says why a tag cannot be used, with its place."""
        row, index = self._places[tag]
        return row.refused(reason, advice, item=index)


def tag_sentences(sentences: Sequence[Words], data: TokenData, source: str, places: FirstPlaces) -> Dataset:
    """The data set of these sentences. Scheme and labels are found where `data` leaves them open. Raises BadInput where
    they cannot be, or it is doubtful whether what is found are tags."""
    counts = Counter(tag for _, tags in sentences for tag in tags)
    if data.labels is None and may_be_words(sentences):
        raise BadInput(
            f"data: {source} has {len(counts):,} different tags for {counts.total():,} words: data.tag_column must "
            "name the tags' column; where each is a tag, data.labels must name all of them"
        )
    scheme = data.scheme
    if scheme == "auto":
        scheme = found_scheme([tags for _, tags in sentences], counts, data.labels, places)
    split = [_split(tags, scheme) for _, tags in sentences]
    spans = list(map(entities, split))
    by_type = Counter(kind for found in spans for kind, _, _ in found)
    labels = data.labels
    if labels is None:
        labels = _labels(counts, by_type, scheme, source)
    elif scheme == "plain" and data.scheme == "auto":
        # The experiment names types: plain tags are these, and O.
        labels = (*((OUTSIDE,) if OUTSIDE in counts or OUTSIDE in labels else ()), *types_of(labels))
    types = types_of(labels, scheme)
    said = "" if data.scheme == "auto" else " (data.scheme)"
    log.info("data: %s has %s", source, _in_words(scheme, said, sentences, by_type, types))
    odd = sum(tags[first][0] != "B" for tags, found in zip(split, spans, strict=True) for _, first, _ in found)
    if odd and scheme == "iob2":
        log.info("data: %s of these begin with I-, not B-: they are read as entities too", f"{odd:,}")
    records = [
        TaggedSentence(words, tag_numbers(tags, types)) for (words, _), tags in zip(sentences, split, strict=True)
    ]
    return Dataset(records=tuple(records), found={"labels": tuple(labels), "scheme": scheme})


def found_scheme(
    sentences: Sequence[Sequence[str]], counts: Counter[str], labels: Sequence[str] | None, places: FirstPlaces
) -> Scheme:
    """The scheme of these tags. Raises BadInput where some have prefixes and others have not."""
    tags = [tag for tag in counts if tag != OUTSIDE]
    prefixed = [tag for tag in tags if _has_prefix(tag, labels)]
    # B, I, E and S alone may be prefixes without a type, or plain tags of these names.
    if not prefixed or (labels is None and all(len(tag) == 1 for tag in tags) and "B" not in tags):
        return "plain" if tags else "iob2"
    if len(prefixed) < len(tags):
        # The fewer ones are likely the mistake.
        plain = [tag for tag in tags if tag not in prefixed]
        few = min(plain, prefixed, key=lambda some: sum(counts[tag] for tag in some))
        what = "a prefix, beside plain ones" if few is prefixed else "no prefix such as B-, beside ones that have it"
        raise places.refused(few[0], f"has a tag with {what}", ": write all alike, or say which in data.scheme")
    return scheme_of(sentences)


def _has_prefix(tag: str, labels: Sequence[str] | None) -> bool:
    if labels is None or are_tags(labels):
        return has_prefix(tag)
    return tag not in labels and has_prefix(tag)


def _split(tags: Sequence[str], scheme: Scheme) -> list[Tag[str]]:
    found = [split_tag(tag, scheme) for tag in tags]
    return [tag for tag in found if tag is not None]


def _labels(counts: Counter[str], by_type: Mapping[str, int], scheme: Scheme, source: str) -> tuple[str, ...]:
    """The labels that are found in the data."""
    tags = {tag: count for tag, count in counts.items() if tag != OUTSIDE}
    if not tags:
        raise BadInput(
            f"data: {source} has no entity: the tag of every word is {OUTSIDE}. data.tag_column must name the tags' "
            "column, and data.labels the types, where this part of the data happens to have none"
        )
    if scheme == "plain":
        if all(tag.isdecimal() for tag in tags):
            raise BadInput(
                f"data: {source} has numbers for tags: data.labels must list the tags that they stand for in their "
                f"order, such as [{OUTSIDE}, B-person, I-person]"
            )
        if len(counts) < 2:
            raise BadInput(f"data: {source} has one tag only ({shown(repr(*tags))}); at least two are needed")
    doubt, advice = likeness({OUTSIDE: counts[OUTSIDE], **by_type} if OUTSIDE in counts else by_type)
    if doubt:
        raise BadInput(f"data: {source} has {doubt.replace('labels that', 'types that', 1)}: {advice}")
    outside = (OUTSIDE,) if scheme == "plain" and OUTSIDE in counts else ()
    return (*outside, *in_order(by_type))


def may_be_words(sentences: Sequence[Words]) -> bool:
    """Whether the tags may be words, since the columns may be mistaken for one another: most are words of the sentences
    too, or there are too many."""
    counts = Counter(tag for _, tags in sentences for tag in tags if tag != OUTSIDE)
    words = {word.lower() for words, _ in sentences for word in words}
    total = sum(len(tags) for _, tags in sentences)
    alike = sum(tag.lower() in words for tag in counts)
    many, few_each = len(counts), len(counts) > total // 2
    return many > 2 and (2 * alike > many or (many > MAX_FEW_TAGS and few_each) or many > max(MAX_TAGS, total // 20))


def _in_words(
    scheme: Scheme, said: str, sentences: Sequence[Words], by_type: Mapping[str, int], types: Sequence[str]
) -> str:
    name = "plain" if scheme == "plain" else scheme.upper()
    words = sum(len(tags) for _, tags in sentences)
    return (
        f"{name} tags{said}: {len(sentences):,} sentences, {words:,} words, {sum(by_type.values()):,} entities of "
        f"{len(types):,} type{'s' * (len(types) != 1)}: {counted({kind: by_type.get(kind, 0) for kind in types})}"
    )
