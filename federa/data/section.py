"""The experiment's `data` section, as far as it is the same for every task."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from federa.section import Fraction, Section

EMBEDDED = "embedded"
DEVICES = "devices"


class Partition(Section):
    """How the training part is dealt out to the clients."""

    kind: Literal["dirichlet", "iid", "quantity"] = "dirichlet"
    """`dirichlet`: each of the task's strata in shares from a Dirichlet distribution. `iid`: to each the same mix
    in equal amounts. `quantity`: the same mix in different amounts."""
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """The Dirichlet concentration: smaller is more skewed. `iid` does not use it."""


class DataSection(Section):
    """What every task's data has. A task adds the names of its columns (`..._column`) and what else it must know."""

    source: str = EMBEDDED
    """`embedded`, a file (JSON, CSV, TSV, Parquet, CoNLL, SQuAD, TREC or SemEval-2010 Task 8, also with .gz), the name
    of a hub data set (NAME, NAME:CONFIG, NAME:CONFIG:SPLIT), or `devices`: then every device has a file of its own,
    which never leaves it."""
    validation: Fraction = 0.15
    """The fraction of the records that decides whether the target is reached. It is split off from each stratum in
    equal proportion, and the same way whatever the seed."""
    test: Fraction = 0.15
    """The fraction of the records that is scored once, at the end. It is split off in the same way."""
    max_length: Annotated[int, Field(ge=4)] = 64
    """Tokens at which a text is cut."""
    partition: Partition = Partition()
    """How the training part is dealt out to the clients."""

    @model_validator(mode="after")
    def _leaves_training_data(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a record is made of, by the name of their field."""
        return {field: str(getattr(self, field)) for field in _column_fields(type(self))}


@cache
def _column_fields(section: type[DataSection]) -> tuple[str, ...]:
    # Asked for at each record.
    return tuple(field for field in section.model_fields if field.endswith("_column"))
