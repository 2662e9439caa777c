"""The experiment's `data` section, as far as it is the same for every task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from federa.section import Fraction, Section

EMBEDDED = "embedded"
DEVICES = "devices"


class Partition(Section):
    """How the training part is dealt out to the clients. `alpha` is the Dirichlet concentration: smaller is more
    skewed. `iid` has no use for it."""

    kind: Literal["dirichlet", "iid", "quantity"] = "dirichlet"
    alpha: Annotated[float, Field(gt=0)] = 0.5


class DataSection(Section):
    """Records: `embedded`, a file (.jsonl, .json, .csv, .tsv), the name of a hub data set, or `devices`: then every
    device brings a file of its own, which it shows to nobody.

    `validation` and `test` are fractions of the records, split off from each stratum and always alike, whatever the
    run's seed. A task's own section adds the names of its columns (`..._column`) and what else it must know.
    """

    source: str = EMBEDDED
    validation: Fraction = 0.15
    test: Fraction = 0.15
    max_length: Annotated[int, Field(ge=4)] = 64
    partition: Partition = Partition()

    @model_validator(mode="after")
    def _leaves_training_data(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a record is made of, by the name of their field."""
        named = {field: getattr(self, field) for field in type(self).model_fields if field.endswith("_column")}
        return {field: str(column) for field, column in named.items()}
