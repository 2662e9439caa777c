"""A file of rows: its bytes, their encoding, and the format that its ending names."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from federa.data.readers.json_records import json_rows
from federa.data.readers.table import table_rows
from federa.data.source import DataSource
from federa.errors import BadInput, one_line, shown

ENDINGS = (".jsonl", ".json", ".csv", ".tsv")
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARKS = {  # the longer ones first: those of UTF-16 are their beginnings
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def ending_of(path: Path) -> str:
    """The ending that names the format: that before .gz, where it is gzipped."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def open_file(path: Path, *, private: bool = False) -> DataSource:
    """The rows of one JSON, JSONL, CSV or TSV file (also gzipped). What is refused of a `private` one quotes none of
    its texts: it goes to the coordinator."""
    name, ending = shown(path), ending_of(path)
    if ending not in ENDINGS:
        raise BadInput(f"data: {name} must end in one of {', '.join(ENDINGS)} (or the same with .gz)")
    text = _decoded(_content(path, name), name)
    if ending in (".jsonl", ".json"):
        return DataSource(name=name, rows=json_rows(text, name, private=private))
    return DataSource(name=name, rows=table_rows(text, name, tabs=ending == ".tsv", private=private))


def _content(path: Path, name: str) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except gzip.BadGzipFile:
        raise BadInput(f"data: cannot read {name}: it is damaged, or not gzipped") from None  # Python quotes its bytes
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"data: cannot read {name}: {getattr(error, 'strerror', None) or one_line(error)}") from None


def _decoded(raw: bytes, name: str) -> str:
    if raw.startswith(_GZIP):
        raise BadInput(f"data: {name} is gzipped: its name must end in .gz")
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "")
    if not encoding and len(raw) > 1 and (raw[0] == 0) != (raw[1] == 0):
        encoding = "UTF-16"  # a Latin letter's two bytes, without a byte order mark
    if encoding:
        raise BadInput(f"data: {name} is {encoding}; it must be UTF-8: iconv -f {encoding} -t UTF-8 rewrites it")
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        todo = "if it is Latin-1, iconv -f LATIN1 -t UTF-8 rewrites it"
        raise BadInput(f"data: {name} line {line} is not UTF-8 (byte {error.start}): {todo}") from None
