"""Tagged sentences as tests want them: files of them, and the task that reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from federa.data.dataset import Dataset
from federa.data.readers import open_file
from federa.tasks.token_classification import TokenClassification
from federa.tasks.token_data import TokenData

SENTENCES = (
    ("the match in a bank", "O O O B-place I-place"),
    ("good team", "B-group I-group"),
    ("not a film", "O O O"),
    ("market shares market", "B-place O B-place"),
)


def write_sentences(path: Path, sentences: Sequence[tuple[str, str]] = SENTENCES) -> Path:
    """Sentences as JSON lines, from words and tags with blanks between them."""
    rows = [{"tokens": words.split(" "), "tags": tags.split(" ")} for words, tags in sentences]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_sentences(path: Path, *, private: bool = False, **data: object) -> Dataset:
    """The data set of a file."""
    return TokenClassification(TokenData(**data)).read(open_file(path, private=private))


def tagger(*labels: str, scheme: str = "iob2") -> TokenClassification:
    """The resolved task with these labels."""
    return TokenClassification(TokenData(labels=labels, scheme=scheme))
