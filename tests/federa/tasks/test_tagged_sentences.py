"""Files of tagged sentences: schemes, types and their order, and what is refused of them with its place."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from tagged import SENTENCES, read_sentences, tagger, write_sentences

from federa.errors import BadInput
from federa.tasks.token_classification import TokenClassification
from federa.tasks.token_data import TokenData

RECORDS = ((0, 0, 0, 3, 4), (1, 2), (0, 0, 0), (3, 0, 3))
"""The tags of SENTENCES where the types are group and place."""


def _tags(dataset: object) -> tuple[tuple[int, ...], ...]:
    return tuple(record.tags for record in dataset.records)  # type: ignore[attr-defined]


def _refusal(path: Path, *, private: bool = False, **data: object) -> str:
    with pytest.raises(BadInput) as caught:
        read_sentences(path, private=private, **data)
    message = str(caught.value)
    assert message.startswith(f"data: {path}") and len(message.splitlines()) == 1 and message.isprintable()
    return message.removeprefix(f"data: {path}").strip()


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("iob2", [tags for _, tags in SENTENCES]),
        ("iob1", ["O O O I-place I-place", "I-group I-group", "O O O", "I-place O I-place"]),
        ("iobes", ["O O O B-place E-place", "B-group E-group", "O O O", "S-place O S-place"]),
        ("bilou", ["O O O B-place L-place", "B-group L-group", "O O O", "U-place O U-place"]),
        ("plain", ["O O O place place", "group group", "O O O", "place O place"]),
    ],
)
def test_every_scheme_gives_the_same_records_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scheme: str, tags: list[str]
) -> None:
    path = write_sentences(
        tmp_path / "x.jsonl", [(words, tag) for (words, _), tag in zip(SENTENCES, tags, strict=True)]
    )
    with caplog.at_level(logging.INFO, "federa"):
        found = read_sentences(path)
    outside = ("O",) if scheme == "plain" else ()
    assert _tags(found) == RECORDS and found.records[1].words == ("good", "team")
    assert found.found == {"labels": (*outside, "group", "place"), "scheme": scheme}
    name = "plain" if scheme == "plain" else scheme.upper()
    assert f"has {name} tags: 4 sentences, 13 words, 4 entities of 2 types: group (1), place (3)" in caplog.text
    # Whoever is sent what was found reads the same.
    assert read_sentences(path, **found.found).digest() == found.digest()


def test_sequences_that_no_scheme_allows_are_read_as_seqeval_does_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_sentences(tmp_path / "x.jsonl", [("a b c d e", "I-x O B-x I-y I-x"), ("a", "B-y")])
    with caplog.at_level(logging.INFO, "federa"):
        found = read_sentences(path)
    assert found.found["scheme"] == "iob2" and _tags(found) == ((1, 0, 1, 3, 1), (3,))
    assert "3 of these begin with I-, not B-: they are read as entities too" in caplog.text


def test_labels_fix_the_order_and_may_be_types_or_tags(tmp_path: Path) -> None:
    path = write_sentences(tmp_path / "x.jsonl")
    swapped = ((0, 0, 0, 1, 2), (3, 4), (0, 0, 0), (1, 0, 1))
    for labels in (
        ("place", "group"),
        ("O", "B-place", "I-place", "B-group", "I-group"),
        ("place", "group", "O"),
        ("S-place", "B-group"),
    ):
        found = read_sentences(path, labels=labels)
        assert _tags(found) == swapped and found.found["labels"] == labels
        assert TokenClassification(TokenData(**found.found)).model_options()["id2label"] == dict(
            enumerate(["O", "B-place", "I-place", "B-group", "I-group"])
        )


def test_numbers_are_those_of_the_labels_where_these_are_tags(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b", "c"], "tags": [3, 4, 0]}, {"tokens": ["a"], "tags": [1]}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_sentences(tmp_path / "x.jsonl", labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))
    assert _tags(found) == ((3, 4, 0), (1,)) and found.found["scheme"] == "iob2"
    message = _refusal(tmp_path / "x.jsonl")
    assert message.startswith("has numbers for tags: data.labels must list the tags that they stand for in their order")
    assert "line 1" in _refusal(tmp_path / "x.jsonl", labels=("O", "B-PER", "I-PER"))


def test_plain_tags_are_the_models_own_with_and_without_o(tmp_path: Path) -> None:
    path = write_sentences(
        tmp_path / "x.jsonl",
        [("the match ends the match", "DET NOUN VERB DET NOUN"), ("good market shares", "ADJ NOUN NOUN")],
    )
    found = read_sentences(path)
    assert found.found == {"labels": ("ADJ", "DET", "NOUN", "VERB"), "scheme": "plain"}
    task = TokenClassification(TokenData(**found.found))
    assert list(task.model_options()["id2label"].values()) == ["ADJ", "DET", "NOUN", "VERB"]
    assert task.class_counts(found.records) == {"ADJ": 1, "DET": 2, "NOUN": 3, "VERB": 1}
    # Types that the experiment names get O where the data has it.
    path = write_sentences(tmp_path / "y.jsonl", [("a b", "place O")])
    found = read_sentences(path, labels=("group", "place"))
    assert found.found == {"labels": ("O", "group", "place"), "scheme": "plain"} and _tags(found) == ((3, 0),)
    found = read_sentences(path, labels=("O", "B-group", "B-place"))
    assert found.found == {"labels": ("O", "group", "place"), "scheme": "plain"} and _tags(found) == ((3, 0),)


@pytest.mark.parametrize(
    ("tags", "data", "words"),
    [
        (["B-x O", "B-zz O"], {"labels": ("x", "y")}, "line 2 (item 1) has the tag 'B-zz', which is of none of"),
        (["B-x O", "O b-x"], {"labels": ("x", "y")}, "line 2 (item 2) has the tag 'b-x', which is of none"),
        (["B-X O", "O O"], {"labels": ("x", "y")}, "types x, y; it differs from 'x' in upper and"),
        (["B-x O", "S-x O"], {"labels": ("x",), "scheme": "iob2"}, "has the tag 'S-x', which is none of IOB2"),
        (["x O", "y O"], {"labels": ("x", "y"), "scheme": "plain"}, "which is none of x, y in all 2 rows"),
        (["B-x O", "x O"], {"scheme": "iob2"}, "line 2 (item 1) has a tag that is none of the scheme iob2"),
        (["B-x O", "B-x x"], {}, "line 2 (item 2) has a tag with no prefix such as B-, beside ones that have it"),
        (["x O", "y B-x"], {}, "line 2 (item 2) has a tag with a prefix, beside plain ones: write all alike"),
        (["O O", "O O"], {}, "has no entity: the tag of every word is O. data.tag_column must name the tags' column"),
        (["N N", "N N"], {}, "has one tag only ('N'); at least two are needed"),
        (["B-Loc O", "B-loc O"], {}, "has types that differ in upper and lower case alone: 'Loc' (1) and 'loc' (1)"),
        (["a b", "A d"], {}, "has 4 different tags for 4 words: data.tag_column must name the tags' column"),
    ],
)  # fmt: skip
def test_tags_that_cannot_be_used_are_refused_with_their_place(
    tmp_path: Path, tags: list[str], data: dict[str, object], words: str
) -> None:
    path = write_sentences(tmp_path / "x.jsonl", [("a b", tag) for tag in tags])
    assert words in _refusal(path, **data)


def test_a_private_files_tags_are_not_quoted_unless_they_are_almost_known_ones(tmp_path: Path) -> None:
    path = write_sentences(tmp_path / "x.jsonl", [("a b", "secret O"), ("a b", "B-hidden O")])
    message = _refusal(path, private=True, labels=("x", "y"))
    assert message == "has a tag that is of none of the types x, y in all 2 rows"
    path = write_sentences(tmp_path / "x.jsonl", [("a b", "B-X O")])
    assert "the tag 'B-X'" in _refusal(path, private=True, labels=("x", "y"))


def test_so_many_tags_that_they_may_be_words_are_refused(tmp_path: Path) -> None:
    words = " ".join("abcdefghij")
    for count, refused in ((60, True), (40, False)):
        tags = [" ".join(f"T{10 * row + column}" for column in range(10)) for row in range(count // 10)]
        path = write_sentences(tmp_path / "x.jsonl", [(words, tag) for tag in tags])
        if refused:
            assert _refusal(path).startswith("has 60 different tags for 60 words: data.tag_column must name")
            named = tuple(f"T{number}" for number in range(60))
            assert read_sentences(path, labels=named).found["labels"] == named
        else:
            assert len(read_sentences(path).found["labels"]) == 40


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"labels": ()}, "labels"),
        ({"labels": ("O",)}, "must hold at least one type of entities, not O alone"),
        ({"labels": ("x", "x")}, "must be at least one label, and each once"),
        ({"labels": ("x",), "scheme": "plain"}, "labels must be at least two where scheme is plain"),
        ({"source": "devices"}, "labels must name the types of entities in their order where source is devices"),
        ({"tag_column": "tokens"}, "tag_column must be another column than token_column"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(data: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TokenData(**data)


def test_a_device_that_checks_its_file_is_told_what_it_holds() -> None:
    task = tagger("x")
    text, doubt = task.describe([(("a", "b"), ("B-x", "O")), (("c", "d", "e"), ("O", "O", "O"))])
    assert (text, doubt) == ("2 sentences with 5 words and 2 different tags: B-x (1), O (4)", "")
    text, doubt = task.describe([(("Secret", "words"), ("secret", "word")), (("more",), ("more",))])
    assert "secret" not in text and "data.tag_column" in doubt
    text, doubt = task.describe([(("a",), ("O",)), (("a",), ("O",))])
    assert text.endswith("every word's is O") and "data.tag_column" in doubt
