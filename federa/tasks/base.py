"""What a task is: records of its own, a model class, a loss, counters, and the metrics that are made of them.

Everything outside this folder knows a task by this interface. The coordinator, the wire and the reports see counters
and a metric's name; the device sees examples, batches and a loss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from federa.data.dataset import Dataset, Record
from federa.data.groups import noting
from federa.data.readers import DataSource, RefusedRow, Row, no_documents, open_data, open_file, open_source
from federa.data.section import DataSection, HeldOut
from federa.errors import BadInput
from federa.tasks.metric import Counters, Metric

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Batch, Examples


class Task:
    """One experiment's task, made from its `data` section.

    No module of a task imports torch at its top: the coordinator and the command line read the registry, too.
    """

    Data: ClassVar[type[DataSection]] = DataSection
    """The experiment's `data` section for this task: columns, and what else reading needs."""
    metrics: ClassVar[tuple[Metric, ...]]
    """At least one: an experiment that names none has the first as its target."""
    auto_model: ClassVar[str]
    """The class of transformers that loads the model, such as AutoModelForSequenceClassification."""
    added_tokens: ClassVar[tuple[str, ...]] = ()
    """Tokens of the task's own, such as markers, that no pre-trained model has. Their embeddings are trained."""

    def __init__(self, data: DataSection) -> None:
        self.data = data

    @property
    def counters(self) -> tuple[str, ...]:
        """The names that `count` gives, and `examples` among them: nothing else is taken from a device. Where they
        depend on what reading the data found, ask a resolved task."""
        return ("examples",)

    @property
    def class_counters(self) -> Collection[str]:
        """The names of counters by class, such as `gold/3`: a slash tells them from others. `count` may leave out those
        that are 0. Ask a resolved task."""
        return ()

    # ---- records

    def record(self, row: Row) -> Record:
        """What becomes of one row of a file. Raises BadInput through the row, which knows its place."""
        raise NotImplementedError

    def read(self, source: DataSource) -> Dataset:
        """All records of a source. A task that finds something out from all of them together (such as the classes) puts
        it into the data set's `found`. Raises BadInput where there is none, or one cannot be used."""
        return Dataset(records=tuple(source.records(self.record)))

    def load(self, file: Path | None = None, *, parts: bool = False) -> Dataset:
        """The data set that the experiment names, or a device's own `file`: what is refused of it goes to the
        coordinator, and quotes none of its texts. With `parts` those follow that come by themselves; what reading the
        source found holds for them. Raises BadInput."""
        if file is not None:
            return self.read(open_file(file, private=True))
        dataset = self._read_grouped(open_data(self.data))
        if parts:
            for part, given in self.resolved(dataset).given_parts().items():
                dataset = dataset.with_part(part, given)
        return dataset

    def given_parts(self) -> dict[HeldOut, Dataset]:
        """The held-out parts that come by themselves. Ask a resolved task. Raises BadInput."""
        return {
            part: self._read_grouped(open_source(file), required=False) for part, file in self.data.given_parts.items()
        }

    def check_data(self) -> None:
        """Raises BadInput where the data that the experiment names cannot be opened, or its first record not used: then
        it counts all of the kind."""
        self._check_source(partial(open_data, self.data))
        for file in self.data.given_parts.values():
            self._check_source(partial(open_source, file))

    def _check_source(self, open_: Callable[[], DataSource]) -> None:
        source = open_()
        for row in source.rows:
            try:
                self.record(row)
            except RefusedRow:
                open_().records(self.record)
            return
        raise no_documents(source.name)

    def _read_grouped(self, source: DataSource, *, required: bool = True) -> Dataset:
        """The records of a source and, where the partition is by a column, its values; a part that comes by itself
        may lack it."""
        source, column = source.at_most(self.data.max_records), self.data.partition.column
        if not column:
            return self.read(source)
        groups: list[str] = []
        dataset = self.read(replace(source, rows=noting(source.rows, column, groups, required)))
        if len(groups) != len(dataset.records):
            raise BadInput(
                f"data.partition.kind must not be natural: {len(groups)} rows of {source.name} became "
                f"{len(dataset.records)} records"
            )
        return replace(dataset, groups=tuple(groups))

    def resolved(self, dataset: Dataset) -> Self:
        """The task that knows what was found when this data set was read."""
        return type(self)(self.data.model_copy(update=dict(dataset.found)))

    def identity(self, record: Record) -> str:
        """The text by which duplicates of a record are recognised: they stay in one part of a split."""
        raise NotImplementedError

    def strata(self, records: Sequence[Record]) -> list[int]:
        """The stratum of each record: splits sample each in equal proportion, a partition may skew them. One, where a
        task has no classes of records: then a Dirichlet partition skews amounts alone."""
        return [0] * len(records)

    def embedded_text(self, record: Record) -> str:
        """The text whose sentence embedding says what a record is about: a partition may skew clusters of them."""
        return self.identity(record)

    def class_names(self) -> tuple[str, ...] | None:
        """The names of the strata in their order, which the result says with how many records each has. None where a
        task has no classes of records. Call it on a resolved task."""
        return None

    def class_counts(self, records: Sequence[Record]) -> dict[str, int] | None:
        """How many of these records are of each class, by its name, in the order of the classes: the picture of a
        split. None where a task has no classes of records. Call it on a resolved task."""
        names = self.class_names()
        if names is None:
            return None
        counts = Counter(self.strata(records))
        return {name: counts[stratum] for stratum, name in enumerate(names)}

    def made_up(self, tokens: int) -> Sequence[Record]:
        """Records that nobody wrote, each of at least so many tokens: what the coordinator tries the model with where
        the data are on the devices. Without any it tries nothing."""
        return ()

    def describe(self, records: Sequence[Record]) -> tuple[str, str]:
        """What federa-worker --check says of a device's own records, in words that quote no text; and, where they look
        wrong, what to look at, else an empty text."""
        return f"{len(records)} documents", ""

    # ---- the model

    def model_options(self) -> dict[str, Any]:
        """What `from_pretrained` of `auto_model` is given, such as the number of outputs."""
        return {}

    def encode(self, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """Token ids and targets of every record, cut at `max_length` tokens."""
        raise NotImplementedError

    def collate(self, examples: Examples, indices: Sequence[int]) -> Batch:
        """One padded batch of these examples."""
        from federa.data.batches import collate

        return collate(examples, indices)

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The sum of the examples' losses, a scalar in fp32. `outputs` are the model's, perhaps in bf16 or fp16."""
        raise NotImplementedError

    # ---- evaluation

    def count(self, outputs: Any, batch: Batch) -> Counters:
        """The counters of a batch, `examples` among them."""
        raise NotImplementedError

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        *,
        batch_size: int = 64,
        device: torch.device | None = None,
        before_batch: Callable[[], object] = lambda: None,
    ) -> Counters:
        """The counters of all examples. `before_batch` may raise to end it early."""
        from federa.tasks.evaluation import count_batches

        return count_batches(
            model,
            examples,
            collate=self.collate,
            count=self.count,
            batch_size=batch_size,
            device=device,
            before_batch=before_batch,
        )

    def check(self, counters: Counters) -> str:
        """What is wrong with counters that came over the network; empty where they may be. A task adds what it knows of
        its own, such as that no more can be right than there are."""
        names = set(counters)
        if not set(self.counters) <= names <= {*self.counters, *self.class_counters}:
            found = ", ".join(sorted(names - set(self.class_counters)))[:100] or "none"
            return f"the counters must be {', '.join(self.counters)}, not {found}"
        for name, value in counters.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        examples = counters["examples"]
        if examples < 0 or examples != int(examples):
            return f"{examples:g} examples"
        return ""
