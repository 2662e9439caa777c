"""Which format a file has: what its ending names, or, where that says nothing, what its content looks like.

Each format is a function of one shape, which makes rows of a file's text; its file says what the rows hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Protocol

from federa.data.readers.conll import conll_rows, is_conll
from federa.data.readers.json_records import json_rows
from federa.data.readers.semeval import is_semeval, semeval_rows
from federa.data.readers.squad import is_squad, squad_rows
from federa.data.readers.table import SEPARATORS, table_rows
from federa.data.readers.trec import is_trec, trec_rows
from federa.data.row import Row
from federa.errors import BadInput

PARQUET = ".parquet"
NAMED = (".jsonl", ".json", ".csv", ".tsv", PARQUET, ".conll", ".conllu", ".bio", ".iob", ".iob2")
"""Endings that name a format."""
ENDINGS = (*NAMED, ".txt", ".label")
"""Endings of files of data. With the last two any format may be meant."""
MAX_LOOKED_AT = 500
"""Lines that are looked at to find a file's format."""

_JSON = re.compile(r'\s*(\{\s*["}]|\[\s*[\[{\]])')
_LINE = re.compile(r"[^\n]*\n?")
_OLD_LINE = re.compile(r"[^\r]*\r?")


class Reader(Protocol):
    """A format: makes rows, one after the other, of the text of a file. `source` is what messages call the file; of a
    `private` one they quote nothing. Raises BadInput, naming the line."""

    def __call__(self, text: str, source: str, *, private: bool) -> Iterator[Row]: ...


def reader_of(ending: str, text: str, source: str) -> Reader:
    """The format of a file of text. Raises BadInput where it is not known."""
    if ending in (".jsonl", ".json"):
        return squad_rows if is_squad(text) else json_rows
    if ending in (".conll", ".conllu", ".bio", ".iob", ".iob2"):
        return conll_rows
    matches = (_LINE if "\n" in text else _OLD_LINE).finditer(text)
    lines = [match[0].rstrip(" \t\r\n") for match in islice(matches, MAX_LOOKED_AT)]
    if ending in (".csv", ".tsv"):
        if ending == ".tsv" and is_conll(lines, surely=True):
            return conll_rows
        return partial(table_rows, tabs=ending == ".tsv")
    filled = [line.strip() for line in lines if line]
    if _JSON.match(text):
        return squad_rows if is_squad(text) else json_rows
    if is_semeval(filled):
        return semeval_rows
    if is_trec(filled) or ending == ".label":
        return trec_rows
    if is_conll(lines):
        return conll_rows
    if not filled or any(separator in filled[0] for separator in SEPARATORS):
        return partial(table_rows, tabs=bool(filled) and "\t" in filled[0])
    known = ", ".join(NAMED)
    raise BadInput(
        f"data: {source} has a form that is not known by its content: name it by its form, as one of {known}"
    )
