"""Rows of records: from the embedded BBC News, a file of one's own, or a data set on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from federa.data.readers.embedded import embedded_rows
from federa.data.readers.file import ENDINGS, ending_of, open_file
from federa.data.readers.hub import hub_rows
from federa.data.row import RefusedRow, Row
from federa.data.section import DEVICES, EMBEDDED, DataSection
from federa.data.source import DataSource, no_documents
from federa.errors import BadInput, shown

__all__ = ["DataSource", "RefusedRow", "Row", "data_name", "no_documents", "open_data", "open_file"]


def data_name(source: str) -> str:
    """What data is called among people: a file by its name without the ending, a hub data set by the last part of its
    name."""
    if source == EMBEDDED:
        return "bbc-news"
    last = source.rpartition("/")[2]
    ending = ending_of(Path(last))
    if ending in ENDINGS:
        return last.removesuffix(".gz").removesuffix(ending)
    return last.partition(":")[0] or source


def open_data(data: DataSection) -> DataSource:
    """The rows that an experiment names. Raises BadInput, naming the file or the data set, where there are none."""
    if data.source == EMBEDDED:
        return DataSource(name="the embedded BBC News", rows=embedded_rows())
    if data.source == DEVICES:
        raise BadInput("data: it is the devices' own (data.source: devices): start this worker with --data FILE")
    # os.path, not Path: these raise for no text, be it too long or with the name of an unknown user.
    path = Path(os.path.expanduser(data.source))
    if os.path.isfile(path):
        return open_file(path)
    looks_local = data.source.startswith((".", "~", os.sep)) or ending_of(path) in ENDINGS
    if os.path.exists(path) or looks_local:
        raise BadInput(f"data: no such file: {shown(data.source)}")
    return DataSource(name=data.source, rows=hub_rows(data.source))
