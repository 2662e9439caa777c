"""A data set on the Hugging Face hub, read with the package `datasets`."""

from __future__ import annotations

from collections.abc import Iterator

from federa.data.readers.class_names import naming_of
from federa.data.row import Row
from federa.errors import BadInput, one_line
from federa.extras import how_to_add


def hub_rows(source: str) -> Iterator[Row]:
    """The rows of one of its splits. `source` is NAME, NAME:CONFIG, NAME:CONFIG:SPLIT or NAME::SPLIT; without a split
    it is `train`. Classes have their names. Raises BadInput where it cannot be had."""
    try:
        import datasets
    except ImportError:
        raise BadInput(f"data: {source} is no file, and hub data sets need {how_to_add('hub')}") from None
    # A split may be a slice, which holds colons of its own: train[:1000].
    name, config, split = [*source.split(":", 2), "", ""][:3]
    try:
        table = datasets.load_dataset(name, config or None, split=split or "train")
    except Exception as error:
        raise BadInput(f"data: {source} is no file and no hub data set: {one_line(error)}") from None
    namings = {column: naming for column, feature in table.features.items() if (naming := naming_of(feature))}
    for number, record in enumerate(table):
        values = {column: namings[column](value) if column in namings else value for column, value in record.items()}
        yield Row(values=values, source=source, at=f"row {number}", headed=True)
