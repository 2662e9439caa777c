"""Labels: how one is read, the order of classes, and labels that are likely one class spelled twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federa.tasks.labels import MAX_LISTED, alike, counted, difference, in_order, label_text, likeness, listed, visible


@pytest.mark.parametrize(
    ("written", "label"),
    [
        (" spam ", "spam"), ("spam\t", "spam"), ("\u00a0spam\u3000", "spam"), ("two words", "two words"),
        ("1", "1"), ("1.0", "1"), ("1.", "1"), ("-1.0", "-1"), ("10.000", "10"), ("-0.0", "0"), ("1.5", "1.5"),
        ("1.05", "1.05"), ("01", "01"), ("v1.0", "v1.0"), ("None", "None"), ("banana", "banana"),
        ("", ""), ("  ", ""), ("\u200b", ""), ("nan", ""), ("NaN", ""), (" NAN ", ""),
    ],
)  # fmt: skip
def test_how_a_label_is_read(written: str, label: str) -> None:
    assert label_text(written) == label
    assert label_text(label) == label


@pytest.mark.parametrize(
    "labels",
    [
        ["0", "1", "2", "10"],
        ["-10", "-2", "-1", "0", "1", "10"],
        ["0.5", "1", "1.5", "10"],
        [f"LABEL_{number}" for number in range(12)],
        ["class 1", "class 2", "class 10"],
        ["v1.2", "v1.10"],
        ["9", "99", "100", "10000000000000000000000"],
        # Not numbers, or not all of them behind the same beginning: as text.
        ["10", "2", "x"],
        ["LABEL_10", "LABEL_2", "OTHER_1"],
        ["1 star", "10 stars", "2 stars"],
        ["Zebra", "apple", "\u00e9clair"],
        ["1\u0663", "2\u0663", "\u0663"],
    ],
)
def test_the_order_of_classes(labels: list[str]) -> None:
    for seed in range(5):
        shuffled = labels.copy()
        random.Random(seed).shuffle(shuffled)
        assert in_order(shuffled) == labels


@given(numbers=st.lists(st.integers(-(10**30), 10**30), unique=True, min_size=1), begin=st.sampled_from(["", "LABEL_"]))
def test_whole_numbers_stand_in_their_order(numbers: list[int], begin: str) -> None:
    wanted = sorted(map(abs, set(numbers)) if begin else numbers)
    labels = list(dict.fromkeys(f"{begin}{number}" for number in wanted))
    assert in_order(reversed(labels)) == labels


@given(labels=st.lists(st.text(max_size=6), unique=True))
def test_any_labels_have_one_order(labels: list[str]) -> None:
    found = in_order(labels)
    assert sorted(found) == sorted(labels) and in_order(found[::-1]) == found


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"Spam": 12, "spam": 3, "ham": 9}, "differ in upper and lower case alone: 'Spam' (12) and 'spam' (3)"),
        ({"caf\u00e9": 2, "cafe\u0301": 1}, r"Unicode composes their characters: 'cafe\u0301' (1) and 'caf\xe9' (2)"),
        ({"spam": 4, "spam\u200b": 1}, r"in characters that do not show: 'spam' (4) and 'spam\u200b' (1)"),
        ({"sp\u00adam": 1, "spam": 4}, r"in characters that do not show: 'spam' (4) and 'sp\xadam' (1)"),
        ({"hot dog": 4, "hot  dog": 1}, "in blanks alone: 'hot  dog' (1) and 'hot dog' (4)"),
        ({"hot\u00a0dog": 4, "hot dog": 1}, r"in blanks alone: 'hot dog' (1) and 'hot\xa0dog' (4)"),
        ({"1": 4, "01": 1}, "in how a number is written: '01' (1) and '1' (4)"),
        ({"x2": 4, "x\u00b2": 1}, r"in characters that are hardly told apart: 'x2' (4) and 'x\xb2' (1)"),
        ({"A": 1, "a": 1, "B": 2, "b": 2}, "'A' (1) and 'a' (1) (1 more of the kind)"),
        ({"0": 4, "1": 3, "None": 1200}, "the label 'None' (1,200), as programs write that there is none"),
        ({"neg": 4, "pos": 3, "<NA>": 2}, "the label '<NA>' (2), as programs write that there is none"),
        ({"3": 4, "\u0663": 3}, "in characters that are hardly told apart"),
        ({"film": 4, "\ufb01lm": 3}, "in characters that are hardly told apart"),
    ],
)  # fmt: skip
def test_labels_that_are_hardly_different_are_named_with_counts(counts: dict[str, int], words: str) -> None:
    doubt, advice = likeness(counts)
    assert words in doubt
    # Nobody can name two that nobody can tell apart.
    assert ("data.labels" in advice) == (len(set(map(visible, counts))) == len(counts))


@pytest.mark.parametrize("labels", ["0 1 2", "neg pos", "None Some", "US USA", "1.5 1 15", "caf\u00e9 coffee"])
def test_other_labels_are_not_doubted(labels: str) -> None:
    assert likeness(dict.fromkeys(labels.split(), 3)) == ("", "")


def test_a_label_is_found_by_one_that_is_alike() -> None:
    assert alike("SPAM", ["ham", "spam"]) == "spam" and difference("spam", "SPAM").startswith("in upper and lower")
    assert alike("eggs", ["ham", "spam"]) is None
    assert visible("a\u200b  b") == "a b"


def test_a_line_lists_the_first_classes_and_how_many_more_there_are() -> None:
    names = [f"class {number}" for number in range(150)]
    assert listed(names[:2]) == "class 0, class 1"
    assert listed(names) == ", ".join(names[:MAX_LISTED]) + " and 142 more"
    assert counted({"ham": 1200, "spam": 3}) == "ham (1,200), spam (3)"
    assert counted(dict.fromkeys(names, 4)).endswith("class 7 (4) and 142 more")


def test_of_long_labels_a_line_lists_fewer() -> None:
    line = counted({f"{number} {'long ' * 30}": 1 for number in range(9)})
    assert len(line) <= 200 and line.endswith(" and 6 more")


def test_what_a_line_lists_does_not_steer_the_terminal() -> None:
    line = counted({"\x1b[2Jspam\n": 1, "x" * 199: 2})
    assert line.startswith(r"\x1b[2Jspam\n (1), xxx") and len(line) < 100
