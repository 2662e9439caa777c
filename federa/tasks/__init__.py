"""What is learned, by name. A new task is a file beside this one and a line in TASKS; docs/extending.md shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federa.registry import load_class

if TYPE_CHECKING:
    from federa.tasks.base import Task

TASKS = {
    "text-classification": "federa.tasks.text_classification:TextClassification",
    "relation-classification": "federa.tasks.relation_classification:RelationClassification",
    "token-classification": "federa.tasks.token_classification:TokenClassification",
    "question-answering": "federa.tasks.question_answering:QuestionAnswering",
}
DEFAULT_TASK = "text-classification"


def task_class(name: str) -> type[Task]:
    """The class of a task. Raises KeyError for a name that is not in TASKS, BadInput
    where its entry leads to no class."""
    found: type[Task] = load_class("TASKS", TASKS, name)
    return found
