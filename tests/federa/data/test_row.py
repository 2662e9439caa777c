"""Lists of a row, such as tokens and their tags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tables import written

from federa.data.readers import open_file
from federa.data.row import Row
from federa.errors import BadInput

COLUMNS = {"token_column": "tokens", "tag_column": "ner_tags"}


def lists(tokens: object, tags: object) -> list[list[str]]:
    values = {"tokens": tokens, "ner_tags": tags}
    return Row(values=values, source="x.jsonl", at="line 3").lists(COLUMNS)


def test_lists_of_plain_values_are_text() -> None:
    assert lists(["a", " ", 3, True], [0, 1, "B-x", 1.5]) == [["a", " ", "3", "True"], ["0", "1", "B-x", "1.5"]]


@pytest.mark.parametrize(
    ("tokens", "tags", "said"),
    [
        ([], [], "has no tokens in column 'tokens'"),
        (None, ["O"], "has no tokens in column 'tokens'"),
        (["a"], float("nan"), "has no tags in column 'ner_tags'"),
        ("['a']", ["O"], 'has no list of tokens in column \'tokens\': it must be a list, such as ["a", "b"]'),
        (["a"], {"0": "O"}, "has no list of tags in column 'ner_tags': it must be a list"),
        (["a", "b"], ["O"], "has not as many of one as of the other: tokens ('tokens') and tags ('ner_tags')"),
        (["a", ""], ["O", "O"], "(item 2) has no token in column 'tokens'"),
        (["a", "b"], [None, "O"], "(item 1) has no tag in column 'ner_tags'"),
        (["a", ["b"]], ["O", "O"], "(item 2) has no token, but a list or an object, in column 'tokens'"),
        (["a", "\ud83d"], ["O", "O"], "holds half of a surrogate pair"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tokens: object, tags: object, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        lists(tokens, tags)
    assert str(caught.value).startswith(f"data: x.jsonl line 3 {said}")


def test_items_that_cannot_be_used_are_counted_by_their_rows(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "ner_tags": ["O", None if number % 2 else "O"]} for number in range(6)]
    path = written(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput) as caught:
        open_file(path).records(lambda row: row.lists(COLUMNS))
    assert str(caught.value) == (
        f"data: {path} has no tag in column 'ner_tags' in 3 of 6 rows (lines 2 (item 2), 4 (item 2), 6 (item 2))"
    )


def test_columns_that_are_not_there_are_refused_as_those_of_texts() -> None:
    with pytest.raises(BadInput) as caught:
        Row(values={"words": ["a"], "tags": ["O"]}, source="x.jsonl", at="line 3").lists(COLUMNS)
    assert str(caught.value) == (
        "data: x.jsonl line 3 has no columns 'tokens' and 'ner_tags' (data.token_column, data.tag_column); "
        "it has words, tags"
    )
