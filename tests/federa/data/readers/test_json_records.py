"""JSON: lines, arrays, objects over several lines, and the forms that pandas writes for other purposes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from tables import read, refusal, written

from federa.data.readers import open_file

RECORDS = [{"text": "good [film], }{", "label": "pos"}, {"text": "bad \u2028 film\n", "label": "neg"}]
ROWS = [(record["text"], record["label"]) for record in RECORDS]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)
ONE = ': the file is one object, and must hold one for each row, as orient="records" writes'


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2, ensure_ascii=False),
        json.dumps(RECORDS, indent="\t") + "\r\n",
        "\n\n [\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n\n",
        LINES,
        LINES.replace("\n", "\r\n"),
        LINES.replace("\n", "\r"),
        LINES.replace("\n", "\n\n"),
        LINES.replace("\n", ""),
        LINES.replace("\n", "\n\ufeff"),
        "".join(json.dumps(record, indent=4) + "\n" for record in RECORDS),
    ],
)
@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_the_forms_of_json(tmp_path: Path, content: str, name: str) -> None:
    assert read(written(tmp_path / name, content)) == ROWS


def test_an_empty_array_holds_no_documents(tmp_path: Path) -> None:
    for content in ("[]", "[\n]\n"):
        assert refusal(tmp_path / "x.json", content) == "holds no documents"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[\n{"text": "a", "label": "b"},\n{"text": "a" "label"}\n]', "line 3 is not JSON: Expecting ',' delimiter"),
        ('[\n{"text": "a", "label": "b"},\n', "line 3 is not JSON: Expecting value"),
        ('[\n{"text": "a", "label": "b"}\n', "line 3 is not JSON: the array does not end"),
        ('[\n{"text": "a", "label": "b"}\n{"text"', "line 3 is not JSON: a comma or ] must follow an array's element"),
        ('[{"text": "a", "label": "b"}]\n[]', "line 2 follows after the array's end"),
        ('[{"text": "a", "label": "b"},\n"c"]', 'line 2 must be a JSON object, one for each row, as orient="records"'),
        ('[["a", "b"], ["c", "d"]]', "line 1 must be a JSON object"),
        ('{"text": "a", "label": "b"},\n{"text": "c", "label": "b"}', "line 1 is not JSON: a comma follows the value"),
        (LINES + '{"text": "a", "label": "b"}, {}', "line 3 is not JSON: more follows after the value"),
        (LINES + '{"text": "a', "line 3 is not JSON: Unterminated string"),
        ('{\n"text": "a",\n"label" "b"}', "line 1 is not JSON: Expecting ':' delimiter (line 3)"),
        (LINES + '{"text": "a", "label": ' + "1" * 5000 + "}", "line 3 is not JSON: a number has too many digits"),
        (LINES + '{"text": ' + "[" * 100_000, "line 3 is not JSON: it is nested too deeply"),
        ("{'text': 'a'}\n", "line 1 is not JSON: Expecting property name enclosed in double quotes"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_by_its_line(tmp_path: Path, content: str, said: str) -> None:
    assert refusal(tmp_path / "x.json", content).startswith(said)


@pytest.mark.parametrize(
    "content",
    [
        '{"columns": ["text", "label"], "index": [0], "data": [["a", "pos"]]}',
        '{"0": {"text": "a", "label": "pos"}, "1": {"text": "b", "label": "neg"}}',
        '{"text": {"0": "a", "1": "b"}, "label": {"0": "pos", "1": "neg"}}',
        '{"text": ["a", "b"], "label": ["pos", "neg"]}',
        '{"schema": {"fields": []}, "data": [{"index": 0, "text": "a", "label": "pos"}]}',
        '{\n "version": "1.1",\n "data": [{"text": "a", "label": "pos"}]\n}\n',
    ],
)
def test_an_object_that_holds_a_table_is_told_how_to_write_one(tmp_path: Path, content: str) -> None:
    message = refusal(tmp_path / "x.json", content)
    assert message.startswith("line 1 has no ") and ONE in message
    # The same advice would be wrong where lines follow.
    assert ONE not in refusal(tmp_path / "x.json", content + "\n" + LINES)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("1", "1"),
        ("1.0", "1.0"),
        ("1.10", "1.10"),
        ("true", "True"),
        ("1e3", "1e3"),
        ("-0.0", "-0.0"),
        ('" x "', " x "),
    ],
)
def test_a_value_is_read_as_it_is_written(tmp_path: Path, value: str, label: str) -> None:
    assert read(written(tmp_path / "x.jsonl", f'{{"text": "a", "label": {value}}}')) == [("a", label)]


@pytest.mark.parametrize("value", ["null", "NaN", '""', '" \\n"'])
def test_a_value_that_is_none_is_a_row_without(tmp_path: Path, value: str) -> None:
    content = f'[{{"text": "a", "label": {value}}},\n {{"text": {value}, "label": "b"}}, {{"text": "a", "label": "b"}}]'
    message = refusal(tmp_path / "x.json", content)
    assert message == (
        "has no label in column 'label' in 1 of 3 rows (line 1), and "
        "has no text in column 'text' in 1 of 3 rows (line 2)"
    )


def test_elements_of_one_line_are_told_apart_by_number(tmp_path: Path) -> None:
    content = json.dumps([{"text": "a", "label": "b"}, {"text": "a"}, {"text": "a", "label": ["b"]}, {"label": "b"}])
    assert refusal(tmp_path / "x.json", content) == (
        "has no column 'label' (data.label_column) in 1 of 4 rows (record 2); it has text, and "
        "has no label, but a list or an object, in column 'label' in 1 of 4 rows (record 3), and "
        "has no column 'text' (data.text_column) in 1 of 4 rows (record 4); it has label"
    )


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    lines = ['{"text": "a", "label": "b", "n": 1, "n": 2}', '{"text": "a", "label": "b", "label": "c"}']
    message = refusal(tmp_path / "x.jsonl", "\n".join(lines))
    assert message == "line 2 names the column 'label' more than once"


def test_an_array_is_read_without_a_second_copy_of_it(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", json.dumps([{"text": "x" * 1000, "label": "a"}] * 2000))
    source = open_file(path)
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.rows)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2000 and most < path.stat().st_size // 4
