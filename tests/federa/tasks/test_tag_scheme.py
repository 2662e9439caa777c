"""Tags of words: entities as seqeval reads them, schemes by what their sequences look like."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from federa.tasks.tag_scheme import Scheme, entities, has_prefix, iob2, scheme_of, split_tag

TYPES = ("PER", "LOC", "creative-work", "O")


def tags_of(prefixes: str) -> st.SearchStrategy[list[str]]:
    """Sequences, valid or not, of O and tags with these prefixes."""
    tags = [f"{prefix}-{kind}" for prefix in prefixes for kind in TYPES]
    return st.lists(st.sampled_from(["O", "O", *tags]), max_size=12)


def _split(tags: list[str], scheme: Scheme) -> list[tuple[str, str]]:
    found = [split_tag(tag, scheme) for tag in tags]
    assert None not in found
    return found  # type: ignore[return-value]


@given(st.one_of(tags_of("BI"), tags_of("BIES"), st.lists(st.sampled_from("BIO"), max_size=9)))
def test_entities_are_those_of_seqeval_in_sequences_valid_or_not(tags: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = get_entities(list(tags))
        assert entities(_split(tags, "iobes")) == wanted
        assert get_entities(iob2(_split(tags, "iobes"))) == wanted


@pytest.mark.parametrize(
    ("scheme", "tags", "found"),
    [
        ("iob2", "B-x I-x O B-x B-x", [("x", 0, 1), ("x", 3, 3), ("x", 4, 4)]),
        ("iob1", "I-x I-x B-x O I-x I-y", [("x", 0, 1), ("x", 2, 2), ("x", 4, 4), ("y", 5, 5)]),
        ("iobes", "S-x S-x B-x I-x E-x O E-x", [("x", 0, 0), ("x", 1, 1), ("x", 2, 4), ("x", 6, 6)]),
        ("bilou", "U-x U-x B-x I-x L-x O L-x", [("x", 0, 0), ("x", 1, 1), ("x", 2, 4), ("x", 6, 6)]),
        ("plain", "x x O y B-z y", [("x", 0, 1), ("y", 3, 3), ("B-z", 4, 4), ("y", 5, 5)]),
        ("iob2", "B I O I", [("_", 0, 1), ("_", 3, 3)]),
        ("iob2", "B_x I_x I-y", [("x", 0, 1), ("y", 2, 2)]),
    ],
)
def test_each_scheme_is_read(scheme: Scheme, tags: str, found: list[tuple[str, int, int]]) -> None:
    assert entities(_split(tags.split(), scheme)) == found


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["B-x I-x O", "B-x B-x"], "iob2"),
        (["I-x I-x O", "I-x B-x", "I-x I-y"], "iob1"),
        (["I-x O", "B-x"], "iob2"),  # mixed: B does not stand behind its type
        (["B-x E-x O"], "iobes"),
        (["U-x O"], "bilou"),
        (["O O"], "iob2"),
    ],
)
def test_the_scheme_is_found_from_the_sequences(sentences: list[str], scheme: str) -> None:
    assert scheme_of([tags.split() for tags in sentences]) == scheme


def test_what_is_no_tag_of_a_scheme_is_none() -> None:
    assert split_tag("S-x", "iob2") is None and split_tag("x", "iob1") is None and split_tag("B-", "iob2") is None
    assert split_tag("O", "plain") == split_tag("O", "iob2") == ("O", "_")
    assert has_prefix("B-x") and has_prefix("I") and not has_prefix("NN") and not has_prefix("O")
