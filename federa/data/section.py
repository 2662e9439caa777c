"""The experiment's `data` section, as far as it is the same for every task."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from federa.section import MAX_COUNT, Count, Fraction, Section

EMBEDDED = "embedded"
DEVICES = "devices"

HeldOut = Literal["validation", "test"]
"""A part that nobody trains on."""


class Partition(Section):
    """How the training part is dealt out to the clients."""

    kind: Literal["dirichlet", "iid", "quantity", "shards", "natural"] = "dirichlet"
    """`dirichlet`: of each class or cluster in shares from a Dirichlet distribution. `iid`: to each the same mix in
    equal amounts. `quantity`: the same mix in different amounts. `shards`: sorted by class or cluster and cut, so that
    each client has few of them. `natural`: records with the same value in a column stay together."""
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """The Dirichlet concentration of `dirichlet` and `quantity`: smaller is more skewed."""
    over: Literal["auto", "classes", "clusters"] = "auto"
    """What `dirichlet` and `shards` skew: the classes of the records, or clusters of like texts. `auto` takes classes
    where the task has them."""
    clusters: Annotated[int, Field(ge=2, le=MAX_COUNT)] = 10
    """How many clusters: k-means over the base model's embeddings of the texts, which takes the extra `data`."""
    shards_per_client: Count = 2
    """How many pieces of the sorted records a client gets with `shards`."""
    column: str = ""
    """The column whose value `natural` keeps together, such as an author or a `document`. A client gets one value, or
    several where there are more values than clients."""

    @model_validator(mode="after")
    def _natural_has_a_column(self) -> Self:
        if (self.kind == "natural") != bool(self.column):
            raise ValueError("kind must be natural and column name a column, or neither")
        return self


class DataSection(Section):
    """What every task's data has. A task adds the names of its columns (`..._column`) and what else it must know."""

    source: str = EMBEDDED
    """`embedded`, a file (JSON, CSV, TSV, Parquet, CoNLL, SQuAD, TREC or SemEval-2010 Task 8, also with .gz), the name
    of a hub data set (NAME, NAME:CONFIG, NAME:CONFIG:SPLIT), or `devices`: then every device has a file of its own,
    which never leaves it."""
    validation_file: str | None = None
    """The validation part, where it comes by itself: a file, or a part of a hub data set such as `NAME::validation`.
    Without it a fraction of `source` is split off."""
    test_file: str | None = None
    """The test part, where it comes by itself. Without it a fraction of `source` is split off."""
    validation: Fraction = 0.15
    """The fraction of the records that decides whether the target is reached. It is split off from each stratum in
    equal proportion, and the same way whatever the seed."""
    test: Fraction = 0.15
    """The fraction of the records that is scored once, at the end. It is split off in the same way."""
    max_records: Count | None = None
    """The most records that are taken of `source`, and of each part that comes by itself: drawn evenly, and the same
    ones whatever the seed. Without it all. A device's own file is taken whole."""
    max_length: Annotated[int, Field(ge=4)] = 64
    """Tokens at which a text is cut."""
    partition: Partition = Partition()
    """How the training part is dealt out to the clients."""

    @field_validator("validation_file", "test_file")
    @classmethod
    def _a_file(cls, file: str | None) -> str | None:
        if file is not None and (not file.strip() or file in (EMBEDDED, DEVICES)):
            raise ValueError("must name a file or a part of a hub data set")
        return file

    @model_validator(mode="after")
    def _leaves_training_data(self) -> Self:
        if sum(self.fractions) >= 1:
            raise ValueError("validation and test together must be below 1")
        return self

    @property
    def given_parts(self) -> dict[HeldOut, str]:
        """The held-out parts that come by themselves, and where from."""
        files: dict[HeldOut, str | None] = {"validation": self.validation_file, "test": self.test_file}
        return {part: file for part, file in files.items() if file is not None}

    @property
    def fractions(self) -> tuple[float, float]:
        """The fractions of `source` that are held out for validation and test: 0 for a part that comes by itself."""
        given = self.given_parts
        return (0.0 if "validation" in given else self.validation), (0.0 if "test" in given else self.test)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a record is made of, by the name of their field."""
        return {field: str(getattr(self, field)) for field in _column_fields(type(self))}


@cache
def _column_fields(section: type[DataSection]) -> tuple[str, ...]:
    # Asked for at each record.
    return tuple(field for field in section.model_fields if field.endswith("_column"))
