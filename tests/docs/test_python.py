"""The Python of the documents, run as it stands, but for a tiny model, short texts, one round and a low target."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, blocks

pytestmark = pytest.mark.slow

# What two documents have in common is run once. Files of examples/ that a page shows have tests of their own.
PYTHON = list(
    {
        block.text: block
        for path in reversed(DOCUMENTS)
        for block in blocks(path)
        if block.language == "python" and not block.text.startswith("--8<--")
    }.values()
)[::-1]
TARGET = '"target": {"value": 0.9}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: later pieces read what earlier ones made."""
    return tmp_path_factory.mktemp("python")


def quick(text: str, folder: Path, model: str) -> str:
    """The same program with an experiment of seconds."""
    documents = folder / "documents.jsonl"
    kinds = {"sport": "match", "money": "bank"}
    rows = [{"text": f"the {kinds[kind]} not a bad film {n}", "label": kind} for n in range(60) for kind in kinds]
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    added = {
        "model": model, "target": {"value": 0.01}, "federation": {"rounds": 1}, "training": {"precision": "fp32"},
        "data": {"source": str(documents), "max_length": 16},
    }  # fmt: skip
    return text.replace(TARGET, json.dumps(added)[1:-1])


def test_the_documents_hold_python():
    assert {block.path.name for block in PYTHON} >= {"README.md", "python-api.md"}
    assert any(TARGET in block.text for block in PYTHON)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_the_python_of_a_document_runs(block, folder: Path, tiny_folder: Callable[[str], str]):
    done = subprocess.run(
        [sys.executable, "-c", quick(block.text, folder, tiny_folder("bert"))],
        cwd=folder, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.place}:\n{block.text}\n{done.stderr}"
    # What the text says is printed is.
    assert done.stdout.strip() or "print" not in block.text
    if TARGET in block.text:
        assert done.stdout.startswith("federa True 1 "), done.stdout


def test_ten_lines_are_ten():
    (block,) = (block for block in PYTHON if block.path == ROOT / "README.md")
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 10
