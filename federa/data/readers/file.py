"""A file of rows: its bytes and their encoding."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from federa.data.readers.formats import ENDINGS, PARQUET, reader_of
from federa.data.readers.parquet import MAGIC, parquet_rows
from federa.data.source import DataSource
from federa.errors import BadInput, one_line, shown

_GZIP = b"\x1f\x8b"
_PACKED = {
    b"PK\3\4": "a zip archive or a spreadsheet",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\0": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
}
_BYTE_ORDER_MARKS = {  # the longer ones first: those of UTF-16 are their beginnings
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def ending_of(name: str) -> str:
    """The ending that names the format, in small letters: that before .gz, where it is gzipped."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def name_of(file: str) -> str:
    """A file's name without its folder and the ending of a file of data."""
    last = file.rpartition("/")[2]
    ending = ending_of(last)
    if ending not in ENDINGS:
        return last
    packed = len(".gz") if last.lower().endswith(".gz") else 0
    return last[: len(last) - packed - len(ending)]


def open_file(path: Path, *, private: bool = False) -> DataSource:
    """The rows of one file, in any of the formats (also gzipped). What is refused of a `private` one quotes none of its
    texts: it goes to the coordinator."""
    name, ending = shown(path), ending_of(path.name)
    raw = _content(path, name)
    if ending == PARQUET or raw.startswith(MAGIC):
        return DataSource(name=name, rows=parquet_rows(raw, name, private=private))
    text = _decoded(raw, name)
    return DataSource(name=name, rows=reader_of(ending, text, name)(text, name, private=private))


def _content(path: Path, name: str) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except gzip.BadGzipFile:
        raise BadInput(f"data: cannot read {name}: it is damaged, or not gzipped") from None  # Python quotes its bytes
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"data: cannot read {name}: {getattr(error, 'strerror', None) or one_line(error)}") from None


def _decoded(raw: bytes, name: str) -> str:
    if raw.startswith(_GZIP):
        raise BadInput(f"data: {name} is gzipped: its name must end in .gz")
    for mark, what in _PACKED.items():
        if raw.startswith(mark):
            raise BadInput(f"data: {name} is {what}: unpack it first, or save it as .csv")
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
