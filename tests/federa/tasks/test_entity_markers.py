"""Entity markers in a text: which texts are refused, and what stays of a long one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federa.tasks.entity_markers import kept, moved_blanks, objection

MARKERS = ("<e1>", "</e1>", "<e2>", "</e2>")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the <e1>match</e1> and the <e2>team</e2>", ""),
        ("<e2>match</e2> <e1>team</e1>", ""),
        ("the match", "has no marker <e1>"),
        ("the <e1>match</e1> and the <e2>team", "has no marker </e2>"),
        ("<e1>match</e1> <e1>team</e1> <e2>x</e2>", "has 2 markers <e1>"),
        ("</e1>match<e1> <e2>x</e2>", "has </e1> before <e1>"),
        ("<e1>the <e2>match</e2></e1>", "has <e2> between <e1> and </e1>"),
        ("<e1>the <e2>match</e1> is</e2>", "has <e2> between <e1> and </e1>"),
        ("<e2>a <e1>b</e1></e2>", "has <e1> between <e2> and </e2>"),
        ("<e1> </e1> <e2>x</e2>", "has nothing between <e1> and </e1>"),
    ],
)
def test_each_marker_stands_once_around_an_entity_of_its_own(text: str, words: str) -> None:
    assert objection(text, MARKERS) == words


def test_the_blank_before_an_opening_marker_goes_behind_it() -> None:
    assert moved_blanks("The <e1>bank</e1> (<e2>a</e2>).", MARKERS) == "The<e1> bank</e1> (<e2>a</e2>)."
    assert moved_blanks("<e1>The</e1> <e2> a </e2>", MARKERS) == "<e1>The</e1> <e2> a </e2>"


LONG = [9] * 30 + [1, 5, 5, 2] + [8] * 20 + [3, 6, 4] + [9] * 30


def _cut(room: int) -> list[int]:
    return [LONG[position] for position in kept(LONG, [1, 2, 3, 4], room)]


def test_a_long_text_keeps_what_is_nearest_to_the_entities() -> None:
    assert _cut(len(LONG)) == LONG
    assert _cut(37) == [9] * 5 + [1, 5, 5, 2] + [8] * 20 + [3, 6, 4] + [9] * 5, "all between them, and around them"
    assert _cut(11) == [1, 5, 5, 2, 8, 8, 8, 8, 3, 6, 4], "the middle between them goes first"
    assert _cut(5) == [1, 5, 2, 3, 4] and _cut(4) == [1, 2, 3, 4]
    entities = [1, 5, 7, 7, 2, 3, 6, 8, 8, 4]
    assert [entities[position] for position in kept(entities, [1, 2, 3, 4], 6)] == [1, 5, 2, 3, 6, 4], "of both some"


@given(st.data(), st.integers(8, 60), st.integers(4, 60))
def test_the_markers_stay_and_the_order_does(data: st.DataObject, length: int, room: int) -> None:
    begin, end, other, last = sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=4, max_size=4)))
    tokens = list(range(100, 100 + length))
    for place, marker in zip(
        (begin, end, other, last), data.draw(st.sampled_from([(1, 2, 3, 4), (3, 4, 1, 2)])), strict=True
    ):
        tokens[place] = marker
    found = kept(tokens, [1, 2, 3, 4], room)
    assert found == sorted(set(found)) and len(found) == min(room, length)
    assert {begin, end, other, last} <= set(found)
