"""Columns that are parts of one object."""

from __future__ import annotations

from federa.data.readers.dotted import with_wholes


def test_an_object_is_put_together_of_its_parts() -> None:
    values = {"id": 1, "answers.text": ["a"], "answers.answer_start": [3]}
    assert with_wholes(values) == {**values, "answers": {"text": ["a"], "answer_start": [3]}}


def test_one_part_alone_and_an_object_that_is_there_are_left_as_they_are() -> None:
    for values in ({"review.text": "a"}, {"a": 1, "a.b": 2, "a.c": 3}, {"text": "a"}, {".": 1}):
        assert with_wholes(values) == values
