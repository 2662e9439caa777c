"""Text classification: one class a text. The metrics are accuracy and macro-F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import field_validator, model_validator

from federa.data.dataset import Dataset, Record
from federa.data.readers import DataSource, Row, no_documents
from federa.data.section import DEVICES, DataSection
from federa.errors import BadInput, shown
from federa.tasks.base import Task
from federa.tasks.class_counters import count_classes, counter_names, macro_f1, objection
from federa.tasks.labels import (
    MAX_LABEL,
    MAX_QUOTED,
    alike,
    counted,
    difference,
    fixed_labels,
    in_order,
    label_text,
    likeness,
    listed,
    numbers_as_text,
)
from federa.tasks.metric import Counters, Metric

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Batch, Examples


ACCURACY = Metric(
    name="accuracy",
    better="higher",
    of=lambda counters: counters["correct"] / counters["examples"],
    target=0.9,
    above=0,
    at_most=1,
)


class ClassificationData(DataSection):
    """Labelled texts."""

    text_column: str = "text"
    """The column of the texts."""
    label_column: str = "label"
    """The column of the labels."""
    labels: tuple[str, ...] | None = None
    """The classes in their order. Without it they are the labels found: numbers, and labels that are numbered, such
    as LABEL_2 and LABEL_10, by their number, all others as text. Where `source` is `devices` they must be given, since
    no one can see all devices' labels."""

    @field_validator("labels", mode="before")
    @classmethod
    def _whole_numbers_are_labels_too(cls, labels: object) -> object:
        return numbers_as_text(labels)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if labels is None else fixed_labels(labels)

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
        ACCURACY,
        # As scikit-learn's f1_score(average="macro"): over the classes that labels or predictions have.
        Metric(name="macro_f1", better="higher", of=macro_f1, target=0.9, above=0, at_most=1),
    )
    counters = ("correct", "examples")
    auto_model = "AutoModelForSequenceClassification"

    data: ClassificationData

    def record(self, row: Row) -> tuple[str, str]:
        """Text and label of a row."""
        text, label = row.texts(self.data.columns)
        label = label_text(label)
        if not label:
            raise row.refused(f"has no label in column {self.data.label_column!r}")
        if len(label) > MAX_LABEL:
            raise row.refused(f"has a label of more than {MAX_LABEL} characters", f": {self._doubt}")
        return text, label

    def read(self, source: DataSource) -> Dataset:
        """The records with their labels' indices; the labels are found where the experiment does not fix them."""
        places: dict[str, str] = {}

        def record(row: Row) -> tuple[str, str]:
            text, label = self.record(row)
            places.setdefault(label, row.at)
            return text, label

        return label_texts(source.records(record), self.data.labels, source.name, places)

    def identity(self, record: Record) -> str:
        return str(record[0])

    def strata(self, records: Sequence[Record]) -> list[int]:
        """A stratum for each class."""
        return [record[1] for record in records]

    def class_names(self) -> tuple[str, ...]:
        assert self.data.labels is not None, "the experiment must be resolved: its labels are known by then"
        return self.data.labels

    def made_up(self, tokens: int) -> Sequence[Record]:
        """A long text of the last class, and one word of the first."""
        assert self.data.labels is not None, "the experiment must be resolved: its labels are known by then"
        return LabelledText("word " * tokens, len(self.data.labels) - 1), LabelledText("word", 0)

    def describe(self, records: Sequence[Record]) -> tuple[str, str]:
        counts = Counter(label for _, label in records)
        summary = f"{len(records):,} documents with {len(counts):,} labels"
        if _may_be_texts(len(counts), len(records)):
            # They stay where they are.
            return summary, self._doubt
        doubt, advice = likeness(counts)
        text = f"{summary}: {counted({label: counts[label] for label in in_order(counts)})}"
        return text, f"it has {doubt}: {advice}" if doubt else ""

    @property
    def _doubt(self) -> str:
        column = shown(repr(self.data.label_column), MAX_QUOTED)
        return f"is the label in the column {column}? The experiment's data.label_column says which it is"

    def model_options(self) -> dict[str, Any]:
        names = dict(enumerate(self.class_names()))
        return {"id2label": names, "label2id": {name: index for index, name in names.items()}}

    def encode(self, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        from federa.data.batches import tokenize

        texts, labels = [record[0] for record in records], [record[1] for record in records]
        return tokenize(texts, labels, tokenizer, max_length)

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Cross entropy."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.logits.float(), batch.targets, reduction="sum")

    @property
    def class_counters(self) -> frozenset[str]:
        return counter_names(len(self.class_names()))

    def count(self, outputs: Any, batch: Batch) -> Counters:
        """How many of the batch are right, and for each class how many are predicted to be of it, are, and both."""
        predicted, gold = outputs.logits.argmax(dim=-1).tolist(), batch.targets.tolist()
        return {**self._count(predicted, gold), "examples": float(len(batch))}

    def _count(self, predicted: Sequence[int], gold: Sequence[int]) -> dict[str, float]:
        pairs = list(zip(predicted, gold, strict=True))
        by_class = count_classes((one, other, one == other) for one, other in pairs)
        return {"correct": float(sum(one == other for one, other in pairs)), **by_class}

    def check(self, counters: Counters) -> str:
        found = super().check(counters)
        if found:
            return found
        if not 0 <= counters["correct"] <= counters["examples"]:
            return f"{counters['correct']:g} right ones among {counters['examples']:g}"
        return self._objection(counters)

    def _objection(self, counters: Counters) -> str:
        return objection(counters, whole=True)


def label_texts(
    rows: Sequence[tuple[str, str]], labels: Sequence[str] | None, source: str, places: Mapping[str, str] | None = None
) -> Dataset:
    """A data set of (text, label) pairs; `labels` fixes the classes and their order, else they are those found.
    `places` says where each label stands first.

    Raises BadInput when there are no rows, fewer than two classes, a label outside the fixed ones, or labels of which
    it is doubtful whether they are classes.
    """
    if not rows:
        raise no_documents(source)
    counts = Counter(label for _, label in rows)
    if labels is None:
        labels = _classes(counts, source)
    elif unknown := in_order(counts.keys() - set(labels)):
        raise BadInput(f"data: {source} has {_unknown(unknown, counts, labels, places or {})}")
    index = {name: position for position, name in enumerate(labels)}
    records = tuple(LabelledText(text, index[label]) for text, label in rows)
    return Dataset(records=records, found={"labels": tuple(labels)})


def _classes(counts: Counter[str], source: str) -> list[str]:
    """The classes that are found in the data."""
    documents = counts.total()
    if len(counts) < 2:
        (label,) = counts
        raise BadInput(f"data: {source} holds one class only ({shown(repr(label))}); at least two are needed")
    if _may_be_texts(len(counts), documents):
        raise BadInput(
            f"data: {source} has {len(counts):,} different labels in {documents:,} documents: data.label_column must "
            "name the labels' column; where each is a class, data.labels must name all of them"
        )
    doubt, advice = likeness(counts)
    if doubt:
        raise BadInput(f"data: {source} has {doubt}: {advice}")
    return in_order(counts)


def _unknown(unknown: Sequence[str], counts: Counter[str], labels: Sequence[str], places: Mapping[str, str]) -> str:
    """What is said of labels outside the fixed ones."""
    known = listed(labels)
    # Where the columns are mistaken for one another, they are documents, which are nobody else's to read. Labels recur,
    # and some of them are known.
    if len(unknown) == len(counts) and 2 * len(counts) > counts.total():
        return (
            f"{len(unknown):,} different labels in {counts.total():,} documents, and none of {known}: "
            "data.label_column must name the labels' column, and they must be spelled just so"
        )
    label = unknown[0]
    short = len(label) <= MAX_QUOTED
    quoted = f"the label {shown(repr(label))}" if short else f"a label of {len(label)} characters"
    near = alike(label, labels)
    how = f"; it differs from {shown(ascii(near), MAX_QUOTED)} {difference(near, label)}" if near and short else ""
    where = f" ({places[label].rstrip(',')})" if label in places else ""
    return f"{quoted}, which is none of {known}{how}{where}: mend it, or name all classes in data.labels"


def _may_be_texts(labels: int, documents: int) -> bool:
    """Whether there are so many labels that they may be texts: the columns may be mistaken for one another."""
    return labels > max(2, documents // 2)
