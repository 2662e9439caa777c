"""SQuAD JSON, v1.1 and v2: articles of paragraphs, each with a context and questions about it, in one object.

Articles are read one after the other. Data sets of the form that keep their questions in a flat list under `data` are
read too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from federa.data.readers.json_text import BadJson, after_blanks, decode, elements, member
from federa.data.row import MAX_NAME, Row
from federa.errors import BadInput, shown

_FORM = 'SQuAD JSON is {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}'
_ANSWER = ': an answer is {"text": "a part of the context", "answer_start": its first character, from 0}'


def is_squad(text: str) -> bool:
    """Whether a JSON text is one object with articles, or questions, under `data`."""
    data = _data(text)
    if data is None:
        return False
    first = after_blanks(text, data + 1)
    if text.startswith("]", first):
        return member(text, after_blanks(text, 0), "version") is not None
    has = {name: member(text, first, name) is not None for name in ("paragraphs", "context", "question")}
    return text.startswith("{", first) and (has["paragraphs"] or (has["context"] and has["question"]))


def squad_rows(text: str, source: str, *, private: bool) -> Iterator[Row]:
    """The questions of a SQuAD file, as rows: `id`, `title`, `question`, `context`, `answers` (their `text` and
    `answer_start`, in lists) and `is_impossible`. Raises BadInput."""
    try:
        for number, (title, context, question) in enumerate(_questions(text), start=1):
            name = question.get("id")
            named = not private and isinstance(name, str | int) and str(name).strip()
            answers, fault = _answers(question)
            yield Row(
                values={
                    "id": name,
                    "title": title,
                    "question": question.get("question"),
                    "context": context,
                    "answers": answers,
                    "is_impossible": question.get("is_impossible", False),
                },
                source=source,
                at=f"question {shown(name, MAX_NAME) if named else f'number {number}'}",
                private=private,
                headed=True,
                named=True,
                fault=fault,
            )
    except BadJson as error:
        raise BadInput(f"data: {source} line {error.line} {error.why}") from None
    except _BadForm as error:
        raise BadInput(f"data: {source} {error}: {_FORM}") from None


class _BadForm(Exception):
    """Articles or paragraphs are not what they must be. Its text says which, and why."""


def _questions(text: str) -> Iterator[tuple[object, object, dict[str, Any]]]:
    """Each question with the title and the context that it stands under."""
    data = _data(text)
    assert data is not None, "is_squad says whether it has any"
    end = data + 1
    for number, (_, article, stop) in enumerate(elements(text, data), start=1):
        where, end = f"article {number}", stop
        if isinstance(article, dict) and "question" in article:
            yield article.get("title"), article.get("context"), article
            continue
        for place, paragraph in _objects(article, "paragraphs", where):
            for _, question in _objects(paragraph, "qas", place):
                yield article.get("title"), paragraph.get("context"), question
    # The rest of the object, with as many lines as there are: the file may be cut off behind the articles.
    closing = after_blanks(text, end) + 1
    rest = f"{text[:data]}[{chr(10) * text.count(chr(10), data, closing)}]{text[closing:]}"
    _, end = decode(rest, after_blanks(rest, 0), 1)
    following = after_blanks(rest, end)
    if following < len(rest):
        raise BadJson(
            1 + rest.count("\n", 0, following), "follows after the object's end: it must be the file's only one"
        )


def _objects(holder: object, name: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list that an object holds under a name, each with its place."""
    listed = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(listed, list):
        raise _BadForm(f"{where} has no list of {name}")
    for number, found in enumerate(listed, start=1):
        place = f"{where}, {'paragraph' if name == 'paragraphs' else 'question'} {number}"
        if not isinstance(found, dict):
            raise _BadForm(f"{place} is no object")
        yield place, found


def _answers(question: dict[str, Any]) -> tuple[dict[str, list[Any]] | None, tuple[str, str] | None]:
    """A question's answers in two lists, and what is wrong with them."""
    listed = question.get("answers")
    if isinstance(listed, dict) and all(isinstance(listed.get(name), list) for name in ("text", "answer_start")):
        return listed, None  # as the hub has them
    found: dict[str, list[Any]] = {"text": [], "answer_start": []}
    if listed is None and question.get("is_impossible") is True:
        return found, None
    if not isinstance(listed, list):
        return None, ("has no list of answers", _ANSWER)
    for answer in listed:
        text, start = (answer.get(name) if isinstance(answer, dict) else None for name in found)
        if not isinstance(text, str) or not text.strip():
            return None, ("has an answer without a text", _ANSWER)
        if not isinstance(start, int) or isinstance(start, bool):
            return None, ("has an answer without an answer_start that is a whole number", _ANSWER)
        found["text"].append(text)
        found["answer_start"].append(start)
    return found, None


def _data(text: str) -> int | None:
    """Where the list under `data` begins in an object that is the whole text."""
    start = after_blanks(text, 0)
    data = member(text, start, "data") if text.startswith("{", start) else None
    return data if data is not None and text.startswith("[", data) else None
