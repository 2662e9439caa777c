"""A data set on the Hugging Face hub, read with the package `datasets`."""

from __future__ import annotations

from collections.abc import Iterator

from federa.data.row import Row
from federa.errors import BadInput, one_line
from federa.extras import how_to_add


def hub_rows(source: str) -> Iterator[Row]:
    """The rows of its `train` split. `source` is NAME or NAME:CONFIG. Raises BadInput where it cannot be had."""
    try:
        import datasets
    except ImportError:
        raise BadInput(f"data: {source} is no file, and hub data sets need {how_to_add('hub')}") from None
    name, _, config = source.partition(":")
    try:
        table = datasets.load_dataset(name, config or None, split="train")
    except Exception as error:
        raise BadInput(f"data: {source} is no file and no hub data set: {one_line(error)}") from None
    for number, record in enumerate(table):
        values = {column: _value(table.features[column], value) for column, value in record.items()}
        yield Row(values=values, source=source, at=f"row {number}", headed=True)


def _value(feature: object, value: object) -> object:
    """A class by its name, not by its number. Below 0 is what data sets write for a record without a class."""
    if not hasattr(feature, "int2str"):
        return value
    return None if value is None or (isinstance(value, int) and value < 0) else feature.int2str(value)
