"""CSV: quotes, separators, the line of names, the ends of lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from tables import read, refusal, written

from federa.data.readers import RefusedRow, Row, open_file

NAMES = "has no columns 'text' and 'label' (data.text_column, data.label_column): its first line must name the columns"
MIDST = "line {} opens a quote that ends in the midst of line {}"
ROWS = [("good, very good", "pos"), ("bad", "neg")]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        # The next mark stands at the beginning of a value, before a letter.
        (['"open,neg', "b,neg", "c,pos", '"so he said",neg', "x,neg"], MIDST.format(3, 6)),
        (["a,neg", '"open,neg', "b,neg", 'say "no",pos', "x,neg"], MIDST.format(4, 6)),
        (['"open,neg', "b,neg", "c,pos"], "line 3 opens a quote that never closes"),
        (["a,neg", 'fine,"open'], "line 4 opens a quote that never closes"),
        (['"open,neg', '""twice"",neg'], "line 3 opens a quote that never closes"),
        # It closes where a value may end: each of the lines looks like a row.
        (['"open,neg', "b,neg", 'five 5",neg', "x,pos"], "line 3 opens a quote that takes in rows up to line 5"),
        (['"open, or not,neg', 'five 5",pos', "x,neg"], "line 3 opens a quote that takes in rows up to line 4"),
        (['b,"two', 'lines"', '"open,neg', '5",neg', "x,neg"], "line 5 opens a quote that takes in rows up to line 6"),
        # Within one line.
        (['"he said "no" again",neg'], "line 3 has a quote inside a value that is in quotes"),
        (['"he said \\"no\\" again",neg'], "line 3 has a quote inside a value that is in quotes"),
        (['"closed" ,neg'], "line 3 has a quote inside a value that is in quotes"),
        (['say \\"no\\",neg'], "line 3 has a quote behind a backslash"),
        (['a, "neg"'], "line 3 has blanks before a quote"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_quote_that_does_not_close_is_found_where_it_opens(
    tmp_path: Path, rows: list[str], said: str, end: str, packed: bool
) -> None:
    content = end.join(["text,label", "good film,pos", *rows, ""]).encode()
    message = refusal(tmp_path / ("x.csv" + ".gz" * packed), gzip.compress(content) if packed else content)
    assert message.startswith(said) and len(message) < 200


def test_a_quote_that_opens_in_the_label_first_form_is_found(tmp_path: Path) -> None:
    content = 'label,text\npos,fine\nneg,"open\npos,too\nneg,five 5"\nneg,worse\n'
    assert refusal(tmp_path / "x.csv", content).startswith("line 3 opens a quote that takes in rows up to line 5")


@pytest.mark.parametrize(
    "text",
    [
        "one,\ntwo, pos\nthree",
        "a poem,\nof lines,\nwith commas",
        'he said "yes,\nor no,"',
        "x,po\nlast line, too,",
        "x,neg,y\nz",
    ],
)
def test_a_text_of_several_lines_that_are_no_rows_is_one_text(tmp_path: Path, text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    path = written(tmp_path / "x.csv", f"text,label\na,pos\nb,neg\n{quoted},pos\nc,neg\n")
    assert read(path) == [("a", "pos"), ("b", "neg"), (text, "pos"), ("c", "neg")]


def test_a_quote_within_a_value_without_quotes_is_text(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", 'text,label\n5" disk,a\nsay "no",b\n"whole",a\n"""a""",b\n"",x\n"b",\n'[:-10])
    assert read(path) == [('5" disk', "a"), ('say "no"', "b"), ("whole", "a"), ('"a"', "b")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "text;label\ngood, very good;pos\nbad;neg\n"),
        ("x.csv", '"label";"text"\n"pos";"good, very good"\n"neg";"bad"\n'),
        ("x.csv", ";text;label\n0;good, very good;pos\n1;bad;neg\n"),
        ("x.csv", "text\tlabel\ngood, very good\tpos\nbad\tneg\n"),
        ("x.csv", "text|label\ngood, very good|pos\nbad|neg\n"),
        ("x.tsv", 'text,label\n"good, very good",pos\nbad,neg\n'),
        ("x.tsv", "text;label\ngood, very good;pos\nbad;neg\n"),
    ],
)
def test_another_separator_is_taken_from_the_line_of_names(tmp_path: Path, name: str, content: str) -> None:
    assert read(written(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize("content", ["text^label\na^pos\n", "text label\na pos\n", "text;a|label\nb;c|pos\n"])
def test_a_separator_that_is_not_known_is_told_which_are(tmp_path: Path, content: str) -> None:
    message = refusal(tmp_path / "x.csv", content)
    assert message == f"{NAMES}, with commas, tabs, semicolons or bars between them"


ARTICLE = "Shares in the bank rose sharply on Monday, after the board said that profits had doubled. " * 40


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
@pytest.mark.parametrize("first", [ARTICLE, "good film", "m" * 3000, "\x1b[31mred"])
@pytest.mark.parametrize("private", [False, True])
def test_a_file_without_a_line_of_names_is_told_so_and_its_text_is_not_shown(
    tmp_path: Path, name: str, first: str, private: bool
) -> None:
    content = f"{first}\tpos\n{first} 2\tneg\n" if name == "x.tsv" else f'"{first}",pos\n"{first} 2",neg\n'
    assert refusal(tmp_path / name, content, private=private) == NAMES


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("text,stars", "has no column 'label' (data.label_column); it has text, stars"),
        ("text, label", "has no column 'label' (data.label_column); it has text, ' label'"),
        ("review,stars", f"{NAMES}; it has review, stars"),
        ("text , label", f"{NAMES}; it has 'text ', ' label'"),
        (",review,2nd", NAMES),
        (f"text,{'m' * 3000}", f"has no column 'label' (data.label_column); it has text, {'m' * 39}…"),
        (
            "text," + ",".join(f"{letter * 3000}" for letter in "mno"),
            f"has no column 'label' (data.label_column); it has text, {'m' * 39}…, {'n' * 39}… and 1 more",
        ),
    ],
)
def test_names_of_columns_are_listed_as_far_as_there_is_room(tmp_path: Path, names: str, said: str) -> None:
    row = ",".join("x" for _ in names.split(","))
    assert refusal(tmp_path / "x.csv", f"{names}\n{row}\n") == said
    assert "it has" not in refusal(tmp_path / "x.csv", f"{names}\n{row}\n", private=True)


def test_a_wanted_column_of_3000_characters_is_not_quoted_whole(tmp_path: Path) -> None:
    (row,) = open_file(written(tmp_path / "x.csv", "text,label\na,pos\n")).rows
    with pytest.raises(Exception, match=r"has no column 'm{39}…' \(data.text_column\): .*; it has text, label$"):
        row.texts({"text_column": "m" * 3000})


@pytest.mark.parametrize("names", ["text,label,text", "text,label,label", 'label,"text",x,text'])
def test_a_column_that_is_there_twice_is_named(tmp_path: Path, names: str) -> None:
    twice = "text" if names.count("text") == 2 else "label"
    row = ",".join("x" for _ in names.split(","))
    assert refusal(tmp_path / "x.csv", f"{names}\n{row}\n") == f"names the column '{twice}' more than once"


def test_columns_that_nobody_asks_for_may_be_there_twice(tmp_path: Path) -> None:
    assert read(written(tmp_path / "x.csv", "text,n,label,n,,\na,1,pos,2,,\n")) == [("a", "pos")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,label\na,b,pos\nb,neg\n", "line 2 has more values than columns: quote what holds commas"),
        ("text;label\na;b;pos\nb;neg\n", "line 2 has more values than columns: quote what holds semicolons"),
        ("text,label\na\nb,pos\n", "line 2 has fewer values than columns: quote what holds line ends"),
        ("text,label,note\na,pos,\nb,neg\n", "line 3 has fewer values than columns: quote what holds line ends"),
        ("text,label\na,pos\n\ntext,label\nb,neg\n", "line 4 has the names of the columns again"),
        ("text,label\na,pos\nb\0c,neg\n", "line 3 holds a NUL character, which is no text: the file is damaged"),
        ("text,label\na,pos\r\nb,neg\n", "line 2 has another line end than the first line"),
        ("text,label\nab,pos\na\rb,neg\n", "line 3 has another line end than the first line"),
        ('text,label\nab,pos\n"a",neg\r\n', "line 3 has another line end than the first line"),
        ("text,label\rab,pos\ra\nb,neg\r", "line 3 has another line end than the first line"),
    ],
)  # fmt: skip
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, content: str, said: str) -> None:
    assert refusal(tmp_path / "x.csv", content).startswith(said)


@pytest.mark.parametrize(
    "content",
    [
        "\ufefftext,label\na,pos\nb,neg\n",
        "text,label\ra,pos\rb,neg",
        "text,label\r\na,pos\r\nb,neg\r\n",
        "text,label\r\na,pos\nb,neg\n",
        "\n\ntext,label\n\na,pos\n\n\nb,neg\n\n",
        "text,label\na,pos,,\nb,neg,,",
        '"text","label"\r"a","pos"\r"b","neg"\r',
    ],
)
def test_what_other_programs_put_around_rows_is_no_part_of_them(tmp_path: Path, content: str) -> None:
    assert read(written(tmp_path / "x.csv", content)) == [("a", "pos"), ("b", "neg")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.json.gz"])
def test_another_encoding_is_named_with_the_command_that_changes_it(tmp_path: Path, encoding: str, name: str) -> None:
    content = "text,label\na,pos\n".encode(encoding)
    message = refusal(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    wanted = encoding.upper()[:6]
    assert message == f"is {wanted}; it must be UTF-8: iconv -f {wanted} -t UTF-8 rewrites it"


def test_a_gzipped_file_without_the_ending_is_told_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.csv", gzip.compress(b"text,label\na,pos\n")) == "is gzipped: its name must end in .gz"


def test_long_tables_are_read_in_time_that_grows_with_their_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are counted where something is wrong, not at each of a million values."""
    counted: list[int] = []
    monkeypatch.setattr(
        "federa.data.readers.records._line_of", lambda text, position, form: counted.append(position) or 1
    )
    rows = [(f'say "{number}"\nor not', "pos" if number % 2 else "neg") for number in range(1000)]
    lines = "".join('"' + text.replace('"', '""') + f'",{label}\n' for text, label in rows)
    assert read(written(tmp_path / "x.csv", f"text,label\n{lines}")) == rows
    assert not counted


def test_a_row_that_a_task_refuses_is_named_by_its_line(tmp_path: Path) -> None:
    source = open_file(written(tmp_path / "x.csv", 'text,label\n"a\nb",pos\nc,neg\n'))

    def record(row: Row) -> None:
        raise row.refused("has no number", ": write one")

    first, second = list(source.rows)
    for row, line in ((first, 2), (second, 4)):
        with pytest.raises(RefusedRow, match=rf"x\.csv line {line} has no number: write one$"):
            record(row)
