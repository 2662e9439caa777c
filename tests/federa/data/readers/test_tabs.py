"""TSV: published files quote nothing, pandas and spreadsheets do. It holds for the whole file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import read, refusal, written

DOUBT = "has quotes of which it is not certain whether they belong to the text"


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        # As pandas writes it: what needs it is quoted, or all is.
        (["text\tlabel", '"he said ""no"" again"\ta', "fine\tb"], [('he said "no" again', "a"), ("fine", "b")]),
        (["text\tlabel", '"two', 'lines"\ta', "fine\tb"], [("two\nlines", "a"), ("fine", "b")]),
        (["text\tlabel", '"a\ttab"\ta', "fine\tb"], [("a\ttab", "a"), ("fine", "b")]),
        (['"text"\t"label"', '"good"\t"a"', '"b, c"\t"b"'], [("good", "a"), ("b, c", "b")]),
        (['"label"\t"text"', '1\t"good"', '0\t"b"'], [("good", "1"), ("b", "0")]),
        # As data sets are published: a mark is text.
        (["text\tlabel", '"open\ta', '5" disk\tb', 'closed"\ta'], [('"open', "a"), ('5" disk', "b"), ('closed"', "a")]),
        (["text\tlabel", '"whole"\ta', '5" disk\tb'], [('"whole"', "a"), ('5" disk', "b")]),
        (["text\tlabel", '"a" or "b"\ta', '"whole"\tb'], [('"a" or "b"', "a"), ('"whole"', "b")]),
        (["text\tlabel", '"\ta', "x\tb"], [('"', "a"), ("x", "b")]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_whether_a_file_quotes_is_found_out(
    tmp_path: Path, lines: list[str], rows: list[tuple[str, str]], end: str
) -> None:
    wanted = [(text.replace("\n", end), label) for text, label in rows]
    for name in ("x.tsv", "x.csv"):
        assert read(written(tmp_path / name, end.join([*lines, ""]))) == wanted


def test_a_carriage_return_in_quotes_is_text(tmp_path: Path) -> None:
    path = written(tmp_path / "x.tsv", 'text\tlabel\n"one\rtwo\nthree"\ta\nfine\tb\n')
    assert read(path) == [("one\rtwo\nthree", "a"), ("fine", "b")]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        # Whole texts in quotes, none of which needs them: their own, or a program's.
        (['"Great film!"\ta', "bad\tb"], 2),
        (["bad\tb", '"Great film!"\ta', '"he said ""no"""\tb'], 3),
        # A program's quotes beside some that no program writes.
        (['"he said ""no"""\ta', '5" disk\tb'], 2),
        # One text over two lines, or two texts.
        (["bad\tb", '"open\ta', 'closed"\tb'], 3),
    ],
)
@pytest.mark.parametrize("name", ["x.tsv", "x.csv"])
def test_a_file_that_can_be_read_either_way_is_refused(tmp_path: Path, lines: list[str], line: int, name: str) -> None:
    message = refusal(tmp_path / name, "\n".join(["text\tlabel", *lines, ""]))
    assert message == f"line {line} {DOUBT}: rewrite the file as .jsonl or .csv"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["text\tlabel", "a\tb\tpos", "c\tneg"], "line 2 has more values than columns: no text may hold tabs"),
        (["text\tlabel", "a", "c\tneg"], "line 2 has fewer values than columns"),
        (['"text"\t"label"', '"a\t"pos"', '"b"\t"neg"'], "line 2 has a quote inside a value that is in quotes"),
        (['"text"\t"label"', '"a"\t"pos"', '"b\tneg'], "line 3 opens a quote that never closes"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, lines: list[str], said: str) -> None:
    assert refusal(tmp_path / "x.tsv", "\n".join([*lines, ""])).startswith(said)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_with_a_backslash_within_them_are_doubtful(tmp_path: Path, end: str) -> None:
    lines = ["id\tlabel\ttext", '"1_8"\t1\t"fine"', '"2_9"\t0\t"all \\"this\\" stuff"', ""]
    assert refusal(tmp_path / "x.tsv", end.join(lines)).startswith(f"line 3 {DOUBT}")
    # A backslash elsewhere is text.
    lines = ["text\tlabel", 'a \\"path\\" b\ta', '"C:\\" and more\tb', ""]
    assert read(written(tmp_path / "y.tsv", end.join(lines))) == [('a \\"path\\" b', "a"), ('"C:\\" and more', "b")]
