"""CoNLL: what separates columns, how many there are, comments, documents, and lines that cannot be tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import written

from federa.data.readers import Row, open_file
from federa.data.readers.conll import MAX_UNDIVIDED, conll_rows
from federa.errors import BadInput

COLUMNS = {"token_column": "tokens", "tag_column": "tags"}
CONLL_2003 = """\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
. . O O

Peter NNP B-NP B-PER

-DOCSTART- -X- O O

# # B-NP O
1 CD I-NP O
"""
CONLL_U = """\
# newdoc id = d1
# sent_id = 1
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tnada\t_\t_\t_\t_\t_\t_\t_\t_
3\tal mar\tmar\tNOUN\t_\t_\t1\tobl\t_\tSpaceAfter=No

# newdoc id = d2
1\tmar\tmar\tNOUN\t_\t_\t0\troot\t_\t_
"""


def rows(text: str) -> list[Row]:
    return list(conll_rows(text, "x.conll", private=False))


def sentences(text: str, **columns: str) -> list[tuple[list[str], list[str]]]:
    wanted = {"token_column": "tokens", "tag_column": "tags", **columns}
    return [tuple(row.lists(wanted)) for row in rows(text)]  # type: ignore[misc]


def refusal(path: Path, text: str, *, private: bool = False) -> str:
    with pytest.raises(BadInput) as caught:
        open_file(written(path, text), private=private).records(lambda row: row.lists(COLUMNS))
    message = str(caught.value)
    assert message.startswith(f"data: {path} ") and message.isprintable()
    return message.removeprefix(f"data: {path} ")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " \n", "\t\n", " \t \r\n"])
@pytest.mark.parametrize("separator", ["\t", " ", "   ", " \t "])
@pytest.mark.parametrize("last", [[], [""], ["", "", ""]])
def test_tokens_and_tags_however_lines_end_and_columns_are_separated(end: str, separator: str, last: list[str]) -> None:
    lines = [f"a{separator}O", f"b{separator}B-x", "", "", f"c{separator}O", *last]
    assert sentences(end.join(lines)) == [(["a", "b"], ["O", "B-x"]), (["c"], ["O"])]


def test_any_column_is_chosen_by_its_number() -> None:
    assert sentences(CONLL_2003)[0] == (["EU", "rejects", "."], ["B-ORG", "O", "O"])
    assert sentences(CONLL_2003, tag_column="2")[1] == (["Peter"], ["NNP"])
    assert sentences(CONLL_2003, token_column="1", tag_column="3")[2] == (["#", "1"], ["B-NP", "I-NP"])


def test_documents_are_counted_where_the_file_marks_them() -> None:
    assert [row.values["document"] for row in rows(CONLL_2003)] == [1, 1, 2]
    assert [row.values["document"] for row in rows(CONLL_U)] == [1, 2]
    assert [row.values["document"] for row in rows("a O\n\n-DOCSTART-\nb O\n")] == [0, 1]
    assert "document" not in rows("a O\n\nb O\n")[0].values


def test_a_row_and_its_tokens_are_named_by_their_lines() -> None:
    row = rows(CONLL_2003)[2]
    assert row.at == "line 11"
    assert str(row.refused("is odd", item=1)) == "data: x.conll line 12 is odd"


def test_tokens_that_are_numbered_are_the_second_column_and_what_is_no_word_is_left_out() -> None:
    assert sentences(CONLL_U, tag_column="4") == [
        (["vamos", "nos", "al mar"], ["VERB", "PRON", "NOUN"]),
        (["mar"], ["NOUN"]),
    ]
    germeval = "#\thttp://de.wikipedia.org/x\t[2009]\n1\tAn\tO\tO\n2\tRom\tB-LOC\tO\n\n#\thttp://y\t[1]\n1\tJa\tO\tO\n"
    assert sentences(germeval, tag_column="3") == [(["An", "Rom"], ["O", "B-LOC"]), (["Ja"], ["O"])]
    # Numbers are tokens where they do not count all tokens of all sentences.
    assert sentences("1 CD O\n2 CD O\n\nyears NN O\n")[0][0] == ["1", "2"]


def test_with_tabs_a_token_may_hold_blanks_and_with_blanks_other_spaces() -> None:
    assert sentences("New York\tB-x\n is \tO\n\u2028\tO\n")[0][0] == ["New York", "is", "\u2028"]
    assert sentences("a\u00a0b O\nc\x85 O\nd\u3000 O\n")[0][0] == ["a\u00a0b", "c\x85", "d\u3000"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # Comments: of CoNLL-U, of MultiCoNER (as many columns as a token has), of CoNLL-2012.
        ("# sent_id = 1\n# text = a\na\tO\n\n# x\nb\tO\n", [["a"], ["b"]]),
        ("# id 5239d808-f300 domain=en\na _ _ O\n\n# id 7-a domain=en\nb _ _ B-x\n", [["a"], ["b"]]),
        ("#begin document (x)\na b c O\n\n#end document\n#begin document (y)\nb c d O\n", [["a"], ["b"]]),
        ("# two words\na B-x\n\nb O\n", [["a"], ["b"]]),
        # Tokens: a number sign, a hashtag; at the head of a sentence, within it, with a tag that no other has.
        ("# O\na B-x\n\n#b O\nc O\n\nd O\n# O\n", [["#", "a"], ["#b", "c"], ["d", "#"]]),
        ("#\tB-rare\na\tO\n\n#tag\tB-rarer\n", [["#", "a"], ["#tag"]]),
        ("# #\na DT\n\nb NN\n", [["#", "a"], ["b"]]),
        ("# DT\na DT\n\n#tag JJ\nb NN\n", [["#", "a"], ["#tag", "b"]]),
        ("#a O\n\n#b O\n", [["#a"], ["#b"]]),
    ],
)  # fmt: skip
def test_a_comment_is_told_from_a_token_that_begins_alike(text: str, tokens: list[list[str]]) -> None:
    assert [tokens for tokens, _ in sentences(text)] == tokens


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tO\nsecret\nb\tO\n\nc\tO\n", "line 2 has 1 column where most lines have 2: write each token with all its "
         "tags on one line, with a tab between them"),
        ("a O\nb O\n\nsecret city O\nc O\n", "line 4 has 3 columns where most lines have 2: no token may hold a blank; "
         "where one must, put tabs between columns"),
        ("a\tx\tO\nb\tO\nc\n\nd\tx\tO\n", "line 2 has 2 columns where most lines have 3: "),
        ("a\tx\tO\nb\tx\tO\n\nc\tO\n", "line 4 has 2 columns where most lines have 3: "),
        ("a\tO\n#secret\n\nb\tO\n", "line 2 has 1 column where most lines have 2: "),
        ("#secret\na\tO\n\nb\tO\n", "line 1 has 1 column where most lines have 2: "),
        ("a\tO\n# a secret comment\nb\tO\n", "line 2 has 1 column where most lines have 2: "),
        ("a\tO\n\tO\n", "line 2 has no token in column 'tokens'"),
        ("a\tO\nb\t \tO\nc\t\tO\n", "line 1 has 2 columns where most lines have 3: "),
        ("secret\n\nwords\n", "has one column: a line must hold a token and its tag, with a tab between them"),
        ("a\tO\nb\0\tO\n", "line 2 holds a NUL character"),
        ("a\tO\n" * (MAX_UNDIVIDED + 1), "is one sentence of 1,001 tokens: a blank line must stand between sentences"),
        ("\n\n", "holds no documents"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_token_is_refused_by_its_line(tmp_path: Path, text: str, said: str, private: bool) -> None:
    message = refusal(tmp_path / "x.conll", text, private=private)
    assert message.startswith(said) and "secret" not in message and len(message) < 250


def test_sentences_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    text = "".join("a\tO\nb\tO\n\n" if number % 3 else "a\tO\nb\n\n" for number in range(30))
    message = refusal(tmp_path / "x.conll", text)
    assert message.startswith(
        "has 1 column where most lines have 2 in 10 of 30 rows (lines 2, 11, 20, 29, 38, ...): write each token"
    )


@pytest.mark.parametrize("private", [False, True])
def test_a_column_that_no_line_has_is_named_with_those_there_are(tmp_path: Path, private: bool) -> None:
    path = written(tmp_path / "x.conll", CONLL_2003)
    with pytest.raises(BadInput) as caught:
        open_file(path, private=private).records(lambda row: row.lists({"token_column": "1", "tag_column": "7"}))
    assert str(caught.value) == (
        f"data: {path} has no column '7' (data.tag_column); it has tokens, tags, 1, 2, 3, 4, document"
    )


def test_a_file_that_is_not_utf_8_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "deu.train"
    path.write_bytes("Z\u00fcrich B-LOC\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"deu\.train line 1 is not UTF-8 \(byte 1\): .* iconv -f LATIN1 -t UTF-8"):
        open_file(path)


TOKEN = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t\0 "), min_size=1, max_size=6)
TAGS = st.sampled_from(["O", "B-x", "I-x", "I-y"])


@given(
    st.lists(st.lists(st.tuples(TOKEN, TAGS), min_size=1, max_size=6), min_size=1, max_size=6),
    st.sampled_from(["\t", " "]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_is_written_is_read(
    given_sentences: list[list[tuple[str, str]]], separator: str, end: str, with_tags_between: bool
) -> None:
    # A first column that counts is one of numbers; what marks a document is no token.
    middle = f"{separator}_" * with_tags_between
    text = (end * 2).join(
        end.join(f"{token}{middle}{separator}{tag}" for token, tag in sentence) for sentence in given_sentences
    )
    numbered = with_tags_between and all(
        token == str(number) for sentence in given_sentences for number, (token, _) in enumerate(sentence, start=1)
    )
    if numbered or any(token.startswith("-DOCSTART-") for sentence in given_sentences for token, _ in sentence):
        return
    found = [(row.values["tokens"], row.values["tags"]) for row in rows(text)]
    assert found == [([token for token, _ in each], [tag for _, tag in each]) for each in given_sentences]
