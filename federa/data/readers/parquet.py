"""Parquet files, read with the package `pyarrow`: some rows at a time, and of them the columns that are asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from federa.data.readers.class_names import Naming, naming_of
from federa.data.readers.dotted import whole_columns
from federa.data.row import MAX_NAME, Row
from federa.errors import BadInput, shown
from federa.extras import how_to_add

MAGIC = b"PAR1"
"""What a Parquet file begins and ends with."""
BATCH_ROWS = 256
"""Rows that are in memory at a time."""


def parquet_rows(raw: bytes, source: str, *, private: bool) -> Iterator[Row]:
    """The rows of a Parquet file. Classes have their names, where it says them as data sets of the hub do. Raises
    BadInput."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise BadInput(f"data: {source} is Parquet, which needs {how_to_add('data')}") from None
    if len(raw) < 12 or not raw.endswith(MAGIC):
        raise BadInput(f"data: {source} is damaged, or cut off: a Parquet file ends with {MAGIC.decode()}")
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(raw))
        names = file.schema_arrow.names
        namings = _namings(file.schema_arrow.metadata)
        repeated = frozenset(name for name, count in Counter(names).items() if count > 1)
        first = 0
        for batch in file.iter_batches(BATCH_ROWS):
            columns = _Columns(batch, source, first, namings)
            for index in range(batch.num_rows):
                values = _Values(columns, index)
                at = f"row {first + index}"
                yield Row(values=values, source=source, at=at, private=private, headed=True, repeated=repeated)
            first += batch.num_rows
    # ValueError is a name's that is not UTF-8. What is said of any of them may quote the file.
    except (pyarrow.ArrowException, OSError, ValueError):
        raise BadInput(f"data: {source} is no Parquet file, or damaged: write it anew") from None


class _Columns:
    """A batch of rows, of which a column becomes Python's values when it is asked for."""

    def __init__(self, batch: Any, source: str, first: int, namings: Mapping[str, Naming]) -> None:
        self._batch = batch
        self._source = source
        self._first = first
        self._namings = namings
        self._places = {name: place for place, name in enumerate(batch.schema.names)}
        self._wholes = whole_columns(self._places)
        self._read: dict[str, list[object]] = {}
        self.names = [*self._places, *self._wholes]

    def values(self, name: str) -> list[object]:
        """A column's values. Raises BadInput where one is no text that anybody can read."""
        if name not in self._read:
            self._read[name] = self._of_parts(self._wholes[name]) if name in self._wholes else self._of_column(name)
        return self._read[name]

    def _of_column(self, name: str) -> list[object]:
        column = _readable(self._batch.column(self._places[name]))
        try:
            values = [_decoded(value) for value in column.to_pylist()]
        except UnicodeDecodeError:
            why = f"is not UTF-8 in column '{shown(name, MAX_NAME)}': write it anew as text"
            raise BadInput(f"data: {self._source} row {self._first + _undecodable(column)} {why}") from None
        naming = self._namings.get(name)
        return [naming(value) for value in values] if naming else values

    def _of_parts(self, parts: Mapping[str, str]) -> list[object]:
        columns = zip(*(self.values(name) for name in parts.values()), strict=True)
        return [dict(zip(parts, values, strict=True)) for values in columns]


class _Values(Mapping[str, object]):
    """The values of one row."""

    def __init__(self, columns: _Columns, index: int) -> None:
        self._columns = columns
        self._index = index

    def __getitem__(self, name: str) -> object:
        if name not in self._columns.names:
            raise KeyError(name)
        return self._columns.values(name)[self._index]

    def __contains__(self, name: object) -> bool:
        return name in self._columns.names

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns.names)

    def __len__(self) -> int:
        return len(self._columns.names)


def _readable(column: Any) -> Any:
    """A column of times as text: Python's own do not hold nanoseconds."""
    import pyarrow

    return column.cast(pyarrow.string()) if pyarrow.types.is_temporal(column.type) else column


def _decoded(value: Any) -> Any:
    """A value with bytes as text, which some programs write it as."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return {name: _decoded(part) for name, part in value.items()}
    return value


def _undecodable(column: Any) -> int:
    """The index of the first value that is not UTF-8."""
    for index, value in enumerate(column):
        try:
            _decoded(value.as_py())
        except UnicodeDecodeError:
            return index
    return 0


def _namings(metadata: Mapping[bytes, bytes] | None) -> dict[str, Naming]:
    """What names the classes of columns: the package `datasets` writes its features beside the schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {column: naming for column, feature in features.items() if (naming := naming_of(feature))}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
