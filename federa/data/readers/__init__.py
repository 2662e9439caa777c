"""Rows of records: from the embedded BBC News, a file of one's own, or a data set on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from federa.data.readers.embedded import embedded_rows
from federa.data.readers.file import ending_of, name_of, open_file
from federa.data.readers.formats import ENDINGS
from federa.data.readers.hub import hub_rows
from federa.data.row import RefusedRow, Row
from federa.data.section import DEVICES, EMBEDDED, DataSection
from federa.data.source import DataSource, no_documents
from federa.errors import BadInput, shown

__all__ = ["DataSource", "RefusedRow", "Row", "data_name", "no_documents", "open_data", "open_file", "open_source"]


def data_name(source: str) -> str:
    """What data is called among people: a file by its name without the ending, a hub data set by the last part of its
    name."""
    if source == EMBEDDED:
        return "bbc-news"
    if ending_of(source) in ENDINGS:
        return name_of(source)
    return source.rpartition("/")[2].partition(":")[0] or source


def open_data(data: DataSection) -> DataSource:
    """The rows that an experiment names. Raises BadInput, naming the file or the data set, where there are none."""
    if data.source == DEVICES:
        raise BadInput("data: it is the devices' own (data.source: devices): start this worker with --data FILE")
    return open_source(data.source)


def open_source(source: str) -> DataSource:
    """The rows of the embedded data, of a file or of a hub data set. Raises BadInput like `open_data`."""
    if source == EMBEDDED:
        return DataSource(name="the embedded BBC News", rows=embedded_rows())
    # os.path, not Path: these raise for no text, be it too long or with the name of an unknown user.
    path = os.path.expanduser(source)
    if os.path.isfile(path):
        return open_file(Path(path))
    looks_local = source.startswith((".", "~", os.sep)) or ending_of(source) in ENDINGS
    if os.path.exists(path) or looks_local or not source:
        raise BadInput(f"data: no such file: {shown(source)}")
    return DataSource(name=source, rows=hub_rows(source))
