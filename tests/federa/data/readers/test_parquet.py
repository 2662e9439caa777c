"""Parquet: the types that columns have in the wild, classes by name, and files that cannot be read."""

from __future__ import annotations

import array
import gzip
import io
import itertools
import json
import sys
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tables import COLUMNS, read, refusal, written

from federa.data.readers import open_file
from federa.data.readers.parquet import BATCH_ROWS
from federa.errors import BadInput

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = [("good film", "pos"), ("bad film", "neg")]


def packed(columns: dict[str, Any] | Any, **options: Any) -> bytes:
    table = pa.table(columns) if isinstance(columns, dict) else columns
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def labels(path: Path, column: Any) -> list[str]:
    """What is read of a column of labels."""
    texts = pa.array([f"t {number}" for number in range(len(column))])
    return [label for _, label in read(written(path, packed({"text": texts, "label": column})))]


def tags(path: Path, column: Any, metadata: dict[str, Any] | None = None) -> list[list[str]]:
    """What is read of a column of lists."""
    table = pa.table({"tokens": column, "tags": column})
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    columns = {"token_column": "tokens", "tag_column": "tags"}
    return [row.lists(columns)[1] for row in open_file(written(path, packed(table))).rows]


@pytest.mark.parametrize("name", ["x.parquet", "x.PARQUET", "x.parquet.gz", "x", "x.json"])
def test_a_file_is_known_by_its_ending_or_its_first_bytes(tmp_path: Path, name: str) -> None:
    content = packed({"id": [1, 2], "text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    assert read(written(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)) == ROWS


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([b"a", "\u00e9".encode()]), ["a", "\u00e9"]),
        (pa.array([b"ab", b"cd"], pa.binary(2)), ["ab", "cd"]),
        (pa.array([1, 0], pa.uint8()), ["1", "0"]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array([Decimal("1.10"), Decimal("2")]), ["1.10", "2.00"]),
        (pa.array([10**9 + 1], pa.timestamp("ns")), ["1970-01-01 00:00:01.000000001"]),
        (pa.array([10**9 + 1], pa.time64("ns")), ["00:00:01.000000001"]),
        (pa.array([1, 2], pa.date32()), ["1970-01-02", "1970-01-03"]),
    ],
)  # fmt: skip
def test_labels_of_many_types(tmp_path: Path, column: Any, found: list[str]) -> None:
    assert labels(tmp_path / "x.parquet", column) == found


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a", "b"], ["c"]]),
        pa.array([["a", "b"], ["c"]], pa.large_list(pa.large_string())),
        pa.array([["a", "b"], ["c"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        pa.array([[b"a", b"b"], [b"c"]]),
    ],
)
def test_lists_of_many_types(tmp_path: Path, column: Any) -> None:
    assert tags(tmp_path / "x.parquet", column) == [["a", "b"], ["c"]]


def test_classes_have_the_names_that_data_sets_of_the_hub_write_into_the_file(tmp_path: Path) -> None:
    column = pa.array([[1, 0], [2]])
    names = {"names": ["O", "B-x", "I-x"], "_type": "ClassLabel"}
    for feature in ({"feature": names, "_type": "Sequence"}, {"feature": names, "_type": "List"}, [names]):
        metadata = {"info": {"features": {"tags": feature}}}
        assert tags(tmp_path / "x.parquet", column, metadata) == [["B-x", "O"], ["I-x"]]
    for broken in ({}, {"info": None}, {"info": {"features": {"tags": {"dtype": "int64", "_type": "Value"}}}}):
        assert tags(tmp_path / "x.parquet", column, broken) == [["1", "0"], ["2"]]


def test_answers_are_objects_also_where_they_were_taken_apart(tmp_path: Path) -> None:
    answers = [{"text": ["a"], "answer_start": [3]}, {"text": [], "answer_start": []}]
    whole = pa.table({"question": ["q", "r"], "answers": pa.array(answers)})
    for table in (whole, whole.flatten()):
        rows = list(open_file(written(tmp_path / "x.parquet", packed(table))).rows)
        assert [row.values["answers"] for row in rows] == answers
        assert "answers" in rows[0].values and rows[0].values.get("is_impossible") is None


def test_rows_without_a_value_are_counted_from_0(tmp_path: Path) -> None:
    content = packed({"text": ["a", None, "c", " "], "label": [1.0, 2.0, float("nan"), 3.0]})
    assert refusal(tmp_path / "x.parquet", content) == (
        "has no text in column 'text' in 2 of 4 rows (rows 1, 3), and "
        "has no label in column 'label' in 1 of 4 rows (row 2)"
    )


@pytest.mark.parametrize("private", [False, True])
def test_a_column_that_is_not_there_is_named(tmp_path: Path, private: bool) -> None:
    message = refusal(tmp_path / "x.parquet", packed({"text": ["a"], "topic": ["b"]}), private=private)
    assert message == "has no column 'label' (data.label_column)" + ("" if private else "; it has text, topic")


def test_names_that_repeat_and_files_without_rows_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], ["text", "label", "label"])
    assert refusal(tmp_path / "x.parquet", packed(table)) == "names the column 'label' more than once"
    assert refusal(tmp_path / "x.parquet", packed({"text": pa.array([], pa.string())})) == "holds no documents"


@pytest.mark.parametrize("private", [False, True])
def test_text_that_is_not_utf_8_is_refused_with_its_row(tmp_path: Path, private: bool) -> None:
    count = BATCH_ROWS + 3
    texts = [b"secret"] * (count - 1) + [b"secret \xff"]
    ends = [0, *itertools.accumulate(map(len, texts))]
    buffers = [None, pa.py_buffer(array.array("i", ends).tobytes()), pa.py_buffer(b"".join(texts))]
    damaged = pa.Array.from_buffers(pa.string(), count, buffers)
    for column in (pa.array(texts), damaged):
        message = refusal(tmp_path / "x.parquet", packed({"text": column, "label": ["a"] * count}), private=private)
        assert message == f"row {count - 1} is not UTF-8 in column 'text': write it anew as text"


@pytest.mark.parametrize("private", [False, True])
def test_a_file_that_is_damaged_or_none_is_refused(tmp_path: Path, private: bool) -> None:
    content = packed({"text": ["secret"] * 1000, "label": [str(number) for number in range(1000)]})
    middle = bytearray(content)
    middle[60:-200] = b"\xff" * (len(content) - 260)
    name = content.replace(b"label", b"la\xff\xfel")
    for broken in (
        name,
        content[:-20],
        b"",
        b"PAR1",
        b"PAR1" + b"\0" * 20 + b"PAR1",
        bytes(middle),
        b"text,label\na,b\n",
    ):
        message = refusal(tmp_path / "x.parquet", broken, private=private)
        assert message.startswith(("is damaged, or cut off: ", "is no Parquet file, or damaged: "))
        assert "secret" not in message


def test_without_pyarrow_it_is_said_how_to_add_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = written(tmp_path / "x.parquet", packed({"text": ["a"], "label": ["b"]}))
    with pytest.raises(BadInput, match=r"is Parquet, which needs pip install -e '\.\[data\]' in a clone of federa$"):
        read(path)


def test_what_pandas_writes_is_read(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", "b", None], "label": pd.Categorical(["x", "y", "x"])}, index=[5, 6, 7])
    frame.to_parquet(tmp_path / "x.parquet")
    assert list(open_file(tmp_path / "x.parquet").rows)[1].texts(COLUMNS) == ["b", "y"]
    pd.DataFrame({"tokens": [["a"], ["b", "c"]], "tags": [[1], [0, 2]]}).to_parquet(tmp_path / "y.parquet")
    rows = open_file(tmp_path / "y.parquet").rows
    assert [row.lists({"token_column": "tokens", "tag_column": "tags"}) for row in rows] == [
        [["a"], ["1"]],
        [["b", "c"], ["0", "2"]],
    ]


def test_columns_that_nobody_asks_for_are_not_kept(tmp_path: Path) -> None:
    count = 8 * BATCH_ROWS
    rows = {"text": ["t"] * count, "label": ["a", "b"] * (count // 2), "vector": [[0.5] * 64] * count}
    source = open_file(written(tmp_path / "x.parquet", packed(rows)))
    tracemalloc.start()
    try:
        for row in source.rows:
            row.texts(COLUMNS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert row.at == f"row {count - 1}"
    # The vectors of one batch would take 64 pointers a row; a float each where they differ.
    assert most < BATCH_ROWS * 64 * 8
