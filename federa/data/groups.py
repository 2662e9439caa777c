"""The values of one column of a source's rows, beside the records that are made of them."""

from __future__ import annotations

from collections.abc import Iterator

from federa.data.row import Row
from federa.errors import BadInput


def noting(rows: Iterator[Row], column: str, groups: list[str], required: bool = True) -> Iterator[Row]:
    """The same rows; each one's value in the column, as text, is appended to `groups` when it is taken. Raises BadInput
    for a row without one, or notes an empty text where none is `required`."""
    for row in rows:
        if row.fixed:
            source = row.source.rstrip(",")
            raise BadInput(f"data.partition.column: {source} has no columns: take another partition.kind")
        # What is at fault is refused by whoever takes it.
        if required and row.fault is None:
            (value,) = row.texts({"partition.column": column})
        else:
            value = str(row.values.get(column) or "")
        groups.append(value)
        yield row
