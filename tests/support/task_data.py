"""A small file of each task's own form, whose texts are of the tiny models' words, and the experiment that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

COUNT = 24


def _texts(folder: Path) -> dict[str, Any]:
    path = folder / "texts.jsonl"
    rows = [{"text": f"the {'good match' if n % 2 else 'bad bank'} a film{' not' * (n % 5)}", "label": "xy"[n % 2]}
            for n in range(COUNT)]  # fmt: skip
    path.write_text("".join(json.dumps({**row, "text": f"{row['text']} {n}"}) + "\n" for n, row in enumerate(rows)))
    return {"source": str(path)}


def _relations(folder: Path) -> dict[str, Any]:
    path = folder / "relations.txt"
    labels = ("Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other")
    path.write_text(
        "".join(
            f'{n}\t"the <e1>bank</e1> {"not " * (n % 4)}a <e2>market</e2> {n}."\n{labels[n % 3]}\nComment:\n\n'
            for n in range(1, COUNT + 1)
        )
    )
    return {"source": str(path)}


def _entities(folder: Path) -> dict[str, Any]:
    path = folder / "entities.conll"
    sentences = [
        ["the O", "bank B-org", *(["market I-org"] if n % 2 else []), f"shares{n} O", *(["team B-group"] * (n % 3 > 0))]
        for n in range(COUNT)
    ]
    path.write_text("\n\n".join("\n".join(lines) for lines in sentences) + "\n")
    return {"source": str(path), "partition": {"kind": "iid"}}


def _questions(folder: Path) -> dict[str, Any]:
    path = folder / "questions.json"
    paragraphs = []
    for number in range(COUNT):
        context = f"the match {'a good film ' * (number % 4)}the team goal {number} not bad"
        answers = [{"text": "team goal", "answer_start": context.index("team goal")}]
        question = {"id": f"q{number}", "question": "the team ?", "answers": answers}
        paragraphs.append({"context": context, "qas": [question]})
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "a", "paragraphs": paragraphs}]}))
    return {"source": str(path), "partition": {"kind": "iid"}, "stride": 4}


DATA: dict[str, Callable[[Path], dict[str, Any]]] = {
    "text-classification": _texts,
    "relation-classification": _relations,
    "token-classification": _entities,
    "question-answering": _questions,
}
"""What writes a task's file into a folder and returns the `data` section that reads it."""


def task_experiment(folder: Path, task: str, method: str, model: str) -> dict[str, Any]:
    """An experiment of two clients on a model's folder, with small modules and few tokens, as a tree."""
    return {
        "task": task,
        "model": model,
        "data": {"max_length": 20, **DATA[task](folder)},
        "methods": [{"name": method}],
        "federation": {"devices": 2, "clients": 2, "clients_per_round": 2, "rounds": 1},
        "training": {"batch_size": 4, "precision": "fp32"},
        "lora": {"r": 2},
        "adapter": {"size": 4},
    }
