"""Text classification as tests want it: so many classes, a data set of pairs, a file as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from federa.data.dataset import Dataset
from federa.data.readers import open_file
from federa.tasks.text_classification import ClassificationData, LabelledText, TextClassification


def classify(classes: int = 2) -> TextClassification:
    """The task with so many classes, called 0, 1, ..."""
    return TextClassification(ClassificationData(labels=tuple(map(str, range(max(2, classes))))))


def dataset_of(rows: Sequence[tuple[str, int]], classes: int = 4) -> Dataset:
    """Texts with the indices of their labels."""
    records = tuple(LabelledText(text, label) for text, label in rows)
    return Dataset(records=records, found={"labels": tuple(f"label {number}" for number in range(classes))})


def read_dataset(data: ClassificationData) -> Dataset:
    """The data set that a `data` section names."""
    return TextClassification(data).load()


def read_file(path: Path, data: ClassificationData, *, private: bool = False) -> Dataset:
    """That of a file."""
    return TextClassification(data).read(open_file(path, private=private))


def texts_of(dataset: Dataset) -> tuple[str, ...]:
    return tuple(text for text, _ in dataset.records)


def labels_of(dataset: Dataset) -> tuple[int, ...]:
    return tuple(label for _, label in dataset.records)


def names_of(dataset: Dataset) -> tuple[str, ...]:
    """The classes, in their order."""
    return tuple(dataset.found["labels"])
