"""The Python of the documents, run as it stands, but for a tiny model, short texts, one round and a low target."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, Block, blocks

pytestmark = pytest.mark.slow

PYTHON: list[Block] = []
for path in DOCUMENTS:
    for block in blocks(path):
        # What two documents have in common is run once. Files of examples/ that a page shows have tests of their own.
        known = block.text in {other.text for other in PYTHON} or block.text.startswith("--8<--")
        if block.language == "python" and not known:
            PYTHON.append(block)
TARGET = '"target": {"value": 0.9}'


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


def test_the_python_of_the_documents_runs_in_order(tmp_path: Path, tiny_folder: Callable[[str], str]):
    # In one folder: later pieces read what earlier ones made.
    for block in PYTHON:
        done = subprocess.run(
            [sys.executable, "-c", quick(block.text, tmp_path, tiny_folder("bert"))],
            cwd=tmp_path, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.place}:\n{block.text}\n{done.stderr}"
        # What the text says is printed is.
        assert done.stdout.strip() or "print" not in block.text
        if TARGET in block.text:
            assert done.stdout.startswith("federa True 1 "), done.stdout


def test_ten_lines_are_ten():
    (block,) = (block for block in PYTHON if block.path == ROOT / "README.md")
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 10
