"""SQuAD JSON: articles, paragraphs and questions, and what is wrong with their form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tables import written

from federa.data.readers import Row, open_file
from federa.errors import BadInput

COLUMNS = {"question_column": "question", "context_column": "context"}


def question(name: object = "q1", **more: Any) -> dict[str, Any]:
    answers = [{"text": "a secret", "answer_start": 3}]
    return {"id": name, "question": "What is it?", "answers": answers, **more}


def squad(*questions: dict[str, Any], **more: Any) -> dict[str, Any]:
    paragraph = {"context": "It\u2019s a secret.", "qas": list(questions)}
    return {"version": "1.1", "data": [{"title": "T", "paragraphs": [paragraph]}], **more}


def rows(path: Path, content: object, **options: Any) -> list[Row]:
    text = content if isinstance(content, str) else json.dumps(content)
    return list(open_file(written(path, text), **options).rows)


def refusal(path: Path, content: object, *, private: bool = False) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(BadInput) as caught:
        open_file(written(path, text), private=private).records(lambda row: row.texts(COLUMNS))
    message = str(caught.value)
    assert message.startswith(f"data: {path} ") and message.isprintable()
    return message.removeprefix(f"data: {path} ")


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.txt", "x"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("version_last", [False, True])
def test_the_questions_of_all_paragraphs(tmp_path: Path, name: str, indent: int | None, version_last: bool) -> None:
    content = squad(question(), question("q2"))
    content["data"].append({"paragraphs": [{"context": "c", "qas": []}, {"qas": [question(3)], "context": "d"}]})
    if version_last:
        content["version"] = content.pop("version")
    found = rows(tmp_path / name, json.dumps(content, indent=indent))
    assert [row.at for row in found] == ["question q1", "question q2", "question 3"]
    assert found[0].values == {
        "id": "q1",
        "title": "T",
        "question": "What is it?",
        "context": "It\u2019s a secret.",
        "answers": {"text": ["a secret"], "answer_start": [3]},
        "is_impossible": False,
    }
    assert found[2].values["context"] == "d" and found[2].values["title"] is None


def test_impossible_questions_have_no_answers(tmp_path: Path) -> None:
    none: dict[str, list[Any]] = {"text": [], "answer_start": []}
    plausible = [{"text": "a secret", "answer_start": 3}]
    found = rows(
        tmp_path / "x.json",
        squad(
            question(is_impossible=True, answers=[], plausible_answers=plausible),
            {"id": 2, "question": "?", "is_impossible": True},
            question(is_impossible=False),
            question(answers=[]),
        ),
    )
    assert [row.values["is_impossible"] for row in found] == [True, True, False, False]
    assert [row.values["answers"] == none for row in found] == [True, True, False, True]
    assert not any(row.fault for row in found)


def test_a_flat_list_of_questions_under_data_is_read(tmp_path: Path) -> None:
    answers = {"text": ["c"], "answer_start": [0]}
    flat = {"data": [{"id": "a", "context": "c", "question": "q", "answers": answers}]}
    (row,) = rows(tmp_path / "x.json", flat)
    assert (row.values["context"], row.values["question"], row.values["answers"]) == ("c", "q", answers)


def test_without_articles_there_are_no_questions(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.json", {"version": "1.1", "data": []}) == "holds no documents"


@pytest.mark.parametrize(
    "content",
    [
        '{"data": [1, 2], "text": "t", "label": "l"}\n{"data": [], "text": "t", "label": "l"}\n',
        '{"text": "t", "data": {"paragraphs": []}, "label": "l"}\n',
        '{"data": [{"text": "a"}], "text": "t", "label": "l"}\n{"text": "t", "label": "l"}\n',
        '[{"data": [{"paragraphs": []}], "text": "t", "label": "l"}]',
    ],
)
def test_other_json_with_a_column_of_that_name_is_not_taken_for_squad(tmp_path: Path, content: str) -> None:
    assert rows(tmp_path / "x.json", content)[0].texts({"text_column": "text"}) == ["t"]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (question(answers=[{"answer_start": 3}]), "has an answer without a text: an answer is "),
        (question(answers=[{"text": " ", "answer_start": 3}]), "has an answer without a text: an answer is "),
        (question(answers=[{"text": "a secret"}]), "has an answer without an answer_start that is a whole number: an "),
        (question(answers=[{"text": "a secret", "answer_start": "3"}]), "has an answer without an answer_start "),
        (question(answers=["a secret"]), "has an answer without a text: an answer is "),
        (question(answers="a secret"), "has no list of answers: an answer is "),
        ({"id": "q1", "question": "secret?"}, "has no list of answers: an answer is "),
        (question(question=" "), "has no question in column 'question'"),
        (question(question=None), "has no question in column 'question'"),
        (question(question=["secret"]), "has no question, but a list or an object, in column 'question'"),
    ],
)
def test_a_question_that_cannot_be_used_is_named(
    tmp_path: Path, broken: dict[str, Any], said: str, private: bool
) -> None:
    message = refusal(tmp_path / "x.json", squad(question("q0"), broken), private=private)
    assert message.startswith(f"question number 2 {said}" if private else f"question q1 {said}")
    assert "secret" not in message


def test_questions_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    content = squad(*(question(f"q{number}", **({} if number % 4 else {"answers": [{}]})) for number in range(40)))
    assert refusal(tmp_path / "x.json", content).startswith(
        "has an answer without a text in 10 of 40 rows (questions q0, q4, q8, q12, q16, ...): an answer is "
    )


def test_a_context_that_is_none_is_named(tmp_path: Path) -> None:
    content = squad(question())
    del content["data"][0]["paragraphs"][0]["context"]
    assert refusal(tmp_path / "x.json", content) == "question q1 has no context in column 'context'"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([*squad(question())["data"], {"title": "secret"}], "article 2 has no list of paragraphs: SQuAD JSON is "),
        ([{"title": "secret", "paragraphs": "secret"}], "article 1 has no list of paragraphs: "),
        ([*squad(question())["data"], ["secret"]], "article 2 has no list of paragraphs: "),
        ([{"paragraphs": [{"context": "secret"}]}], "article 1, paragraph 1 has no list of qas: "),
        ([{"paragraphs": ["secret"]}], "article 1, paragraph 1 is no object: "),
        ([{"paragraphs": [{"context": "c", "qas": ["secret"]}]}], "article 1, paragraph 1, question 1 is no object: "),
    ],
)
def test_a_form_that_is_not_squads_is_named_by_article_and_paragraph(
    tmp_path: Path, data: list[Any], said: str
) -> None:
    message = refusal(tmp_path / "x.json", {"version": "1.1", "data": data}, private=True)
    assert message.startswith(said) and "secret" not in message


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_that_is_cut_off_anywhere_is_refused_with_a_line(tmp_path: Path, indent: int | None) -> None:
    content = json.dumps(squad(question(), question("q2")), indent=indent)
    for end in range(len(content) - 1, content.index("paragraphs") + 20, -7):
        message = refusal(tmp_path / "x.json", content[:end], private=True)
        assert message.startswith("line ") and " is not JSON: " in message and "secret" not in message


def test_articles_are_read_one_after_the_other(tmp_path: Path) -> None:
    content = json.dumps(squad(question()) | {"data": squad(question())["data"] * 2})
    found = open_file(written(tmp_path / "x.json", content[:-60])).rows
    assert next(found).at == "question q1"
    with pytest.raises(BadInput):
        next(found)


def test_what_follows_the_object_is_refused_with_its_line(tmp_path: Path) -> None:
    content = json.dumps(squad(question()), indent=1)
    message = refusal(tmp_path / "x.json", content + "\n{}")
    assert message.startswith(f"line {content.count(chr(10)) + 2} follows after the object's end")


def test_an_id_that_does_not_print_is_escaped(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.json", squad(question("\x1b[2J\n", question=""))).startswith(
        r"question \x1b[2J\n has no"
    )
