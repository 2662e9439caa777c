"""A task of one's own: text regression, a number for a text (a rating, a price, how alike two sentences are).

The loss is the squared error; so is the metric, averaged, and the lower it is the better.

To use it, copy this file to federa/tasks/text_regression.py, add to TASKS in federa/tasks/__init__.py

    "text-regression": "federa.tasks.text_regression:TextRegression",

and run it on a .csv, .tsv or .jsonl file with a column of texts and one of numbers:

    federa-bench --data reviews.csv --set task=text-regression --set data.value_column=stars --target-acc 0.5
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from federa.data.dataset import Record
from federa.data.readers import Row
from federa.data.section import DataSection
from federa.tasks.base import Task
from federa.tasks.metric import Counters, Metric

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Batch, Examples

STRATA = 10
"""Splits sample each tenth of the values in equal proportion; a Dirichlet partition gives clients unequal shares."""


class RegressionData(DataSection):
    """The experiment's `data` section for this task: what every task's has (source, validation, test, max_length,
    partition), and the columns. A field that ends in `_column` names a column that every record must have."""

    text_column: str = "text"
    value_column: str = "value"


class TextAndValue(NamedTuple):
    """A record. It holds plain values alone: text and numbers."""

    text: str
    value: float


class TextRegression(Task):
    """One number a text, trained by the squared error."""

    Data = RegressionData
    # What is counted is sent and summed; the metric is computed from the sum. A mean could not be added up.
    counters = ("squared_error", "examples")
    metrics = (
        Metric(
            name="mse",
            better="lower",
            of=lambda counters: counters["squared_error"] / counters["examples"],
            target=0.1,
            above=0,
        ),
    )
    auto_model = "AutoModelForSequenceClassification"

    data: RegressionData

    # ---- records

    def record(self, row: Row) -> TextAndValue:
        """`row.texts` refuses a row without these columns; `row.refused` makes an error that names file and line."""
        text, number = row.texts(self.data.columns)
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            # A device's own file is private: what stands there is not quoted.
            raise row.refused(f"has no number in column {self.data.value_column!r} (data.value_column)")
        return TextAndValue(text, value)

    def identity(self, record: Record) -> str:
        return str(record[0])

    def made_up(self, tokens: int) -> Sequence[Record]:
        """What the coordinator tries the model with where the data are on the devices: a long text and a short one."""
        return TextAndValue("word " * tokens, 1.0), TextAndValue("word", 0.0)

    def strata(self, records: Sequence[Record]) -> list[int]:
        """By rank, equal values together."""
        ordered = sorted(record[1] for record in records)
        first = {value: place for place, value in reversed(list(enumerate(ordered)))}
        return [first[record[1]] * STRATA // len(records) for record in records]

    def describe(self, records: Sequence[Record]) -> tuple[str, str]:
        values = [record[1] for record in records]
        summary = f"{len(records)} documents"
        return (f"{summary} with values from {min(values):g} to {max(values):g}" if values else summary), ""

    # ---- the model

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        from federa.data.batches import tokenize

        return tokenize([record[0] for record in records], [record[1] for record in records], tokenizer, max_length)

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The sum over the batch: the trainer divides by the number of examples in an optimizer step. In fp32, whatever
        the model computes in."""
        return ((outputs.logits.float().squeeze(-1) - batch.targets) ** 2).sum()

    # ---- evaluation

    def count(self, outputs: Any, batch: Batch) -> Counters:
        return {"squared_error": float(self.loss(outputs, batch)), "examples": float(len(batch))}

    def check(self, counters: Counters) -> str:
        """What a device reports is looked at before it is summed. The base class has checked the names, that the values
        are finite, and that the examples are a whole number."""
        objection = super().check(counters)
        if not objection and counters["squared_error"] < 0:
            return f"a squared error of {counters['squared_error']:g}"
        return objection
