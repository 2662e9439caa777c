"""A file of texts and labels: what is read from it, and what is said of one that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from federa.data.readers import Row, open_file
from federa.errors import BadInput

COLUMNS = {"text_column": "text", "label_column": "label"}


def text_and_label(row: Row) -> tuple[str, str]:
    text, label = row.texts(COLUMNS)
    return text, label


def read(path: Path, *, private: bool = False) -> list[tuple[str, str]]:
    """The texts and labels of a file."""
    return open_file(path, private=private).records(text_and_label)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path, content: str | bytes, *, private: bool = False) -> str:
    """What is said of a file with this content, without the file's name. It is one line that prints."""
    with pytest.raises(BadInput) as caught:
        read(written(path, content), private=private)
    message = str(caught.value)
    assert message.startswith(f"data: {path} ") and message.isprintable()
    return message.removeprefix(f"data: {path} ")
