"""How unlike the clients' data are, in numbers and words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federa.tasks.skew import ClientCounts, in_words


def counts(*rows: tuple[int, ...], by: str = "classes") -> ClientCounts:
    names = tuple("abcdef"[: len(rows[0])])
    return ClientCounts(names, rows, by)


@pytest.mark.parametrize(
    ("rows", "distances"),
    [
        ([(5, 5), (1, 1)], [0.0, 0.0]),
        ([(8, 0), (0, 8)], [0.5, 0.5]),
        ([(8, 0), (0, 24)], [0.75, 0.25]),
        ([(4, 0), (0, 0), (0, 4)], [0.5, None, 0.5]),
        ([(0, 0), (0, 0)], [None, None]),
    ],
)
def test_distance_of_a_client_from_all(rows: list[tuple[int, ...]], distances: list[float | None]) -> None:
    found = counts(*rows)
    assert found.distances == pytest.approx(distances)
    known = [distance for distance in distances if distance is not None]
    assert found.distance == (pytest.approx(sum(known) / len(known)) if known else None)


def test_distances_are_half_the_sum_of_differences_of_the_shares() -> None:
    rows = np.random.default_rng(0).integers(0, 9, (20, 6))
    shares, whole = rows / rows.sum(axis=1, keepdims=True), rows.sum(axis=0) / rows.sum()
    found = counts(*(tuple(map(int, row)) for row in rows))
    assert found.distances == pytest.approx(list(np.abs(shares - whole).sum(axis=1) / 2))
    assert found.totals == list(rows.sum(axis=0)) and found.sizes == list(rows.sum(axis=1))


def test_in_words() -> None:
    split = counts((8, 0), (0, 24))
    assert in_words(split, [8, 24]) == (
        "2 clients with 8 to 24 training records each (median 16); their mix of classes is 0.50 from that of all (mean "
        "total variation distance)"
    )
    assert in_words(None, [1]) == "1 client with 1 training record each"
    assert (
        in_words(counts((3,), (4,), by="documents"), [3, 4], "record")
        == "2 clients with 3 to 4 records each (median 3.5)"
    )
    assert in_words(None, None) == in_words(None, []) == ""
    assert in_words(counts((8, 0), (0, 24), by="clusters"), None).startswith("their mix of clusters is 0.50 ")


@pytest.mark.parametrize(
    "entry",
    [
        None, [], "x", {}, {"classes": ["a"]}, {"classes": [], "counts": []}, {"classes": ["a"], "counts": [1]},
        {"classes": ["a"], "counts": [[1, 2]]}, {"classes": ["a"], "counts": [["1"]]},
        {"classes": ["a"], "counts": [[-1]]}, {"classes": ["a"], "counts": [[True]]},
    ],
)  # fmt: skip
def test_what_is_no_table_of_counts_is_not_read(entry: Any) -> None:
    assert ClientCounts.read(entry) is None


def test_a_table_of_counts_is_read_as_it_stands() -> None:
    entry = {"classes": ["a", "b"], "counts": [[1, 0], [2, 3]], "by": "clusters"}
    assert ClientCounts.read(entry) == ClientCounts(("a", "b"), ((1, 0), (2, 3)), "clusters")
