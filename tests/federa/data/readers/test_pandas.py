"""What pandas writes is read back with the same texts and labels, or refused with the line. So is what the package
`datasets` writes, which is pandas' `to_csv` and `to_json`."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from federa.data.readers import Row, open_file
from federa.errors import BadInput

pd = pytest.importorskip("pandas")

COLUMNS = {"text_column": "text", "label_column": "label"}
NASTY = " ,;\t|\"'\\\n\r\u2028\x85\x0b\x0c\x1c\u00a0\ufeff\x00#0aé\U0001f600"
VALUES = st.text(st.sampled_from(NASTY) | st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ['"', '""', 'a"', '"a', '"a"', 'say ""no""', "text", "label", "NaN", "null", "[]", "{}", "a,b\nc,d", "a\\", '\\"']
)
LABELS = st.sampled_from(["pos", "neg", "1", "1.0", "a b", "x"])
ROWS = st.lists(st.tuples(VALUES | st.none(), LABELS | VALUES | st.none()), min_size=1, max_size=5)
OPTIONS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Pairs = Sequence[tuple[Any, Any]]


def read(path: Path) -> list[tuple[str, str]]:
    def record(row: Row) -> tuple[str, str]:
        text, label = row.texts(COLUMNS)
        return text, label

    return open_file(path).records(record)


def frame(rows: Pairs) -> Any:
    return pd.DataFrame(rows, columns=["text", "label"], dtype=object)


def missing(rows: Pairs) -> int:
    """Rows without a text or a label."""
    return sum(any(value is None or value != value or not str(value).strip() for value in row) for row in rows)


def refused_rows(message: str) -> int:
    return sum(int(count) for count in re.findall(r"\bin (?:all )?(\d+) (?:of \d+ )?rows", message)) or 1


def is_read_or_refused(path: Path, rows: Pairs, *, always: bool) -> None:
    """`always`: nothing in these rows may be doubtful, so that they must be read."""
    lacking = missing(rows)
    try:
        found = read(path)
    except BadInput as error:
        message = str(error)
        assert message.startswith(f"data: {path} ") and len(message) < len(str(path)) + 400 and message.isprintable()
        assert re.search(r"\b(lines?|records?) [\d, ]*\d|\bin all \d+ rows", message), message
        if always:
            assert "has no " in message and refused_rows(message) == lacking, message
    else:
        assert not lacking
        assert found == [tuple(map(str, row)) for row in rows]


def plain(rows: Pairs) -> bool:
    """Whether no value has a carriage return, which Python before 3.13 does not quote, or a NUL, and none looks like
    rows or like the line of names."""
    values = [str(value) for row in rows for value in row]
    return (
        not any("\r" in value or "\0" in value or "\n" in value for value in values) and ("text", "label") not in rows
    )


@OPTIONS
@given(
    rows=ROWS,
    sep=st.sampled_from([",", ";", "|", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    index=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
)
@example(rows=[("ends\r", "a\r")], sep=",", quoting=0, end="\n", index=False, encoding="utf-8")
@example(rows=[("a,pos\nb", "pos")], sep=",", quoting=0, end="\n", index=False, encoding="utf-8")
def test_separated_values(
    tmp_path: Path, rows: Pairs, sep: str, quoting: int, end: str, index: bool, encoding: str
) -> None:
    path = tmp_path / "x.csv"
    frame(rows).to_csv(path, sep=sep, quoting=quoting, lineterminator=end, index=index, encoding=encoding)
    is_read_or_refused(path, rows, always=plain(rows))


@OPTIONS
@given(
    rows=ROWS,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_tab_separated_values(tmp_path: Path, rows: Pairs, quoting: int, end: str) -> None:
    path = tmp_path / "x.tsv"
    try:
        frame(rows).to_csv(path, sep="\t", quoting=quoting, lineterminator=end, index=False)
    except csv.Error:
        return  # a tab or a line's end without quotes
    is_read_or_refused(path, rows, always=plain(rows) and quoting != csv.QUOTE_NONE)


@OPTIONS
@given(
    rows=st.lists(
        st.tuples(VALUES | st.none() | st.integers() | st.booleans(), VALUES | st.none()), min_size=1, max_size=5
    ),
    lines=st.booleans(),
    ascii=st.booleans(),
    indent=st.sampled_from([None, 2]),
    ending=st.sampled_from([".json", ".jsonl"]),
)
def test_json(tmp_path: Path, rows: Pairs, lines: bool, ascii: bool, indent: int | None, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    frame(rows).to_json(path, orient="records", lines=lines, force_ascii=ascii, indent=None if lines else indent)
    is_read_or_refused(path, rows, always=True)
