"""Packed rows: the lists that went in come out, at the bytes of their numbers, and a selection copies none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federa.data.packed_rows import PackedRows

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-100, 60_000)


@given(rows=st.lists(st.lists(NUMBERS, max_size=6), max_size=8), data=st.data())
def test_what_goes_in_comes_out(rows: list[list[int]], data: st.DataObject) -> None:
    packed = PackedRows.pack(rows)
    assert packed == rows and list(packed) == rows and packed.lengths == [len(row) for row in rows]
    assert all(type(number) is int for row in packed for number in row)
    assert packed[1:] == rows[1:] and PackedRows.pack(packed) is packed
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5)) if rows else []
    assert packed.select(indices) == [rows[index] for index in indices]
    assert packed.select(indices).select(range(len(indices))) == [rows[index] for index in indices]


@pytest.mark.parametrize(("top", "size"), [(2, 2), (30_521, 2), (32_768, 4), (250_001, 4), (2**40, 8)])
def test_a_number_takes_the_bytes_that_the_largest_needs(top: int, size: int) -> None:
    rows = [[top, -100, 0]] * 1000
    assert PackedRows.pack(rows).nbytes == 3000 * size + 1000 * 16


def test_a_selection_shares_the_numbers() -> None:
    packed = PackedRows.pack([[1, 2, 3]] * 1000)
    places = 16  # bytes for where a row begins and ends
    assert packed.select([5]).nbytes - places == packed.nbytes - 1000 * places
    assert packed.select([5])._values is packed._values


def test_rows_differ_from_others_and_from_no_rows() -> None:
    packed = PackedRows.pack([[1, 2], [3]])
    assert packed != [[1, 2]] and packed != [[1, 2], [4]] and packed != 5 and packed != "ab"
    assert repr(packed) == "PackedRows([[1, 2], [3]])"
    with pytest.raises(IndexError):
        packed[2]
