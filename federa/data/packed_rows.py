"""Rows of whole numbers, such as token ids, in one array: a Python list takes eight bytes a number, and the numbers
above 256 take 28 more each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

_DTYPES = (np.int16, np.int32, np.int64)


class PackedRows(Sequence[list[int]]):
    """A sequence of rows. Each is made into a list when it is asked for; a selection shares the numbers."""

    __slots__ = ("_ends", "_starts", "_values")

    def __init__(self, values: NDArray[np.signedinteger], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Row i is values[starts[i]:ends[i]]."""
        self._values = values
        self._starts = starts
        self._ends = ends

    @classmethod
    def pack(cls, rows: Iterable[Sequence[int] | NDArray[np.signedinteger]]) -> PackedRows:
        """Copy rows into an array of the smallest dtype that holds their numbers. Raises OverflowError for a number
        that takes more than 64 bits."""
        if isinstance(rows, PackedRows):
            return rows
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        ends = np.cumsum([len(array) for array in arrays], dtype=np.int64)
        numbers = np.concatenate(arrays) if arrays else np.empty(0, np.int64)
        low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
        dtype = next(kind for kind in _DTYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
        return cls(numbers.astype(dtype), np.concatenate([[0], ends[:-1]]) if arrays else ends, ends)

    @property
    def lengths(self) -> list[int]:
        """How many numbers each row has."""
        found: list[int] = (self._ends - self._starts).tolist()
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the array that the rows are parts of, and of their places in it."""
        return self._values.nbytes + self._starts.nbytes + self._ends.nbytes

    def select(self, indices: Sequence[int]) -> PackedRows:
        """The rows at these indices, in that order; their numbers are not copied."""
        places = np.asarray(indices, dtype=np.int64)
        return PackedRows(self._values, self._starts[places], self._ends[places])

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> PackedRows: ...
    def __getitem__(self, index: int | slice) -> list[int] | PackedRows:
        if isinstance(index, slice):
            return PackedRows(self._values, self._starts[index], self._ends[index])
        row: list[int] = self._values[self._starts[index] : self._ends[index]].tolist()
        return row

    def __iter__(self) -> Iterator[list[int]]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether the other sequence has the same rows, packed or not."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(row == list(them) for row, them in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"PackedRows({list(self)!r})"
