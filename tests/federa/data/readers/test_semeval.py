"""SemEval-2010 Task 8: blocks of a sentence, a label and a comment."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import read, refusal, written

from federa.data.readers import open_file

FIRST = 'The <e1>system</e1> has an array of "antenna" <e2>elements</e2>.'
BLOCKS = f"""\
1\t"{FIRST}"
Component-Whole(e2,e1)
Comment: Not a collection: there is structure here.

2\t"The <e1>child</e1> was put into the <e2>cradle</e2>."
Other
Comment:

"""


@pytest.mark.parametrize("name", ["TRAIN_FILE.TXT", "x"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_the_sentences_with_their_markers_and_labels(tmp_path: Path, name: str, end: str) -> None:
    path = written(tmp_path / name, BLOCKS.replace("\n", end))
    assert read(path) == [
        (FIRST, "Component-Whole(e2,e1)"),
        ("The <e1>child</e1> was put into the <e2>cradle</e2>.", "Other"),
    ]
    rows = list(open_file(path).rows)
    assert [row.at for row in rows] == ["line 1", "line 5"]
    assert rows[0].values["comment"] == "Not a collection: there is structure here."
    assert [row.values["number"] for row in rows] == ["1", "2"] and rows[1].values["comment"] == ""


def test_blocks_may_lack_empty_lines_comments_and_quotes(tmp_path: Path) -> None:
    bare = '1\tA <e1>b</e1> <e2>c</e2>.\nOther\n2\t"D <e1>e</e1> <e2>f</e2>."\nOther'
    assert read(written(tmp_path / "x.txt", bare)) == [
        ("A <e1>b</e1> <e2>c</e2>.", "Other"),
        ("D <e1>e</e1> <e2>f</e2>.", "Other"),
    ]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    ("block", "said"),
    [
        ('3\t"A <e1>secret</e1> is cut o', "line 9 begins a sentence without its closing quote: a block is "),
        ('3\t"', "line 9 begins a sentence without its closing quote: a block is "),
        ('3\t"A <e1>secret</e1> <e2>c</e2>."', "line 9 has no label in column 'label'"),
        ('3\t"A <e1>secret</e1> <e2>c</e2>."\nComment:', "line 9 has no label in column 'label'"),
        ('3\t"A <e1>secret</e1> <e2>c</e2>."\nOth', "line 9 begins a block without the comment that others have: is "),
        (
            '3\t"A secret."\n\nOther\nComment:\n',
            "has no label in column 'label' in 1 of 4 rows (line 9), and begins a ",
        ),
        ('3\t"A secret."\nOther\nOther\nComment:\n', "line 9 begins a block with 2 lines between sentence and comment"),
        ('"A <e1>secret</e1> <e2>c</e2>."\nOther\nComment:', "line 9 begins a block without a number: a block is "),
        ('3\t""\nOther\nComment:', "line 9 has no text in column 'text'"),
    ],
)
def test_a_block_that_lacks_something_is_named_by_its_first_line(
    tmp_path: Path, block: str, said: str, private: bool
) -> None:
    message = refusal(tmp_path / "x.txt", BLOCKS + block, private=private)
    assert message.startswith(said) and "secret" not in message


def test_a_file_without_labels_is_refused_as_a_whole(tmp_path: Path) -> None:
    content = '8001\t"The <e1>audits</e1> were about <e2>waste</e2>."\n8002\t"A <e1>b</e1> <e2>c</e2>."\n'
    assert refusal(tmp_path / "TEST_FILE.txt", content) == "has no label in column 'label' in all 2 rows"
