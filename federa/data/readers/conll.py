"""CoNLL: a token a line with its tags in columns, and a blank line between sentences.

How a file is written is found out from all of it, since nothing in it says so: what stands between columns, how many
there are, whether tokens are numbered, and which lines are comments.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from federa.data.row import Row
from federa.errors import BadInput

MAX_UNDIVIDED = 1000
"""Tokens that a file of one sentence may have: of more, somebody forgot the blank lines."""

MAX_LOOKED_AT = 1000
"""Lines that say whether tabs separate."""

_MARK = re.compile(r"-DOCSTART-(?=[ \t\r]|$)|#[ \t]*newdoc\b|#begin document\b", re.MULTILINE)
"""What begins a line before a document's first sentence: in CoNLL-2003, CoNLL-U, CoNLL-2012."""
_TAG = re.compile(r"O|[BIESLUM](-\S+)?")
_NO_WORD = re.compile(r"\d+-\d+|\d+\.\d+")
"""In CoNLL-U the number of what is no word of its own: several words written as one, a word that is not written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How a file is written: with `tabs` between columns or with blanks; how many `columns`; whether the first one
    numbers the tokens; what stands in the `last` one of lines that are surely tokens; and the `sentences` there are,
    with the tokens of the `longest`."""

    newline: str
    tabs: bool
    columns: int = 0
    numbered: bool = False
    last: frozenset[str] = frozenset()
    sentences: int = 0
    longest: int = 0

    def values(self, line: str) -> list[str]:
        """The values of a line's columns. Where blanks separate, no other kind of space does: it may be a token."""
        if self.tabs:
            return [value.strip(" ") for value in line.split("\t")]
        return [value for value in line.replace("\t", " ").split(" ") if value]

    def is_comment(self, line: str, values: list[str]) -> bool:
        """Whether a line that begins with # is a comment, where it stands before a sentence's first token."""
        if len(values) != self.columns:
            return len(line.split()) > 1
        is_tag = values[-1] == "#" or values[-1] in self.last or _TAG.fullmatch(values[-1])
        return not is_tag and (values[0] == "#" or bool(_MARK.match(line)))


@dataclass(kw_only=True, slots=True)
class Sentence:
    """The values of each token, and the line it stands on. `fault` is the first line with another number of columns
    than the file has, and that number."""

    document: int
    tokens: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    fault: tuple[int, int] | None = None


def conll_rows(text: str, source: str, *, private: bool) -> Iterator[Row]:
    """The sentences of a CoNLL file, as rows: `tokens`, `tags` (the last column), each column under its number, and the
    number of the `document` where the file marks them. Raises BadInput."""
    nul = text.find("\0")
    if nul >= 0:
        line = 1 + text.count("\n", 0, nul)
        raise BadInput(f"data: {source} line {line} holds a NUL character, which is no text: the file is damaged")
    form = form_of(text)
    if form.columns == 1:
        raise BadInput(f"data: {source} has one column: a line must hold a token and its tag, with a tab between them")
    if form.sentences == 1 and form.longest > MAX_UNDIVIDED:
        why = "a blank line must stand between sentences"
        raise BadInput(f"data: {source} is one sentence of {form.longest:,} tokens: {why}")
    documents = bool(_MARK.search(text))
    names = [str(number + 1) for number in range(form.columns)]
    for sentence in _sentences(text, form):
        columns: list[list[str]] = [[] for _ in names]
        if not sentence.fault:
            columns = [list(column) for column in zip(*sentence.tokens, strict=True)]
        values: dict[str, object] = {"tokens": columns[form.numbered], "tags": columns[-1]}
        values.update(zip(names, columns, strict=True))
        if documents:
            values["document"] = sentence.document
        yield Row(
            values=values,
            source=source,
            at=f"line {sentence.fault[0] if sentence.fault else sentence.lines[0]}",
            lines=sentence.lines,
            private=private,
            headed=True,
            named=True,
            fault=_fault(sentence.fault[1], form) if sentence.fault else None,
        )


def form_of(text: str) -> Form:
    """How a text is written, as most of its lines are, tabs as most of the first. Without a token it has no columns."""
    newline = "\n" if "\n" in text else "\r"
    filled = (line for _, line in _lines(text, newline) if line and not _MARK.match(line))
    first = list(islice(filled, MAX_LOOKED_AT))
    # Of lines that begin with # it is not known yet what they are, but where there are no others they are tokens.
    others = [line for line in first if not line.startswith("#")]
    form = Form(newline=newline, tabs=_has_tabs(others or first))
    counts: Counter[int] = Counter()
    last: dict[int, set[str]] = defaultdict(set)
    numbered, sentences, longest, tokens = True, 0, 0, 0
    for _, line in _lines(text, newline):
        if not line or (line[0] in "-#" and _MARK.match(line)):
            tokens = 0
            continue
        if line[0] == "#" and not tokens and others:
            continue  # behind a token it's no comment
        values = form.values(line)
        counts[len(values)] += 1
        last[len(values)].add(values[-1])
        if numbered and not _NO_WORD.fullmatch(values[0]):
            numbered = values[0] == str(tokens + 1)
        elif numbered:
            continue
        tokens += 1
        sentences += tokens == 1
        longest = max(longest, tokens)
    columns = max(counts, key=lambda count: (counts[count], count), default=0)
    return replace(
        form,
        columns=columns,
        numbered=numbered and longest > 1 and columns > 2,
        last=frozenset(last[columns]),
        sentences=sentences,
        longest=longest,
    )


def is_conll(lines: Sequence[str], *, surely: bool = False) -> bool:
    """Whether these first lines of a file, which may be empty, are tokens with tags: `surely` by their tags alone, else
    by blank lines between them, too."""
    if any(_MARK.match(line) for line in lines[:1]):
        return True
    tokens = [line for line in lines if line and not line.startswith("#")]
    form = Form(newline="\n", tabs=_has_tabs(tokens))
    counts = Counter(len(form.values(line)) for line in tokens)
    columns = max(counts, key=lambda count: (counts[count], count), default=0)
    tags = [bool(_TAG.fullmatch(form.values(line)[-1])) for line in tokens]
    if columns < 2 or counts[columns] < 0.8 * len(tokens):
        return False
    return tags[0] and sum(tags) > 0.8 * len(tags) if surely else 2 * sum(tags) > len(tags) or "" in lines[1:-1]


def _has_tabs(lines: Sequence[str]) -> bool:
    return 2 * sum("\t" in line for line in lines) >= max(1, len(lines))


def _sentences(text: str, form: Form) -> Iterator[Sentence]:
    sentence = Sentence(document=0)
    for number, line in _lines(text, form.newline):
        values = form.values(line) if line else []
        begins = not sentence.lines and not sentence.fault
        mark = bool(line) and line[0] in "-#" and bool(_MARK.match(line))
        if line.startswith("#") and begins and form.is_comment(line, values):
            sentence.document += mark
        elif mark or not line:
            if not begins:
                yield sentence
            sentence = Sentence(document=sentence.document + mark)
        elif len(values) != form.columns:
            sentence.fault = sentence.fault or (number, len(values))
        elif not (form.numbered and _NO_WORD.fullmatch(values[0])):
            sentence.tokens.append(values)
            sentence.lines.append(number)
    if sentence.lines or sentence.fault:
        yield sentence


def _lines(text: str, newline: str) -> Iterator[tuple[int, str]]:
    """The lines by their number, without blanks at their end. Not splitlines(): what else ends a line there may be a
    token."""
    position, number = 0, 0
    while position < len(text):
        end = text.find(newline, position)
        end = len(text) if end < 0 else end
        number += 1
        yield number, text[position:end].rstrip(" \t\r")
        position = end + 1


def _fault(columns: int, form: Form) -> tuple[str, str]:
    """What is wrong with a line of so many columns."""
    what = "1 column" if columns == 1 else f"{columns} columns"
    reason = f"has {what} where most lines have {form.columns}"
    separator = "a tab" if form.tabs else "a blank"
    if columns < form.columns:
        return reason, f": write each token with all its tags on one line, with {separator} between them"
    return reason, f": no token may hold {separator}" + (
        "" if form.tabs else "; where one must, put tabs between columns"
    )
