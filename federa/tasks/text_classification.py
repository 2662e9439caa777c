"""Text classification: one class a text. Counters `correct` and `examples`; the metric is accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import field_validator, model_validator

from federa.data.dataset import Dataset, Record
from federa.data.readers import DataSource, Row, no_documents
from federa.data.section import DEVICES, DataSection
from federa.errors import BadInput
from federa.tasks.base import Task
from federa.tasks.metric import Counters, Metric

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Batch, Examples

MAX_QUOTED = 60
"""Characters of a label that a refusal quotes whole."""


class ClassificationData(DataSection):
    """Labelled texts."""

    text_column: str = "text"
    """The column of the texts."""
    label_column: str = "label"
    """The column of the labels."""
    labels: tuple[str, ...] | None = None
    """The classes in their order. Without it they are the labels found, sorted. Where `source` is `devices` they
    must be given, since no one can see all devices' labels."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and (len(labels) < 2 or len(set(labels)) != len(labels)):
            raise ValueError("must be at least two different labels")
        return labels

    @model_validator(mode="after")
    def _names_what_nobody_can_look_up(self) -> ClassificationData:
        if self.source == DEVICES and self.labels is None:
            raise ValueError("labels must name the classes in their order where source is devices, such as [ham, spam]")
        return self


class LabelledText(NamedTuple):
    """A record: `label` is the index of the text's class."""

    text: str
    label: int


class TextClassification(Task):
    """A classifier over the experiment's classes, trained by cross entropy."""

    Data = ClassificationData
    metrics = (
        Metric(
            name="accuracy",
            better="higher",
            of=lambda counters: counters["correct"] / counters["examples"],
            target=0.9,
            above=0,
            at_most=1,
        ),
    )
    counters = ("correct", "examples")
    auto_model = "AutoModelForSequenceClassification"

    data: ClassificationData

    def record(self, row: Row) -> tuple[str, str]:
        """Text and label of a row."""
        text, label = row.texts(self.data.columns)
        if not label.strip():
            raise row.refused(f"has an empty label in column {self.data.label_column!r}")
        return text, label

    def read(self, source: DataSource) -> Dataset:
        """The records with their labels' indices; the labels are found where the experiment does not fix them."""
        return label_texts(list(map(self.record, source.rows)), self.data.labels, source.name)

    def identity(self, record: Record) -> str:
        return str(record[0])

    def strata(self, records: Sequence[Record]) -> list[int]:
        """A stratum for each class."""
        return [record[1] for record in records]

    def describe(self, records: Sequence[Record]) -> tuple[str, str]:
        counts = Counter(label for _, label in records)
        summary = f"{len(records)} documents with {len(counts)} labels"
        if len(counts) > max(2, len(records) // 2):
            # Perhaps they are texts, which stay where they are: the columns may be mistaken for one another.
            column = self.data.label_column
            doubt = f"is the label in the column {column!r}? The experiment's data.label_column says which it is"
            return summary, doubt
        most = ", ".join(
            f"{label if len(label) <= 20 else f'{label[:19]}…'} {count}" for label, count in counts.most_common(8)
        )
        return f"{summary}: {most}{', ...' if len(counts) > 8 else ''}", ""

    def model_options(self) -> dict[str, Any]:
        assert self.data.labels is not None, "the experiment must be resolved: its labels are known by then"
        names = dict(enumerate(self.data.labels))
        return {"id2label": names, "label2id": {name: index for index, name in names.items()}}

    def encode(self, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        from federa.data.batches import tokenize

        texts, labels = [record[0] for record in records], [record[1] for record in records]
        return tokenize(texts, labels, tokenizer, max_length)

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Cross entropy."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.logits.float(), batch.targets, reduction="sum")

    def count(self, outputs: Any, batch: Batch) -> Counters:
        """How many of the batch are right."""
        right = (outputs.logits.argmax(dim=-1) == batch.targets).sum()
        return {"correct": float(right), "examples": float(len(batch))}

    def check(self, counters: Counters) -> str:
        objection = super().check(counters)
        if not objection and not 0 <= counters["correct"] <= counters["examples"]:
            return f"{counters['correct']:g} right ones among {counters['examples']:g}"
        return objection


def label_texts(rows: Sequence[tuple[str, str]], labels: Sequence[str] | None, source: str) -> Dataset:
    """A data set of (text, label) pairs; `labels` fixes the classes and their order, else they are those found.

    Raises BadInput when there are no rows, fewer than two classes, or a label outside the fixed ones.
    """
    if not rows:
        raise no_documents(source)
    counts = Counter(label for _, label in rows)
    if labels is None:
        if len(counts) < 2:
            raise BadInput(f"data: {source} holds one class only ({next(iter(counts))!r}); at least two are needed")
        labels = sorted(counts)
    else:
        unknown = sorted(counts.keys() - set(labels))
        if unknown:
            # Where the columns are mistaken for one another, they are documents, which are nobody else's to read.
            # Labels recur, and some of them are known.
            known = ", ".join(labels)
            if len(unknown) == len(counts) and 2 * len(counts) > len(rows):
                raise BadInput(
                    f"data: {source} has {len(unknown)} different labels in {len(rows)} documents, and none of "
                    f"{known}: data.label_column must name the labels' column, and they must be spelled just so"
                )
            short = len(unknown[0]) <= MAX_QUOTED
            quoted = f"the label {unknown[0]!r}" if short else f"a label of {len(unknown[0])} characters"
            raise BadInput(f"data: {source} has {quoted}, which is none of {known}")
    index = {name: position for position, name in enumerate(labels)}
    records = tuple(LabelledText(text, index[label]) for text, label in rows)
    return Dataset(records=records, found={"labels": tuple(labels)})
