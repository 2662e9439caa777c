"""Questions about small contexts, as a file: of tokens that the tiny models know, some longer than a window."""

from __future__ import annotations

import json
from pathlib import Path

CONTEXTS = 12


def write_questions(path: Path, *, impossible: bool = False) -> Path:
    """Two questions about each of twelve contexts. Where there are `impossible` ones, each second has no answer."""
    rows = []
    for number in range(CONTEXTS):
        words = ["bank", "goal", "film"][number % 3]
        context = f"{number} " + "the good music " * (3 * (number % 4)) + f"a {words} not bad"
        for asked in ("the market", "a team"):
            none = impossible and asked == "a team"
            answers = {"text": [] if none else [words], "answer_start": [] if none else [context.index(words)]}
            rows.append({"question": asked, "context": context, "answers": answers, "is_impossible": none})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
