"""Sentences with two marked entities, and their relations, as tests want them."""

from __future__ import annotations

import json
from pathlib import Path

from federa.tasks.relation_classification import RelationClassification, RelationData

LABELS = ("Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Entity-Origin(e1,e2)", "Entity-Origin(e2,e1)", "Other")
SENTENCES = (
    ("the <e1>goal</e1> was good and the <e2>team</e2> won", LABELS[0]),
    ("the <e1>team</e1> won since the <e2>goal</e2> was good", LABELS[1]),
    ("<e1>music</e1> from a <e2>film</e2>", LABELS[2]),
    ("a <e1>film</e1> that the <e2>music</e2> is from", LABELS[3]),
    ("the <e1>bank</e1> and not the <e2>market</e2>", LABELS[4]),
)


def relations(**data: object) -> RelationClassification:
    """The task with these five labels."""
    return RelationClassification(RelationData.model_validate({"labels": LABELS, **data}))


def write_relations(path: Path, copies: int = 8) -> Path:
    """So many sentences of each relation, as JSONL."""
    rows = [{"text": f"{text} {number}", "label": label} for number in range(copies) for text, label in SENTENCES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
