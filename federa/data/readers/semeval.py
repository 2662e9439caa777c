"""SemEval-2010 Task 8: blocks of a numbered sentence in quotes with two marked nominals, a label, and a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from federa.data.row import Row

_NUMBERED = re.compile(r"(\d+)[ \t]+(.*)")
_COMMENT = "Comment:"
_FORM = ': a block is a number, a tab and a "sentence", then a line with the label, "Comment:", and an empty line'


def is_semeval(lines: list[str]) -> bool:
    """Whether the first line is a numbered sentence, in quotes or with a marked nominal."""
    return bool(lines) and bool(re.match(r'\d+\t(".*"?$|.*<e1>.*</e1>)', lines[0]))


def semeval_rows(text: str, source: str, *, private: bool) -> Iterator[Row]:
    """The sentences of such a file, as rows: `text` (with its markers, without the quotes), `label`, `comment` and
    `number`."""
    commented = False
    for line, block in _blocks(text):
        numbered = _NUMBERED.fullmatch(block[0])
        number, sentence = numbered.groups() if numbered else ("", block[0])
        comment = next((index for index, line in enumerate(block) if index and line.startswith(_COMMENT)), len(block))
        commented = commented or comment < len(block)
        yield Row(
            values={
                "text": sentence[1:-1] if sentence.startswith('"') else sentence,
                "label": " ".join(block[1:comment]),
                "comment": " ".join(block[comment:]).removeprefix(_COMMENT).strip(),
                "number": number,
            },
            source=source,
            at=f"line {line}",
            private=private,
            headed=True,
            named=True,
            fault=_fault(number, sentence, comment - 1, without_comment=commented and comment == len(block)),
        )


def _fault(number: str, sentence: str, labels: int, *, without_comment: bool) -> tuple[str, str] | None:
    """What is wrong with a block that has so many lines between its sentence and its comment."""
    if not number:
        return "begins a block without a number", _FORM
    if sentence.startswith('"') and (len(sentence) < 2 or not sentence.endswith('"')):
        return "begins a sentence without its closing quote", _FORM
    if labels > 1:
        return f"begins a block with {labels} lines between sentence and comment", _FORM
    if labels and without_comment:
        return "begins a block without the comment that others have: is the file cut off?", _FORM
    return None


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of each block, and the number of its first one. A block ends with an empty line, or where the next
    number stands."""
    block: list[str] = []
    first = 0
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if block and (not line or re.match(r"\d+\t", line)):
            yield first, block
            block = []
        if line:
            first = first if block else number
            block.append(line)
    if block:
        yield first, block
