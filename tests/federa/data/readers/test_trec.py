"""TREC: a question a line behind its labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import COLUMNS, read, refusal, written

from federa.data.readers import open_file

TREC = "DESC:manner How did it develop ?\nENTY:cremat What films : which ?\n\nABBR:exp What is .com ?"


@pytest.mark.parametrize("name", ["x.label", "x.txt", "x"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_questions_have_a_coarse_and_a_fine_label(tmp_path: Path, name: str, end: str) -> None:
    path = written(tmp_path / name, TREC.replace("\n", end))
    assert read(path) == [
        ("How did it develop ?", "DESC"),
        ("What films : which ?", "ENTY"),
        ("What is .com ?", "ABBR"),
    ]
    fine = open_file(path).records(lambda row: row.texts({**COLUMNS, "label_column": "fine_label"})[1])
    assert fine == ["DESC:manner", "ENTY:cremat", "ABBR:exp"]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("secret question ?", "line 5 does not begin with labels and a colon between them: a line is COARSE:fine "),
        ("LOC Where is the secret ?", "line 5 does not begin with labels and a colon between them: a line is "),
        (":city Where is the secret ?", "line 5 does not begin with labels and a colon between them: a line is "),
        ("LOC: Where is the secret ?", "line 5 does not begin with labels and a colon between them: a line is "),
        ("LOC:city", "line 5 has no text in column 'text'"),
    ],
)
def test_a_line_without_labels_or_a_question_is_named(tmp_path: Path, line: str, said: str, private: bool) -> None:
    message = refusal(tmp_path / "x.label", f"{TREC}\n{line}\n", private=private)
    assert message.startswith(said) and "secret" not in message


def test_the_original_file_s_byte_of_latin_1_is_refused_with_its_line_and_what_to_do(tmp_path: Path) -> None:
    content = f"{TREC}\n".encode() + b"LOC:city Which is the oldest sister\xf0city ?\n"
    assert refusal(tmp_path / "x.label", content) == (
        "line 5 is not UTF-8 (byte 126): if it is Latin-1, iconv -f LATIN1 -t UTF-8 rewrites it"
    )
