"""Rows that cannot be used: one message for all of them, with how many there are and where the first stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tables import read, refusal, text_and_label, written

from federa.data.readers import Row, open_file
from federa.errors import BadInput
from federa.tasks.text_classification import ClassificationData, TextClassification

LABELS = [None, "", "  ", "pos", "neg", "\u2003"]


def lines(count: int, **more: object) -> str:
    """Rows of which two in three have no label."""
    rows = [{"text": f"t {number}", "label": LABELS[number % 6], **more} for number in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("private", [False, True])
def test_rows_without_a_label_are_counted_and_the_first_are_named(tmp_path: Path, private: bool) -> None:
    message = refusal(tmp_path / "x.jsonl", lines(1200), private=private)
    assert message == "has no label in column 'label' in 800 of 1,200 rows (lines 1, 2, 3, 6, 7, ...)"


def test_rows_without_a_text_or_both_are_counted_alike(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(f"{'t' if n % 4 else ' '},{'a' if n % 5 else ''}\n" for n in range(40))
    assert refusal(tmp_path / "x.csv", content) == (
        "has no text in column 'text' and no label in column 'label' in 2 of 40 rows (lines 2, 22), and "
        "has no text in column 'text' in 8 of 40 rows (lines 6, 10, 14, 18, 26, ...), and "
        "has no label in column 'label' in 6 of 40 rows (lines 7, 12, 17, 27, 32, ...)"
    )


def test_one_row_is_named_by_its_line(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.csv", "text,label\na,b\nc,\n") == "line 3 has no label in column 'label'"
    assert refusal(tmp_path / "x.csv", "text,label\n,b\nc,d\n") == "line 2 has no text in column 'text'"


def test_where_no_row_can_be_used_none_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.csv", "text,label\na,\nb,\nc,\n") == "has no label in column 'label' in all 3 rows"


def test_objects_without_the_key_are_counted(tmp_path: Path) -> None:
    content = "".join(json.dumps({"text": "a"} | ({"label": "b"} if n % 3 else {})) + "\n" for n in range(20))
    assert refusal(tmp_path / "x.jsonl", content) == (
        "has no column 'label' (data.label_column) in 7 of 20 rows (lines 1, 4, 7, 10, 13, ...); it has text"
    )


def test_rows_that_are_too_long_or_too_short_are_counted(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.csv", "text,label\na,b,c\nd\ne,f\ng\n") == (
        "has more values than columns in 1 of 4 rows (line 2): quote what holds commas, and "
        "has fewer values than columns in 2 of 4 rows (lines 3, 5): quote what holds line ends"
    )


def test_reasons_without_end_are_summed_up(tmp_path: Path) -> None:
    source = open_file(written(tmp_path / "x.csv", "text,label\n" + "a,b\n" * 1000))

    def record(row: Row) -> None:
        raise row.refused(f"has trouble {row.at}")

    with pytest.raises(BadInput) as caught:
        source.records(record)
    assert str(caught.value) == (
        f"data: {source.name} has trouble line 2 in 1 of 1,000 rows (line 2), and "
        "has trouble line 3 in 1 of 1,000 rows (line 3), and has trouble line 4 in 1 of 1,000 rows (line 4), and "
        "997 more rows cannot be used for other reasons"
    )


def test_a_private_file_s_refusal_quotes_nothing_of_it(tmp_path: Path) -> None:
    content = lines(20, patient="ill") + '{"patient": "ill"}\n{"text": ["ill"], "label": "pos"}\n'
    assert "ill" not in refusal(tmp_path / "x.jsonl", content, private=True).replace("column", "")
    assert "patient" not in refusal(tmp_path / "x.jsonl", content, private=True)


def test_the_first_look_at_the_data_counts_them_too(tmp_path: Path) -> None:
    """What is looked at before a run starts is the first row; where that is refused, so may be others."""
    path = written(tmp_path / "x.jsonl", lines(12))
    task = TextClassification(ClassificationData(source=str(path)))
    for look in (task.check_data, task.load):
        with pytest.raises(BadInput, match=r"in 8 of 12 rows \(lines 1, 2, 3, 6, 7, \.\.\.\)$"):
            look()


def test_a_name_of_a_file_is_escaped(tmp_path: Path) -> None:
    path = written(tmp_path / "\x1b[31m.csv", "text,label\na,\n")
    with pytest.raises(BadInput, match=r"\\x1b\[31m\.csv line 2 has no label"):
        read(path)


def test_records_are_made_of_all_rows(tmp_path: Path) -> None:
    source = open_file(written(tmp_path / "x.csv", "text,label\na,b\nc,d\n"))
    assert source.records(text_and_label) == [("a", "b"), ("c", "d")]


def numbered(tmp_path: Path, count: int) -> Path:
    return written(
        tmp_path / "x.jsonl", "".join(json.dumps({"text": f"t{n}", "label": "ab"[n % 2]}) + "\n" for n in range(count))
    )


def test_some_of_the_rows_are_drawn_evenly_in_their_order_and_the_same_each_time(tmp_path: Path) -> None:
    path = numbered(tmp_path, 1000)
    places = [int(str(row.values["text"])[1:]) for row in open_file(path).at_most(100).rows]
    assert places == sorted(set(places)) and len(places) == 100
    assert places == [int(str(row.values["text"])[1:]) for row in open_file(path).at_most(100).rows]
    for begin in range(0, 1000, 250):
        assert 12 < sum(begin <= place < begin + 250 for place in places) < 40


@pytest.mark.parametrize(("limit", "count"), [(None, 9), (9, 9), (100, 9), (8, 8), (1, 1)])
def test_no_more_rows_than_there_are(tmp_path: Path, limit: int | None, count: int) -> None:
    assert len(list(open_file(numbered(tmp_path, 9)).at_most(limit).rows)) == count


def test_of_each_part_so_many_records_are_taken(tmp_path: Path) -> None:
    path = str(numbered(tmp_path, 50))
    data = ClassificationData(source=path, validation_file=path, test_file=path, max_records=20)
    dataset = TextClassification(data).load(parts=True)
    assert [len(place) for place in (dataset.source, *dataset.given.values())] == [20, 20, 20]
    assert len(TextClassification(data).load(Path(path))) == 50  # a device's own
