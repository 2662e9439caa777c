"""The format of a file is what its ending names, or what its content looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tables import written

from federa.data.readers import open_file
from federa.data.readers.formats import NAMED
from federa.errors import BadInput

TABLE = "text\tlabel\na good film\t1\na bad film\t0\n"
FORMS: dict[str, tuple[str, set[str]]] = {
    "JSON lines": ('{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n', {"text", "label"}),
    "JSON array": (' [\n {"text": "a", "label": "b"}]', {"text", "label"}),
    "SQuAD": (json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1}]}]}]}), {"context", "question"}),
    "CoNLL with tabs": ("a\tO\nNew York\tB-x\n\nb\tO\n", {"tokens", "tags", "1", "2"}),
    "CoNLL with blanks": ("-DOCSTART- -X- O\n\na NN O\n[ ( O\n", {"tokens", "tags", "1", "2", "3", "document"}),
    "CoNLL of one sentence": ("a O\nb B-x\nc I-x\n", {"tokens", "tags"}),
    "CoNLL of parts of speech": ("the DT\nfilm NN\n\nruns VBZ\n", {"tokens", "tags"}),
    "CoNLL with comments": ("# sent_id = 1\n# text = a b\na\tO\nb\tO\n\n# x y\nc\tO\n", {"tokens", "tags"}),
    "CoNLL that begins like JSON": ("[ O\n{ O\n\n\" B-x\n", {"tokens", "tags"}),
    "CoNLL with a line too short": ("a\tO\nb\tO\nc\tO\nd\tO\ne\n\nb\tO\n", {"tokens", "tags"}),
    "TREC": ("LOC:city Where is it ?\nHUM:ind Who is it ?\n", {"text", "label", "fine_label"}),
    "SemEval": ('1\t"A <e1>b</e1> <e2>c</e2>."\r\nOther\r\nComment:\r\n\r\n', {"text", "label", "comment", "number"}),
    "table with tabs": (TABLE, {"text", "label"}),
    "table with commas": ("text,label\na,b\n", {"text", "label"}),
    "table with bars": ("text|label\na|b\n", {"text", "label"}),
}  # fmt: skip


def columns(path: Path) -> set[str]:
    return set(next(iter(open_file(path).rows)).values)


@pytest.mark.parametrize("name", ["x.txt", "x.TXT", "x", "x.train", "x.data"])
@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_found_from_the_content(tmp_path: Path, name: str, form: str) -> None:
    content, found = FORMS[form]
    assert columns(written(tmp_path / name, content)) >= found


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("x.json", "JSON lines"),
        ("x.JSONL", "JSON array"),
        ("x.json", "SQuAD"),
        ("x.conll", "CoNLL with a line too short"),
        ("x.bio", "CoNLL with tabs"),
        ("x.iob", "CoNLL with blanks"),
        ("x.tsv", "CoNLL with tabs"),
        ("x.tsv", "table with tabs"),
        ("x.csv", "table with commas"),
        ("x.label", "TREC"),
    ],
)
def test_the_form_is_the_ending_s_where_that_says_it(tmp_path: Path, name: str, form: str) -> None:
    content, found = FORMS[form]
    assert columns(written(tmp_path / name, content)) >= found


def test_a_table_of_tabs_is_no_conll_where_its_first_line_names_columns(tmp_path: Path) -> None:
    content = "token\ttag\n" + "a\tO\nb\tB-x\n\n" * 10
    assert columns(written(tmp_path / "x.tsv", content)) == {"token", "tag"}


def test_a_label_file_is_trec_s_also_where_most_lines_are_not(tmp_path: Path) -> None:
    assert columns(written(tmp_path / "x.label", "Where is it ?\nWho is it ?\n")) == {"text", "label", "fine_label"}


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_of_no_form_holds_no_documents(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadInput, match=r"x\.txt holds no documents$"):
        open_file(written(tmp_path / "x.txt", content)).records(lambda row: row)


@pytest.mark.parametrize("private", [False, True])
def test_a_form_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path, private: bool) -> None:
    secret = "The patient was seen on monday.\nShe complained of pain that nobody else should hear of.\n"
    with pytest.raises(BadInput) as caught:
        open_file(written(tmp_path / "x.txt", secret), private=private)
    assert "patient" not in str(caught.value)
    assert str(caught.value).endswith(f"name it by its form, as one of {', '.join(NAMED)}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\3\4...", "a zip archive or a spreadsheet: unpack it first, or save it as .csv"),
        (b"BZh9...", "packed by bzip2: unpack it first"),
        (b"\xfd7zXZ\0", "packed by xz: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it first"),
        (b"\x1f\x8b\x08", "gzipped: its name must end in .gz"),
    ],
)
def test_what_is_packed_is_said_to_be(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("x.xlsx", "x.csv", "x"):
        with pytest.raises(BadInput) as caught:
            open_file(written(tmp_path / name, content))
        assert str(caught.value).startswith(f"data: {tmp_path / name} is {what}")
